//! Exponential back-off, and what keeps a fleet from marching in step, as values: no clock, no sleeping, and chance comes in.

use std::time::Duration;

/// Doubles from `first` up to `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// No delay is longer.
    pub most: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row; nothing after none.
    pub fn after(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                self.first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.most)
            }
        }
    }
}

/// `interval` and up to a tenth more or less, by `chance`: machines that booted together do not ask together.
pub fn jittered(interval: Duration, chance: u64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * share(chance))
}

/// A number from 0 to 1, in thousandths.
pub fn share(chance: u64) -> f64 {
    f64::from(u32::try_from(chance % 1001).unwrap_or(0)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_and_never_overflows() {
        let b = Backoff { first: Duration::from_secs(1), most: Duration::from_mins(1) };
        let seconds: Vec<u64> = [0, 1, 2, 3, 6, 7, 8, 40, u32::MAX].map(|n| b.after(n).as_secs()).to_vec();
        assert_eq!(seconds, [0, 1, 2, 4, 32, 60, 60, 60, 60]);
    }
}
