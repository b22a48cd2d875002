//! The identity of a service's container: label `io.landfall.spec`. Equal means: nothing to replace. A contract (a golden of
//! hashes fails when one moves): `v1:` and the hex sha256 of canonical JSON (keys sorted, no null, no defaults) of the service as
//! released, its effective caps, its image digest and the digests of its files.
//!
//! Never in it: what this machine adds at run time (log driver, cgroup, our paths), what the agent alone acts on (order,
//! restarts, replicas), Compose's own hash, or Compose's text.

use landfall_core::ids::sha256_hex;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::mounts::MountSpec;
use crate::mounts::Source;
use crate::released::Released;

/// The scheme's version.
pub const VERSION: &str = "v1";

/// The spec of a service with its image by digest. `networks`: what its networks are, by key, where they are not all defaults.
pub fn of_service(released: &Released, image: &str, networks: &Map<String, Value>) -> String {
    let ports: Vec<Value> = released
        .ports
        .iter()
        .map(|p| json!({"ip": p.host_ip, "published": p.published, "target": p.target, "protocol": p.protocol}))
        .collect();
    let mounts: Vec<Value> = released.mounts.iter().map(mount).collect();
    let digest = image.rsplit_once('@').map_or(image, |(_, digest)| digest);
    of_value(&json!({
        "keys": released.plain,
        "ports": ports,
        "networks": released.networks,
        "network_definitions": (!networks.is_empty()).then_some(networks),
        "mounts": mounts,
        "logging": released.logging,
        "caps": released.caps,
        "name": released.former_name,
        "image": digest,
    }))
}

/// The hash of a definition: of a network or a volume.
pub fn of_definition(definition: &Map<String, Value>) -> String {
    of_value(&Value::Object(definition.clone()))
}

fn of_value<T: Serialize>(value: &T) -> String {
    // A `Value`'s maps are sorted, and its numbers have one form.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    prune(&mut value);
    format!("{VERSION}:{}", sha256_hex(value.to_string().as_bytes()))
}

/// Both stores hold content, and a bundle's file is the same file wherever it lies.
fn mount(mount: &MountSpec) -> Value {
    let source = match &mount.source {
        Source::Staged(content) | Source::Ours(content) => json!({"content": content}),
        Source::Host(path) => json!({"host": path}),
        // A rotation is another set, and so another container.
        Source::Secret { set, name } => json!({"secret": name, "set": set}),
        Source::LiveSecrets(directory) => json!({"live_secrets": directory}),
        Source::Program => json!({"program": "landfall-exec"}),
        Source::Volume { key, nocopy, subpath } => {
            json!({"volume": key, "nocopy": nocopy.then_some(true), "subpath": subpath})
        }
        Source::Anonymous => json!({"anonymous": true}),
        Source::Tmpfs { size, mode } => json!({"tmpfs": true, "size": size, "mode": mode}),
    };
    json!({"target": mount.target, "read_only": mount.read_only.then_some(true), "source": source})
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| !value.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
