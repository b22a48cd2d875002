//! Sizes and durations as Compose reads them.

use std::time::Duration;

/// A value that breaks a rule. The text names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {rule}")]
pub struct InvalidValue {
    pub(super) what: &'static str,
    pub(super) value: String,
    pub(super) rule: &'static str,
}

/// Bytes from `512M`, `1.5g`, `64kb`, `1GiB` or `1048576`: units are powers of 1024, as Compose and Docker have it.
pub fn parse_size(text: &str) -> Result<u64, InvalidValue> {
    let refuse = || InvalidValue::new("size", text, "expected a number and a unit: `512M`, `1.5G`");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(refuse()),
    };
    let (whole, fraction) = decimal(number).ok_or_else(refuse)?;
    whole.checked_add(fraction_of(fraction, 1 << shift).ok_or_else(refuse)?, 1 << shift).ok_or_else(refuse)
}

/// A duration from `30s`, `1h30m`, `1.5s`, `250ms`: what Compose and Go accept.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidValue> {
    let refuse = || InvalidValue::new("duration", text, "expected numbers with units: `30s`, `10m`, `1h30m`");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanoseconds: u64 = 0;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let per_unit: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(refuse()),
        };
        let (whole, fraction) = decimal(number).ok_or_else(refuse)?;
        let part = fraction_of(fraction, per_unit).and_then(|f| whole.checked_add(f, per_unit)).ok_or_else(refuse)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(refuse)?;
        rest = tail;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The whole part of a decimal number.
struct Whole(u64);

impl Whole {
    fn checked_add(&self, fraction: u64, per_unit: u64) -> Option<u64> {
        self.0.checked_mul(per_unit)?.checked_add(fraction)
    }
}

fn decimal(text: &str) -> Option<(Whole, &str)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    (fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit())).then_some((Whole(whole), fraction))
}

/// What a fraction such as `25` in `1.25` is of a unit, rounded down.
fn fraction_of(digits: &str, per_unit: u64) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    u64::try_from(digits.parse::<u128>().ok()? * u128::from(per_unit) / scale).ok()
}

/// Types for values that are checked where they are read: a mistake has its file, line and column.
macro_rules! checked {
    ($($name:ident($inner:ty) = $parse:expr;)*) => {$(
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub(super) struct $name(pub(super) $inner);

        impl TryFrom<String> for $name {
            type Error = InvalidValue;
            fn try_from(text: String) -> Result<Self, InvalidValue> {
                let parse: fn(&str) -> Result<$inner, InvalidValue> = $parse;
                parse(&text).map(Self)
            }
        }
    )*};
}

pub(super) use checked;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, wanted) in [
            ("512M", Some(512 << 20)),
            ("512m", Some(512 << 20)),
            ("512mb", Some(512 << 20)),
            ("1GiB", Some(1 << 30)),
            ("1.5g", Some(3 << 29)),
            ("0.25K", Some(256)),
            ("64 kb", Some(64 << 10)),
            ("1048576", Some(1 << 20)),
            ("10b", Some(10)),
            ("0", Some(0)),
            ("", None),
            (".", None),
            ("M", None),
            ("-1M", None),
            ("1.2.3M", None),
            ("5x", None),
            ("99999999999999999999", None),
            ("99999999999T", None),
        ] {
            assert_eq!(parse_size(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("250ms", Some(250)),
            ("1m0.25s", Some(60_250)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1d", None),
            ("-1s", None),
            ("1s ", Some(1_000)),
            ("1 s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse_duration(text).ok(), wanted.map(Duration::from_millis), "{text}");
        }
    }
}
