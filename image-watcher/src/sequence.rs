//! Anti-replay: which manifest of a channel may be taken, by the annotations that its publisher signed into it. Pure:
//! time and what was seen before come in as values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landfall_core::ids::printable;

const CHANNEL: &str = "io.landfall.channel";
const SEQUENCE: &str = "io.landfall.sequence";
const NOT_AFTER: &str = "io.landfall.not-after";

/// Why a manifest is not taken although it is a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// An annotation does not parse.
    #[error("annotation `{key}` is `{value}`, which is not {wanted}; publish it again with `landfall publish`")]
    Garbled {
        /// Which.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Published for another channel.
    #[error(
        "the release was published for `{published}`, not for `{followed}`; if it is meant for here: \
         `landfall promote {published} {followed}`"
    )]
    OtherChannel {
        /// What it says.
        published: String,
        /// What is followed.
        followed: String,
    },
    /// Older than what was seen.
    #[error(
        "sequence {offered} is older than {seen}, which this channel had; to go back, publish the old content again, or \
         `landfall promote` it from a tag that has it"
    )]
    Older {
        /// What it says.
        offered: u64,
        /// The highest seen.
        seen: u64,
    },
    /// A channel that had sequences, and a release without one.
    #[error(
        "the release has no `io.landfall.sequence`, and this channel had {seen}; publish it with `landfall publish`"
    )]
    Missing {
        /// The highest seen.
        seen: u64,
    },
    /// A sequence that could be replayed at any channel.
    #[error("the release has `io.landfall.sequence` but no `io.landfall.channel`; publish it with `landfall publish`")]
    NoChannel,
    /// Its time is over.
    #[error("the release was to be taken until {not_after} only; publish it again")]
    Expired {
        /// What it says.
        not_after: Timestamp,
    },
}

/// Judges a manifest of the channel `followed`, where `seen` is the highest sequence so far. Gives its own sequence.
pub fn judge(
    annotations: &BTreeMap<String, String>,
    followed: &str,
    seen: Option<u64>,
    now: Timestamp,
) -> Result<Option<u64>, Stale> {
    let channel = annotations.get(CHANNEL);
    if let Some(published) = channel.filter(|text| *text != followed) {
        return Err(Stale::OtherChannel { published: printable(published, 300), followed: followed.to_owned() });
    }
    let offered = read(annotations, SEQUENCE, "a whole number")?;
    match (offered, seen) {
        (Some(_), _) if channel.is_none() => return Err(Stale::NoChannel),
        (Some(offered), Some(seen)) if offered < seen => return Err(Stale::Older { offered, seen }),
        (None, Some(seen)) => return Err(Stale::Missing { seen }),
        (Some(_), _) | (None, None) => {}
    }
    match read::<Timestamp>(annotations, NOT_AFTER, "a time as RFC 3339 writes it")? {
        Some(not_after) if now > not_after => Err(Stale::Expired { not_after }),
        Some(_) | None => Ok(offered),
    }
}

fn read<T: std::str::FromStr>(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
    wanted: &'static str,
) -> Result<Option<T>, Stale> {
    let Some(text) = annotations.get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Stale::Garbled { key, value: printable(text, 80), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_only_moves_forward() {
        let followed = "ghcr.io/acme/deploy:prod";
        let other = "ghcr.io/acme/deploy:staging";
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        for (channel, sequence, not_after, seen, wanted) in [
            // Stock tools: no annotations at all.
            (None, None, None, None, Ok(None)),
            (Some(followed), None, None, None, Ok(None)),
            (Some(followed), Some("7"), None, None, Ok(Some(7))),
            (Some(followed), Some("7"), None, Some(6), Ok(Some(7))),
            (Some(followed), Some("7"), None, Some(7), Ok(Some(7))),
            (Some(followed), Some("7"), None, Some(8), Err("sequence 7 is older than 8")),
            (Some(followed), None, None, Some(8), Err("no `io.landfall.sequence`")),
            (None, None, None, Some(8), Err("no `io.landfall.sequence`")),
            (None, Some("9"), None, Some(8), Err("no `io.landfall.channel`")),
            (Some(other), Some("9"), None, Some(8), Err("published for `ghcr.io/acme/deploy:staging`")),
            (Some(other), None, None, None, Err("published for")),
            (Some(followed), Some("-1"), None, None, Err("not a whole number")),
            (Some(followed), Some("1e3"), None, None, Err("not a whole number")),
            (Some(followed), Some("99999999999999999999"), None, None, Err("not a whole number")),
            (Some(followed), Some("7"), Some("2030-01-01T00:00:00Z"), None, Ok(Some(7))),
            (Some(followed), Some("7"), Some("2029-12-31T23:59:59Z"), None, Err("taken until 2029-12-31T23:59:59Z")),
            (Some(followed), Some("7"), Some("tomorrow"), None, Err("not a time")),
        ] {
            let annotations = [(CHANNEL, channel), (SEQUENCE, sequence), (NOT_AFTER, not_after)]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect();
            let judged = judge(&annotations, followed, seen, now);
            match (&judged, &wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                _ => panic!("{channel:?} {sequence:?} {seen:?}: {judged:?}"),
            }
        }
    }
}
