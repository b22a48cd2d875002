//! Child processes of the tests: output in a log file, ended with their owner unless they are left running.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// How long a process may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// How long a child lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It ends with its [`Process`], and with this program on Ctrl-C.
    Test,
    /// It outlives this program and hears nothing of its terminal: see [`kill_recorded`].
    Detached,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lifetime: Lifetime,
}

impl Process {
    /// Starts `command`, its output appended to `<directory>/<name>.log`, its id in `<directory>/<name>.pid`.
    pub fn start(name: &str, directory: &Path, mut command: Command, lifetime: Lifetime) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file =
            OpenOptions::new().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        if lifetime == Lifetime::Detached {
            command.process_group(0);
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        std::fs::write(directory.join(format!("{name}.pid")), child.id().to_string())?;
        Ok(Self { name: name.to_owned(), child, log, lifetime })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error once it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); the end of its log: {}", self.name, self.tail(5)),
        }
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop).context("cannot wait for a killed process")
    }

    /// SIGTERM, and waits for its end; says how it ended.
    pub fn stop(mut self) -> Result<std::process::ExitStatus> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let name = self.name.clone();
        eventually(STOP, &format!("{name} ends after SIGTERM"), || self.child.try_wait()?.context("it runs"))
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Test {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The last lines of a file; empty where it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Kills the processes whose ids lie in `*.pid` files of a directory, and says their names. An id that was given to
/// another process since is left alone: ours name the directory in their arguments.
pub fn kill_recorded(directory: &Path) -> Result<Vec<String>> {
    let mut killed = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(killed) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| has_extension(path, "pid")) {
        let Ok(id) = std::fs::read_to_string(&path)?.trim().parse::<i32>() else { continue };
        let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains(&*directory.to_string_lossy()) {
            kill(Pid::from_raw(id), Signal::SIGKILL).with_context(|| path.display().to_string())?;
            eventually(STOP, "a killed process is gone", || {
                ensure!(!lives(id), "process {id} is there");
                Ok(())
            })?;
            killed.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
        std::fs::remove_file(&path)?;
    }
    Ok(killed)
}

/// Whether a process is there and is more than a zombie.
pub fn lives(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
