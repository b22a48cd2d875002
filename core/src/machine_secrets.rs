//! What the machine itself needs of vaults, in the fetcher's words: credentials of registries and of systemd units. No value is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `index/_machine.json`: what the fetcher has of what the settings name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineSecretsFile {
    /// [`crate::contract::FORMAT`].
    pub format: u32,
    /// By host.
    pub registries: BTreeMap<String, MachineSecret>,
    /// By unit and the credential's id.
    pub units: BTreeMap<String, BTreeMap<String, MachineSecret>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineSecret {
    /// Where it is: `[vault/]name[@version]`.
    pub secret: String,
    /// The version that is here; none before the first. It stays when a later look failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Since when that is here (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<String>,
    /// When it ends (RFC 3339), where the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Why the last look failed, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
