//! Log lines for people: `14:02:11 the sentence app=web release=…`. Times are UTC. Control characters are escaped: what
//! a registry or a container said must not reach a terminal raw.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::ids::printable;

/// No line is longer.
const LINE_LENGTH: usize = 4000;

/// Writes each event as one line on stderr.
#[derive(Debug)]
pub(super) struct Lines {
    colour: bool,
}

impl Lines {
    pub(super) fn new(colour: bool) -> Self {
        Self { colour }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let time = jiff::Timestamp::now().to_string();
        let clock = time.get(11..19).unwrap_or_default();
        let line = line(clock, *event.metadata().level(), &words, self.colour);
        // A closed stderr must not stop a daemon.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

impl Words {
    fn add(&mut self, name: &str, value: &str) {
        match name {
            "message" => value.clone_into(&mut self.message),
            // For the journal; a person reads the sentence.
            "MESSAGE_ID" => {}
            _ => {
                let name = name.strip_prefix("LANDFALL_").unwrap_or(name).to_ascii_lowercase();
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }
}

fn line(clock: &str, level: Level, words: &Words, colour: bool) -> String {
    let (label, paint) = match level {
        Level::ERROR => ("error: ", "\x1b[31m"),
        Level::WARN => ("warning: ", "\x1b[33m"),
        Level::INFO => ("", ""),
        _ => ("debug: ", "\x1b[2m"),
    };
    let text = printable(&format!("{}{}", words.message, words.fields), LINE_LENGTH);
    if colour && !paint.is_empty() {
        format!("{clock} {paint}{label}\x1b[0m{text}\n")
    } else {
        format!("{clock} {label}{text}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_sentence_first_and_no_control_characters() {
        let mut words = Words::default();
        for (name, value) in [("MESSAGE_ID", "00"), ("message", "not taken"), ("LANDFALL_APP", "web\x1b[2J")] {
            words.add(name, value);
        }
        assert_eq!(line("10:00:00", Level::INFO, &words, true), "10:00:00 not taken app=web\\u{1b}[2J\n");
        assert!(line("10:00:00", Level::WARN, &words, false).starts_with("10:00:00 warning: not taken"));
        assert!(line("10:00:00", Level::WARN, &words, true).contains("\x1b[33mwarning: \x1b[0m"));
    }
}
