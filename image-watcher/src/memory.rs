//! `state.json`: the highest sequence that each channel ever had. It must not be forgotten, so a file that cannot be read
//! is never taken for an absent one: new releases are refused until a person has looked.

use std::collections::BTreeMap;
use std::io;

use landfall_core::contract::{self, FORMAT, Read};
use landfall_core::layout::Layout;
use landfall_core::publish;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StateFile {
    format: u32,
    /// By the reference that is followed.
    sequences: BTreeMap<String, u64>,
}

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Garbled, or of a newer version.
    #[error(
        "the record of sequences cannot be used ({why}), so no new release is taken; compare what runs with the channel, then remove `{path}`"
    )]
    Unreadable {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// It cannot be written.
    #[error("cannot write `{path}`; check the disk")]
    Write {
        /// Which file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The highest sequence of a channel so far.
pub fn highest(layout: &Layout, channel: &str) -> Result<Option<u64>, MemoryError> {
    Ok(load(layout)?.sequences.get(channel).copied())
}

/// Remembers a sequence, durably, before the release is shown to anyone.
pub fn remember(layout: &Layout, channel: &str, sequence: u64) -> Result<(), MemoryError> {
    let mut state = load(layout)?;
    if state.sequences.get(channel).is_some_and(|seen| *seen >= sequence) {
        return Ok(());
    }
    state.sequences.insert(channel.to_owned(), sequence);
    let path = layout.watcher_state();
    publish::write_json(&path, &state).map_err(|source| MemoryError::Write { path: path.display().to_string(), source })
}

fn load(layout: &Layout) -> Result<StateFile, MemoryError> {
    let path = layout.watcher_state();
    let unreadable = |why| MemoryError::Unreadable { path: path.display().to_string(), why };
    match contract::read(&path) {
        Read::Found(state) => Ok(state),
        Read::Absent => Ok(StateFile { format: FORMAT, sequences: BTreeMap::new() }),
        Read::NewerFormat(format) => Err(unreadable(format!("format {format} is newer than {FORMAT}"))),
        Read::Garbled(why) => Err(unreadable(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_sequence_stays_and_channels_do_not_mix() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert_eq!(highest(&layout, "a").unwrap(), None);
        for sequence in [5, 9, 7] {
            remember(&layout, "a", sequence).unwrap();
        }
        remember(&layout, "b", 1).unwrap();
        assert_eq!((highest(&layout, "a").unwrap(), highest(&layout, "b").unwrap()), (Some(9), Some(1)));
    }

    #[test]
    fn a_torn_record_is_not_an_absent_one() {
        for text in
            ["", "{", "{\"format\":1}", "{\"format\":2,\"sequences\":{}}", "{\"format\":1,\"sequences\":{\"a\":\"9\"}}"]
        {
            let root = tempfile::tempdir().unwrap();
            let layout = Layout::new(root.path());
            publish::write(&layout.watcher_state(), text.as_bytes(), 0o644).unwrap();
            let error = highest(&layout, "a").expect_err(text).to_string();
            assert!(error.contains("state.json") && error.contains("then remove"), "{text}: {error}");
            assert!(remember(&layout, "a", 10).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(layout.watcher_state()).unwrap(), text);
        }
    }
}
