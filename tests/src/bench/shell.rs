//! The rival: a shell loop of `docker compose pull && docker compose up -d --wait`, as many a VM runs it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bench::stack::Stack;
use crate::process::{Lifetime, Process};
use crate::vm::Vm;
use crate::wait::eventually;

/// It ends by itself between two rounds once `go` is gone: a round that was cut off would not be the loop's own doing.
const LOOP: &str = r#"while [ -e go ]; do
    docker compose -p "$1" pull -q && docker compose -p "$1" up -d --wait
    echo round >> rounds
    sleep "$2"
done"#;
const LIMIT: Duration = Duration::from_mins(2);

/// The loop, running.
#[derive(Debug)]
pub struct Loop {
    process: Process,
    directory: std::path::PathBuf,
}

impl Loop {
    /// Starts it, with `pause` between the end of a round and the next.
    pub fn start(vm: &Vm, stack: &Stack, pause: Duration) -> Result<Self> {
        let directory = stack.directory().to_owned();
        std::fs::write(directory.join("go"), "")?;
        std::fs::write(directory.join("rounds"), "")?;
        let mut command = Command::new("bash");
        command.args(["-c", LOOP, "loop", &stack.name, &pause.as_secs_f64().to_string()]).current_dir(&directory);
        let process = Process::start("shell-loop", vm.directory(), command, Lifetime::Test)?;
        Ok(Self { process, directory })
    }

    /// Waits for the end of the round that runs, or of the next one, and says when it was.
    pub fn round(&self) -> Result<Instant> {
        let rounds = || std::fs::read(self.directory.join("rounds")).map(|text| text.len()).context("no file");
        let before = rounds()?;
        eventually(LIMIT, "a round of the shell loop", || {
            ensure!(rounds()? > before, "none ended; its log: {}", self.process.tail(3));
            Ok(Instant::now())
        })
    }

    /// Lets it end between two rounds.
    pub fn stop(mut self) -> Result<()> {
        std::fs::remove_file(self.directory.join("go"))?;
        eventually(LIMIT, "the shell loop ends", || {
            ensure!(self.process.check().is_err(), "it runs");
            Ok(())
        })
    }
}
