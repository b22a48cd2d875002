//! When to ask again: jitter, back-off, and what a registry's `Retry-After` means. Pure: time and chance come in.

use std::time::Duration;

use jiff::Timestamp;
use landfall_core::backoff::Backoff;
use landfall_core::config::parse_duration;

/// After errors: 1 s doubling to 60 s.
pub const ERRORS: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_mins(1) };

/// Some registries say less than a millisecond: never hammer.
const RETRY_AFTER_LEAST: Duration = Duration::from_millis(100);
/// And none may silence us for long.
const RETRY_AFTER_MOST: Duration = Duration::from_mins(5);

/// What `Retry-After` asks for, within our bounds: seconds, a date, or (as GHCR writes it) a duration with a unit.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let text = header.trim();
    let asked = if let Ok(seconds) = text.parse::<f64>() {
        Duration::try_from_secs_f64(seconds).ok()?
    } else if let Ok(duration) = parse_duration(text) {
        duration
    } else {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(asked.clamp(RETRY_AFTER_LEAST, RETRY_AFTER_MOST))
}

/// `interval` and up to a tenth more or less, by `chance`: machines that booted together do not ask together.
pub fn jittered(interval: Duration, chance: u64) -> Duration {
    let permille = 900 + u32::try_from(chance % 201).unwrap_or_default();
    interval.saturating_mul(permille) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_has_a_floor_and_a_cap() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        for (header, wanted) in [
            ("3", Some(3_000)),
            ("0", Some(100)),
            ("0.0002", Some(100)),
            ("634.5µs", Some(100)),
            ("1m30s", Some(90_000)),
            ("86400", Some(300_000)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30_000)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(100)),
            ("-5", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(header, now), wanted.map(Duration::from_millis), "{header}");
        }
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        for (chance, wanted) in
            [(0, 4_500), (100, 5_000), (200, 5_500), (201, 4_500), (u64::MAX, 4_500 + 5 * (u64::MAX % 201))]
        {
            assert_eq!(jittered(Duration::from_secs(5), chance), Duration::from_millis(wanted), "{chance}");
        }
    }
}
