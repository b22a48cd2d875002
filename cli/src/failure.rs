//! An error as a person or CI meets it: an exit code, what happened, what to do next. Exit codes are a contract
//! (design: contracts, fixed from the first day); every module maps to them here and nowhere else.

use std::fmt;

use landfall_core::ids::printable;

use crate::terminal::{Paint, wrap};

/// The longest message that is shown.
const MESSAGE_LIMIT: usize = 4000;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or no difference.
    Done,
    /// Failed.
    Failed,
    /// Usage or invalid input.
    Usage,
    /// Refused by policy.
    Refused,
    /// Timed out or still waiting.
    Waiting,
    /// Agent, registry or vault out of reach.
    Unreachable,
    /// There is a difference, or something is not healthy.
    Different,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Waiting => 4,
            Self::Unreachable => 5,
            Self::Different => 10,
        }
    }
}

/// Why a command did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// How the program ends.
    pub exit: Exit,
    /// What happened, to what; several lines where several things are wrong.
    pub message: String,
    /// What to do next.
    pub next: Option<String>,
}

impl Failed {
    /// Without a next step.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next: None }
    }

    /// Invalid input: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// With what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// As it goes to stderr. Its parts may come from outside, so they are escaped here.
    pub fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for (count, line) in self.message.lines().enumerate() {
            let head = if count == 0 { paint.bad("error: ") } else { "       ".to_owned() };
            text.push_str(&head);
            text.push_str(&printable(line, MESSAGE_LIMIT));
            text.push('\n');
        }
        if let Some(next) = &self.next {
            text.push_str(&wrap("  next: ", 8, &printable(next, MESSAGE_LIMIT)));
        }
        text
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

/// An error and its causes on one line, none said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_contract() {
        let all = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Refused, 3),
            (Exit::Waiting, 4),
            (Exit::Unreachable, 5),
            (Exit::Different, 10),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn text_from_outside_cannot_reach_the_terminal_raw() {
        let failed = Failed::usage("a\x1b[2J\nb").next("type `x\x07`");
        assert_eq!(failed.render(Paint::OFF), "error: a\\u{1b}[2J\n       b\n  next: type `x\\u{7}`\n");
    }
}
