//! When something was published: by its sequence where that is a time, else by what its manifest or the watcher says. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::contract::{ChannelFile, PreviewTag};
use serde::Deserialize;
use serde_json::Value;

const SEQUENCE: &str = "io.landfall.sequence";
const CREATED: &str = "org.opencontainers.image.created";
/// 2015-01-01: before it nobody has published anything, so that a smaller number is no time.
const FIRST: i64 = 1_420_070_400;
/// How much later than by our clock a publisher may have published.
const LATER: Duration = Duration::from_hours(24);

/// By a manifest's bytes; none where it does not say.
pub fn of_manifest(manifest: &[u8], now: Timestamp) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Head {
        annotations: Option<BTreeMap<String, Value>>,
    }
    let annotations = serde_json::from_slice::<Head>(manifest).ok()?.annotations?;
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    let created = || text(CREATED).and_then(|text| likely(text.parse().ok()?, now));
    of_sequence(text(SEQUENCE).and_then(|text| text.parse().ok()), now).or_else(created)
}

/// By what the channel file shows; none where it shows no release.
pub fn of_channel_file(file: &ChannelFile, now: Timestamp) -> Option<Timestamp> {
    let detected = || likely(file.detected_at.as_ref()?.parse().ok()?, now);
    of_sequence(file.sequence, now).or_else(detected)
}

/// As files have it.
pub(super) fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Of a tag in the file; none where it does not parse.
pub(super) fn read(known: &PreviewTag) -> Option<Timestamp> {
    known.published.parse().ok()
}

fn of_sequence(sequence: Option<u64>, now: Timestamp) -> Option<Timestamp> {
    likely(Timestamp::from_millisecond(i64::try_from(sequence?).ok()?).ok()?, now)
}

/// A time that something may have been published at.
fn likely(time: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let latest = now.checked_add(LATER).ok()?;
    (time.as_second() >= FIRST && time <= latest).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_counts_where_it_is_a_time_and_then_what_the_manifest_says() {
        let now: Timestamp = "2030-01-10T00:00:00Z".parse().unwrap();
        let late = "1893456000000";
        for (sequence, created, wanted) in [
            (Some(late), None, Some("2030-01-01T00:00:00.000Z")),
            (Some(late), Some("2029-01-01T00:00:00Z"), Some("2030-01-01T00:00:00.000Z")),
            (None, Some("2029-01-01T01:00:00+01:00"), Some("2029-01-01T00:00:00.000Z")),
            // A counter, seconds, microseconds, the far future, garbage.
            (Some("17"), Some("2029-01-01T00:00:00Z"), Some("2029-01-01T00:00:00.000Z")),
            (Some("1893456000"), None, None),
            (Some("1893456000000000"), None, None),
            (Some("1894400000000"), None, None),
            (Some("99999999999999999999"), None, None),
            (Some("-1"), Some("yesterday"), None),
            (None, Some("1980-01-01T00:00:00Z"), None),
            (None, Some("2030-01-11T00:00:01Z"), None),
            (None, Some("2030-01-11T00:00:00Z"), Some("2030-01-11T00:00:00.000Z")),
            (None, None, None),
        ] {
            let manifest = serde_json::json!({ "annotations": { SEQUENCE: sequence, CREATED: created, "n": 1 } });
            let found = of_manifest(manifest.to_string().as_bytes(), now).map(text);
            assert_eq!(found.as_deref(), wanted, "{manifest}");
        }
        for bytes in ["", "{", "[]", "{}", "{\"annotations\":null}", "{\"annotations\":[1]}", "\u{1b}"] {
            assert_eq!(of_manifest(bytes.as_bytes(), now), None, "{bytes}");
        }
    }
}
