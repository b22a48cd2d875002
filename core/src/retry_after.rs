//! What `Retry-After` means, in the answer of a registry or of a store of outcomes. Pure: time comes in.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::parse_duration;

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
}
