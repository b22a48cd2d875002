//! One of the shipped daemons as a test runs it: a child process, or a unit of systemd where that is asked for ([`crate::unit`]).

use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::Result;

use crate::process::{Lifetime, Process};
use crate::unit::{self, Network, Unit};

/// A running daemon; it ends when this is dropped, if it lives for a test.
#[derive(Debug)]
pub enum Daemon {
    /// A child of this process.
    Process(Process),
    /// A child of systemd.
    Unit(Unit),
}

impl Daemon {
    /// Starts `command`, its log in `<directory>/<name>.log`; `network` is for units, a child process enters by its command.
    pub fn start(
        name: &str,
        directory: &Path,
        root: &Path,
        command: Command,
        network: Option<&Network>,
        lifetime: Lifetime,
    ) -> Result<Self> {
        match unit::shipped() {
            None => Process::start(name, directory, command, lifetime).map(Self::Process),
            Some(shipped) => {
                let log = directory.join(format!("{name}.log"));
                Unit::start(&shipped, name, root, &log, &command, network).map(Self::Unit)
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        match self {
            Self::Process(process) => Ok(process.id()),
            Self::Unit(unit) => unit.id(),
        }
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(self) -> Result<()> {
        match self {
            Self::Process(process) => process.kill(),
            Self::Unit(unit) => unit.kill(),
        }
    }

    /// SIGTERM, and waits for its end; says how it ended.
    pub fn stop(self) -> Result<ExitStatus> {
        match self {
            Self::Process(process) => process.stop(),
            Self::Unit(unit) => unit.stop(),
        }
    }
}
