//! The Compose plugin: finds the binary, checks its version, and runs it in the fence. It translates; it never reconciles
//! (docs/decisions): `config` reads, `up --no-start` creates beside what runs, and there is no third call.
//!
//! The binary is called directly, with nothing of our environment: `docker compose` would read a person's configuration,
//! and `${HOME}` in a release must not mean anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_core::command::{Command, CommandError, Output};
use landfall_core::ids::{AppName, printable};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Where Docker's packages put the plugin, in the order in which the Docker CLI looks.
const DIRECTORIES: &[&str] = &[
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// Names the binary, where it is elsewhere.
const BINARY_VARIABLE: &str = "LANDFALL_COMPOSE";
/// Names the daemon's socket, `unix:///…`, where it is not Docker's default.
const HOST_VARIABLE: &str = "LANDFALL_DOCKER_HOST";
/// Docker's default socket.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The oldest that is supported: older ones lack `--no-path-resolution` with env files, and hash `depends_on`.
const OLDEST: (u32, u32) = (2, 26);
/// Not there, and nobody can make it there, so it is empty whoever looks: no credentials, no contexts, no plugins. (Of a path through
/// a file Compose 5 says that it is no directory.)
const NO_CONFIG: &str = "/proc/landfall/docker-config";
/// `config` needs no daemon, and asks it two things all the same where there is one: a tenth of its time.
const NO_HOST: &str = "unix:///dev/null/docker.sock";
/// It runs for a moment: its garbage is not worth collecting at Go's usual pace (a quarter of its CPU time, measured).
const GARBAGE: (&str, &str) = ("GOGC", "400");

/// Containers of services that are not in the document are no orphans: most of the stack stays as it is.
const ORPHANS: (&str, &str) = ("COMPOSE_IGNORE_ORPHANS", "1");

/// An idle machine needs 0.03 s, one that boots under emulation more than 10.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);
const CONFIG_DEADLINE: Duration = Duration::from_secs(20);
const PREPARE_DEADLINE: Duration = Duration::from_mins(2);
/// It has 25 MB, and a pull can take minutes.
const PREPARE_PATIENCE: Duration = Duration::from_secs(10);
/// It needs 0.1 s for a large file; an alias bomb needs hours.
const CONFIG_CPU_SECONDS: u64 = 10;
const PREPARE_CPU_SECONDS: u64 = 60;
/// It needs 50 MB; a 64 MiB scalar needs 800 MB.
const MEMORY_BYTES: u64 = 512 << 20;
/// No more warnings of Compose are passed on than this, and none longer.
const MOST_WARNINGS: usize = 20;
const WARNING_LENGTH: usize = 300;
/// A canonical model larger than this is no project.
const CONFIG_LIMIT: usize = 4 << 20;

/// A Compose plugin that can be used. One child tells the next which it is: its version is asked for once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ComposePlugin {
    binary: PathBuf,
    version: String,
    fence: Option<PathBuf>,
}

/// Why there is no usable plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No binary in any of the usual places.
    #[error("no Docker Compose plugin in {}; install `docker-compose-plugin`, or name the binary in `{BINARY_VARIABLE}`", .looked.join(", "))]
    NotFound {
        /// Where it was looked for.
        looked: Vec<String>,
    },
    /// It is too old.
    #[error("Docker Compose {version} at `{}` is too old: {}.{} or newer is needed; upgrade `docker-compose-plugin`", .binary.display(), OLDEST.0, OLDEST.1)]
    TooOld {
        /// Its own word.
        version: String,
        /// Which binary.
        binary: PathBuf,
    },
    /// It does not say its version.
    #[error("`{}` does not say which version of Docker Compose it is: {said}; reinstall `docker-compose-plugin`", .binary.display())]
    Strange {
        /// Which binary.
        binary: PathBuf,
        /// What it said.
        said: String,
    },
    /// It could not be run.
    #[error("cannot ask Docker Compose for its version")]
    Run(#[from] CommandError),
}

/// What `config` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// The canonical model, YAML.
    pub text: String,
    /// What Compose warned of, in its words, bounded and escaped.
    pub warnings: Vec<String>,
}

/// Why `config` gave no model.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFailure {
    /// Compose says that the files are wrong.
    #[error("{said}")]
    Refused {
        /// Its words, without our paths.
        said: String,
        /// What it warned of before: often the cause.
        warnings: Vec<String>,
    },
    /// It used up what the fence allows (the files are a bomb), or crashed over them.
    #[error("Docker Compose crashed over it, or it needs more than {CONFIG_CPU_SECONDS} s of CPU, {} MiB of memory or 4 MiB of text", MEMORY_BYTES >> 20)]
    Exhausted,
    /// It gave no answer, and whose fault that is cannot be told.
    #[error(transparent)]
    Later(#[from] CommandError),
}

/// Why the containers were not created.
#[derive(Debug, thiserror::Error)]
pub enum ComposeFailure {
    /// Compose ended with an error; some containers may exist. Repeating the call converges.
    #[error("`docker compose up --no-start` ended with {code}: {stderr}")]
    Failed {
        /// Its exit code.
        code: i32,
        /// The end of what it said.
        stderr: String,
    },
    /// It was killed at its deadline or could not be run.
    #[error(transparent)]
    NoAnswer(#[from] CommandError),
}

/// What becomes of it when the one who started it is killed.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It is killed too: nobody reads on, and it is in no group that the agent would kill.
    WithParent,
    /// It goes on to its end: half of its containers are no better than all.
    ByItself,
}

/// What `config` is asked to read.
#[derive(Debug, Clone, Copy)]
pub struct ConfigRequest<'a> {
    /// The compose documents, in merge order.
    pub compose: &'a [PathBuf],
    /// What relative paths are relative to.
    pub project: &'a Path,
    /// The project's name.
    pub app: &'a AppName,
    /// Which profiles are on.
    pub profiles: &'a [String],
    /// What `${}` means.
    pub vars: &'a BTreeMap<String, String>,
}

impl ComposePlugin {
    /// Finds the plugin and checks its version. `fence` is the program that holds [`crate::fence::main`], the agent's own binary
    /// (`/proc/self/exe`); without one the plugin runs with its deadline alone (a developer's machine).
    pub async fn find(fence: Option<&Path>) -> Result<Self, PluginError> {
        let named = std::env::var_os(BINARY_VARIABLE).map(PathBuf::from);
        let candidates: Vec<PathBuf> = match named {
            Some(path) => vec![path],
            None => DIRECTORIES.iter().map(|d| Path::new(d).join("docker-compose")).collect(),
        };
        let Some(binary) = candidates.iter().find(|path| path.is_file()) else {
            let looked = candidates.iter().map(|p| format!("`{}`", p.display())).collect();
            return Err(PluginError::NotFound { looked });
        };
        Self::at(binary, fence).await
    }

    /// The plugin at this path, if its version will do.
    pub async fn at(binary: &Path, fence: Option<&Path>) -> Result<Self, PluginError> {
        let asked = Command::new(binary).args(["version", "--short"]).env("DOCKER_CONFIG", NO_CONFIG);
        let output = asked.deadline(VERSION_DEADLINE).run().await?;
        let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned();
        match parse_version(&version) {
            None => {
                let said = if version.is_empty() { output.last_words() } else { version };
                Err(PluginError::Strange { binary: binary.to_owned(), said })
            }
            Some(found) if found < OLDEST => Err(PluginError::TooOld { version, binary: binary.to_owned() }),
            Some(_) => Ok(Self { binary: binary.to_owned(), version, fence: fence.map(Path::to_owned) }),
        }
    }

    /// Its own word for its version, such as `2.26.1-4`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which program it is.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The canonical model, YAML, variables filled in, of the services whose profile is on. Needs no daemon.
    pub async fn config(&self, request: ConfigRequest<'_>) -> Result<Translated, ConfigFailure> {
        let mut arguments = project_arguments(request.compose, request.project, request.app);
        arguments.extend(request.profiles.iter().map(|profile| format!("--profile={profile}")));
        arguments.push("config".to_owned());
        let mut read: Vec<&Path> = request.compose.iter().map(PathBuf::as_path).collect();
        read.push(request.project);
        let mut command = self.fenced(&read, CONFIG_CPU_SECONDS, End::WithParent).args(arguments);
        for (name, value) in request.vars {
            command = command.env(name, value);
        }
        let command = command.env("DOCKER_CONFIG", NO_CONFIG).env("DOCKER_HOST", NO_HOST).env(GARBAGE.0, GARBAGE.1);
        let command = command.stdout_limit(CONFIG_LIMIT).deadline(CONFIG_DEADLINE);
        let output = match command.run().await {
            Err(CommandError::TooMuchOutput { .. }) => return Err(ConfigFailure::Exhausted),
            ran => ran?,
        };
        if exhausted(&output) {
            return Err(ConfigFailure::Exhausted);
        }
        // Where the release lies on this machine is nothing to the one who reads it.
        let directories = request.compose.iter().filter_map(|file| file.parent()).chain([request.project]);
        let stderr = directories
            .fold(output.stderr.clone(), |said, directory| said.replace(&format!("{}/", directory.display()), ""));
        let warnings = warnings(&stderr);
        if output.success() {
            return Ok(Translated { text: String::from_utf8_lossy(&output.stdout).into_owned(), warnings });
        }
        Err(ConfigFailure::Refused { said: essence(&stderr), warnings })
    }

    /// Creates, stopped and beside those that serve, the containers of the services of a document: as many of each as it says,
    /// those that exist counted in. Touches nothing that exists; repeating it is a no-op.
    ///
    /// It is started at once and does all that needs no document; it waits for that, and creates nothing before. With the sender
    /// dropped, a document that does not end, or none, it creates nothing at all. The directory gives a label, and is not read.
    pub async fn prepare(
        &self,
        app: &AppName,
        directory: &Path,
        document: oneshot::Receiver<Vec<u8>>,
    ) -> Result<(), ComposeFailure> {
        let mut arguments = vec!["--ansi=never".to_owned(), "--progress=plain".to_owned()];
        arguments.extend(project_arguments(&[PathBuf::from("-")], directory, app));
        arguments.extend("up --no-start --no-deps --no-recreate --pull never".split(' ').map(str::to_owned));
        let host = std::env::var(HOST_VARIABLE).unwrap_or_else(|_| DEFAULT_HOST.to_owned());
        let command = self.fenced(&[], PREPARE_CPU_SECONDS, End::ByItself).args(arguments).env(ORPHANS.0, ORPHANS.1);
        let command = command.env("DOCKER_CONFIG", NO_CONFIG).env("DOCKER_HOST", host).env(GARBAGE.0, GARBAGE.1);
        let output = command.deadline(PREPARE_DEADLINE).run_ahead(document, PREPARE_PATIENCE).await?;
        if output.success() {
            return Ok(());
        }
        Err(ComposeFailure::Failed { code: output.code, stderr: essence(&output.stderr) })
    }

    fn fenced(&self, read: &[&Path], cpu_seconds: u64, end: End) -> Command {
        let Some(fence) = &self.fence else { return Command::new(&self.binary) };
        let mut command = Command::new(fence).arg("fence");
        match end {
            End::WithParent => command = command.arg("--with-parent"),
            End::ByItself => {}
        }
        for path in read {
            command = command.arg("--read").arg(path);
        }
        command = command.arg("--cpu").arg(cpu_seconds.to_string());
        command.arg("--memory").arg(MEMORY_BYTES.to_string()).arg("--").arg(&self.binary)
    }
}

fn project_arguments(compose: &[PathBuf], project: &Path, app: &AppName) -> Vec<String> {
    // An empty env file: a `.env` in the project could rename it, switch profiles on, or name other files.
    let mut arguments = vec!["--env-file=/dev/null".to_owned(), format!("--project-name={app}")];
    arguments.push(format!("--project-directory={}", project.display()));
    arguments.extend(compose.iter().map(|file| format!("--file={}", file.display())));
    arguments
}

/// Killed by SIGXCPU or SIGKILL, or ended by Go's runtime, which leaves a trace (long: its first line may be lost).
fn exhausted(output: &Output) -> bool {
    const SIGXCPU: i32 = 128 + 24;
    const SIGKILL: i32 = 128 + 9;
    matches!(output.code, SIGXCPU | SIGKILL)
        || ["fatal error: ", "runtime.goexit"].iter().any(|s| output.stderr.contains(s))
}

/// What Compose said, without its warnings.
fn essence(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.is_empty() && !is_warning(line)).collect();
    let tail = lines.len().saturating_sub(6);
    lines[tail..].join("\n")
}

/// What it warned of, each thing once: the text of `level=warning msg="…"`.
fn warnings(stderr: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in stderr.lines().filter(|line| is_warning(line)) {
        let text = line.split_once("msg=").map_or(line, |(_, text)| text);
        // Go quotes as JSON does but for rare control characters; what does not parse is shown as it came.
        let text = serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
        let text = printable(&text, WARNING_LENGTH);
        if !all.contains(&text) {
            all.push(text);
        }
    }
    let more = all.len().saturating_sub(MOST_WARNINGS);
    if more > 0 {
        all.truncate(MOST_WARNINGS);
        all.push(format!("and {more} more"));
    }
    all
}

fn is_warning(line: &str) -> bool {
    line.contains("level=warning") || line.starts_with("WARNING:")
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_any_suffix() {
        for (text, version) in
            [("2.26.1-4", Some((2, 26))), ("5.5.0", Some((5, 5))), ("2.25.0", Some((2, 25))), ("", None), ("dev", None)]
        {
            assert_eq!(parse_version(text), version, "{text}");
        }
    }

    #[test]
    fn warnings_are_not_the_reason() {
        let stderr = "time=\"x\" level=warning msg=\"v is not set\"\n\nservices.a.b must be a mapping\n";
        assert_eq!(essence(stderr), "services.a.b must be a mapping");
    }

    #[test]
    fn warnings_are_passed_on_once_escaped_and_bounded() {
        let unset = r#"time="x" level=warning msg="The \"TAG\" variable is not set. Defaulting to a blank string.""#;
        let stderr = format!("{unset}\nerror\n{unset}\nWARNING: old \x1b[2J\n");
        let said = ["The \"TAG\" variable is not set. Defaulting to a blank string.", "WARNING: old \\u{1b}[2J"];
        assert_eq!(warnings(&stderr), said);
        let line = |n| format!("level=warning msg=\"{n} {}\"", "x".repeat(1000));
        let many = (0..50).map(line).collect::<Vec<_>>().join("\n");
        let said = warnings(&many);
        assert_eq!((said.len(), said.last().map(String::as_str)), (21, Some("and 30 more")));
        assert!(said.iter().all(|text| text.chars().count() <= WARNING_LENGTH + 10));
    }
}
