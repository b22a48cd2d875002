//! What became of a release on a machine, as it is told outside of that machine: one JSON document. `landfall publish
//! --wait-url` reads it from a store; whoever fills that store writes it. A field is only ever added, never redefined.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ReleaseId};
use crate::protocol::HistoryEvent;

/// No such document is longer, in bytes; who tells a longer reason cuts it.
pub const OUTCOME_LIMIT: usize = 64 << 10;

/// What happened to one release on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`crate::contract::FORMAT`].
    pub format: u32,
    /// Whose release.
    pub app: AppName,
    /// The machine's id: names it among all that follow the channel.
    pub machine: String,
    /// Of the entry in that app's history on that machine.
    pub seq: u64,
    /// When (RFC 3339, UTC, milliseconds).
    pub at: String,
    /// Which release.
    pub release: ReleaseId,
    /// `io.landfall.sequence` of the publication that it came by: the same content may be published again.
    #[serde(default)]
    pub sequence: Option<u64>,
    /// What happened, in the words of the history.
    pub outcome: HistoryEvent,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What an outcome means for whoever waits for the end of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Live,
    /// It was tried and does not serve.
    Failed,
    /// It was not tried.
    Refused,
    /// More is to come.
    UnderWay,
}

impl Outcome {
    /// What it means.
    pub fn verdict(&self) -> Verdict {
        match self.outcome {
            HistoryEvent::Live | HistoryEvent::Good => Verdict::Live,
            HistoryEvent::RolledBack | HistoryEvent::Held => Verdict::Failed,
            HistoryEvent::Refused => Verdict::Refused,
            HistoryEvent::RolloutStarted
            | HistoryEvent::RollbackStarted
            | HistoryEvent::Restarted
            | HistoryEvent::Recovered
            | HistoryEvent::Operator
            | HistoryEvent::Unclean
            | HistoryEvent::Repaired
            | HistoryEvent::RepairFailed => Verdict::UnderWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Read, parse};

    /// A golden: stores outside of our reach have it.
    #[test]
    fn the_document_is_read_with_fields_of_later_versions_and_without_those_that_may_be_absent() {
        let release = "ab".repeat(32);
        let whole = format!(
            r#"{{"format":1,"app":"web","machine":"vm-1","seq":7,"at":"2030-01-01T00:00:00.000Z","release":"{release}","sequence":1893456000000,"outcome":"rolled-back","reason":"api is not healthy"}}"#
        );
        let Read::Found(outcome) = parse::<Outcome>(whole.as_bytes()) else { panic!("{whole}") };
        assert_eq!(serde_json::to_string(&outcome).unwrap(), whole);
        let least = format!(
            r#"{{"format":1,"app":"web","machine":"vm-1","seq":7,"at":"2030-01-01T00:00:00Z","release":"{release}","outcome":"live","later":[1]}}"#
        );
        let Read::Found(outcome) = parse::<Outcome>(least.as_bytes()) else { panic!("{least}") };
        assert_eq!((outcome.sequence, outcome.reason.clone(), outcome.verdict()), (None, None, Verdict::Live));
        let newer = whole.replace("\"format\":1", "\"format\":2");
        assert!(matches!(parse::<Outcome>(newer.as_bytes()), Read::NewerFormat(2)));
        for garbled in [whole.replace("rolled-back", "eaten"), whole.replace("ab", "xy"), "<html>".to_owned()] {
            assert!(matches!(parse::<Outcome>(garbled.as_bytes()), Read::Garbled(_)), "{garbled}");
        }
    }
}
