//! The landfall.yaml of a role, as it is written: the few keys that differ between machines. Everything else has its default. Pure.

use std::collections::BTreeMap;

use landfall_core::config::DataDisk;
use serde::Serialize;

/// The file.
#[derive(Debug, Default, Serialize)]
pub struct Landfall {
    /// What is this machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// By the name that references begin with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vaults: BTreeMap<String, Vault>,
    /// By host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub registries: BTreeMap<String, Registry>,
    /// Secrets of units beside the stack: by unit and id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, BTreeMap<String, String>>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub apps: BTreeMap<String, App>,
    /// By the name that their apps' names begin with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub previews: BTreeMap<String, App>,
}

/// What is this machine's own.
#[derive(Debug, Serialize)]
pub struct Host {
    /// The disk that volumes lie on.
    pub data_disk: DataDisk,
}

/// A Key Vault, asked as the machine itself.
#[derive(Debug, Serialize)]
pub struct Vault {
    /// Where it is.
    pub url: String,
    /// Which secrets a release may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
}

/// Who the machine is to a registry.
#[derive(Debug, Serialize)]
pub struct Registry {
    /// The user.
    pub username: String,
    /// The name, in the vault, of its password or token.
    pub secret: String,
}

/// An app, or an entry of previews with the keys that only those have.
#[derive(Debug, Default, Serialize)]
pub struct App {
    /// What is followed.
    pub channel: String,
    /// Host ports of previews.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// Memory of previews.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps: Option<Caps>,
    /// How long previews stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Which services run here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// For `${…}` in compose files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
}

/// Memory caps of previews.
#[derive(Debug, Serialize)]
pub struct Caps {
    /// Of each service.
    pub memory: String,
}
