//! The wall clock, read in one place: whatever decides is given the time as a value.

use crate::observed::Millis;

/// Now, unix milliseconds.
pub fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// Now, as contract files write it.
pub fn now_text() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// A moment, as they write it; one that no calendar has is the beginning of time.
pub fn text(at: Millis) -> String {
    format!("{:.3}", jiff::Timestamp::from_millisecond(at).unwrap_or_default())
}
