//! The write-ahead ledger: one JSON line for each state, appended and fsynced before what it leads to is done. The last
//! line is the truth. A torn last line is cut off; any other line that does not parse, or a newer format, is an error,
//! never "no ledger": a forgotten quarantine or a forgotten way back would be worse than standing still.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use landfall_core::ids::AppName;
use serde::{Deserialize, Serialize};

use crate::state::AppState;

/// The format of a line.
const FORMAT: u32 = 1;
/// Past this size the ledger is written anew with its last line only.
const COMPACT_AT: u64 = 1 << 20;

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk says no.
    #[error("cannot read or write the ledger `{path}`: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// It does not parse.
    #[error(
        "line {line} of the ledger `{path}` is garbled ({why}): restore the file, or move it away and the app is adopted anew"
    )]
    Garbled {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
    /// Written by a newer agent.
    #[error("the ledger `{path}` has format {format}, this version reads {FORMAT}: install the newer landfall again")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format found.
        format: u32,
    },
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
}

impl Ledger {
    /// Opens or begins the ledger of an app and reads its last state.
    pub fn open(path: &Path, app: &AppName) -> Result<(Self, AppState), LedgerError> {
        let io = |error| LedgerError::Io { path: path.to_owned(), error };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            // A kill in the middle of an append: that line was never acted upon.
            file.set_len(whole as u64).map_err(io)?;
            file.sync_data().map_err(io)?;
        }
        let state = last_state(path, &text[..whole])?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok((Self { path: path.to_owned(), app: app.clone(), file, size: whole as u64 }, state))
    }

    /// Remembers a state; returns when it is on the disk.
    pub fn append(&mut self, state: &AppState) -> Result<(), LedgerError> {
        let io = |error| LedgerError::Io { path: self.path.clone(), error };
        let line = Line { format: FORMAT, app: self.app.clone(), state: state.clone() };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| io(error.into()))?;
        bytes.push(b'\n');
        if self.size > COMPACT_AT {
            landfall_core::publish::write(&self.path, &bytes, 0o600).map_err(io)?;
            self.file = OpenOptions::new().append(true).open(&self.path).map_err(io)?;
            self.size = bytes.len() as u64;
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

/// The state of the last line; the default where there is none.
fn last_state(path: &Path, text: &[u8]) -> Result<AppState, LedgerError> {
    let mut state = AppState::default();
    for (index, line) in text.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let garbled = |error: serde_json::Error| LedgerError::Garbled {
            path: path.to_owned(),
            line: index + 1,
            why: error.to_string(),
        };
        let head: Head = serde_json::from_slice(line).map_err(garbled)?;
        if head.format > FORMAT {
            return Err(LedgerError::Newer { path: path.to_owned(), format: head.format });
        }
        let line: Line = serde_json::from_slice(line).map_err(garbled)?;
        state = line.state;
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AppName {
        "web".parse().unwrap()
    }

    fn held(why: &str) -> AppState {
        AppState { hold: Some(why.to_owned()), ..AppState::default() }
    }

    #[test]
    fn the_last_line_is_the_truth_and_a_torn_one_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger/web.jsonl");
        let (mut ledger, state) = Ledger::open(&path, &app()).unwrap();
        assert_eq!(state, AppState::default());
        ledger.append(&held("one")).unwrap();
        ledger.append(&held("two")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..40 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut ledger, state) = Ledger::open(&path, &app()).unwrap();
            assert_eq!(state, held("one"), "cut {cut}");
            ledger.append(&held("three")).unwrap();
            assert_eq!(Ledger::open(&path, &app()).unwrap().1, held("three"));
        }
    }

    #[test]
    fn a_garbled_line_and_a_newer_format_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.jsonl");
        std::fs::write(&path, "not json\n{\"format\":1}\n").unwrap();
        assert!(matches!(Ledger::open(&path, &app()), Err(LedgerError::Garbled { line: 1, .. })));
        std::fs::write(&path, "{\"format\":2,\"anything\":1}\n").unwrap();
        assert!(matches!(Ledger::open(&path, &app()), Err(LedgerError::Newer { format: 2, .. })));
    }
}
