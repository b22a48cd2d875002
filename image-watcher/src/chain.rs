//! An error with all its sources in one line: printed once, where it is told to a person.

use std::error::Error;

/// Behind it rustls says which second it is: the same reason is to read the same.
const MOMENT: &str = ": verification time";

/// `what happened: why: why that`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text.truncate(text.find(MOMENT).unwrap_or(text.len()));
    text
}
