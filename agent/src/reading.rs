//! Reads scalars of one service into values; what is not one becomes a problem, and reading goes on.

use std::str::FromStr;
use std::time::Duration;

use landfall_core::config::{parse_duration, parse_size};

use crate::model::Text;
use crate::refusal::{Problem, Rule};

/// Collects the problems of one service.
#[derive(Debug)]
pub struct Reading<'a> {
    service: &'a str,
    /// Found so far.
    pub problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    /// Of this service, without problems yet.
    pub fn of(service: &'a str) -> Self {
        Self { service, problems: Vec::new() }
    }

    /// Notes a problem of this service.
    pub fn problem(&mut self, rule: Rule, key: &str, what: impl AsRef<str>) {
        self.problems.push(Problem::new(rule, key, what).of(self.service));
    }

    /// A duration such as `1m30s`.
    pub fn duration(&mut self, key: &str, text: Option<&Text>) -> Option<Duration> {
        self.value(key, text, |text| parse_duration(text).map_err(|error| error.to_string()))
    }

    /// A size in bytes; nothing and `0` are the same.
    pub fn size(&mut self, key: &str, text: Option<&Text>) -> Option<u64> {
        self.value(key, text, |text| parse_size(text).map_err(|error| error.to_string())).filter(|bytes| *bytes > 0)
    }

    /// A number.
    pub fn number<T: FromStr>(&mut self, key: &str, text: Option<&Text>) -> Option<T> {
        self.value(key, text, |text| text.parse().map_err(|_| format!("`{text}` is not a number that fits")))
    }

    fn value<T>(&mut self, key: &str, text: Option<&Text>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(text?) {
            Ok(value) => Some(value),
            Err(what) => {
                self.problem(Rule::BadValue, key, what);
                None
            }
        }
    }
}

/// A duration as we write it, the same for equal durations.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds.is_multiple_of(1000) { format!("{}s", milliseconds / 1000) } else { format!("{milliseconds}ms") }
}
