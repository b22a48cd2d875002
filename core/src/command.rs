//! The one door to child processes. Every child has an empty environment but for what is given, its own process group,
//! a deadline, and bounded output; whatever ends the wait (deadline, error, a dropped future) kills the whole group.
//! Nobody else may spawn: a child without a deadline is a hang, and a child outside its group outlives us.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// How much of stdout is kept unless told: more than this is an error, not a truncation.
const STDOUT_LIMIT: usize = 8 << 20;
/// How much of the end of stderr is kept.
const STDERR_TAIL: usize = 16 << 10;
/// How long a child may take unless told.
const DEADLINE: Duration = Duration::from_secs(30);
/// What the shell adds to the number of the signal that killed a process.
const KILLED_BY_SIGNAL: i32 = 128;

/// A child process to be run.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    stdin: Vec<u8>,
    deadline: Duration,
    stdout_limit: usize,
}

/// What a child that ran to its end left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 and the signal's number where a signal killed it.
    pub code: i32,
    /// All of it.
    pub stdout: Vec<u8>,
    /// The last 16 KiB.
    pub stderr: String,
}

/// Why there is no [`Output`].
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not there, or may not be run.
    #[error("cannot start `{program}`: is it installed and executable?")]
    Start {
        /// Which program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was killed at its deadline.
    #[error("`{program}` did not end within {} s and was killed; {}", deadline.as_secs_f32(), last_words(stderr))]
    Deadline {
        /// Which program.
        program: String,
        /// What it was given.
        deadline: Duration,
        /// The end of what it had said by then.
        stderr: String,
    },
    /// It wrote more to stdout than allowed and was killed.
    #[error("`{program}` wrote more than {limit} bytes and was killed")]
    TooMuchOutput {
        /// Which program.
        program: String,
        /// What is allowed.
        limit: usize,
    },
    /// A pipe to it broke.
    #[error("lost contact with `{program}`")]
    Pipe {
        /// Which program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Command {
    /// A child of this program (a path: there is no PATH in its environment).
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            stdin: Vec::new(),
            deadline: DEADLINE,
            stdout_limit: STDOUT_LIMIT,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Adds a variable to the environment, which is otherwise empty.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// What it reads; nothing unless told.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// When it is killed; after 30 s unless told.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How much it may write to stdout; 8 MiB unless told.
    #[must_use]
    pub fn stdout_limit(mut self, bytes: usize) -> Self {
        self.stdout_limit = bytes;
        self
    }

    /// Runs it to its end. A bad exit code is an [`Output`], not an error: what it means is the caller's.
    pub async fn run(self) -> Result<Output, CommandError> {
        let program = self.program.to_string_lossy().into_owned();
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment).process_group(0).kill_on_drop(true);
        command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn().map_err(|source| CommandError::Start { program: program.clone(), source })?;
        // From here on every way out but the last kills the group.
        let mut group = Group::of(&child);
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut said = Vec::new();
        let work = async {
            tokio::try_join!(
                feed(stdin, &self.stdin),
                read_bounded(stdout, self.stdout_limit),
                read_tail(stderr, &mut said),
                async { child.wait().await.map_err(Trouble::Pipe) },
            )
        };
        let worked = tokio::time::timeout(self.deadline, work).await;
        let stderr = String::from_utf8_lossy(&said).into_owned();
        match worked {
            Ok(Ok(((), stdout, (), status))) => {
                group.leave_alone();
                Ok(Output { code: code_of(status), stdout, stderr })
            }
            Ok(Err(Trouble::TooMuch)) => Err(CommandError::TooMuchOutput { program, limit: self.stdout_limit }),
            Ok(Err(Trouble::Pipe(source))) => Err(CommandError::Pipe { program, source }),
            Err(_) => Err(CommandError::Deadline { program, deadline: self.deadline, stderr }),
        }
    }
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// The last line that it wrote to stderr, for a message.
    pub fn last_words(&self) -> String {
        last_words(&self.stderr)
    }
}

enum Trouble {
    TooMuch,
    Pipe(io::Error),
}

/// The child's process group, killed when dropped. It can be dropped after the leader was reaped: the group's number is
/// then still taken by whoever holds our pipes open, or else [`Self::leave_alone`] was called.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn leave_alone(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself in this instant.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn feed(pipe: Option<tokio::process::ChildStdin>, bytes: &[u8]) -> Result<(), Trouble> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    match pipe.write_all(bytes).await {
        // It did not read to the end: its exit code tells whether that was fine.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Trouble::Pipe),
    }
}

async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, Trouble> {
    let Some(pipe) = pipe else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    pipe.take(most).read_to_end(&mut bytes).await.map_err(Trouble::Pipe)?;
    if bytes.len() > limit { Err(Trouble::TooMuch) } else { Ok(bytes) }
}

async fn read_tail(pipe: Option<impl AsyncRead + Unpin>, tail: &mut Vec<u8>) -> Result<(), Trouble> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = vec![0; 4096];
    loop {
        let count = pipe.read(&mut chunk).await.map_err(Trouble::Pipe)?;
        if count == 0 {
            break;
        }
        tail.extend_from_slice(&chunk[..count]);
        if tail.len() > 2 * STDERR_TAIL {
            tail.drain(..tail.len() - STDERR_TAIL);
        }
    }
    tail.drain(..tail.len().saturating_sub(STDERR_TAIL));
    Ok(())
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| KILLED_BY_SIGNAL + signal)).unwrap_or(-1)
}

fn last_words(stderr: &str) -> String {
    match stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("its last words: {}", crate::ids::printable(line, 400)),
        None => "it said nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("/bin/sh").arg("-c").arg(script).deadline(Duration::from_secs(20))
    }

    #[tokio::test]
    async fn what_a_child_says_and_how_it_ends() {
        struct Case {
            script: &'static str,
            code: i32,
            stdout: &'static str,
            stderr: &'static str,
        }
        for case in [
            Case { script: "echo out; echo err >&2; exit 3", code: 3, stdout: "out\n", stderr: "err\n" },
            Case { script: "/usr/bin/env | grep -v -e ^PWD= -e ^SHLVL= -e ^_=", code: 0, stdout: "A=b\n", stderr: "" },
            Case { script: "cat", code: 0, stdout: "given", stderr: "" },
            Case { script: "exec cat <&- ; exit 0", code: 1, stdout: "", stderr: "" },
            Case { script: "kill -9 $$", code: 137, stdout: "", stderr: "" },
        ] {
            let output = shell(case.script).env("A", "b").stdin("given").run().await.unwrap();
            assert_eq!(output.code, case.code, "{}", case.script);
            assert_eq!(String::from_utf8_lossy(&output.stdout), case.stdout, "{}", case.script);
            assert!(output.stderr.contains(case.stderr), "{}: {}", case.script, output.stderr);
        }
    }

    #[tokio::test]
    async fn stderr_keeps_its_end_and_stdout_is_bounded() {
        let output = shell("head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2").run().await.unwrap();
        assert_eq!(output.stderr.len(), STDERR_TAIL);
        assert_eq!(output.last_words().len(), "its last words: ".len() + 400 + "…".len());
        let error = shell("exec cat /dev/zero").stdout_limit(1000).run().await.unwrap_err();
        assert!(matches!(error, CommandError::TooMuchOutput { limit: 1000, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_deadline_kills_the_whole_group() {
        let script = "sleep 1000 & echo $! >&2; wait";
        let error = shell(script).deadline(Duration::from_millis(300)).run().await.unwrap_err();
        let CommandError::Deadline { stderr, .. } = error else { panic!("{error}") };
        let grandchild = Pid::from_raw(stderr.trim().parse().unwrap());
        for _ in 0..1000 {
            // An orphan that nobody reaps still has a number: its state says whether it is dead.
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{grandchild} still lives");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = Command::new("/nowhere/compose").run().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start `/nowhere/compose`: is it installed and executable?");
    }
}
