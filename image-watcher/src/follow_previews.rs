//! Follows the tags of one entry of `previews`: lists them, asks what [`crate::previews`] wants to know, writes what it says into
//! `previews/<entry>.json`, and then tells [`crate::watcher`] which apps there are. Decides nothing about tags, and follows none:
//! each that lives has a follower of its own.

mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use landfall_core::config::{Channel, Previews};
use landfall_core::contract::PreviewsFile;
use landfall_core::ids::{AppName, Digest};
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use landfall_core::publish;
use tokio::sync::{Notify, watch};

use crate::chain::chain;
use crate::follow::Board;
use crate::previews::{self, Answer, Ask, Change, Entry, What};
use crate::registry::{AskError, Registries};
use crate::schedule::Schedule;
pub use known::{Opened, end_unnamed, open};

/// How old on disk may be what nobody acts on: when it was listed, and for how long a tag has been missing.
const REFRESH: Duration = Duration::from_mins(1);

/// The apps of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apps {
    /// Those that are followed.
    pub followed: BTreeMap<AppName, Channel>,
    /// All that live: some may have to stay although nobody follows them any more.
    pub living: BTreeSet<AppName>,
}

/// The lister of one entry.
#[derive(Debug)]
pub struct Lister {
    name: AppName,
    entry: Entry,
    layout: Layout,
    registries: Arc<Registries>,
    board: Board,
    schedule: Schedule,
    written: Option<(PreviewsFile, Instant)>,
    /// What was found garbled is left alone until the registry has listed.
    waits_for_a_listing: bool,
    /// Changes that are not on disk yet.
    untold: Vec<Change>,
    /// Whether it was told that tags wait.
    told_of_waiting: bool,
}

impl Lister {
    /// Begins with what is known.
    pub fn new(name: &AppName, opened: Opened, layout: &Layout, registries: &Arc<Registries>, board: &Board) -> Self {
        Self {
            name: name.clone(),
            schedule: Schedule::new(opened.entry.settings().poll),
            entry: opened.entry,
            layout: layout.clone(),
            registries: Arc::clone(registries),
            board: board.clone(),
            written: opened.written.map(|file| (file, Instant::now())),
            waits_for_a_listing: opened.was_garbled,
            untold: Vec::new(),
            told_of_waiting: false,
        }
    }

    /// The apps as they are now.
    pub fn apps(&self) -> Apps {
        Apps { followed: self.entry.followed(), living: self.entry.living() }
    }

    /// Lists until dropped, and at once whenever `wake` changes. Says what changed after it is on disk.
    pub async fn run(mut self, mut wake: watch::Receiver<u64>, apps: watch::Sender<Apps>, news: Arc<Notify>) {
        loop {
            let asked = self.round(&apps, &news).await;
            let delay = self.settle(asked, &apps, &news);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                woken = wake.changed() => if woken.is_err() { return },
            }
        }
    }

    /// One listing, and what it makes to be asked.
    async fn round(&mut self, apps: &watch::Sender<Apps>, news: &Notify) -> Result<(), AskError> {
        let changes = self.entry.expire(Timestamp::now());
        self.untold.extend(changes);
        for (tag, published) in known::published(&self.layout, &self.name, &self.entry, Timestamp::now()) {
            self.entry.heard(&tag, published);
        }
        let listed = self.registries.tags(&self.entry.settings().channel).await?;
        self.waits_for_a_listing = false;
        let mut round = self.entry.listed(listed, Timestamp::now());
        let mut asked = Ok(());
        while let Some(ask) = self.entry.ask(&round, Timestamp::now()) {
            match self.ask(&ask).await {
                Ok(answer) => {
                    if let Some(change) = self.entry.answer(&mut round, &ask, answer, Timestamp::now()) {
                        self.untold.push(change);
                        // At once: among many tags the first need not wait for the last.
                        let _ = self.show(apps, news);
                    }
                }
                Err(error) => {
                    asked = Err(error);
                    break;
                }
            }
        }
        let waiting = self.entry.waiting(&round);
        if let Some(why) = waiting.as_ref().filter(|_| !self.told_of_waiting) {
            tracing::warn!(entry = %self.name, "not every tag has a preview: {why}");
        }
        self.told_of_waiting = waiting.is_some();
        self.entry.problem(waiting);
        asked
    }

    async fn ask(&self, ask: &Ask) -> Result<Answer, AskError> {
        let channel = self.entry.settings().channel.channel(&ask.tag);
        let answer = if ask.why.needs_manifest() {
            let manifest = self.registries.manifest(&channel, None).await;
            manifest.map(|(digest, bytes)| Answer::At(digest, previews::of_manifest(&bytes, Timestamp::now())))
        } else {
            self.registries.digest(&channel).await.map(|digest| Answer::At(digest, None))
        };
        match answer {
            Err(AskError::NotFound { .. }) => Ok(Answer::NotThere),
            // It is there, and whoever follows it says what is wrong with it.
            Err(AskError::Wrong { .. }) => Ok(Answer::At(Digest::of(b"wrong"), None)),
            other => other,
        }
    }

    /// Writes down how the round went, and says when the next one is.
    fn settle(&mut self, asked: Result<(), AskError>, apps: &watch::Sender<Apps>, news: &Notify) -> Duration {
        let chance = RandomState::new().build_hasher().finish();
        let (problem, delay) = match asked {
            Ok(()) => (None, self.schedule.answered(chance)),
            Err(error) => (Some(chain(&error)), self.schedule.failed(error.retry_after(), chance)),
        };
        if problem.is_some() {
            self.entry.problem(problem.clone());
        }
        let path = self.layout.previews(&self.name);
        let unwritten = self
            .show(apps, news)
            .err()
            .map(|error| format!("cannot write `{}`: {error}; check the disk and its permissions", path.display()));
        self.tell(unwritten.or(problem).as_ref());
        delay
    }

    /// Writes the file where it changed, and only then tells of the change: a kill in between is told of by the file.
    fn show(&mut self, apps: &watch::Sender<Apps>, news: &Notify) -> io::Result<()> {
        self.write()?;
        for change in std::mem::take(&mut self.untold) {
            tell_of(&self.name, &change, self.entry.settings());
        }
        let now = self.apps();
        let changed = apps.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if changed {
            news.notify_one();
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let (path, file) = (self.layout.previews(&self.name), self.entry.file());
        let before = self.written.as_ref().map(|(file, _)| file);
        let is_fresh = self.written.as_ref().is_some_and(|(_, at)| at.elapsed() < REFRESH);
        if self.waits_for_a_listing || before == Some(file) {
            return Ok(());
        }
        if before.map(acted_on) != Some(acted_on(file)) {
            publish::write_json(&path, file)?;
        } else if !is_fresh || before.is_some_and(|before| before.problem != file.problem) {
            publish::write_json_volatile(&path, file)?;
        } else {
            return Ok(());
        }
        self.written = Some((file.clone(), Instant::now()));
        Ok(())
    }

    /// One journal entry per change, not per listing.
    fn tell(&self, problem: Option<&String>) {
        if !self.board.note(&self.name, problem) {
            return;
        }
        let (entry, channel) = (&self.name, &self.entry.settings().channel);
        if let Some(why) = problem {
            tracing::warn!(MESSAGE_ID = event::CHANNEL_UNREACHABLE, entry = %entry, channel = %channel, "the tags of the previews cannot be listed, and none of them leaves: {why}");
        } else {
            tracing::info!(MESSAGE_ID = event::CHANNEL_REACHABLE, entry = %entry, channel = %channel, "the tags of the previews are listed again");
        }
    }
}

/// One journal entry for each tag that begins or leaves.
fn tell_of(entry: &AppName, change: &Change, settings: &Previews) {
    let Change { tag, app, what } = change;
    let why = match what {
        What::Began => {
            tracing::info!(MESSAGE_ID = event::PREVIEW_BEGAN, LANDFALL_APP = %app, entry = %entry, "tag `{tag}` is followed from now on");
            return;
        }
        What::Over => format!("nothing was published there for {}", hours(settings.ttl)),
        What::Gone => "it was missing for 24 h while the registry answered".to_owned(),
        What::NotNamed => "landfall.yaml does not name it any more, and its time is over".to_owned(),
    };
    tracing::info!(MESSAGE_ID = event::PREVIEW_ENDED, LANDFALL_APP = %app, entry = %entry, "tag `{tag}` is no longer followed: {why}");
}

/// As `ttl` is written.
fn hours(ttl: Duration) -> String {
    let seconds = ttl.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{} h", seconds / 3600),
        (_, 0) => format!("{} min", seconds / 60),
        (_, _) => format!("{seconds} s"),
    }
}

/// What a reader acts on.
fn acted_on(file: &PreviewsFile) -> PreviewsFile {
    let mut file = PreviewsFile { listed_at: None, problem: None, ..file.clone() };
    file.tags.values_mut().for_each(|known| known.missing_ms = 0);
    file
}
