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
