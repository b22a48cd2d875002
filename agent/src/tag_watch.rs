//! Which tags an app with `source: tags` follows: the images of the compose file on this machine that carry the channel's tag.
//! Asked anew when the settings or that file change. It only finds out; the watcher is told by `wanted` ([`crate::live_files`]).

use std::collections::BTreeMap;
use std::rc::Rc;

use landfall_core::backoff::Backoff;
use landfall_core::config::{Channel, Source};
use landfall_core::ids::{AppName, release_id_of_images};
use tokio::task::JoinHandle;

use crate::children::{self, Question, ToTranslate};
use crate::clock::now;
use crate::observed::Millis;
use crate::preflight::Stop;
use crate::shared::{Mail, Shared};

/// Tags by service.
pub type Tags = BTreeMap<String, Channel>;

/// The tags of one app.
#[derive(Debug)]
pub struct TagWatch {
    app: AppName,
    shared: Rc<Shared>,
    /// What was asked last: under which settings.
    epoch: Option<u64>,
    work: Option<JoinHandle<Result<Tags, Stop>>>,
    tags: Option<Tags>,
    problem: Option<String>,
    failures: u32,
    again_at: Option<Millis>,
}

impl TagWatch {
    /// Nothing is known yet.
    pub fn new(app: AppName, shared: Rc<Shared>) -> Self {
        Self { app, shared, epoch: None, work: None, tags: None, problem: None, failures: 0, again_at: None }
    }

    /// What is followed, empty where the source is no tags; none until it is known: after a restart the watcher follows on what
    /// it was told before.
    pub fn tags(&self) -> Option<&Tags> {
        self.tags.as_ref()
    }

    /// Why nothing is followed.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// When it is asked again.
    pub fn again_at(&self) -> Option<Millis> {
        self.again_at
    }

    /// Takes in an answer, and asks where it is time to. True where what is followed has changed.
    pub async fn turn(&mut self, again: Backoff) -> bool {
        let changed = self.take(again).await;
        let epoch = self.shared.settings_epoch.get();
        let due = self.epoch != Some(epoch) || self.again_at.is_some_and(|at| now() >= at);
        if due {
            self.epoch = Some(epoch);
            self.again_at = None;
            self.ask();
        }
        changed
    }

    fn ask(&mut self) {
        if let Some(old) = self.work.take() {
            old.abort();
        }
        let (shared, app) = (Rc::clone(&self.shared), self.app.clone());
        let mailbox = shared.mailboxes.borrow().get(&app).cloned();
        self.work = Some(tokio::task::spawn_local(async move {
            let found = find(&shared, &app).await;
            if let Some(mailbox) = mailbox {
                // A loop that is gone needs no mail.
                let _ = mailbox.send(Mail::Look);
            }
            found
        }));
    }

    async fn take(&mut self, again: Backoff) -> bool {
        let Some(work) = self.work.take_if(|work| work.is_finished()) else { return false };
        let found = work.await.unwrap_or_else(|error| Err(Stop::Later(format!("the tags were not found: {error}"))));
        match found {
            Ok(tags) => {
                self.failures = 0;
                self.problem = None;
                let changed = self.tags.as_ref().map_or(!tags.is_empty(), |before| *before != tags);
                self.tags = Some(tags);
                changed
            }
            Err(stop) => {
                self.failures += 1;
                if stop.passes() {
                    let wait = again.after(self.failures);
                    self.again_at = Some(now() + Millis::try_from(wait.as_millis()).unwrap_or(30_000));
                }
                let text = stop.to_string();
                if self.problem.as_ref() != Some(&text) {
                    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    tracing::warn!(LANDFALL_APP = %self.app, "no tags can be followed: {line}");
                }
                self.problem = Some(text);
                // What was followed before is followed on.
                false
            }
        }
    }
}

impl Drop for TagWatch {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
        }
    }
}

async fn find(shared: &Shared, app: &AppName) -> Result<Tags, Stop> {
    let settings = shared.settings();
    // An app that is no longer in the settings is supervised, and follows nothing.
    let Some(of_app) = settings.apps.get(app) else { return Ok(Tags::new()) };
    if of_app.source != Source::Tags {
        return Ok(Tags::new());
    }
    let file = shared.layout.host_compose(of_app.project(app));
    if !file.exists() {
        return Err(Stop::Refused(format!(
            "there is no `{}`: with `source: tags` the app's compose file lies there; write it, it is looked for every few seconds",
            file.display()
        )));
    }
    let plugin = shared.plugin.get().await.map_err(Stop::Later)?;
    let question = Question {
        layout: shared.layout.clone(),
        app: app.clone(),
        release: release_id_of_images([]),
        settings: of_app.clone(),
        host: settings.host.clone(),
    };
    let images = children::tags(&ToTranslate { question, plugin: plugin.as_ref().clone() }).await?;
    followed(&images, &of_app.channel).ok_or_else(|| {
        let tag = &of_app.channel.tag;
        Stop::Refused(format!(
            "no image in `{}` has the tag `{tag}` of the app's channel: write `:{tag}` where releases are to be followed, or \
             correct `channel` in landfall.yaml",
            file.display()
        ))
    })
}

/// The images that carry the channel's tag: CI moves that tag, and others (a database's) stand still. None where there are none.
fn followed(images: &BTreeMap<String, String>, channel: &Channel) -> Option<Tags> {
    let tags: Tags = images
        .iter()
        .filter_map(|(service, image)| Some((service.clone(), Channel::of_image(image)?)))
        .filter(|(_, image)| image.tag == channel.tag)
        .collect();
    (!tags.is_empty()).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_the_channels_tag_is_followed_and_nothing_else() {
        let images = [
            ("api", "ghcr.io/acme/api:staging"),
            ("worker", "acme/worker:staging"),
            ("db", "postgres:16"),
            ("cache", "redis"),
            ("pinned", "ghcr.io/acme/old:staging@sha256:00"),
        ];
        let images = images.map(|(service, image)| (service.to_owned(), image.to_owned())).into();
        let found = |channel: &str| followed(&images, &channel.parse().unwrap());
        let tags = found("ghcr.io/acme/api:staging").unwrap();
        let texts: Vec<String> = tags.values().map(ToString::to_string).collect();
        assert_eq!(texts, ["ghcr.io/acme/api:staging", "docker.io/acme/worker:staging"]);
        assert_eq!(found("ghcr.io/acme/api:prod"), None);
    }
}
