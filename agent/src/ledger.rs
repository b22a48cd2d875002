//! The write-ahead ledger: one JSON line for each state, appended and fsynced before what it leads to is done. The last
//! line is the truth. A torn last line is cut off: it was never acted upon. Any other line that cannot be read is damage,
//! never "no ledger": what the last readable line says is handed out with the reason, and `damage` says what follows.
//!
//! A damaged file is never appended to and never lost: the next state goes to a new file, and the damaged one is kept
//! beside it under the name that the damage gives.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use landfall_core::ids::{AppName, printable};
use serde::{Deserialize, Serialize};

use crate::state::AppState;

/// The format of a line.
const FORMAT: u32 = 1;
/// Past this size the ledger is written anew with its last line only.
const COMPACT_AT: u64 = 1 << 20;

/// The disk says no.
#[derive(Debug, thiserror::Error)]
#[error("cannot read or write the ledger `{path}`: {error}")]
pub struct LedgerError {
    /// Which file.
    path: PathBuf,
    /// What the kernel said.
    error: std::io::Error,
}

/// What in a ledger cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A whole line does not parse.
    Garbled {
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
    /// A newer agent wrote it.
    Newer {
        /// The format found.
        format: u32,
    },
}

/// What a ledger gave.
#[derive(Debug)]
pub struct Opened {
    /// To append to.
    pub ledger: Ledger,
    /// What its last readable line says; the default where there is none.
    pub state: AppState,
    /// What could not be read, for people, with the name under which the file is kept.
    pub damage: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    format: u32,
    app: AppName,
    state: AppState,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    app: AppName,
    file: File,
    size: u64,
    /// The file is damaged: it is kept under this name before the next state is written.
    keep_as: Option<PathBuf>,
}

impl Ledger {
    /// Opens or begins the ledger of an app and reads its last state.
    pub fn open(path: &Path, app: &AppName) -> Result<Opened, LedgerError> {
        let io = |error| LedgerError { path: path.to_owned(), error };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let (state, damage) = read(&text[..whole], app);
        let keep_as = damage.as_ref().map(|damage| spare_name(path, damage, &text));
        if damage.is_none() && whole < text.len() {
            // A kill in the middle of an append: that line was never acted upon.
            file.set_len(whole as u64).map_err(io)?;
            file.sync_data().map_err(io)?;
        }
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let damage = damage.zip(keep_as.as_ref()).map(|(damage, kept)| damage.for_people(path, kept));
        let ledger = Self { path: path.to_owned(), app: app.clone(), file, size: whole as u64, keep_as };
        Ok(Opened { ledger, state, damage })
    }

    /// Remembers a state; returns when it is on the disk.
    pub fn append(&mut self, state: &AppState) -> Result<(), LedgerError> {
        let io = |error| LedgerError { path: self.path.clone(), error };
        let line = Line { format: FORMAT, app: self.app.clone(), state: state.clone() };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| io(error.into()))?;
        bytes.push(b'\n');
        if let Some(kept) = &self.keep_as
            && !kept.exists()
        {
            // A second name first: at no moment is there no ledger, and a forgotten one is worse than a garbled one.
            std::fs::hard_link(&self.path, kept).map_err(io)?;
        }
        if self.size > COMPACT_AT || self.keep_as.is_some() {
            landfall_core::publish::write(&self.path, &bytes, 0o600).map_err(io)?;
            self.file = OpenOptions::new().append(true).open(&self.path).map_err(io)?;
            self.size = bytes.len() as u64;
            self.keep_as = None;
            return Ok(());
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line must not stay in front of the next one.
            let _ = self.file.set_len(self.size);
            return Err(io(error));
        }
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// The state of the last line that can be read, and the first damage.
fn read(text: &[u8], app: &AppName) -> (AppState, Option<Damage>) {
    let mut state = AppState::default();
    let mut damage = None;
    for (index, line) in text.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let found = match serde_json::from_slice::<Line>(line) {
            // Fields are only ever added: what a newer line says of what we know is true.
            Ok(line) if line.app == *app => {
                state = line.state;
                (line.format > FORMAT).then_some(Damage::Newer { format: line.format })
            }
            Ok(line) => Some(Damage::Garbled { line: index + 1, why: format!("it is of app `{}`", line.app) }),
            Err(error) => Some(match serde_json::from_slice::<Head>(line) {
                Ok(head) if head.format > FORMAT => Damage::Newer { format: head.format },
                Ok(_) | Err(_) => Damage::Garbled { line: index + 1, why: printable(&error.to_string(), 200) },
            }),
        };
        damage = damage.or(found);
    }
    (state, damage)
}

impl Damage {
    fn for_people(&self, path: &Path, kept: &Path) -> String {
        let kept = kept.file_name().unwrap_or_default().to_string_lossy();
        match self {
            Self::Garbled { line, why } => {
                format!(
                    "line {line} of the ledger `{}` is garbled ({why}); the file is kept as `{kept}`",
                    path.display()
                )
            }
            Self::Newer { format } => format!(
                "the ledger `{}` has format {format}, this version writes {FORMAT}; the file is kept as `{kept}`",
                path.display()
            ),
        }
    }
}

/// `web.jsonl.garbled-1`: a name that is free, or that this very content has already (a kill between the two writes).
fn spare_name(path: &Path, damage: &Damage, text: &[u8]) -> PathBuf {
    let word = match damage {
        Damage::Garbled { .. } => "garbled",
        Damage::Newer { .. } => "newer",
    };
    let mut number = 1;
    loop {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let spare = path.with_file_name(format!("{name}.{word}-{number}"));
        match std::fs::read(&spare) {
            Ok(other) if other != text => number += 1,
            Ok(_) | Err(_) => return spare,
        }
    }
}

#[cfg(test)]
mod tests;
