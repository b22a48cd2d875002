//! What `history` shows, and why a rollout failed.

use serde::{Deserialize, Serialize};

use crate::ids::{DeploymentId, ReleaseId};

/// How a rollout went: one line of `history/<app>.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Format of this record.
    pub format: u32,
    /// Counts up from 1 within an app.
    pub seq: u64,
    /// When (RFC 3339, UTC, milliseconds).
    pub at: String,
    /// What happened.
    pub event: HistoryEvent,
    /// Which release.
    pub release: Option<ReleaseId>,
    /// Which deployment.
    pub deployment: Option<DeploymentId>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Services touched.
    #[serde(default)]
    pub services: Vec<String>,
    /// When the watcher first saw the release.
    pub detected_at: Option<String>,
    /// Milliseconds from the start of the rollout (preflight) to this event, where it ends one.
    pub took_ms: Option<u64>,
    /// The kind of failure that `reason` tells, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// Why a rollout failed or did not begin: few kinds, so that they can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A container exited.
    Exited,
    /// A container was killed for memory.
    OutOfMemory,
    /// A health check failed.
    Unhealthy,
    /// A health check did not pass in time.
    Late,
    /// A container was removed by somebody.
    Gone,
    /// The Engine could not start a container.
    CannotStart,
    /// The release is not for this host: its policy, or a mistake.
    Refused,
    /// Something that the release needs cannot be had now: an image, a secret, Compose.
    Unavailable,
    /// There is no room on the disk for its images.
    DiskFull,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Exited,
        Self::OutOfMemory,
        Self::Unhealthy,
        Self::Late,
        Self::Gone,
        Self::CannotStart,
        Self::Refused,
        Self::Unavailable,
        Self::DiskFull,
    ];

    /// As JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::OutOfMemory => "out-of-memory",
            Self::Unhealthy => "unhealthy",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::CannotStart => "cannot-start",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::DiskFull => "disk-full",
        }
    }
}

/// What a [`HistoryEntry`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryEvent {
    /// A new release passed preflight and its first swap is next.
    RolloutStarted,
    /// All its services serve and stayed well over the monitor window: it is live.
    Live,
    /// Probation ended: it is the last good one.
    Good,
    /// It failed; the way back has begun.
    RollbackStarted,
    /// The last good set serves again.
    RolledBack,
    /// Preflight refused it; nothing was touched.
    Refused,
    /// The way back failed too; a person is needed.
    Held,
    /// A service was started again by the agent.
    Restarted,
    /// What should run was down and is back (reboot, dockerd restart).
    Recovered,
    /// An operator's word: hold, resume, hands-off, retry, rollback.
    Operator,
    /// The data directory of a service was not shut down cleanly; seen before its start.
    Unclean,
    /// Such a directory was repaired by the agent.
    Repaired,
    /// It could not be; a person is needed.
    RepairFailed,
}

impl HistoryEvent {
    /// As JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::RolloutStarted => "rollout-started",
            Self::Live => "live",
            Self::Good => "good",
            Self::RollbackStarted => "rollback-started",
            Self::RolledBack => "rolled-back",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Restarted => "restarted",
            Self::Recovered => "recovered",
            Self::Operator => "operator",
            Self::Unclean => "unclean",
            Self::Repaired => "repaired",
            Self::RepairFailed => "repair-failed",
        }
    }
}
