//! When vaults are asked. Pure: time and chance come in. The clock of a vault is monotonic, so that a machine whose time is set
//! asks no more and no less.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_core::backoff::{Backoff, jittered, share};
use tokio::time::Instant;

use crate::source::Pause;

/// After the first failure; later ones double it up to the longer of a minute and the refresh interval.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_mins(1);

/// When one vault is asked.
#[derive(Debug, Clone)]
pub struct Clock {
    refresh: Duration,
    /// When the newest versions are asked for again.
    next: Instant,
    /// Nothing is asked before.
    closed_until: Instant,
    failures: u32,
}

impl Clock {
    /// Of a vault that was never asked.
    pub fn new(refresh: Duration, now: Instant) -> Self {
        Self { refresh, next: now, closed_until: now, failures: 0 }
    }

    /// It answered, whatever it said of single secrets.
    pub fn answered(&mut self, now: Instant, chance: u64) {
        self.failures = 0;
        if self.next <= now {
            self.next = now + jittered(self.refresh, chance);
        }
    }

    /// It did not, or wants to be left alone.
    pub fn failed(&mut self, pause: Pause, now: Instant, chance: u64) {
        self.failures = self.failures.saturating_add(1);
        let first = self.refresh.min(FIRST_PAUSE);
        let wait = match pause {
            Pause::BackOff => jittered(Backoff { first, most: self.refresh.max(MINUTE) }.after(self.failures), chance),
            // It may say the same to everybody.
            Pause::Asked(asked) => asked.max(first) + first.mul_f64(share(chance)),
            Pause::Refresh => jittered(self.refresh, chance),
        };
        self.closed_until = now + wait;
        self.next = self.closed_until;
    }
}

/// How much a need wants to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eagerness {
    /// At once: it is new, or changed.
    Now,
    /// With its vaults' refresh: it takes the newest versions, or is not complete.
    Refresh,
    /// It names exactly one set, and that is there.
    Never,
}

/// When a need that takes secrets of these vaults is looked at.
pub fn when<'a>(
    eagerness: Eagerness,
    vaults: impl IntoIterator<Item = &'a String>,
    clocks: &BTreeMap<String, Clock>,
) -> Option<Instant> {
    let clocks: Vec<&Clock> = vaults.into_iter().filter_map(|vault| clocks.get(vault)).collect();
    let open = clocks.iter().map(|clock| clock.closed_until).max()?;
    match eagerness {
        Eagerness::Now => Some(open),
        Eagerness::Refresh => clocks.iter().map(|clock| clock.next).min().map(|next| next.max(open)),
        Eagerness::Never => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No jitter.
    const EVEN: u64 = 500;

    fn seconds(of: Instant, since: Instant) -> u64 {
        (of.saturating_duration_since(since) + Duration::from_millis(1)).as_secs()
    }

    #[test]
    fn pauses_grow_and_an_answer_ends_them() {
        let now = Instant::now();
        let mut clock = Clock::new(MINUTE, now);
        let pauses: Vec<u64> = (0..7)
            .map(|_| {
                clock.failed(Pause::BackOff, now, EVEN);
                seconds(clock.closed_until, now)
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        clock.failed(Pause::Asked(Duration::from_mins(5)), now, 0);
        assert_eq!(seconds(clock.closed_until, now), 300);
        clock.failed(Pause::Refresh, now, EVEN);
        assert_eq!(seconds(clock.closed_until, now), 60);
        let later = clock.closed_until;
        clock.answered(later, EVEN);
        assert_eq!((seconds(clock.next, later), clock.failures), (60, 0));
        // In between, for a new need: what is refreshed keeps its time.
        clock.answered(later + Duration::from_secs(5), EVEN);
        assert_eq!(seconds(clock.next, later), 60);
    }

    #[test]
    fn a_need_waits_for_all_its_vaults_to_be_open_and_for_the_first_to_be_due() {
        let now = Instant::now();
        let mut clocks: BTreeMap<String, Clock> =
            [("a", 10), ("b", 60)].map(|(name, s)| (name.to_owned(), Clock::new(Duration::from_secs(s), now))).into();
        let both = ["a".to_owned(), "b".to_owned()];
        for clock in clocks.values_mut() {
            clock.answered(now, EVEN);
        }
        let at = |eagerness, clocks: &_| when(eagerness, &both, clocks).map(|at| seconds(at, now));
        assert_eq!(at(Eagerness::Now, &clocks), Some(0));
        assert_eq!(at(Eagerness::Refresh, &clocks), Some(10));
        assert_eq!(at(Eagerness::Never, &clocks), None);
        clocks.get_mut("b").unwrap().failed(Pause::Asked(Duration::from_mins(1)), now, 0);
        assert_eq!(at(Eagerness::Now, &clocks), Some(60));
        assert_eq!(at(Eagerness::Refresh, &clocks), Some(60));
        assert_eq!(when(Eagerness::Now, &["absent".to_owned()], &clocks), None);
    }
}
