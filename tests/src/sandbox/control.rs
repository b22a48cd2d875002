//! What tests tell the sandbox: one JSON line in and one out, over a Unix socket, which is there from every network namespace.
//! The types are one for both ends. Nothing of what is tested may use it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::certificates::Certificate;
use super::fault::{Fault, Service};
use super::identity::Identity;
use super::log::Entry;
use super::secret::Attributes;
use super::vault::{Challenge, Grant, Model};

/// The socket's name in the sandbox's directory.
pub const SOCKET: &str = "control.sock";
const ANSWER: Duration = Duration::from_secs(20);

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields say what they are, in the words of `vault`, `secret` and `identity`")]
pub enum Command {
    /// A new version, of a new secret if there is none.
    SetSecret { vault: String, name: String, value: String, attributes: Attributes },
    /// Changes what is told of a version; of the newest unless one is named.
    Describe { vault: String, name: String, version: Option<String>, attributes: Attributes },
    /// Deletes a secret softly.
    Delete { vault: String, name: String },
    /// Takes that back.
    Recover { vault: String, name: String },
    /// Forgets a deleted secret.
    Purge { vault: String, name: String },
    /// Gives the VM one more identity.
    Assign { identity: Identity },
    /// Takes one away, by its name.
    Unassign { identity: String },
    /// What an identity may do with a vault, or with one secret of it.
    Grant { vault: String, secret: Option<String>, identity: String, grant: Grant },
    /// How a vault decides.
    SetModel { vault: String, model: Model },
    /// What a vault tells whom it does not know.
    SetChallenge { vault: String, challenge: Challenge },
    /// What a vault shows of itself.
    SetCertificate { vault: String, certificate: Certificate },
    /// The life of tokens to come.
    SetTokenLife { seconds: i64 },
    /// No token that this identity has is taken any more.
    RevokeTokens { identity: String },
    /// Its clock goes forward, or back.
    JumpClock { seconds: i64 },
    /// From now on this goes wrong.
    AddFault { fault: Fault },
    /// Nothing goes wrong any more.
    ClearFaults,
    /// Connections are refused from now on, and those that are there closed.
    Refuse { service: Service },
    /// They are taken again.
    Listen { service: Service },
    /// All requests so far.
    Log,
    /// Forgets them.
    ForgetLog,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The id of the version that was made.
    Version(String),
    /// The requests.
    Log(Vec<Entry>),
}

/// Tells the sandbox in this directory.
pub fn tell(directory: &Path, command: &Command) -> Result<Reply> {
    let path = directory.join(SOCKET);
    let stream = UnixStream::connect(&path).with_context(|| format!("no sandbox at `{}`", path.display()))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut line = serde_json::to_string(command)?;
    line.push('\n');
    (&stream).write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(!answer.is_empty(), "the sandbox did not answer; its words are in `{}`", directory.display());
    serde_json::from_str::<Result<Reply, String>>(&answer)?.map_err(|message| anyhow!("the sandbox: {message}"))
}

/// Does what comes, one after the other; returns only if it cannot listen.
pub fn serve(directory: &Path, mut obey: impl FnMut(Command) -> Result<Reply>) -> Result<()> {
    let path = directory.join(SOCKET);
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    for stream in listener.incoming() {
        // Whoever goes away in between hurts only itself.
        if let Err(error) = stream.map_err(Into::into).and_then(|stream| one(&stream, &mut obey)) {
            eprintln!("control: {error:#}");
        }
    }
    Ok(())
}

fn one(mut stream: &UnixStream, obey: &mut impl FnMut(Command) -> Result<Reply>) -> Result<()> {
    stream.set_read_timeout(Some(ANSWER))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let done = serde_json::from_str(&line).map_err(Into::into).and_then(obey);
    let mut answer = serde_json::to_string(&done.map_err(|error| format!("{error:#}")))?;
    answer.push('\n');
    Ok(stream.write_all(answer.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_line_that_a_person_can_write() {
        let command: Command = serde_json::from_str(r#"{"do":"jump_clock","seconds":-60}"#).unwrap();
        assert_eq!(command, Command::JumpClock { seconds: -60 });
        let fault = Fault::of_vault("one", 429, Some("1")).times(2);
        let text = serde_json::to_string(&Command::AddFault { fault: fault.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), Command::AddFault { fault });
        assert!(serde_json::from_str::<Command>(r#"{"do":"jump_clock","second":1}"#).is_err());
    }
}
