//! How this program ends where it ends itself: a line for people and an exit code for machines.
//! A message must never hold a byte of a value: it lands in the container's log.

use std::ffi::OsStr;

/// Why it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

/// The exit codes, each part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `probe`: not healthy.
    Unhealthy,
    /// Words that are not understood.
    Usage,
    /// `run`: a variable cannot be set, or there is nothing to run; `EX_CONFIG` of sysexits.h.
    Configuration,
    /// `run`: the program is there and cannot be executed, as shells have it.
    NotExecutable,
    /// `run`: the program is not there, as shells have it.
    NotFound,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Unhealthy => 1,
            Self::Usage => 2,
            Self::Configuration => 78,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

impl Failure {
    pub fn new(exit: Exit, message: String) -> Self {
        Self { exit, message }
    }

    pub fn usage(message: String) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn configuration(message: String) -> Self {
        Self::new(Exit::Configuration, message)
    }

    pub fn unhealthy(message: String) -> Self {
        Self::new(Exit::Unhealthy, message)
    }
}

/// A word as it may stand in a message: no control character reaches a terminal.
pub fn shown(text: &OsStr) -> String {
    text.to_string_lossy().chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_shown() {
        assert_eq!(shown(OsStr::new("/run/\u{1b}[31mä\n")), "/run/\u{fffd}[31mä\u{fffd}");
    }
}
