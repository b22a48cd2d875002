//! The agent's socket: one JSON line in, JSON lines out, the last has `"end": true`. Also the records that `status`
//! and `history` show. A field is only ever added, never redefined.

mod history;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::history::{Cause, HistoryEntry, HistoryEvent};
use crate::ids::{AppName, DeploymentId, ReleaseId};

/// The protocol that this version speaks.
pub const PROTOCOL: u32 = 1;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`]; a higher one is answered with the agent's own.
    pub protocol: u32,
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
}

/// What can be asked of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command", content = "arguments")]
pub enum Command {
    /// [`Status`] of all apps.
    Status {},
    /// [`HistoryEntry`] lines of an app, oldest first, at most `last`.
    History {
        /// Which app.
        app: AppName,
        /// How many at most.
        last: usize,
    },
    /// What the staged release would change: a [`PlanView`].
    Plan {
        /// Which app.
        app: AppName,
        /// A staged release by any unique prefix of 8 or more digits; none means the channel's newest.
        release: Option<String>,
    },
    /// The last `lines` log lines of an app's services; lines of [`LogLine`].
    Logs {
        /// Which app.
        app: AppName,
        /// Only this service.
        service: Option<String>,
        /// How many per service.
        lines: usize,
    },
    /// No release changes until `resume`.
    Hold {
        /// Which app.
        app: AppName,
        /// Shown in `status`.
        why: String,
    },
    /// Ends a hold and hands-off.
    Resume {
        /// Which app.
        app: AppName,
    },
    /// No healing or restarting either, for a while.
    HandsOff {
        /// Which app.
        app: AppName,
        /// In seconds.
        seconds: u64,
        /// Shown in `status`.
        why: String,
    },
    /// Return to the last good deployment and hold there.
    Rollback {
        /// Which app.
        app: AppName,
        /// Shown in `status`.
        why: String,
    },
    /// Lift a quarantine and try again.
    Retry {
        /// Which app.
        app: AppName,
    },
    /// What its services need of vaults, and what is there; lines of [`SecretStatus`].
    Secrets {
        /// Which app.
        app: AppName,
    },
    /// [`Status`] without what is asked of the Engine: for whoever asks again and again.
    Glance {},
    /// Have the watcher ask the channel now.
    Poll {
        /// Which app.
        app: AppName,
    },
}

/// What the agent answers: data lines, then one with `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Answer {
    /// True on the last line.
    #[serde(default)]
    pub end: bool,
    /// On the last line: whether it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// On the last line of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// On data lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// Why the agent did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word: `usage`, `unknown-app`, `refused`, `waiting`, `protocol`, `internal`.
    pub code: String,
    /// What happened, to what.
    pub message: String,
    /// What to do next.
    pub next: String,
}

/// One secret of one service, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStatus {
    /// The Compose service.
    pub service: String,
    /// Its key in the compose file.
    pub key: String,
    /// Where it is: `[vault/]name[@version]`.
    pub secret: String,
    /// The version that containers run with; none where none does.
    pub running: Option<String>,
    /// The newest version that is on this VM.
    pub newest: Option<String>,
    /// Since when that is here (RFC 3339).
    pub since: Option<String>,
    /// When it ends (RFC 3339), where the vault says so.
    pub expires: Option<String>,
    /// When the vault last confirmed it (RFC 3339).
    pub checked_at: Option<String>,
    /// Why the last look failed, and what to do.
    pub problem: Option<String>,
    /// Where it was sealed before a boot and no vault has confirmed it since: when one gave it last (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_cache_at: Option<String>,
}

/// All that `landfall status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// When this was taken (RFC 3339).
    pub at: String,
    /// `ok`, or what is wrong with the Engine, Compose or the settings.
    pub problems: Vec<String>,
    /// One for each app.
    pub apps: Vec<AppStatus>,
}

/// One app in [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub app: AppName,
    /// The reference that is followed.
    pub channel: String,
    /// What runs as decided.
    pub release: Option<ReleaseId>,
    /// What runs as decided.
    pub deployment: Option<DeploymentId>,
    /// One word: `idle`, `waiting`, `preflight`, `prepared`, `rolling`, `monitoring`, `probation`, `rolling-back`, `held`, `starting`.
    pub state: String,
    /// Why it is in that state, for people.
    pub reason: Option<String>,
    /// What the agent does next, or what a person should do.
    pub next: String,
    /// The watcher's last good poll (RFC 3339).
    pub last_good_poll: Option<String>,
    /// A hold by a person, with the reason.
    pub hold: Option<String>,
    /// Deployments not to be tried again: id to reason.
    pub quarantined: BTreeMap<DeploymentId, String>,
    /// By service name.
    pub services: Vec<ServiceStatus>,
    /// Credentials of its registries that say when they end.
    #[serde(default)]
    pub credentials: Vec<CredentialStatus>,
    /// Its secrets, where their vaults have not confirmed them for long; what was fetched serves on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_secrets: Option<StaleSecrets>,
    /// Images that are being pulled for it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulls: Vec<PullStatus>,
    /// Services whose data directory was not shut down cleanly, until they are started from a clean one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclean: Vec<UncleanStatus>,
}

/// A data directory that was not shut down cleanly, in [`AppStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncleanStatus {
    /// Whose.
    pub service: String,
    /// When it was seen (RFC 3339).
    pub at: String,
    /// How it was seen, and what is done about it.
    pub reason: String,
    /// The one command that repairs, for a shell.
    pub repair: String,
}

/// An image that is being pulled, in [`AppStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullStatus {
    /// Its reference by digest.
    pub image: String,
    /// Bytes that are here.
    pub done: u64,
    /// Of how many, as far as it is known: layers that have not begun are not in it. All are here and being unpacked where both
    /// are the same.
    pub total: u64,
}

/// Secrets that were not confirmed for more than three refreshes of their vault, in [`AppStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleSecrets {
    /// Whose.
    pub services: Vec<String>,
    /// Whose are the stalest: the rest is of these.
    pub service: String,
    /// When all of them were last seen to be right (RFC 3339).
    pub checked_at: String,
    /// How long ago that is, seconds.
    pub age_s: u64,
    /// Why they were not since.
    pub reason: String,
    /// What to type next.
    pub next: String,
}

/// When a credential ends, in [`AppStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// Of which registry.
    pub registry: String,
    /// The file that has it.
    pub file: String,
    /// The secret in a vault that the file comes from, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// When it ends or has ended (RFC 3339).
    pub expires: String,
}

/// One service in [`AppStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name in the compose file.
    pub service: String,
    /// `healthy`, `running`, `starting`, `unhealthy`, `exited`, `completed`, `backing-off`, `missing`.
    pub state: String,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas wanted.
    pub wanted: u32,
    /// Digest of the image, 12 hex digits.
    pub image: String,
    /// Memory in use, bytes, where running.
    pub memory: Option<u64>,
    /// Memory cap, bytes per replica.
    pub memory_cap: Option<u64>,
    /// How often the agent started its containers again, for whatever reason, since the agent itself was started: not
    /// their first start, and no start that belongs to a rollout or a rollback.
    pub restarts: u32,
}

/// What a release would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// The release that was planned.
    pub release: ReleaseId,
    /// What would run.
    pub deployment: DeploymentId,
    /// Lines for people, in the order they would happen; empty where nothing would change.
    pub steps: Vec<String>,
    /// What Compose warned of when it read the release, such as a variable that is not set.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose.
    pub service: String,
    /// The text, control characters escaped.
    pub text: String,
}
