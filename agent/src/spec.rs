//! What the agent decided to run: the value that comes out of preflight, goes into the ledger, and is all that the plan
//! knows of a release. No Compose here: past this type nobody reads a compose file.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_core::ids::{DeploymentId, ReleaseId};
use landfall_core::secrets::SecretNeed;
use serde::{Deserialize, Serialize};

use crate::on_rotate::OnRotate;
use crate::unclean::Unclean;

/// One deployment: a release as this VM runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its identity; plan, ledger, quarantine and history go by it.
    pub id: DeploymentId,
    /// What was published.
    pub release: ReleaseId,
    /// The services that are enabled on this VM, by name.
    pub services: BTreeMap<String, ServiceSpec>,
    /// Its networks by their real names. A changed definition is another network, under another name.
    #[serde(default)]
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Its volumes by their real names: a changed definition is a refusal, never a recreation.
    #[serde(default)]
    pub volumes: BTreeMap<String, VolumeSpec>,
}

impl Deployment {
    /// The memory caps of all its containers, bytes.
    pub fn memory(&self) -> u64 {
        let each = self.services.values().map(|service| service.memory.saturating_mul(u64::from(service.replicas)));
        each.fold(0, u64::saturating_add)
    }
}

/// A network of a [`Deployment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its key in the compose file.
    pub key: String,
    /// `v1:` and the hex sha256 of its definition, without a name that is ours to choose.
    pub hash: String,
}

/// A volume of a [`Deployment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its key in the compose file, or the one made for an image's own volume.
    pub key: String,
    /// `v1:` and the hex sha256 of its definition.
    pub hash: String,
}

/// One service of a [`Deployment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The value of label `io.landfall.spec`: `v1:` and 64 hex digits. Equal means: nothing to replace.
    pub spec: String,
    /// The image by digest, `repository@sha256:…`.
    pub image: String,
    /// How many containers; at least 1 (a service with 0 replicas is not in the deployment).
    pub replicas: u32,
    /// Only on services of the same deployment (edges to services that are off are dropped).
    pub depends_on: Vec<Dependency>,
    /// From `update_config.order`.
    pub order: Order,
    /// True where another service waits for its completion, or the file says `restart: "no"` or condition `none`
    /// and its completion is what is waited for: it runs to its end and is not started again.
    pub one_shot: bool,
    /// When a one-shot runs.
    pub run: Run,
    /// A failure after this service ran waits for a person instead of rolling back.
    pub rollback_hold: bool,
    /// `failure_action: pause`: a failed rollout is held as it is.
    pub pause_on_failure: bool,
    /// How long a new container must stay well.
    #[serde(with = "millis")]
    pub monitor: Duration,
    /// `update_config.parallelism`: how many replicas are replaced at once; 0 means all.
    #[serde(default)]
    pub parallelism: u32,
    /// `update_config.delay`: between one group of replicas and the next.
    #[serde(with = "millis", default)]
    pub delay: Duration,
    /// Between SIGTERM and SIGKILL.
    #[serde(with = "millis")]
    pub stop_grace: Duration,
    /// How the agent restarts it.
    pub restart: RestartPolicy,
    /// The service whose network, IPC or PID namespace it shares: it is replaced with that service, and started again after it.
    pub namespace_of: Option<String>,
    /// Which of `network_mode`, `ipc` and `pid` it shares.
    #[serde(default)]
    pub shared_namespaces: Vec<String>,
    /// Host ports it binds, as `ip:port/proto` with the defaults stated.
    pub host_ports: Vec<String>,
    /// Effective memory cap in bytes, per replica.
    pub memory: u64,
    /// The set of secrets that its containers mount; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<ServiceSecrets>,
    /// What a rotation means to it.
    #[serde(default, skip_serializing_if = "OnRotate::is_restart")]
    pub on_rotate: OnRotate,
    /// What is done before it is started where its data directory was not shut down cleanly; nobody looks where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclean: Option<Unclean>,
}

/// The set of secrets of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSecrets {
    /// The set's name.
    pub set: String,
    /// With all versions: asks for this set and no other, also after a reboot.
    pub need: SecretNeed,
    /// Where containers see rotations while they run: without versions, asks for the newest. The set is then only what they began
    /// with; see [`crate::live_secrets::shown`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<SecretNeed>,
}

impl ServiceSecrets {
    /// What containers mount: another one is other containers.
    pub fn mounted(&self) -> &str {
        self.need.live.as_ref().unwrap_or(&self.set)
    }
}

/// An edge of the start-up order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What is waited for.
    pub service: String,
    /// Until when.
    pub condition: Condition,
    /// `restart: true`: restarted after that service was replaced.
    pub restart: bool,
}

/// `depends_on.condition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs.
    Started,
    /// It runs and its health check passes (without one: it runs).
    Healthy,
    /// It ran to its end with exit code 0.
    Completed,
}

/// `update_config.order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Stop the old, then start the new: the default.
    StopFirst,
    /// Start the new, wait until it is healthy, then stop the old.
    StartFirst,
}

/// `x-landfall.run` of a one-shot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// When its spec changed or it never completed: the default.
    WhenChanged,
    /// Once for each deployment.
    EveryDeploy,
    /// Also at each cold start.
    EveryStart,
}

/// `deploy.restart_policy`, or what `restart:` means in its terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// After which exits.
    pub condition: RestartCondition,
    /// The first delay; it doubles up to 60 s.
    #[serde(with = "millis")]
    pub delay: Duration,
    /// No more than this many in a row; none means without end.
    pub max_attempts: Option<u32>,
    /// How long it must have run for a start to count as a success.
    #[serde(with = "millis")]
    pub window: Duration,
}

/// `restart_policy.condition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// After every exit: the default.
    Any,
    /// After an exit code that is not 0.
    OnFailure,
    /// Never.
    None,
}

/// Durations as whole milliseconds in the ledger.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
