//! Stands between a process and the kernel, and kills it at a chosen system call: at its entry, so that the call is not
//! made, or at its exit, so that it is made and nobody hears of it. It changes nothing else.
//!
//! By ptrace and not by `strace -e inject`, which counts calls by number and exact path and so cannot name "the second
//! stop that is sent to the Engine": that and a health probe are the same call on the same socket. What is traced is one
//! thread; [`Traced::wait`] refuses a process with more, and its children are left alone.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::points::{Point, Stopped};
use crate::process;
use crate::wait::eventually;

/// Where in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At its entry: it is not made.
    Before,
    /// At its exit: it is made, and the process never knows.
    After,
}

/// Where to kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the call does.
    pub point: Point,
    /// For the how-manieth time, from 1.
    pub occurrence: usize,
    /// Where in the call.
    pub moment: Moment,
}

/// A process under trace.
#[derive(Debug)]
pub struct Traced {
    thread: JoinHandle<Result<Vec<Point>>>,
}

impl Traced {
    /// Begins to trace a process; returns when no call of it can be missed. With a target it is killed there.
    pub fn start(process: u32, directory: &Path, target: Option<Target>) -> Result<Self> {
        let process = Pid::from_raw(i32::try_from(process)?);
        let directory: PathBuf = directory.to_owned();
        let (ready, attached) = std::sync::mpsc::channel();
        // The kernel takes requests from the thread that attached, and from no other.
        let thread = std::thread::spawn(move || {
            let begun = attach(process);
            let failed = begun.is_err();
            // Nobody waits for it only where this function returned early.
            let _ = ready.send(begun);
            if failed { Ok(Vec::new()) } else { follow(process, &directory, target.as_ref()) }
        });
        attached.recv().context("the tracer ended early")??;
        Ok(Self { thread })
    }

    /// Whether the process has ended, by our hand or by another's.
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the process: all points that it passed, the one where it was killed among them.
    pub fn wait(self, deadline: Duration) -> Result<Vec<Point>> {
        eventually(deadline, "the traced process ends", || {
            ensure!(self.thread.is_finished(), "it runs");
            Ok(())
        })?;
        self.thread.join().map_err(|_| anyhow!("the tracer panicked"))?
    }
}

fn attach(process: Pid) -> Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    ensure!(
        status.contains("Threads:\t1\n"),
        "process {process} has several threads, only one would be seen: {status}"
    );
    ptrace::seize(process, Options::PTRACE_O_TRACESYSGOOD).context("cannot trace")?;
    ptrace::interrupt(process)?;
    waitpid(process, Some(WaitPidFlag::__WALL))?;
    Ok(ptrace::syscall(process, None)?)
}

/// Lets the process run from call to call until its end.
fn follow(process: Pid, directory: &Path, target: Option<&Target>) -> Result<Vec<Point>> {
    let mut passed = Vec::new();
    let mut kill_at_exit = false;
    loop {
        let signal = match stopped(process)? {
            None => return Ok(passed),
            Some(WaitStatus::PtraceSyscall(_)) => {
                let enters = ptrace::getevent(process)? == libc::c_long::from(libc::PTRACE_SYSCALL_INFO_ENTRY);
                let point = if enters { at_entry(process, directory)? } else { None };
                let hit = point.as_ref().zip(target).is_some_and(|(point, target)| {
                    *point == target.point && passed.iter().filter(|p| *p == point).count() + 1 == target.occurrence
                });
                passed.extend(point);
                let moment = target.map(|target| target.moment);
                if (hit && moment == Some(Moment::Before)) || (!enters && kill_at_exit) {
                    kill(process, Signal::SIGKILL)?;
                    continue;
                }
                kill_at_exit |= hit;
                None
            }
            Some(WaitStatus::Stopped(_, signal)) => Some(signal),
            Some(_) => None,
        };
        match ptrace::syscall(process, signal) {
            // Killed by another hand while it stood; the next wait tells.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn at_entry(process: Pid, directory: &Path) -> Result<Option<Point>> {
    let read = Stopped::read(process).and_then(|stopped| stopped.map_or(Ok(None), |s| s.point(directory)));
    // A kill by another hand takes the ground from under a look; the next wait tells.
    if process::lives(process.as_raw()) { read } else { Ok(None) }
}

/// The next stop; none at the end, which is left for the parent to take.
fn stopped(process: Pid) -> Result<Option<WaitStatus>> {
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    match waitid(Id::Pid(process), look) {
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => Ok(None),
        Ok(_) => match waitpid(process, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => Ok(None),
            taken => Ok(Some(taken?)),
        },
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Child, Command, Stdio};

    const END: Duration = Duration::from_secs(20);

    fn writer(directory: &Path) -> Result<Child> {
        let script = r#"read go; echo one >"$0/a"; echo two >"$0/b"; echo three >"$0/b""#;
        Ok(Command::new("/bin/sh").arg("-c").arg(script).arg(directory).stdin(Stdio::piped()).spawn()?)
    }

    fn run(target: Option<Target>) -> Result<(tempfile::TempDir, Vec<Point>)> {
        let directory = tempfile::tempdir()?;
        let mut child = writer(directory.path())?;
        let traced = Traced::start(child.id(), directory.path(), target)?;
        child.stdin.take().context("no stdin")?.write_all(b"go\n")?;
        let points = traced.wait(END)?;
        child.wait()?;
        Ok((directory, points))
    }

    fn write_to(name: &str) -> Point {
        Point::Disk(format!("write {name}"))
    }

    #[test]
    fn every_write_is_seen_and_nothing_else() -> Result<()> {
        let (directory, points) = run(None)?;
        assert_eq!(points, [write_to("a"), write_to("b"), write_to("b")]);
        assert_eq!(std::fs::read_to_string(directory.path().join("b"))?, "three\n");
        Ok(())
    }

    #[test]
    fn a_kill_comes_before_the_call_or_after_it() -> Result<()> {
        for (occurrence, moment, left) in [
            (1, Moment::Before, ""),
            (1, Moment::After, "two\n"),
            // The shell has cut the file to nothing when it opened it for the second time.
            (2, Moment::Before, ""),
            (2, Moment::After, "three\n"),
        ] {
            let target = Target { point: write_to("b"), occurrence, moment };
            let (directory, points) = run(Some(target))?;
            assert_eq!(points.len(), 1 + occurrence, "{points:?}");
            assert_eq!(std::fs::read_to_string(directory.path().join("b"))?, left, "{occurrence} {moment:?}");
        }
        Ok(())
    }
}
