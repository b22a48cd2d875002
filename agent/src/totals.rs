//! What an app's history adds up to, for the metrics: counters that go on where they were when the agent is started again. Pure.

use std::collections::BTreeMap;

use landfall_core::protocol::{Cause, HistoryEntry, HistoryEvent};

/// The ends of a rollout that are counted.
pub const OUTCOMES: [HistoryEvent; 4] =
    [HistoryEvent::Live, HistoryEvent::RolledBack, HistoryEvent::Held, HistoryEvent::Refused];

/// Counts since the history began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// By [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    /// By [`Cause::ALL`].
    pub causes: [u64; Cause::ALL.len()],
    /// How many rollouts told how long they took, and how long all of them, milliseconds; by [`OUTCOMES`].
    pub took: [(u64, u64); OUTCOMES.len()],
    /// How long the last of them took, milliseconds.
    pub last_took: Option<u64>,
    /// How often a service was started again by itself.
    pub restarts: BTreeMap<String, u64>,
    /// How often what was down as a stack was brought back.
    pub recoveries: u64,
}

impl Totals {
    /// One more entry.
    pub fn count(&mut self, entry: &HistoryEntry) {
        if let Some(at) = OUTCOMES.iter().position(|outcome| *outcome == entry.event) {
            self.outcomes[at] += 1;
            if let Some(took) = entry.took_ms {
                let (count, sum) = &mut self.took[at];
                *count += 1;
                *sum = sum.saturating_add(took);
                self.last_took = Some(took);
            }
        }
        if let Some(at) = Cause::ALL.iter().position(|cause| Some(*cause) == entry.cause) {
            self.causes[at] += 1;
        }
        match entry.event {
            HistoryEvent::Restarted => {
                for service in &entry.services {
                    *self.restarts.entry(service.clone()).or_default() += 1;
                }
            }
            HistoryEvent::Recovered => self.recoveries += 1,
            HistoryEvent::RolloutStarted
            | HistoryEvent::Live
            | HistoryEvent::Good
            | HistoryEvent::RollbackStarted
            | HistoryEvent::RolledBack
            | HistoryEvent::Refused
            | HistoryEvent::Held
            | HistoryEvent::Operator
            | HistoryEvent::Unclean
            | HistoryEvent::Repaired
            | HistoryEvent::RepairFailed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history;

    #[test]
    fn entries_add_up_and_go_on_after_the_history_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.jsonl");
        let mut history = history::History::open(&path).unwrap();
        let entries = [
            HistoryEntry { took_ms: Some(1500), ..history::entry(HistoryEvent::Live) },
            HistoryEntry { took_ms: Some(500), reason: Some("2".into()), ..history::entry(HistoryEvent::Live) },
            HistoryEntry { cause: Some(Cause::Late), ..history::entry(HistoryEvent::RollbackStarted) },
            HistoryEntry { took_ms: Some(9000), ..history::entry(HistoryEvent::RolledBack) },
            HistoryEntry { services: vec!["api".into()], ..history::entry(HistoryEvent::Restarted) },
            HistoryEntry { services: vec!["api".into(), "db".into()], ..history::entry(HistoryEvent::Recovered) },
        ];
        for entry in entries {
            history.append(entry).unwrap();
        }
        let totals = history.totals().clone();
        assert_eq!((totals.outcomes, totals.recoveries), ([2, 1, 0, 0], 1));
        assert_eq!((totals.took[0], totals.took[1], totals.last_took), ((2, 2000), (1, 9000), Some(9000)));
        let late = Cause::ALL.iter().position(|cause| *cause == Cause::Late).unwrap();
        assert_eq!((totals.causes[late], totals.causes.iter().sum::<u64>()), (1, 1));
        assert_eq!(totals.restarts, [("api".to_owned(), 1)].into());
        assert_eq!(*history::History::open(&path).unwrap().totals(), totals);
    }
}
