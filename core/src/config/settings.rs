//! What the settings mean: validated, complete, with every default stated. Serializable, because the agent keeps the
//! last valid ones.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::{Channel, is_loopback};
use super::data_disk::DataDisk;
use super::previews::{Preview, Previews};
use super::registries::Registry;
use super::units::Units;
use super::vaults::Vaults;
use crate::ids::AppName;

/// Everything that landfall.yaml and its drop-ins say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// What this machine allows and keeps for itself.
    pub host: Host,
    /// Where secrets are, by the name that a reference begins with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vaults: Vaults,
    /// Registries that need more than their name, by host (and port).
    pub registries: BTreeMap<String, Registry>,
    /// The apps of this machine.
    pub apps: BTreeMap<AppName, App>,
    /// Entries that make an app of each tag that matches.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub previews: BTreeMap<AppName, Previews>,
    /// What systemd units beside us get from vaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: Units,
}

impl Settings {
    /// Whether this registry is spoken to without TLS: by its setting, or because it is this machine itself.
    pub fn plain_http(&self, registry: &str) -> bool {
        self.registries.get(registry).is_some_and(|r| r.plain_http) || is_loopback(registry)
    }
}

/// What this machine allows and keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `host.reserve.memory`: bytes that no app may be promised.
    pub reserve_memory: u64,
    /// `host.reserve.disk`: per cent of each disk that must stay free for images to be pulled.
    #[serde(default = "tenth")]
    pub reserve_disk: u8,
    /// `host.require_caps`: a service without a memory cap is refused.
    pub require_caps: bool,
    /// `host.default_caps.memory`: the cap of a service that has none, bytes.
    pub default_memory: Option<u64>,
    /// `host.allow_binds`: absolute paths below which an app may bind host files.
    pub allow_binds: Vec<String>,
    /// `host.publish: loopback`: ports are bound on loopback only.
    pub publish_loopback_only: bool,
    /// `host.guard`: containers and most users are kept from the cloud's metadata service.
    #[serde(default = "on")]
    pub guard: bool,
    /// `host.imds_users`: who of this machine may reach it beside root and the secrets-fetcher, by name or number.
    #[serde(default)]
    pub imds_users: Vec<String>,
    /// `host.data_disk`: the disk that Docker's volumes lie on, if not the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_disk: Option<DataDisk>,
}

/// What settings that were kept before there was a key had.
fn on() -> bool {
    true
}

/// The same of what stays free on disks.
fn tenth() -> u8 {
    10
}

impl Default for Host {
    fn default() -> Self {
        Self {
            reserve_memory: 512 << 20,
            reserve_disk: tenth(),
            require_caps: true,
            default_memory: None,
            allow_binds: Vec::new(),
            publish_loopback_only: false,
            guard: true,
            imds_users: Vec::new(),
            data_disk: None,
        }
    }
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// What it follows; with [`Source::Tags`] the tag of it, in every repository that the compose file names with it.
    pub channel: Channel,
    /// What the channel points at.
    pub source: Source,
    /// How often the channel is asked.
    #[serde(with = "milliseconds")]
    pub poll: Duration,
    /// Compose profiles that are on here.
    pub profiles: Vec<String>,
    /// Variables for interpolation.
    pub vars: BTreeMap<String, String>,
    /// Set where it stands for one tag of [`Settings::previews`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

impl App {
    /// Under which name its compose file lies on this machine, where [`Source::is_on_host`]: previews share one.
    pub fn project<'a>(&'a self, name: &'a AppName) -> &'a AppName {
        self.preview.as_ref().map_or(name, |preview| &preview.of)
    }
}

/// What a channel points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Compose files and all that belongs to them: the default.
    #[default]
    Bundle,
    /// Image digests by service; the compose file is on this machine.
    Pointer,
    /// The images of the compose file on this machine that carry the channel's tag.
    Tags,
}

impl Source {
    /// Whether the compose file lies on this machine.
    pub fn is_on_host(self) -> bool {
        match self {
            Self::Bundle => false,
            Self::Pointer | Self::Tags => true,
        }
    }
}

pub(super) mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
