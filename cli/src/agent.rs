//! The client of the agent's socket, exactly per [`landfall_core::protocol`]: one JSON line out, JSON lines in, the last
//! says `end`. Every wait has a deadline, and what is read is bounded: a hung or mad agent is an error, not a hang.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_core::ids::AppName;
use landfall_core::protocol::{Answer, Command, PROTOCOL, Request, Status};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::failure::{Exit, Failed};

/// How long the agent may take to say what it knows.
const KNOWN: Duration = Duration::from_secs(30);
/// How long it may take where it has to do something first: a little more than it gives itself.
const WORK: Duration = Duration::from_secs(130);
/// How much of an answer is read.
const ANSWER_LIMIT: u64 = 64 << 20;

/// Where the agent listens.
#[derive(Debug, Clone)]
pub struct Agent {
    socket: PathBuf,
    deadline: Option<Duration>,
}

impl Agent {
    /// The agent that listens there.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, deadline: None }
    }

    /// With one deadline for every question.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Asks, and returns the data lines of the answer.
    pub async fn ask(&self, command: Command) -> Result<Vec<Value>, Failed> {
        let deadline = self.deadline.unwrap_or(match command {
            Command::Status {} | Command::Glance {} | Command::History { .. } | Command::Secrets { .. } => KNOWN,
            Command::Plan { .. }
            | Command::Logs { .. }
            | Command::Hold { .. }
            | Command::Resume { .. }
            | Command::HandsOff { .. }
            | Command::Rollback { .. }
            | Command::Retry { .. }
            | Command::Poll { .. } => WORK,
        });
        timeout(deadline, self.exchange(command)).await.unwrap_or_else(|_| {
            let seconds = deadline.as_secs();
            Err(Failed::new(Exit::Waiting, format!("the agent did not answer within {seconds} s"))
                .next("see what it does: `journalctl -u landfall-agent -n 50`"))
        })
    }

    async fn exchange(&self, command: Command) -> Result<Vec<Value>, Failed> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| unreachable(&self.socket, &error))?;
        let (read, mut write) = stream.into_split();
        let mut line = serde_json::to_vec(&Request { protocol: PROTOCOL, command })
            .map_err(|error| Failed::new(Exit::Failed, format!("cannot write the request: {error}")))?;
        line.push(b'\n');
        write.write_all(&line).await.map_err(|error| lost(&error.to_string()))?;
        let mut lines = BufReader::new(read.take(ANSWER_LIMIT)).lines();
        let mut data = Vec::new();
        while let Some(line) = lines.next_line().await.map_err(|error| lost(&error.to_string()))? {
            let answer: Answer = serde_json::from_str(&line).map_err(|error| not_understood(&error))?;
            data.extend(answer.data);
            if answer.end {
                return match answer.error {
                    Some(failure) => Err(Failed::new(exit_of(&failure.code), failure.message).next(failure.next)),
                    None => Ok(data),
                };
            }
        }
        Err(lost("it closed the connection before the end of its answer"))
    }

    /// The app that is meant: the named one, or the only one that the agent has.
    pub async fn app(&self, named: Option<&AppName>) -> Result<AppName, Failed> {
        if let Some(app) = named {
            return Ok(app.clone());
        }
        let status: Status = only(self.ask(Command::Status {}).await?)?;
        let mut apps = status.apps.into_iter().map(|a| a.app);
        match (apps.next(), apps.next()) {
            (Some(app), None) => Ok(app),
            (None, _) => Err(Failed::usage("no app is configured on this VM")
                .next("add one to /etc/landfall/landfall.yaml, then `landfall check`")),
            (Some(first), Some(second)) => {
                let all: Vec<String> =
                    [first, second].into_iter().chain(apps).map(|name| format!("`{name}`")).collect();
                Err(Failed::usage(format!("this VM has several apps: {}", all.join(", "))).next("name one of them"))
            }
        }
    }
}

/// The only data line of an answer.
pub fn only<T: DeserializeOwned>(data: Vec<Value>) -> Result<T, Failed> {
    match <[Value; 1]>::try_from(data) {
        Ok([value]) => typed(value),
        Err(data) => {
            Err(Failed::new(Exit::Failed, format!("the agent answered {} data lines in place of 1", data.len()))
                .next("bring `landfall` and `landfall-agent` to the same version"))
        }
    }
}

/// A data line as what it should be.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failed> {
    serde_json::from_value(value).map_err(|error| not_understood(&error))
}

/// Data lines as `--json` prints them: as the agent wrote them, one a line.
pub fn json_lines(data: &[Value]) -> String {
    data.iter().fold(String::new(), |mut text, value| {
        text.push_str(&value.to_string());
        text.push('\n');
        text
    })
}

fn exit_of(code: &str) -> Exit {
    match code {
        "usage" | "unknown-app" => Exit::Usage,
        "refused" => Exit::Refused,
        "waiting" => Exit::Waiting,
        // `protocol`, `internal`, and words of a newer agent.
        _ => Exit::Failed,
    }
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Failed {
    let next = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "become a member of group `landfall-operators`: `sudo usermod -aG landfall-operators $USER`, then log in again"
        }
        _ => {
            "see whether it runs: `systemctl status landfall-agent`; elsewhere than at `/` name the root with `--root`"
        }
    };
    Failed::new(Exit::Unreachable, format!("cannot reach the agent at `{}`: {error}", socket.display())).next(next)
}

fn lost(why: &str) -> Failed {
    Failed::new(Exit::Unreachable, format!("lost contact with the agent: {why}"))
        .next("see why: `journalctl -u landfall-agent -n 50`")
}

fn not_understood(error: &serde_json::Error) -> Failed {
    Failed::new(Exit::Failed, format!("the agent's answer is not understood: {error}"))
        .next("bring `landfall` and `landfall-agent` to the same version")
}
