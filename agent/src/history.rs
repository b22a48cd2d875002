//! How each rollout went: JSON lines appended and fsynced, for `landfall history` and for whoever asks later. It is a
//! record, not a source of decisions: those come from the ledger.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use landfall_core::protocol::{HistoryEntry, HistoryEvent};

use crate::clock::now_text;
use crate::decide::Note;
use crate::observed::Millis;
use crate::totals::Totals;

/// The format of a line.
const FORMAT: u32 = 1;

/// An app's history.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    next: u64,
    last: Option<HistoryEntry>,
    totals: Totals,
}

impl History {
    /// Opens or begins it; a torn last line is cut off.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            let file = std::fs::OpenOptions::new().write(true).open(path)?;
            file.set_len(whole as u64)?;
            file.sync_data()?;
        }
        let mut entries = parse(&text[..whole]);
        let mut totals = Totals::default();
        for entry in &entries {
            totals.count(entry);
        }
        let last = entries.pop();
        Ok(Self { path: path.to_owned(), next: last.as_ref().map_or(1, |l| l.seq + 1), last, totals })
    }

    /// What all entries add up to.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Appends an entry, numbered here. The same entry twice in a row (a kill between history and ledger) is written once.
    pub fn append(&mut self, mut entry: HistoryEntry) -> Result<HistoryEntry> {
        if let Some(last) = &self.last
            && (last.event, &last.deployment, &last.reason, &last.detected_at)
                == (entry.event, &entry.deployment, &entry.reason, &entry.detected_at)
            && !matches!(entry.event, HistoryEvent::Restarted | HistoryEvent::Recovered)
        {
            return Ok(last.clone());
        }
        entry.seq = self.next;
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(&line)
            .and_then(|()| file.sync_data())
            .with_context(|| format!("cannot write `{}`", self.path.display()))?;
        self.next += 1;
        self.totals.count(&entry);
        self.last = Some(entry.clone());
        Ok(entry)
    }

    /// The last entries, oldest first.
    pub fn tail(&self, last: usize) -> Result<Vec<HistoryEntry>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", self.path.display())),
        };
        let mut entries = parse(&text);
        Ok(entries.split_off(entries.len().saturating_sub(last)))
    }
}

/// An entry of now that names nothing yet.
pub fn entry(event: HistoryEvent) -> HistoryEntry {
    HistoryEntry {
        format: FORMAT,
        seq: 0,
        at: now_text(),
        event,
        release: None,
        deployment: None,
        reason: None,
        services: Vec::new(),
        detected_at: None,
        took_ms: None,
        cause: None,
    }
}

/// What the state machine noted, as an entry.
pub fn entry_of(note: &Note, now: Millis) -> HistoryEntry {
    let ends = matches!(note.event, HistoryEvent::Live | HistoryEvent::RolledBack | HistoryEvent::Held);
    HistoryEntry {
        release: note.deployment.as_ref().map(|d| d.release.clone()),
        deployment: note.deployment.as_ref().map(|d| d.id.clone()),
        reason: note.reason.clone(),
        cause: note.cause,
        services: note.services.clone(),
        detected_at: note.attempt.as_ref().and_then(|a| a.detected_at.clone()),
        took_ms: note.attempt.as_ref().filter(|_| ends).map(|a| u64::try_from(now - a.began).unwrap_or(0)),
        ..entry(note.event)
    }
}

/// Lines that parse; a reader of a record passes over what it cannot read.
fn parse(text: &[u8]) -> Vec<HistoryEntry> {
    text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
