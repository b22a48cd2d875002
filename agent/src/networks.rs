//! The project's networks. Pure. Docker cannot change a network, and Compose either ignores the change (2.26) or stops what is on
//! it and fails (5.x); so a changed definition is another network under another name, made beside the old one, and the services
//! on it are replaced like any other change. The old network stays as long as there is a way back to it.

use landfall_core::ids::AppName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model::Network;
use crate::released::map;
use crate::spec::NetworkSpec;
use crate::spec_hash;

/// How many digits of the definition's hash a name gets.
const NAME_DIGITS: usize = 8;

/// A network that is in use: its name and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveNetwork {
    /// Its real name.
    pub name: String,
    /// [`NetworkSpec::hash`].
    pub hash: String,
}

/// A network's real name, its identity, and its definition in the final file. What is live under this key and the same keeps its name.
pub fn define(
    app: &AppName,
    key: &str,
    network: Option<&Network>,
    live: Option<&LiveNetwork>,
) -> (String, NetworkSpec, Map<String, Value>) {
    let mut definition = network.map(definition).unwrap_or_default();
    let plain = format!("{app}_{key}");
    let written = network.and_then(|n| n.name.as_deref()).filter(|name| *name != plain);
    if let Some(name) = written {
        // The author's own name is part of what the network is, and never changed by us.
        definition.insert("name".to_owned(), json!(name));
    }
    let hash = spec_hash::of_definition(&definition);
    let name = match (written, live) {
        (Some(name), _) => name.to_owned(),
        (None, None) => plain,
        (None, Some(live)) if live.hash == hash => live.name.clone(),
        (None, Some(_)) => {
            let digits = hash.rsplit(':').next().unwrap_or(&hash);
            format!("{plain}_{}", &digits[..NAME_DIGITS.min(digits.len())])
        }
    };
    definition.insert("name".to_owned(), json!(name));
    (name, NetworkSpec { key: key.to_owned(), hash }, definition)
}

/// What a network is, without its name; empty for one that is all defaults.
pub fn definition(network: &Network) -> Map<String, Value> {
    let mut definition = Map::new();
    let mut set = |key: &str, value: Value| drop(definition.insert(key.to_owned(), value));
    if let Some(driver) = &network.driver {
        set("driver", json!(driver.0));
    }
    for (key, entries) in [("driver_opts", &network.driver_opts), ("labels", &network.labels)] {
        if !entries.is_empty() {
            set(key, map(entries).into());
        }
    }
    for (key, on) in [("internal", network.internal), ("attachable", network.attachable)] {
        if on {
            set(key, json!(true));
        }
    }
    for (key, on) in [("enable_ipv4", network.enable_ipv4), ("enable_ipv6", network.enable_ipv6)] {
        if let Some(on) = on {
            set(key, json!(on));
        }
    }
    let pools = network.ipam.iter().flat_map(|ipam| &ipam.config).map(|pool| {
        let mut written = Map::new();
        for (key, value) in [("subnet", &pool.subnet), ("ip_range", &pool.ip_range), ("gateway", &pool.gateway)] {
            if let Some(value) = value {
                written.insert(key.to_owned(), json!(value.0));
            }
        }
        if !pool.aux_addresses.is_empty() {
            written.insert("aux_addresses".to_owned(), map(&pool.aux_addresses).into());
        }
        Value::Object(written)
    });
    let pools: Vec<Value> = pools.collect();
    if !pools.is_empty() {
        set("ipam", json!({"config": pools}));
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_changed_definition_changes_the_name() {
        let app: AppName = "web".parse().unwrap();
        let live = |name: &str, hash: &str| LiveNetwork { name: name.to_owned(), hash: hash.to_owned() };
        let (plain, spec, _) = define(&app, "default", None, None);
        assert_eq!(plain, "web_default");
        let inside = Network { internal: true, ..Network::default() };
        let (other, changed, definition) = define(&app, "default", Some(&inside), Some(&live(&plain, &spec.hash)));
        assert!(other.starts_with("web_default_") && definition["name"] == other.as_str(), "{other}");
        assert_ne!(changed.hash, spec.hash);
        // The same again keeps the name, and the way back to the old definition is another name still.
        assert_eq!(define(&app, "default", Some(&inside), Some(&live(&other, &changed.hash))).0, other);
        assert_ne!(define(&app, "default", None, Some(&live(&other, &changed.hash))).0, other);
        let named = Network { name: Some("web_own".into()), internal: true, ..Network::default() };
        assert_eq!(define(&app, "default", Some(&named), Some(&live("web_own", "v1:0"))).0, "web_own");
    }
}
