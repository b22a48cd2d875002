//! The canonical project as types: an allow-list. A key that is not here is a refusal, because what nobody modelled nobody
//! judged. No defaults are decided here and nothing is forbidden: that is [`crate::policy`]'s and [`crate::released`]'s.
//!
//! Text arrives unescaped (Compose writes `$` as `$$`); it is escaped again where a compose file is written, and nowhere else.

mod service;
mod text;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use service::{
    Attachment, BindOptions, ConfigUse, DependsOn, Deploy, DeviceReservation, Healthcheck, LandfallKeys, Limits,
    Logging, Mount, Port, Reservations, Resources, RestartPolicyKeys, SecretUse, Service, TmpfsOptions, Ulimit,
    UncleanKeys, UpdateConfig, VolumeOptions,
};
pub use text::{Text, TextMap};

use crate::refusal::{Problem, Rule};

/// What `docker compose config` says of a project.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Canonical {
    /// Only those whose profile is on.
    pub services: BTreeMap<String, Service>,
    /// Those in use, by their key.
    pub networks: BTreeMap<String, Network>,
    /// Those in use, by their key.
    pub volumes: BTreeMap<String, Volume>,
    /// Those in use, by their key.
    pub configs: BTreeMap<String, Config>,
    /// Those in use, by their key.
    pub secrets: BTreeMap<String, Secret>,
}

/// A network's definition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
pub struct Network {
    pub name: Option<Text>,
    pub driver: Option<Text>,
    pub driver_opts: TextMap,
    pub ipam: Option<Ipam>,
    pub external: bool,
    pub internal: bool,
    pub attachable: bool,
    pub enable_ipv4: Option<bool>,
    pub enable_ipv6: Option<bool>,
    pub labels: TextMap,
}

/// A network's address management.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
pub struct Ipam {
    pub driver: Option<Text>,
    pub config: Vec<Pool>,
    pub options: TextMap,
}

/// One pool of addresses.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
pub struct Pool {
    pub subnet: Option<Text>,
    pub ip_range: Option<Text>,
    pub gateway: Option<Text>,
    pub aux_addresses: TextMap,
}

/// A volume's definition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
pub struct Volume {
    pub name: Option<Text>,
    pub driver: Option<Text>,
    pub driver_opts: TextMap,
    pub external: bool,
    pub labels: TextMap,
}

/// A config's definition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
pub struct Config {
    pub name: Option<Text>,
    pub file: Option<Text>,
    pub content: Option<String>,
    pub environment: Option<Text>,
    pub external: bool,
    pub labels: TextMap,
    pub template_driver: Option<Text>,
}

/// A secret's definition: where its content is, never what it is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
pub struct Secret {
    pub name: Option<Text>,
    pub file: Option<Text>,
    pub environment: Option<Text>,
    pub external: bool,
    pub labels: TextMap,
    pub template_driver: Option<Text>,
    pub driver: Option<Text>,
    pub driver_opts: TextMap,
    /// What stands for the file or the variable on a VM: a reference to a vault.
    #[serde(rename = "x-keyvault")]
    pub keyvault: Option<Text>,
}

/// Keys at the top of a canonical project.
const TOP: &[&str] = &["name", "services", "networks", "volumes", "configs", "secrets"];

/// Types a canonical project. Every key that has no place is a problem; so is every value of the wrong shape.
pub fn read(mut project: Value) -> Result<Canonical, Vec<Problem>> {
    unescape(&mut project);
    let mut problems = Vec::new();
    let Value::Object(mut project) = project else {
        return Err(vec![Problem::new(Rule::Unreadable, "services", "the project is empty")]);
    };
    project.retain(|key, _| !key.starts_with("x-"));
    for key in project.keys().filter(|key| !TOP.contains(&key.as_str())) {
        problems.push(Problem::new(Rule::UnknownKey, key, "an unknown key"));
    }
    let mut canonical = Canonical::default();
    for (name, service) in entries(&mut project, "services") {
        match service::read(&name, service) {
            Ok(service) => drop(canonical.services.insert(name, service)),
            Err(found) => problems.extend(found),
        }
    }
    if canonical.services.is_empty() && problems.is_empty() {
        let what = "no service is enabled; are the profiles of this app right?";
        problems.push(Problem::new(Rule::Unreadable, "services", what));
    }
    canonical.networks = definitions(&mut project, "networks", &mut problems);
    canonical.volumes = definitions(&mut project, "volumes", &mut problems);
    canonical.configs = definitions(&mut project, "configs", &mut problems);
    canonical.secrets = definitions(&mut project, "secrets", &mut problems);
    if problems.is_empty() { Ok(canonical) } else { Err(problems) }
}

fn entries(project: &mut serde_json::Map<String, Value>, key: &str) -> serde_json::Map<String, Value> {
    match project.remove(key) {
        Some(Value::Object(entries)) => entries,
        _ => serde_json::Map::new(),
    }
}

fn definitions<T: Default + serde::de::DeserializeOwned>(
    project: &mut serde_json::Map<String, Value>,
    kind: &str,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, T> {
    let mut read = BTreeMap::new();
    for (key, mut definition) in entries(project, kind) {
        strip(&mut definition);
        // `external: {name: x}` is the old form of `external: true`.
        if definition.is_null() {
            read.insert(key, T::default());
            continue;
        }
        match serde_json::from_value(definition) {
            Ok(value) => drop(read.insert(key, value)),
            Err(error) => problems.push(wrong_shape(format!("{kind}.{key}"), &error)),
        }
    }
    read
}

/// The one extension of a definition that means something to us.
const KEYVAULT: &str = "x-keyvault";

/// Other extensions mean nothing to Compose or to us, and nulls are what is not written.
fn strip(definition: &mut Value) {
    if let Value::Object(map) = definition {
        map.retain(|key, value| (!key.starts_with("x-") || key == KEYVAULT) && !value.is_null());
    }
}

/// serde's words name the unknown field; its list of all others helps nobody.
fn wrong_shape(key: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    match text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => Problem::new(Rule::UnknownKey, format!("{key}.{field}"), "an unknown key"),
        None => Problem::new(Rule::BadValue, key, text),
    }
}

fn unescape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("$$", "$"),
        Value::Array(items) => items.iter_mut().for_each(unescape),
        Value::Object(map) => {
            let entries = std::mem::take(map);
            map.extend(entries.into_iter().map(|(key, mut value)| {
                unescape(&mut value);
                (key.replace("$$", "$"), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
