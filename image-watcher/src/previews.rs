//! Which tags of an entry of `previews` have an app: from what is known, what the registry lists and what the clock says to what is
//! known next, and what must be asked for that. Pure: the edge ([`crate::follow_previews`]) lists, asks and writes.
//!
//! A tag that leaves takes an app with it, with its data. So it leaves for a good reason only: it was missing for a day *while the
//! registry answered*, and a last question finds nothing there; or its time is over. No error is an answer, a step between two
//! listings counts little, and a clock that was set back counts nothing.

mod asks;
mod published;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::config::{Channel, Previews, preview_name};
use landfall_core::contract::{FORMAT, PreviewTag, PreviewsFile};
use landfall_core::ids::{AppName, Digest};

pub use asks::{Answer, Ask, Round, Why};
pub use published::{of_channel_file, of_manifest};

/// No entry has more previews that live at a time.
pub const MOST: usize = 100;
/// A tag that was missing for so long is gone.
pub const MISSING: Duration = Duration::from_hours(24);
/// The most that is counted between two listings: an outage, a machine that was off or a clock that leapt is no day.
const STEP: Duration = Duration::from_mins(10);

/// What is known of an entry.
#[derive(Debug, Clone)]
pub struct Entry {
    name: AppName,
    settings: Previews,
    file: PreviewsFile,
    /// The last good listing of this life, and what it lacked.
    lacked: Option<(Timestamp, BTreeSet<String>)>,
    /// Tags that are listed and have no manifest.
    hollow: BTreeSet<String>,
    /// The last that was asked of those that are asked in turn.
    turn: Option<String>,
}

/// A tag begins to have an app, or has it no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which tag.
    pub tag: String,
    /// Its app.
    pub app: AppName,
    /// What happened.
    pub what: What,
}

/// What happened to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is new, or points elsewhere after its time was over.
    Began,
    /// Its time is over.
    Over,
    /// It was missing for a day.
    Gone,
    /// The settings do not name it any more, and its time is over.
    NotNamed,
}

impl Entry {
    /// An entry as its file has it; without one it knows the tags that are `remembered` otherwise.
    pub fn new(
        name: &AppName,
        settings: &Previews,
        file: Option<PreviewsFile>,
        remembered: BTreeMap<String, Timestamp>,
        now: Timestamp,
    ) -> Self {
        let of = |(tag, published): (String, Timestamp)| {
            let known = PreviewTag {
                channel: settings.channel.channel(&tag),
                published: published::text(published),
                missing_ms: 0,
                over: None,
            };
            (tag, known)
        };
        let fresh = || PreviewsFile {
            format: FORMAT,
            entry: name.clone(),
            channel: String::new(),
            ttl_ms: 0,
            listed_at: None,
            problem: None,
            tags: remembered.into_iter().map(of).collect(),
        };
        let mut file = file.unwrap_or_else(fresh);
        file.channel = settings.channel.to_string();
        file.ttl_ms = millis(settings.ttl);
        repair(&mut file, now);
        let (name, settings) = (name.clone(), settings.clone());
        Self { name, settings, file, lacked: None, hollow: BTreeSet::new(), turn: None }
    }

    /// As it is to be written.
    pub fn file(&self) -> &PreviewsFile {
        &self.file
    }

    /// Its settings.
    pub fn settings(&self) -> &Previews {
        &self.settings
    }

    /// The apps of all tags that live.
    pub fn living(&self) -> BTreeSet<AppName> {
        self.file.tags.iter().filter(|(_, known)| known.over.is_none()).map(|(tag, _)| self.app(tag)).collect()
    }

    /// Those of them that are followed: the settings still name their tags.
    pub fn followed(&self) -> BTreeMap<AppName, Channel> {
        let living = self.file.tags.iter().filter(|(tag, known)| known.over.is_none() && self.is_named(tag));
        living.map(|(tag, known)| (self.app(tag), known.channel.clone())).collect()
    }

    /// The app of a tag.
    pub fn app(&self, tag: &str) -> AppName {
        preview_name(&self.name, tag)
    }

    /// Something was published at a tag that lives.
    pub fn heard(&mut self, tag: &str, at: Timestamp) {
        if let Some(known) = self.file.tags.get_mut(tag)
            && known.over.is_none()
            && published::read(known) < Some(at)
        {
            known.published = published::text(at);
        }
    }

    /// Why the registry does not list, or that it does.
    pub fn problem(&mut self, problem: Option<String>) {
        self.file.problem = problem;
    }

    /// Ends what the settings do not name any more, when its time is over.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Change> {
        let stays: BTreeSet<String> = self.file.tags.keys().filter(|tag| self.is_named(tag)).cloned().collect();
        expire(&mut self.file, now, |tag| stays.contains(tag))
    }

    /// The registry gave all tags that match.
    pub fn listed(&mut self, tags: BTreeSet<String>, now: Timestamp) -> Round {
        let named: Vec<String> = self.file.tags.keys().filter(|tag| self.is_named(tag)).cloned().collect();
        let before = self.lacked.take();
        let mut lacked = BTreeSet::new();
        for tag in named {
            let Some(known) = self.file.tags.get_mut(&tag) else { continue };
            if tags.contains(&tag) {
                known.missing_ms = 0;
                continue;
            }
            if let Some((at, _)) = before.as_ref().filter(|(_, lacked)| lacked.contains(&tag)) {
                let step = Duration::try_from(now.duration_since(*at)).unwrap_or(Duration::ZERO).min(STEP);
                known.missing_ms = known.missing_ms.saturating_add(millis(step));
            }
            lacked.insert(tag);
        }
        self.lacked = Some((now, lacked));
        self.hollow.retain(|tag| tags.contains(tag));
        (self.file.listed_at, self.file.problem) = (Some(published::text(now)), None);
        Round::of(tags)
    }

    /// Whether the pattern of today names what stands in the file under a tag.
    fn is_named(&self, tag: &str) -> bool {
        let pattern = &self.settings.channel;
        pattern.matches(tag) && self.file.tags.get(tag).is_some_and(|known| known.channel == pattern.channel(tag))
    }

    fn is_over(&self, published: Timestamp, now: Timestamp) -> bool {
        is_over(published, self.file.ttl_ms, now)
    }

    fn change(&self, tag: &str, what: What) -> Change {
        Change { tag: tag.to_owned(), app: self.app(tag), what }
    }
}

/// Takes out of a file what is not to stay, when its time is over: nothing wakes it again.
pub fn expire(file: &mut PreviewsFile, now: Timestamp, stays: impl Fn(&str) -> bool) -> Vec<Change> {
    let (entry, ttl_ms, mut changes) = (file.entry.clone(), file.ttl_ms, Vec::new());
    file.tags.retain(|tag, known| {
        let leaves = known.over.is_some() || published::read(known).is_some_and(|at| is_over(at, ttl_ms, now));
        if stays(tag) || !leaves {
            return true;
        }
        if known.over.is_none() {
            changes.push(Change { tag: tag.clone(), app: preview_name(&entry, tag), what: What::NotNamed });
        }
        false
    });
    changes
}

/// A time that cannot be read is now: what it is about must neither end at once nor stay for ever.
pub fn repair(file: &mut PreviewsFile, now: Timestamp) {
    for known in file.tags.values_mut().filter(|known| published::read(known).is_none()) {
        known.published = published::text(now);
    }
}

fn is_over(published: Timestamp, ttl_ms: u64, now: Timestamp) -> bool {
    let age = Duration::try_from(now.duration_since(published)).unwrap_or(Duration::ZERO);
    millis(age) >= ttl_ms
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a tag that was not there points at.
fn nothing() -> Digest {
    Digest::of(b"")
}

#[cfg(test)]
mod tests;
