//! One round after a listing: what is asked next, and what an answer means. Pure. A registry that does not answer ends the round,
//! so nothing here knows of errors: what was not answered is asked again after the next listing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use landfall_core::contract::PreviewTag;
use landfall_core::ids::Digest;

use super::{Change, Entry, MISSING, MOST, What, millis, nothing, published};

/// The tags of one listing, and what was asked since.
#[derive(Debug, Clone)]
pub struct Round {
    listed: BTreeSet<String>,
    asked: BTreeSet<String>,
    turn_is_over: bool,
}

impl Round {
    pub(super) fn of(listed: BTreeSet<String>) -> Self {
        Self { listed, asked: BTreeSet::new(), turn_is_over: false }
    }
}

/// A question to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// About this tag.
    pub tag: String,
    /// Why it is asked.
    pub why: Why,
}

/// Why a tag is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was never seen, or was hollow: when was it published?
    New,
    /// Its time is over by what is known: was it published since?
    Over,
    /// Its time was over: does it point elsewhere now?
    Wake,
    /// It was missing for a day: is it really not there?
    Gone,
}

/// What the registry says of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What it points at, and when that was published, where it was asked and says so.
    At(Digest, Option<Timestamp>),
    /// There is no such tag.
    NotThere,
}

impl Why {
    /// Whether the manifest is needed, or its digest will do.
    pub fn needs_manifest(self) -> bool {
        match self {
            Self::New | Self::Over => true,
            Self::Wake | Self::Gone => false,
        }
    }
}

impl Entry {
    /// What is asked next; none where the round is over.
    pub fn ask(&self, round: &Round, now: Timestamp) -> Option<Ask> {
        let ask = |tag: &String, why| Some(Ask { tag: tag.clone(), why });
        for (tag, known) in self.file.tags.iter().filter(|(tag, _)| self.is_named(tag) && !round.asked.contains(*tag)) {
            if known.missing_ms >= millis(MISSING) {
                return ask(tag, Why::Gone);
            }
            if known.over.is_none() && published::read(known).is_some_and(|at| self.is_over(at, now)) {
                return ask(tag, Why::Over);
            }
        }
        if self.living_count() >= MOST {
            return None;
        }
        if let Some(tag) = self.in_turn(round) {
            let why = if self.hollow.contains(tag) { Why::New } else { Why::Wake };
            return ask(tag, why);
        }
        let new = self.new_tags(round).filter(|tag| !round.asked.contains(*tag) && !self.hollow.contains(*tag));
        ask(new.max_by_key(|tag| (tag.len(), *tag))?, Why::New)
    }

    /// What an answer means.
    pub fn answer(&mut self, round: &mut Round, ask: &Ask, answer: Answer, now: Timestamp) -> Option<Change> {
        self.note_asked(round, ask);
        let tag = &ask.tag;
        match (ask.why, answer) {
            (Why::New, Answer::NotThere) => {
                self.hollow.insert(tag.clone());
                None
            }
            (Why::New, Answer::At(digest, published)) => self.begin(tag, digest, published, now),
            (Why::Over, answer) => self.end(tag, answer, now),
            (Why::Wake, Answer::At(digest, _)) => self.wake(tag, &digest, now),
            (Why::Wake, Answer::NotThere) => None,
            (Why::Gone, Answer::NotThere) => {
                let known = self.file.tags.remove(tag)?;
                known.over.is_none().then(|| self.change(tag, What::Gone))
            }
            (Why::Gone, Answer::At(..)) => {
                self.file.tags.get_mut(tag)?.missing_ms = 0;
                None
            }
        }
    }

    /// The answer for a tag is no answer, and others are to be asked: this one again in its turn.
    pub fn skip(&mut self, round: &mut Round, ask: &Ask) {
        self.note_asked(round, ask);
        if ask.why == Why::New {
            self.hollow.insert(ask.tag.clone());
        }
    }

    fn note_asked(&mut self, round: &mut Round, ask: &Ask) {
        round.asked.insert(ask.tag.clone());
        if self.hollow.contains(&ask.tag) || ask.why == Why::Wake {
            round.turn_is_over = true;
            self.turn = Some(ask.tag.clone());
        }
    }

    /// That tags wait, for people.
    pub fn waiting(&self, round: &Round) -> Option<String> {
        let waiting = self.new_tags(round).filter(|tag| !self.hollow.contains(*tag)).count();
        (waiting > 0 && self.living_count() >= MOST).then(|| {
            format!(
                "{waiting} more tags match and wait: an entry has {MOST} previews at most; delete tags, or shorten `ttl` of \
                 `previews.{}` in landfall.yaml",
                self.name
            )
        })
    }

    fn begin(&mut self, tag: &str, digest: Digest, published: Option<Timestamp>, now: Timestamp) -> Option<Change> {
        let published = published.unwrap_or(now);
        let over = self.is_over(published, now).then_some(digest);
        let began = over.is_none();
        let channel = self.settings.channel.channel(tag);
        let known = PreviewTag { channel, published: published::text(published), missing_ms: 0, over };
        self.hollow.remove(tag);
        self.file.tags.insert(tag.to_owned(), known);
        began.then(|| self.change(tag, What::Began))
    }

    fn end(&mut self, tag: &str, answer: Answer, now: Timestamp) -> Option<Change> {
        let (digest, published) = match answer {
            Answer::At(digest, published) => (digest, published),
            Answer::NotThere => (nothing(), None),
        };
        if let Some(published) = published {
            self.heard(tag, published);
        }
        let known = self.file.tags.get(tag)?;
        if published::read(known).is_some_and(|at| !self.is_over(at, now)) {
            return None;
        }
        self.file.tags.get_mut(tag)?.over = Some(digest);
        Some(self.change(tag, What::Over))
    }

    fn wake(&mut self, tag: &str, digest: &Digest, now: Timestamp) -> Option<Change> {
        let known = self.file.tags.get_mut(tag)?;
        if known.over.as_ref() == Some(digest) {
            return None;
        }
        (known.over, known.published) = (None, published::text(now));
        Some(self.change(tag, What::Began))
    }

    /// The next of those that are asked one per round, so that many of them cost no more than one.
    fn in_turn<'a>(&self, round: &'a Round) -> Option<&'a String> {
        if round.turn_is_over {
            return None;
        }
        let is_asleep = |tag: &&String| {
            self.hollow.contains(*tag)
                || (self.is_named(tag) && self.file.tags.get(*tag).is_some_and(|known| known.over.is_some()))
        };
        let asleep = || round.listed.iter().filter(|tag| !round.asked.contains(*tag)).filter(is_asleep);
        let after = asleep().find(|tag| self.turn.as_ref().is_none_or(|turn| *tag > turn));
        after.or_else(|| asleep().next())
    }

    /// What is listed and not known.
    fn new_tags<'a>(&'a self, round: &'a Round) -> impl Iterator<Item = &'a String> {
        round.listed.iter().filter(|tag| !self.is_named(tag))
    }

    fn living_count(&self) -> usize {
        self.file.tags.values().filter(|known| known.over.is_none()).count()
    }
}
