//! What a check found: a grade, what was seen, and what to do. Pure. What could not be looked at is skipped with the reason, and never
//! passes.

use landfall_core::ids::printable;
use serde_json::{Value, json};

use crate::terminal::Paint;

/// The longest text of a line.
const TEXT: usize = 600;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Pass,
    /// It works, and should be better before a VM takes traffic.
    Warn,
    /// It must be mended.
    Fail,
    /// It could not be looked at.
    Skip,
}

impl Grade {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// What a check is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    check: &'static str,
    what: String,
}

/// One line of `landfall verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable word for machines.
    pub check: &'static str,
    /// What should be so, for people.
    pub what: String,
    /// Whether it is.
    pub grade: Grade,
    /// What was seen, or why nothing was.
    pub seen: String,
    /// What to do.
    pub next: Option<String>,
}

impl Subject {
    /// A check by its stable word, and what should be so.
    pub fn new(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, what: what.into() }
    }

    fn found(self, grade: Grade, seen: impl Into<String>, next: Option<String>) -> Finding {
        Finding { check: self.check, what: self.what, grade, seen: seen.into(), next }
    }

    /// It is so.
    pub fn pass(self, seen: impl Into<String>) -> Finding {
        self.found(Grade::Pass, seen, None)
    }

    /// It is not quite so.
    pub fn warn(self, seen: impl Into<String>, next: impl Into<String>) -> Finding {
        self.found(Grade::Warn, seen, Some(next.into()))
    }

    /// It is not so.
    pub fn fail(self, seen: impl Into<String>, next: impl Into<String>) -> Finding {
        self.found(Grade::Fail, seen, Some(next.into()))
    }

    /// Nobody knows.
    pub fn skip(self, why: impl Into<String>) -> Finding {
        self.found(Grade::Skip, why, None)
    }
}

impl Finding {
    /// Its line, and a second one where there is something to do.
    pub fn render(&self, paint: Paint) -> String {
        let word = match self.grade {
            Grade::Pass => paint.good(self.grade.word()),
            Grade::Warn => paint.busy(self.grade.word()),
            Grade::Fail => paint.bad(self.grade.word()),
            Grade::Skip => paint.faint(self.grade.word()),
        };
        let mut text = format!("{word}  {}  ({})\n", printable(&self.what, TEXT), printable(&self.seen, TEXT));
        if let Some(next) = &self.next {
            text.push_str(&format!("      next: {}\n", printable(next, TEXT)));
        }
        text
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        json!({ "check": self.check, "what": self.what, "result": self.grade.word(), "seen": self.seen, "next": self.next })
    }
}

/// How many of each, for the last line.
pub fn sum(findings: &[Finding]) -> String {
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count();
    format!(
        "{} passed, {} to be better, {} failed, {} could not be looked at",
        count(Grade::Pass),
        count(Grade::Warn),
        count(Grade::Fail),
        count(Grade::Skip)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_seen_and_a_second_what_to_do() {
        let subject = || Subject::new("x", "the door is shut");
        for (finding, text) in [
            (subject().pass("shut"), "pass  the door is shut  (shut)\n"),
            (subject().warn("ajar", "shut it"), "warn  the door is shut  (ajar)\n      next: shut it\n"),
            (subject().fail("a\x1b[2J", "b\n"), "fail  the door is shut  (a\\u{1b}[2J)\n      next: b\\n\n"),
            (subject().skip("it is dark"), "skip  the door is shut  (it is dark)\n"),
        ] {
            assert_eq!(finding.render(Paint::OFF), text);
            assert_eq!(finding.json()["result"], finding.grade.word());
        }
        let all = [subject().pass(""), subject().skip(""), subject().skip("")];
        assert_eq!(sum(&all), "1 passed, 0 to be better, 0 failed, 2 could not be looked at");
    }
}
