//! An error with all its sources in one line: printed once, where it is told to a person.

use std::error::Error;

/// `what happened: why: why that`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
