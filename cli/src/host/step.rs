//! What a step of `landfall host` has to say, and to whom: a person reads every line; the journal, which gets one run a minute, only
//! what changed or failed.

use std::io::{IsTerminal as _, Write as _};

use landfall_core::journal::Sink;

use crate::failure::{Exit, Failed};
use crate::terminal;

/// How a step ended.
pub type Step = Result<Said, Failed>;

/// What a step found or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// One line.
    pub text: String,
    /// Whether anything is other than it was.
    pub changed: bool,
}

impl Said {
    /// All is as it should be.
    pub fn found(text: String) -> Self {
        Self { text, changed: false }
    }

    /// It is now.
    pub fn did(text: String) -> Self {
        Self { text, changed: true }
    }
}

/// Tells, and remembers whether a step failed.
#[derive(Debug)]
pub struct Teller {
    to_journal: bool,
    failed: bool,
}

impl Teller {
    /// To the journal where the service manager started us, else to whoever typed it.
    pub fn new(sink: Sink) -> Self {
        Self { to_journal: sink == Sink::Journal && !std::io::stdout().is_terminal(), failed: false }
    }

    /// Tells how a step ended.
    pub fn tell(&mut self, step: Step) {
        match step {
            Ok(said) if !self.to_journal => terminal::out(&format!("{}\n", said.text)),
            Ok(said) if said.changed => tracing::info!("{}", said.text),
            Ok(said) => tracing::debug!("{}", said.text),
            Err(failed) => {
                self.failed = true;
                if self.to_journal {
                    let next = failed.next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
                    tracing::error!("{failed}{next}");
                } else {
                    // A closed stderr changes nothing about the exit code.
                    let _ = std::io::stderr().write_all(failed.render(terminal::Paint::for_stderr()).as_bytes());
                }
            }
        }
    }

    /// Tells of a failure whose entry in the journal is an event of its own: `entry` writes that text.
    pub fn tell_event(&mut self, failed: &Failed, entry: impl FnOnce(&str)) {
        if self.to_journal {
            self.failed = true;
            let next = failed.next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
            entry(&format!("{failed}{next}"));
        } else {
            self.tell(Err(failed.clone()));
        }
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        if self.failed { Exit::Failed } else { Exit::Done }
    }
}
