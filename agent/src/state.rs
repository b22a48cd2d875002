//! What the agent knows of an app beyond what it can see: kept in the ledger, one whole value a line, written ahead of
//! the steps that it leads to. Pure: transitions take a state and give the next.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::ids::DeploymentId;
use serde::{Deserialize, Serialize};

use crate::live_secrets::LiveSecrets;
use crate::observed::Millis;
use crate::repairs::Incident;
use crate::spec::Deployment;

/// A deployment and the containers that are it. The same service with the same ids in two generations is untouched by a swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// What it runs.
    pub deployment: Deployment,
    /// Service to container ids, in replica order.
    pub containers: BTreeMap<String, Vec<String>>,
}

impl Generation {
    /// The ids of a service; empty where it has none.
    pub fn ids(&self, service: &str) -> &[String] {
        self.containers.get(service).map_or(&[], Vec::as_slice)
    }

    /// All ids.
    pub fn all_ids(&self) -> BTreeSet<&str> {
        self.containers.values().flatten().map(String::as_str).collect()
    }
}

/// All that is remembered of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppState {
    /// What should run. None before the first release.
    pub live: Option<Generation>,
    /// Where a rollout is.
    pub phase: Phase,
    /// Deployments that failed after their first swap.
    #[serde(default)]
    pub quarantine: BTreeMap<DeploymentId, Quarantine>,
    /// One-shots that ran to their end: keys of [`completion_key`].
    #[serde(default)]
    pub completed: BTreeSet<String>,
    /// Containers that no generation needs any more, to be removed.
    #[serde(default)]
    pub to_remove: BTreeSet<String>,
    /// Networks that no generation needs any more, to be removed after the containers, by real name.
    #[serde(default)]
    pub networks_to_remove: BTreeSet<String>,
    /// Containers of the current generation that somebody removed are being made again.
    #[serde(default)]
    pub recreation: Option<Creation>,
    /// What containers see that see rotations while they run, by live directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub live_secrets: BTreeMap<String, LiveSecrets>,
    /// Services whose data directory was not shut down cleanly, until they are started from a clean one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incidents: BTreeMap<String, Incident>,
    /// No release changes until `resume`; the reason.
    #[serde(default)]
    pub hold: Option<String>,
    /// No healing either until then; with the reason.
    #[serde(default)]
    pub hands_off: Option<(Millis, String)>,
}

/// What Compose is to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    /// Container ids that existed before, by service: all others of such a service are new.
    pub existing: BTreeMap<String, Vec<String>>,
    /// What to tell Compose, by service: existing containers plus those wanted.
    pub scale: BTreeMap<String, u32>,
}

/// The way back that is still open after a deployment went live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// Where to.
    pub from: Generation,
    /// From when and where the live one came.
    pub attempt: Attempt,
    /// Until when.
    pub until: Millis,
}

/// Why a deployment is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// For people.
    pub reason: String,
    /// The publication's sequence; a higher one of the same content means: try again.
    pub sequence: Option<u64>,
}

/// What a rollout carries from its start to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When preflight began.
    pub began: Millis,
    /// When the watcher first saw the release.
    pub detected_at: Option<String>,
    /// The publication's sequence.
    pub sequence: Option<u64>,
}

/// Where a rollout is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Nothing under way: `live` is kept running.
    #[default]
    Idle,
    /// The new containers are being created beside those that serve.
    Preparing {
        /// What is to run.
        target: Deployment,
        /// The changed services.
        #[serde(flatten)]
        creation: Creation,
        /// From when and where.
        attempt: Attempt,
        /// The live one is still in probation: the first swap ends it.
        #[serde(default)]
        probation: Option<Armed>,
    },
    /// Changed services are swapped, in order.
    Rolling {
        /// What is to run.
        target: Generation,
        /// What ran before, the way back.
        from: Option<Generation>,
        /// From when and where.
        attempt: Attempt,
    },
    /// All swapped and healthy; they must stay so until then.
    Monitoring {
        /// What runs.
        target: Generation,
        /// The way back.
        from: Option<Generation>,
        /// From when and where.
        attempt: Attempt,
        /// The end of the monitor window.
        until: Millis,
    },
    /// Live; the old containers are kept, stopped, and the way back is armed.
    Probation(Armed),
    /// The whole set returns to what ran before.
    RollingBack {
        /// What failed.
        failed: Generation,
        /// Where to. None: the first release of this app failed, all of it is stopped.
        to: Option<Generation>,
        /// Why.
        reason: String,
        /// From when and where.
        attempt: Attempt,
    },
    /// It was a preview and its life is over: all that it has here is removed, then it is forgotten.
    Ending {
        /// Why.
        reason: String,
    },
    /// A person is needed: no release changes; supervision goes on.
    Held {
        /// Why, and what to do.
        reason: String,
        /// True where it ends by itself when `live` is well again.
        ends_when_well: bool,
        /// What ran before, stopped and kept, for an operator who decides to go back.
        #[serde(default)]
        way_back: Option<Generation>,
    },
}

impl AppState {
    /// What the agent keeps running now.
    pub fn current(&self) -> Option<&Generation> {
        match &self.phase {
            Phase::Rolling { target, .. } | Phase::Monitoring { target, .. } => Some(target),
            Phase::RollingBack { to, .. } => to.as_ref(),
            Phase::Idle | Phase::Preparing { .. } | Phase::Probation(_) | Phase::Held { .. } | Phase::Ending { .. } => {
                self.live.as_ref()
            }
        }
    }

    /// Whether a one-shot of this spec ever ran to its end, under any key.
    pub fn ever_completed(&self, service: &str, spec: &str) -> bool {
        self.completed.iter().any(|key| key.starts_with(&format!("{service} {spec}")))
    }

    /// [`Self::current`], to be changed.
    pub fn current_mut(&mut self) -> Option<&mut Generation> {
        match &mut self.phase {
            Phase::Rolling { target, .. } | Phase::Monitoring { target, .. } => Some(target),
            Phase::RollingBack { to, .. } => to.as_mut(),
            Phase::Idle | Phase::Preparing { .. } | Phase::Probation(_) | Phase::Held { .. } | Phase::Ending { .. } => {
                self.live.as_mut()
            }
        }
    }

    /// One word for `status`.
    pub fn word(&self) -> &'static str {
        match self.phase {
            Phase::Idle => "idle",
            Phase::Preparing { .. } => "prepared",
            Phase::Rolling { .. } => "rolling",
            Phase::Monitoring { .. } => "monitoring",
            Phase::Probation(_) => "probation",
            Phase::RollingBack { .. } => "rolling-back",
            Phase::Held { .. } => "held",
            Phase::Ending { .. } => "ending",
        }
    }
}

/// Under which key the completion of a one-shot is recorded. `boot` is the kernel's boot id.
pub fn completion_key(deployment: &Deployment, service: &str, boot: &str) -> String {
    use crate::spec::Run;
    let Some(spec) = deployment.services.get(service) else { return String::new() };
    match spec.run {
        Run::WhenChanged => format!("{service} {}", spec.spec),
        Run::EveryDeploy => format!("{service} {} {}", spec.spec, deployment.id),
        Run::EveryStart => format!("{service} {} {} {boot}", spec.spec, deployment.id),
    }
}
