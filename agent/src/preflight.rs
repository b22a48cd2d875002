//! Preflight: everything that can be known and fetched before anything is touched. A failure here leaves what serves as
//! it is, and quarantines nothing. What reads the release runs in children ([`children`]); here they are asked in order, and the
//! Engine is asked for images.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, join_all, select, try_join, try_join_all};
use landfall_core::config::{Ports, Preview};
use landfall_core::ids::{AppName, ReleaseId};
use landfall_core::protocol::Cause;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::caps::HostContext;
use crate::children::{self, Files, Question, ToFinalise, ToTranslate};
use crate::engine::LocalImage;
use crate::networks::LiveNetwork;
use crate::pulls;
use crate::room::NoRoom;
use crate::secret_sets;
use crate::shared::Shared;
use crate::spec::Deployment;
use crate::translate::{ImageFacts, Refusal};

/// Why a release does not get past preflight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Stop {
    /// Trying again without a change does not help.
    #[error("{0}")]
    Refused(String),
    /// Something is out of reach: try again.
    #[error("{0}")]
    Later(String),
    /// There is no room on the disk for what must be pulled: try again.
    #[error("{0}")]
    NoRoom(String),
}

impl Stop {
    /// Whether the same may get past it later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Later(_) | Self::NoRoom(_) => true,
        }
    }

    /// For the history.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Refused(_) => Cause::Refused,
            Self::Later(_) => Cause::Unavailable,
            Self::NoRoom(_) => Cause::DiskFull,
        }
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Later(format!("{error:#}"))
    }
}

/// Why an image cannot be had.
fn unfetched(reference: &str, error: &anyhow::Error) -> Stop {
    if let Some(no_room) = error.downcast_ref::<NoRoom>() {
        return Stop::NoRoom(no_room.to_string());
    }
    let text = format!("image `{reference}`: {error:#}");
    // The kernel's, by way of the Engine: it filled up meanwhile, or has a quota that we do not see.
    if text.contains("no space left on device") {
        return Stop::NoRoom(NoRoom::told(text).to_string());
    }
    // The Engine's words for "this platform is not in the image": for ever.
    if text.contains("no matching manifest") {
        Stop::Refused(format!("{text}; build it for this machine's platform and publish again"))
    } else {
        Stop::Later(format!("{text}; push it, or publish a release that names one that is there; it is tried again"))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        if refusal.kind() == crate::refusal::Kind::Later {
            Self::Later(refusal.to_string())
        } else {
            Self::Refused(refusal.to_string())
        }
    }
}

/// What preflight found.
#[derive(Debug)]
pub struct Examined {
    /// The deployment, or why there is none.
    pub result: Result<Deployment, Stop>,
    /// What Compose warned of.
    pub warnings: Vec<String>,
    /// Its sets of secrets, where it was found out which.
    pub secrets: Option<Vec<String>>,
}

/// Takes a release through preflight. For a rollout images are pulled and files written, and it is told when there are cores to
/// spare; else it is only a plan.
pub async fn preflight(
    shared: Rc<Shared>,
    app: AppName,
    id: ReleaseId,
    rollout: Option<oneshot::Sender<()>>,
) -> Examined {
    let mut found = Found::default();
    let result = examine(shared, app, id, rollout, &mut found).await;
    Examined { result, warnings: found.warnings, secrets: found.secrets }
}

/// What is known however it ends.
#[derive(Default)]
struct Found {
    warnings: Vec<String>,
    secrets: Option<Vec<String>>,
}

async fn examine(
    shared: Rc<Shared>,
    app: AppName,
    id: ReleaseId,
    rollout: Option<oneshot::Sender<()>>,
    also: &mut Found,
) -> Result<Deployment, Stop> {
    let touch = rollout.is_some();
    let settings = shared.settings();
    let app_settings = settings.apps.get(&app).ok_or_else(|| {
        Stop::Refused(format!("app `{app}` is no longer in landfall.yaml: put it back to release it again"))
    })?;
    if let Some(Preview { of, ports: Ports::AllTaken(range), .. }) = &app_settings.preview {
        let (first, last, blocks) = (range.first, range.last, range.blocks());
        return Err(Stop::Refused(format!(
            "all ports of `previews.{of}.ports` ({first}-{last}, {blocks} previews) are taken: it has its turn when a preview ends; \
             or widen the range in landfall.yaml"
        )));
    }
    let plugin = shared.plugin.get().await.map_err(Stop::Later)?;
    if shared.machine.borrow().memory == 0 {
        let facts = shared.engine.machine().await?;
        shared.machine.replace(facts);
    }
    let question = Question {
        layout: shared.layout.clone(),
        app: app.clone(),
        release: id,
        settings: app_settings.clone(),
        host: settings.host.clone(),
    };
    let to_translate = ToTranslate { question: question.clone(), plugin: plugin.as_ref().clone() };
    let mut here_early = BTreeMap::new();
    let translation = {
        let translation = children::translate(&to_translate);
        // What cannot be fetched now is asked for again below, and said there.
        let fetches = async {
            let early = if touch { children::images(&question).await } else { BTreeSet::new() };
            let images = join_all(early.iter().map(|image| pulls::pull(&shared, &settings, &app, image))).await;
            early.into_iter().zip(images).filter_map(|(image, found)| Some((image, found.ok()?))).collect()
        };
        let spare = || {
            // Nobody may wait for it any more.
            let _ = rollout.map(|spare| spare.send(()));
        };
        match select(pin!(translation), pin!(fetches)).await {
            Either::Left((translation, fetches)) => {
                // A refusal lets go of the downloads.
                if translation.result.is_ok() {
                    spare();
                    here_early = fetches.await;
                }
                translation
            }
            Either::Right((images, translation)) => {
                spare();
                here_early = images;
                translation.await
            }
        }
    };
    also.warnings = translation.warnings;
    let model = translation.result?;
    let fetches = model.images.into_iter().map(|reference| {
        let (shared, app, found) = (&shared, &app, here_early.remove(&reference));
        async move {
            let facts = image_facts(shared, app, &reference, found, touch).await;
            facts.map_err(|error| unfetched(&reference, &error)).map(|facts| (reference, facts))
        }
    });
    let secrets = async {
        if touch {
            secret_sets::obtain(&shared, &app, &model.needs).await
        } else {
            Ok(secret_sets::known(&shared, &app, &model.needs))
        }
    };
    let (images, secret_sets) = try_join(try_join_all(fetches), secrets).await?;
    also.secrets = Some(secret_sets::rolled_out(secret_sets.values()));
    let images: BTreeMap<String, ImageFacts> = images.into_iter().collect();
    // What is promised to this release must be seen by the next.
    let _turn = shared.admission.lock().await;
    let machine = shared.machine.borrow().clone();
    let context = HostContext {
        layout: shared.layout.clone(),
        host: settings.host.clone(),
        journald: std::path::Path::new("/run/systemd/journal/socket").exists(),
        cgroup_parent: machine.systemd_cgroups.then(|| "landfall.slice".to_owned()),
        memory_total: machine.memory,
        cpus: machine.cpus,
        memory_of_other_apps: shared.memory_of_others(&app),
        handed_volumes: handed_volumes(&shared, &app),
        live_networks: live_networks(&shared, &app),
        secret_sets,
    };
    let live = shared.views.borrow().get(&app).and_then(|v| v.state.live.as_ref().map(|live| live.deployment.clone()));
    let files = if touch { Files::Write } else { Files::Leave };
    let deployment =
        children::finalise(&ToFinalise { question, text: model.text, images, context, live, files }).await?;
    if touch && let Some(view) = shared.views.borrow_mut().get_mut(&app) {
        view.promised = deployment.memory();
    }
    Ok(deployment)
}

/// What is known of an image that was found beside the translation, or is found now.
async fn image_facts(
    shared: &Shared,
    app: &AppName,
    reference: &str,
    found: Option<LocalImage>,
    touch: bool,
) -> anyhow::Result<ImageFacts> {
    let settings = shared.settings();
    let pinned = shared.engine.pin(&settings, reference).await?;
    let found = match found {
        Some(found) => Some(found),
        None if touch => Some(pulls::pull(shared, &settings, app, &pinned).await?),
        None => shared.engine.local_image(&pinned).await?,
    };
    let (volumes, start) = found.map_or((Vec::new(), None), |found| (found.volumes, Some(found.start)));
    Ok(ImageFacts { pinned, volumes, start })
}

/// Volumes without a name that hold the data of the containers that are there, made by hand or by an older release: they pass to
/// their replacements. Replicas have one each, and nothing to pass on.
fn handed_volumes(shared: &Shared, app: &AppName) -> BTreeMap<String, BTreeMap<String, String>> {
    let views = shared.views.borrow();
    let Some(view) = views.get(app) else { return BTreeMap::new() };
    let live = view.state.live.as_ref();
    let mut handed: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for container in view.seen.containers.values().filter(|c| !c.one_off && !c.unnamed_volumes.is_empty()) {
        let of_live = live.is_some_and(|g| g.ids(&container.service).contains(&container.id));
        if of_live || (live.is_none() && !handed.contains_key(&container.service)) {
            handed.insert(container.service.clone(), container.unnamed_volumes.clone());
        }
    }
    handed
}

fn live_networks(shared: &Shared, app: &AppName) -> BTreeMap<String, LiveNetwork> {
    let views = shared.views.borrow();
    let live = views.get(app).and_then(|view| view.state.live.as_ref());
    let networks = live.into_iter().flat_map(|g| &g.deployment.networks);
    networks
        .map(|(name, spec)| (spec.key.clone(), LiveNetwork { name: name.clone(), hash: spec.hash.clone() }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_room_is_told_from_what_is_out_of_reach_and_from_what_never_comes() {
        let no_room = anyhow::Error::new(NoRoom::told("`/d` is full".to_owned()));
        for (error, cause, words) in [
            (no_room, Cause::DiskFull, "waits for room on the disk: `/d` is full; next: `docker system df`"),
            (
                anyhow::anyhow!("write /d/tmp/x: no space left on device"),
                Cause::DiskFull,
                "waits for room on the disk: image `r/i`: write /d/tmp/x: no space left",
            ),
            (
                anyhow::anyhow!("no matching manifest for linux/arm64"),
                Cause::Refused,
                "build it for this machine's platform",
            ),
            (anyhow::anyhow!("connection refused"), Cause::Unavailable, "it is tried again"),
        ] {
            let stop = unfetched("r/i", &error);
            assert!(stop.cause() == cause && stop.to_string().contains(words), "{stop:?}");
            assert_eq!(stop.passes(), cause != Cause::Refused);
        }
    }
}
