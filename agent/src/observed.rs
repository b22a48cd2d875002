//! What is seen on the Engine at one moment: plain values, so that the plan can be tested without one.

use std::collections::BTreeMap;

/// Before the name of a service: the one in whose name its repair runs ([`crate::unclean`]).
pub const REPAIR_OF: &str = "landfall-repair-";

/// Unix time in milliseconds.
pub type Millis = i64;

/// All containers of one app's Compose project, also those made by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// By container id.
    pub containers: BTreeMap<String, Container>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its full id.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// Label `com.docker.compose.project`.
    pub project: String,
    /// Made by `docker compose run`: not ours to touch.
    pub one_off: bool,
    /// Label `com.docker.compose.service`.
    pub service: String,
    /// Label `io.landfall.spec`, absent on containers that we did not make.
    pub spec: Option<String>,
    /// What it does now.
    pub state: RunState,
    /// When it was last started; 0 for never.
    pub started_at: Millis,
    /// When it last exited; 0 for never.
    pub finished_at: Millis,
    /// The health check in force, the image's or the file's.
    pub check: Option<Check>,
    /// What Docker says of its health.
    pub health: Health,
    /// Host ports it is to bind, as `ip:port/proto`.
    pub ports: Vec<String>,
    /// Volumes without a name that hold its data: path in the container to volume.
    pub unnamed_volumes: BTreeMap<String, String>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Made, never started.
    Created,
    /// Up (restarting counts as up: it is not ours to start it).
    Running,
    /// Up, and halted by a person, who lets it go on; the Engine calls it unhealthy meanwhile (measured on Engine 26.1).
    Paused,
    /// Not up, with its last exit code and whether the kernel killed it for memory.
    Exited {
        /// 0 to 255.
        code: i64,
        /// OOM-killed.
        out_of_memory: bool,
    },
}

/// Docker's word on health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// No health check, or not judged yet.
    Unknown,
    /// Passing.
    Healthy,
    /// Failed `retries` times in a row.
    Unhealthy,
}

/// A health check as the Engine holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The command as exec takes it.
    pub command: Vec<String>,
    /// Milliseconds between checks.
    pub interval: Millis,
    /// Milliseconds a check may take.
    pub timeout: Millis,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
    /// Milliseconds after the start in which failures do not count.
    pub start_period: Millis,
}

impl Check {
    /// How long after its start a container may take to become healthy: milliseconds, at most 10 minutes.
    pub fn deadline(&self) -> Millis {
        (self.start_period + self.retries.max(1) * (self.interval + self.timeout) + 30_000).min(600_000)
    }
}

impl Container {
    /// Whether it was made to repair what another left: those of releases have a spec.
    pub fn repairs(&self) -> bool {
        self.spec.is_none() && self.service.starts_with(REPAIR_OF)
    }

    /// Whether it is up.
    pub fn runs(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::Paused)
    }
}

impl Observed {
    /// The containers of a service, by name.
    pub fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |c| c.service == service)
    }

    /// Who has this name.
    pub fn named(&self, name: &str) -> Option<&Container> {
        self.containers.values().find(|c| c.name == name)
    }
}
