//! The one door to child processes. Every child has an empty environment but for what is given, its own process group,
//! a deadline, and bounded output; whatever ends the wait (deadline, error, a dropped future) kills the whole group. One that is
//! started before it is known what it reads has a deadline for that wait too.
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
use tokio::process::{Child, ChildStdin};
use tokio::sync::oneshot;

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
    /// It ended, or was killed, before what it reads was there.
    #[error("`{program}` was given nothing to read")]
    NothingGiven {
        /// Which program.
        program: String,
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
        let running = self.start(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })?;
        self.finish(running, &self.stdin).await
    }

    /// Starts it now, and gives it what it reads when that is there: its deadline is counted from then on. It is killed where
    /// nothing comes within `patience` or the sender is dropped.
    pub async fn run_ahead(
        self,
        stdin: oneshot::Receiver<Vec<u8>>,
        patience: Duration,
    ) -> Result<Output, CommandError> {
        let mut running = self.start(Stdio::piped())?;
        let given = tokio::select! {
            biased;
            // One that has ended reads nothing any more.
            _ = running.child.wait() => None,
            given = tokio::time::timeout(patience, stdin) => given.ok().and_then(Result::ok),
        };
        match given {
            Some(bytes) => self.finish(running, &bytes).await,
            None => Err(CommandError::NothingGiven { program: self.name() }),
        }
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    fn start(&self, stdin: Stdio) -> Result<Running, CommandError> {
        let mut command = tokio::process::Command::new(&self.program);
        let environment = self.environment.iter().map(|(key, value)| (key, value));
        command.args(&self.arguments).env_clear().envs(environment).process_group(0).kill_on_drop(true);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn().map_err(|source| CommandError::Start { program: self.name(), source })?;
        // Taken out: to wait for a child closes the stdin that it holds.
        let stdin = child.stdin.take();
        Ok(Running { group: Group::of(&child), child, stdin })
    }

    async fn finish(&self, running: Running, given: &[u8]) -> Result<Output, CommandError> {
        let Running { mut group, mut child, stdin } = running;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut said = Vec::new();
        let work = async {
            tokio::try_join!(
                feed(stdin, given),
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
            Ok(Err(Trouble::TooMuch)) => {
                Err(CommandError::TooMuchOutput { program: self.name(), limit: self.stdout_limit })
            }
            Ok(Err(Trouble::Pipe(source))) => Err(CommandError::Pipe { program: self.name(), source }),
            Err(_) => Err(CommandError::Deadline { program: self.name(), deadline: self.deadline, stderr }),
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

/// A child that was started. From here on every way out kills its group, but the one where it ran to its end.
struct Running {
    group: Group,
    child: Child,
    stdin: Option<ChildStdin>,
}

/// The child's process group, killed when dropped. It can be dropped after the leader was reaped: the group's number is
/// then still taken by whoever holds our pipes open, or else [`Self::leave_alone`] was called.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
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

async fn feed(pipe: Option<ChildStdin>, bytes: &[u8]) -> Result<(), Trouble> {
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
mod tests;
