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
use landfall_core::ids::AppName;
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
    /// Without a file it is not known which tags had an app: nothing is written before all tags were looked at, since a tag that
    /// is not in the file loses its app.
    knows_all: bool,
    /// Changes that are not on disk yet.
    untold: Vec<Change>,
    /// Whether it was told that tags wait.
    told_of_waiting: bool,
    /// Tags of which it was told that they cannot be looked at.
    told_of: BTreeSet<String>,
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
            knows_all: opened.written.is_some(),
            written: opened.written.map(|file| (file, Instant::now())),
            untold: Vec::new(),
            told_of_waiting: false,
            told_of: BTreeSet::new(),
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
        self.told_of.retain(|tag| listed.contains(tag));
        let mut round = self.entry.listed(listed, Timestamp::now());
        let mut asked = Ok(());
        while let Some(ask) = self.entry.ask(&round, Timestamp::now()) {
            let change = match self.ask(&ask).await {
                Ok(answer) => self.entry.answer(&mut round, &ask, answer, Timestamp::now()),
                Err(error @ AskError::Wrong { .. }) => {
                    self.tell_wrong(&ask.tag, &error);
                    self.entry.skip(&mut round, &ask);
                    None
                }
                Err(error) => {
                    asked = Err(error);
                    break;
                }
            };
            if let Some(change) = change {
                self.untold.push(change);
                // At once: among many tags the first need not wait for the last. An error is met again when the round is settled.
                let _ = self.show(apps, news);
            }
        }
        self.knows_all |= asked.is_ok();
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
        let digest = async || self.registries.digest(&channel).await.map(|digest| Answer::At(digest, None));
        let answer = if ask.why.needs_manifest() {
            match self.registries.manifest(&channel, None).await {
                Ok((digest, bytes)) => Ok(Answer::At(digest, previews::of_manifest(&bytes, Timestamp::now()))),
                // What is wrong with it is the word of whoever follows it.
                Err(AskError::Wrong { .. }) => digest().await,
                Err(error) => Err(error),
            }
        } else {
            digest().await
        };
        match answer {
            Err(AskError::NotFound { .. }) => Ok(Answer::NotThere),
            other => other,
        }
    }

    /// Writes down how the round went, and says when the next one is.
    fn settle(&mut self, asked: Result<(), AskError>, apps: &watch::Sender<Apps>, news: &Notify) -> Duration {
        let chance = RandomState::new().build_hasher().finish();
        let (problem, delay) = match asked {
            Ok(()) => (None, self.schedule.answered(chance)),
            // The first publication is awaited as eagerly as any other.
            Err(error @ AskError::NotFound { .. }) => (Some(chain(&error)), self.schedule.answered(chance)),
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
        if !self.knows_all {
            return Ok(());
        }
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
        if before == Some(file) {
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

    /// One journal entry per tag.
    fn tell_wrong(&mut self, tag: &str, error: &AskError) {
        if self.told_of.insert(tag.to_owned()) {
            tracing::warn!(entry = %self.name, "tag `{tag}` cannot be looked at and is asked again now and then: {}", chain(error));
        }
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
