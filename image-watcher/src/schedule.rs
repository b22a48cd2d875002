//! When a channel is asked next: jitter, back-off, what a registry asked for. Pure: chance comes in. One of these per
//! channel; a whole fleet of them must neither march in step nor ask more because nobody answers (`make bench` simulates it).

use std::time::Duration;

use landfall_core::backoff::Backoff;

/// After errors the pause doubles from the poll interval up to this; a channel that is asked more rarely is asked after this too.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// When one channel is asked.
#[derive(Debug, Clone)]
pub struct Schedule {
    poll: Duration,
    failures: u32,
}

impl Schedule {
    /// Of a channel that is asked this often.
    pub fn new(poll: Duration) -> Self {
        Self { poll, failures: 0 }
    }

    /// The pause after an answer.
    pub fn answered(&mut self, chance: u64) -> Duration {
        self.failures = 0;
        jittered(self.poll, chance)
    }

    /// The pause after none. What the registry asked for is kept, and a poll interval is spread over: `Retry-After` may be
    /// one date for everybody.
    pub fn failed(&mut self, retry_after: Option<Duration>, chance: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let first = self.poll.min(LONGEST_PAUSE);
        match retry_after {
            Some(asked) => asked + first.mul_f64(share(chance)),
            // Never less than between two polls: a registry in trouble is not asked more often than one that is well.
            None => jittered(Backoff { first, most: LONGEST_PAUSE }.after(self.failures), chance),
        }
    }
}

/// `interval` and up to a tenth more or less, by `chance`: machines that booted together do not ask together.
fn jittered(interval: Duration, chance: u64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * share(chance))
}

/// A number from 0 to 1, in thousandths.
fn share(chance: u64) -> f64 {
    f64::from(u32::try_from(chance % 1001).unwrap_or(0)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(5);

    fn seconds(pause: Duration) -> f64 {
        (pause.as_secs_f64() * 1000.0).round() / 1000.0
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        let pauses = [0, 500, 1000].map(|chance| seconds(Schedule::new(POLL).answered(chance)));
        assert_eq!(pauses, [4.5, 5.0, 5.5]);
        assert!((4.5..=5.5).contains(&seconds(Schedule::new(POLL).answered(u64::MAX))));
    }

    #[test]
    fn errors_double_the_pause_up_to_a_minute_and_an_answer_ends_that() {
        let mut schedule = Schedule::new(POLL);
        let pauses: Vec<f64> = (0..7).map(|_| seconds(schedule.failed(None, 500))).collect();
        assert_eq!(pauses, [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]);
        assert_eq!([seconds(schedule.answered(500)), seconds(schedule.failed(None, 500))], [5.0, 5.0]);
        let rare = Schedule::new(Duration::from_hours(24)).failed(None, 500);
        assert_eq!(seconds(rare), 60.0, "a channel that is asked once a day does not lose a day");
    }

    #[test]
    fn what_a_registry_asks_for_is_kept_and_spread() {
        let asked = Some(Duration::from_secs(30));
        let pauses = [0, 500, 1000].map(|chance| seconds(Schedule::new(POLL).failed(asked, chance)));
        assert_eq!(pauses, [30.0, 32.5, 35.0]);
    }
}
