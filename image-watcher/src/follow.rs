//! Follows one channel for as long as the app is in the settings: one HEAD per poll; only a digest that was not seen
//! before costs more. Errors end in a delay and a word in the channel file, never in the end of this task.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::config::{App, Source};
use landfall_core::ids::{AppName, Digest};
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use tokio::sync::{Notify, watch};

use crate::chain::chain;
use crate::channel_file::{ChannelRecord, Taken};
use crate::follow_tags::{self, Found};
use crate::registry::{AskError, Registries};
use crate::schedule::Schedule;
use crate::tags::Seen;
use crate::take::{NotTaken, Taker};

/// A whole poll, with the fetching of a release. Each request has its own deadline too.
const POLL_DEADLINE: Duration = Duration::from_mins(10);

/// Until the agent has read the compose file on this machine.
const NOT_ASKED: &str = "the agent has not said yet which image tags to follow";

/// What is wrong with which app's channel, for the status line.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<AppName, String>>>);

impl Board {
    /// All that is wrong now.
    pub fn problems(&self) -> BTreeMap<AppName, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets an app.
    pub fn clear(&self, app: &AppName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
    }

    /// Notes what is wrong; `true` where that is news.
    pub(crate) fn note(&self, app: &AppName, problem: Option<&String>) -> bool {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(text) => problems.insert(app.clone(), text.clone()).as_ref() != Some(text),
            None => problems.remove(app).is_some(),
        }
    }
}

/// One app's channel.
#[derive(Debug)]
pub struct Follower {
    app: AppName,
    settings: App,
    layout: Layout,
    registries: Arc<Registries>,
    board: Board,
    record: ChannelRecord,
    /// The manifest that is looked at, since when.
    first_seen: Option<(Digest, Timestamp)>,
    /// The manifest that was refused for good, and why.
    refused: Option<(Digest, String)>,
    /// What the tags point at, where tags are followed.
    seen: Seen,
    schedule: Schedule,
}

/// How a problem is told.
#[derive(Clone, Copy)]
enum Tone {
    /// The registry answered, and what it has is not taken.
    NotAccepted,
    /// It did not.
    Unreachable,
    /// The record of sequences cannot be used.
    Forgotten,
}

enum Polled {
    /// As before.
    Unchanged,
    /// The agent has not said which tags to follow.
    NotAsked,
    /// Tags have moved, and may go on moving: to be looked at again after this long.
    Settling(Duration),
    /// There is no such tag: nobody has published yet.
    NothingThere(AskError),
    /// Something new was staged or shown anew.
    Taken,
}

impl Follower {
    /// Begins where the channel file ends.
    pub fn new(app: AppName, settings: App, layout: &Layout, registries: &Arc<Registries>, board: &Board) -> Self {
        let record = ChannelRecord::open(layout, &app, &settings.channel);
        Self {
            schedule: Schedule::new(settings.poll),
            app,
            settings,
            layout: layout.clone(),
            registries: Arc::clone(registries),
            board: board.clone(),
            record,
            first_seen: None,
            refused: None,
            seen: Seen::default(),
        }
    }

    /// Polls until dropped, and at once whenever `wake` changes; tells `polled` each time.
    pub async fn follow(mut self, mut wake: watch::Receiver<u64>, polled_now: Arc<Notify>) {
        loop {
            let polled = match tokio::time::timeout(POLL_DEADLINE, self.poll()).await {
                Ok(polled) => polled,
                Err(_) => Err(NotTaken::Registry(AskError::Unreachable {
                    registry: self.settings.channel.registry.clone(),
                    why: format!("the release was not fetched within {} s", POLL_DEADLINE.as_secs()),
                })),
            };
            let delay = self.settle(polled);
            polled_now.notify_one();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                woken = wake.changed() => if woken.is_err() { return },
            }
        }
    }

    async fn poll(&mut self) -> Result<Polled, NotTaken> {
        match self.settings.source {
            Source::Bundle | Source::Pointer => self.poll_channel().await,
            Source::Tags => self.poll_tags().await,
        }
    }

    async fn poll_tags(&mut self) -> Result<Polled, NotTaken> {
        let place = (&self.app, &self.layout, &*self.registries);
        let taken = match follow_tags::poll(place, &mut self.seen, &self.record).await {
            Ok(Found::Unchanged) => return Ok(Polled::Unchanged),
            Ok(Found::NotAsked) => return Ok(Polled::NotAsked),
            Ok(Found::Settling(wait)) => return Ok(Polled::Settling(wait)),
            Ok(Found::Whole(taken)) => taken,
            Err(NotTaken::Registry(error @ AskError::NotFound { .. })) => return Ok(Polled::NothingThere(error)),
            Err(error) => return Err(error),
        };
        self.show(taken)
    }

    async fn poll_channel(&mut self) -> Result<Polled, NotTaken> {
        let channel = &self.settings.channel;
        let head = match self.registries.head(channel).await {
            Ok(head) => head,
            Err(error @ AskError::NotFound { .. }) => return Ok(Polled::NothingThere(error)),
            Err(error) => return Err(error.into()),
        };
        let seen_at = Timestamp::now();
        if head.as_ref().is_some_and(|digest| self.is_known(digest)) {
            return Ok(Polled::Unchanged);
        }
        let (digest, manifest) = self.registries.manifest(channel, head.as_ref()).await?;
        if self.is_known(&digest) {
            return Ok(Polled::Unchanged);
        }
        let detected_at = match &self.first_seen {
            Some((seen, at)) if *seen == digest => *at,
            Some(_) | None => seen_at,
        };
        self.first_seen = Some((digest.clone(), detected_at));
        self.take(digest, &manifest, detected_at).await
    }

    /// Whether this manifest is the one that is shown, or was refused.
    fn is_known(&self, digest: &Digest) -> bool {
        self.record.file().digest.as_ref() == Some(digest) || self.refused.as_ref().is_some_and(|(d, _)| d == digest)
    }

    async fn take(&mut self, digest: Digest, manifest: &[u8], detected_at: Timestamp) -> Result<Polled, NotTaken> {
        let taker =
            Taker { app: &self.app, settings: &self.settings, layout: &self.layout, registries: &self.registries };
        let staged = match taker.take(manifest, self.record.file().sequence, Timestamp::now()).await {
            Ok(staged) => staged,
            Err(NotTaken::Refused(refusal)) => {
                self.refused = Some((digest, chain(&refusal)));
                return Err(NotTaken::Refused(refusal));
            }
            Err(other) => return Err(other),
        };
        let digest = Some(digest);
        let (release, sequence) = (staged.release, staged.sequence);
        self.show(Taken { release, digest, sequence, detected_at, tags: BTreeMap::new() })
    }

    /// Shows what is staged.
    fn show(&mut self, taken: Taken) -> Result<Polled, NotTaken> {
        let release = &taken.release.clone();
        let is_republished = self.record.file().release.as_ref() == Some(release);
        self.record.take(taken, Timestamp::now()).map_err(|source| self.disk(source))?;
        self.refused = None;
        let (app, channel) = (&self.app, &self.settings.channel);
        if is_republished {
            tracing::info!(MESSAGE_ID = event::RELEASE_REPUBLISHED, LANDFALL_APP = %app, LANDFALL_RELEASE = %release, channel = %channel, "the channel has a new manifest with the content that is staged already");
        } else {
            tracing::info!(MESSAGE_ID = event::RELEASE_STAGED, LANDFALL_APP = %app, LANDFALL_RELEASE = %release, channel = %channel, "a new release is verified and staged");
        }
        Ok(Polled::Taken)
    }

    fn disk(&self, source: std::io::Error) -> NotTaken {
        NotTaken::Disk { path: self.layout.channel(&self.app).display().to_string(), source }
    }

    /// Writes down how the poll went, and says when the next one is.
    fn settle(&mut self, polled: Result<Polled, NotTaken>) -> Duration {
        let chance = RandomState::new().build_hasher().finish();
        let forgotten = matches!(polled, Err(NotTaken::Memory(_)));
        // A preview's tag goes when its pull request is closed: that is in the file, and nobody's trouble.
        let is_quiet = self.settings.preview.is_some() && matches!(polled, Ok(Polled::NothingThere(_)));
        let (problem, is_good, delay) = match polled {
            Ok(Polled::Unchanged) => (self.standing_refusal(), true, self.schedule.answered(chance)),
            Ok(Polled::Taken) => (None, true, self.schedule.answered(chance)),
            Ok(Polled::Settling(wait)) => (None, true, self.schedule.answered(chance).min(wait)),
            // The agent says so when it has read the compose file; then a poll is woken.
            Ok(Polled::NotAsked) => (Some(NOT_ASKED.to_owned()), true, self.schedule.answered(chance)),
            // The first publication is awaited as eagerly as any other.
            Ok(Polled::NothingThere(error)) => (Some(chain(&error)), true, self.schedule.answered(chance)),
            Err(NotTaken::Refused(refusal)) => (Some(chain(&refusal)), true, self.schedule.answered(chance)),
            Err(error) => (Some(chain(&error)), false, self.schedule.failed(asked_for(&error), chance)),
        };
        let written = if is_good {
            self.record.good_poll(Timestamp::now(), problem.clone())
        } else {
            self.record.problem(problem.clone())
        };
        // A disk that does not take the channel file is the worse of two problems, and is told instead.
        let unwritten = written.err().map(|source| chain(&self.disk(source)));
        let tone = match (is_good, forgotten) {
            (true, _) => Tone::NotAccepted,
            (false, false) => Tone::Unreachable,
            (false, true) => Tone::Forgotten,
        };
        self.tell(unwritten.or(problem.filter(|_| !is_quiet)).as_ref(), tone);
        delay
    }

    /// What keeps the newest manifest from being taken, if it is not the one that is shown.
    fn standing_refusal(&self) -> Option<String> {
        self.refused.as_ref().map(|(_, why)| why.clone())
    }

    /// One journal entry per change, not per poll.
    fn tell(&self, problem: Option<&String>, tone: Tone) {
        if !self.board.note(&self.app, problem) {
            return;
        }
        let (app, channel) = (&self.app, &self.settings.channel);
        match (problem, tone) {
            (Some(why), Tone::NotAccepted) => {
                tracing::warn!(MESSAGE_ID = event::RELEASE_NOT_ACCEPTED, LANDFALL_APP = %app, channel = %channel, "nothing new is taken from the channel: {why}");
            }
            (Some(why), Tone::Forgotten) => {
                tracing::error!(MESSAGE_ID = event::WATCHER_STATE_BROKEN, LANDFALL_APP = %app, channel = %channel, "a person is needed: {why}");
            }
            (Some(why), Tone::Unreachable) => {
                tracing::warn!(MESSAGE_ID = event::CHANNEL_UNREACHABLE, LANDFALL_APP = %app, channel = %channel, "the channel cannot be read: {why}");
            }
            (None, _) => {
                tracing::info!(MESSAGE_ID = event::CHANNEL_REACHABLE, LANDFALL_APP = %app, channel = %channel, "nothing is wrong with the channel any more");
            }
        }
    }
}

/// How long the registry wants to be left alone.
fn asked_for(error: &NotTaken) -> Option<Duration> {
    match error {
        NotTaken::Registry(error) => error.retry_after(),
        NotTaken::Refused(_) | NotTaken::Disk { .. } | NotTaken::Memory(_) => None,
    }
}
