//! When a channel is asked next: jitter, back-off, what a registry asked for. Pure: chance comes in. One of these per
//! channel; a whole fleet of them must neither march in step nor ask more because nobody answers (`make bench` simulates it).
//! Two rules keep it so: no pause is shorter than between two polls, whatever a registry says, and what may be one moment for
//! everybody is spread over a poll interval.
//!
//! A channel that is asked more rarely than once a minute breaks the first rule on purpose: it would lose an hour or a day by
//! one failure. Such a fleet asks more of a registry in trouble than of one that is well, and still only once a minute each at most.

use std::time::Duration;

use landfall_core::backoff::{Backoff, jittered, share};

/// After errors the pause doubles from the poll interval, or from this where polls are rarer, up to the longer of the two.
const MINUTE: Duration = Duration::from_mins(1);

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

    /// The pause after none. What the registry asked for is kept and a poll interval is spread over: `Retry-After` may be one
    /// date for everybody. It is not believed where it says less than that: it may be 0, or a date that is over by our clock.
    pub fn failed(&mut self, retry_after: Option<Duration>, chance: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let first = self.poll.min(MINUTE);
        match retry_after {
            Some(asked) => (asked + first.mul_f64(share(chance))).max(jittered(first, chance)),
            None => jittered(Backoff { first, most: self.poll.max(MINUTE) }.after(self.failures), chance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(5);

    fn millis(pause: Duration) -> u128 {
        // To the nearest: shares are floating point.
        (pause + Duration::from_micros(500)).as_millis()
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        let pauses = [0, 500, 1000].map(|chance| millis(Schedule::new(POLL).answered(chance)));
        assert_eq!(pauses, [4500, 5000, 5500]);
        assert!((4500..=5500).contains(&millis(Schedule::new(POLL).answered(u64::MAX))));
    }

    #[test]
    fn errors_double_the_pause_up_to_a_minute_and_an_answer_ends_that() {
        let mut schedule = Schedule::new(POLL);
        let pauses: Vec<u128> = (0..7).map(|_| millis(schedule.failed(None, 500))).collect();
        assert_eq!(pauses, [5000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
        assert_eq!([millis(schedule.answered(500)), millis(schedule.failed(None, 500))], [5000, 5000]);
        let mut rare = Schedule::new(Duration::from_mins(10));
        let pauses: Vec<u128> = (0..6).map(|_| millis(rare.failed(None, 500))).collect();
        assert_eq!(
            pauses,
            [60_000, 120_000, 240_000, 480_000, 600_000, 600_000],
            "it loses no more than the outage took"
        );
    }

    #[test]
    fn what_a_registry_asks_for_is_kept_and_spread() {
        for (asked, expected) in
            [(30_000, [30_000, 32_500, 35_000]), (4_000, [4500, 6500, 9000]), (0, [4500, 5000, 5500])]
        {
            let asked = Some(Duration::from_millis(asked));
            let pauses = [0, 500, 1000].map(|chance| millis(Schedule::new(POLL).failed(asked, chance)));
            assert_eq!(pauses, expected, "{asked:?}");
        }
    }
}
