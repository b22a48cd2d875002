//! The final project: what Compose is given to create containers from, and what starts the stack without us. Pure.
//! Everything that two versions of Compose read differently is stated; everything that would make Compose reconcile is left
//! out (`depends_on`, restart policies, update settings, fixed names); nothing in it varies per release but what a service uses.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::ids::{AppName, sha256_hex};
use serde_json::{Map, Value, json};

use crate::caps::{HostContext, cores_text};
use crate::model::{Canonical, Volume};
use crate::mounts::{MountSpec, Source};
use crate::networks;
use crate::released::{PortSpec, Released, map};
use crate::spec::{NetworkSpec, VolumeSpec};
use crate::{spec_hash, unclean};

/// A service that is ready to be written.
#[derive(Debug)]
pub struct Ready<'a> {
    /// Its name.
    pub name: &'a str,
    /// In normal form.
    pub released: Released,
    /// By digest.
    pub image: String,
    /// The spec hash.
    pub spec: String,
    /// How many containers.
    pub replicas: u32,
    /// Paths that the image declares as volumes.
    pub image_volumes: Vec<String>,
}

/// The final project, and what must exist for it.
#[derive(Debug)]
pub struct FinalProject {
    /// To be written by [`crate::yaml`].
    pub value: Value,
    /// By real name.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// By real name.
    pub volumes: BTreeMap<String, VolumeSpec>,
}

/// By service: which of its keys name a namespace, and the id of the container whose it is.
pub type Joined = BTreeMap<String, (Vec<String>, String)>;

/// Puts the final project together.
pub fn assemble(app: &AppName, services: &[Ready<'_>], canonical: &Canonical, context: &HostContext) -> FinalProject {
    let mut volumes = Volumes { app, context, definitions: Map::new(), specs: BTreeMap::new() };
    let mut networks_used = BTreeSet::new();
    let mut written = Map::new();
    for service in services {
        networks_used.extend(service.released.networks.keys().map(String::as_str));
        written.insert(service.name.to_owned(), write_service(app, service, canonical, &mut volumes));
    }
    let (mut networks, mut network_specs) = (Map::new(), BTreeMap::new());
    for key in networks_used {
        let (name, spec, definition) =
            networks::define(app, key, canonical.networks.get(key), context.live_networks.get(key));
        network_specs.insert(name, spec);
        networks.insert(key.to_owned(), definition.into());
    }
    let mut project = Map::from_iter([("name".to_owned(), json!(app)), ("services".to_owned(), written.into())]);
    for (key, definitions) in [("networks", networks), ("volumes", volumes.definitions)] {
        if !definitions.is_empty() {
            project.insert(key.to_owned(), definitions.into());
        }
    }
    FinalProject { value: project.into(), networks: network_specs, volumes: volumes.specs }
}

/// The part of a final project that creates containers now: these services, so many containers of each, those that exist counted
/// in, and those that share a namespace in that of this container: by itself Compose takes the old one.
pub fn part(project: &Value, scale: &BTreeMap<String, u32>, joined: &Joined) -> Value {
    let mut part = project.clone();
    let Some(services) = part.get_mut("services").and_then(Value::as_object_mut) else { return part };
    services.retain(|name, _| scale.contains_key(name));
    for (name, service) in services {
        let (Some(count), Some(keys)) = (scale.get(name), service.as_object_mut()) else { continue };
        keys.insert("deploy".to_owned(), json!({"replicas": count}));
        if let Some((modes, id)) = joined.get(name) {
            keys.extend(modes.iter().map(|mode| (mode.clone(), json!(format!("container:{id}")))));
        }
    }
    part
}

/// The part of a final project that creates the container which repairs a service: image, user, caps, volumes and networks are
/// the service's; the words are others, nobody reaches it under the service's names, and it has no spec, so that no plan
/// takes it for a container of the release. None where the service is not in it.
pub fn repair(project: &Value, app: &str, service: &str, words: &[String]) -> Option<Value> {
    let mut part = part(project, &BTreeMap::from([(service.to_owned(), 1)]), &Joined::new());
    let services = part.get_mut("services")?.as_object_mut()?;
    let mut repair = services.remove(service)?;
    let keys = repair.as_object_mut()?;
    keys.remove("ports");
    if let Some(networks) = keys.get_mut("networks").and_then(Value::as_object_mut) {
        networks.values_mut().for_each(|attachment| *attachment = json!({}));
    }
    if let Some(labels) = keys.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove("io.landfall.spec");
    }
    keys.insert("command".to_owned(), json!(words));
    keys.insert("container_name".to_owned(), json!(unclean::repair_container(app, service)));
    keys.insert("healthcheck".to_owned(), json!({"disable": true}));
    services.insert(unclean::repair_service(service), repair);
    Some(part)
}

fn write_service(app: &AppName, service: &Ready<'_>, canonical: &Canonical, volumes: &mut Volumes<'_>) -> Value {
    let released = &service.released;
    let mut keys = released.plain.clone();
    let mut set = |key: &str, value: Value| drop(keys.insert(key.to_owned(), value));
    set("image", json!(service.image));
    set("restart", json!("no"));
    set("deploy", json!({"replicas": service.replicas}));
    set("pids_limit", json!(released.caps.pids));
    if let Some(memory) = released.caps.memory {
        // Both the same: without the second, swap would be as much again.
        set("mem_limit", json!(memory.to_string()));
        set("memswap_limit", json!(memory.to_string()));
    }
    if let Some(millicores) = released.caps.millicores {
        set("cpus", json!(cores_text(millicores)));
    }
    if let Some(slice) = &volumes.context.cgroup_parent {
        set("cgroup_parent", json!(slice));
    }
    set("logging", released.logging.clone().unwrap_or_else(|| logging(app, service.name, volumes.context.journald)));
    if !released.ports.is_empty() {
        set("ports", released.ports.iter().map(port).collect());
    }
    if !released.networks.is_empty() {
        set("networks", networks_of(released).into());
    }
    let mounts = mounts(service, canonical, volumes);
    if !mounts.is_empty() {
        set("volumes", mounts.into());
    }
    let mut labels = released.plain.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
    labels.insert("io.landfall.app".to_owned(), json!(app));
    labels.insert("io.landfall.spec".to_owned(), json!(service.spec));
    keys.insert("labels".to_owned(), labels.into());
    keys.into()
}

fn logging(app: &AppName, service: &str, journald: bool) -> Value {
    if journald {
        json!({"driver": "journald", "options": {"tag": format!("landfall/{app}/{service}")}})
    } else {
        json!({"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}})
    }
}

fn port(port: &PortSpec) -> Value {
    let mut value = json!({"mode": "ingress", "protocol": port.protocol});
    value["target"] = port.target.parse::<u16>().map_or_else(|_| json!(port.target), |target| json!(target));
    if let Some(ip) = &port.host_ip {
        value["host_ip"] = json!(ip);
    }
    if let Some(published) = &port.published {
        value["published"] = json!(published);
    }
    value
}

/// A container's former fixed name stays reachable in each of its networks.
fn networks_of(released: &Released) -> Map<String, Value> {
    let mut networks = released.networks.clone();
    let Some(name) = &released.former_name else { return networks };
    for attachment in networks.values_mut() {
        let mut aliases = attachment["aliases"].as_array().cloned().unwrap_or_default();
        if !aliases.iter().any(|alias| alias == name) {
            aliases.push(json!(name));
        }
        attachment["aliases"] = aliases.into();
    }
    networks
}

fn mounts(service: &Ready<'_>, canonical: &Canonical, volumes: &mut Volumes<'_>) -> Vec<Value> {
    let released = &service.released;
    let mut written: Vec<Value> = Vec::new();
    for mount in &released.mounts {
        written.push(match &mount.source {
            Source::Staged(content) => bind(mount, &volumes.context.layout.watcher_files().join(content)),
            Source::Ours(content) => bind(mount, &volumes.context.layout.agent_files().join(content)),
            Source::Host(path) => bind(mount, path.as_ref()),
            Source::Program => bind(mount, &volumes.context.layout.exec_program()),
            Source::Secret { set, name } => {
                let set = volumes.context.layout.secret_set(volumes.app, service.name, set);
                bind(mount, &set.join(name))
            }
            Source::LiveSecrets(directory) => {
                bind(mount, &volumes.context.layout.live_secrets(volumes.app, service.name, directory))
            }
            Source::Volume { key, nocopy, subpath } => {
                volumes.declared(key, canonical.volumes.get(key));
                let mut options = json!({"nocopy": nocopy});
                if let Some(subpath) = subpath {
                    options["subpath"] = json!(subpath);
                }
                let read_only = mount.read_only;
                json!({"type": "volume", "source": key, "target": mount.target, "read_only": read_only, "volume": options})
            }
            Source::Anonymous => volumes.unnamed(service, &mount.target, mount.read_only),
            Source::Tmpfs { size, mode } => tmpfs(mount, *size, mode.as_deref()),
        });
    }
    let covered = |path: &str| {
        let same = |other: &str| other.trim_end_matches('/') == path.trim_end_matches('/');
        let tmpfs = released.plain.get("tmpfs").and_then(Value::as_array).into_iter().flatten();
        released.mounts.iter().any(|mount| same(&mount.target))
            || tmpfs.filter_map(Value::as_str).any(|entry| same(entry.split(':').next().unwrap_or(entry)))
    };
    for path in service.image_volumes.iter().filter(|path| !covered(path)) {
        written.push(volumes.unnamed(service, path, false));
    }
    written
}

fn bind(mount: &MountSpec, source: &std::path::Path) -> Value {
    let (target, read_only) = (&mount.target, mount.read_only);
    let options = json!({"create_host_path": false});
    json!({"type": "bind", "source": source.to_string_lossy(), "target": target, "read_only": read_only, "bind": options})
}

fn tmpfs(mount: &MountSpec, size: Option<u64>, mode: Option<&str>) -> Value {
    let mut options = Map::new();
    if let Some(size) = size {
        options.insert("size".to_owned(), json!(size.to_string()));
    }
    if let Some(mode) = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()) {
        options.insert("mode".to_owned(), json!(mode));
    }
    json!({"type": "tmpfs", "target": mount.target, "read_only": mount.read_only, "tmpfs": options})
}

fn named(app: &AppName, key: &str, name: Option<&str>) -> Map<String, Value> {
    let name = name.map_or_else(|| format!("{app}_{key}"), str::to_owned);
    Map::from_iter([("name".to_owned(), json!(name))])
}

/// The volumes that the services turned out to need.
struct Volumes<'a> {
    app: &'a AppName,
    context: &'a HostContext,
    definitions: Map<String, Value>,
    specs: BTreeMap<String, VolumeSpec>,
}

impl Volumes<'_> {
    fn declared(&mut self, key: &str, volume: Option<&Volume>) {
        let volume = volume.cloned().unwrap_or_default();
        let mut definition = named(self.app, key, volume.name.as_deref());
        if let Some(driver) = &volume.driver {
            definition.insert("driver".to_owned(), json!(driver.0));
        }
        for (key, entries) in [("driver_opts", &volume.driver_opts), ("labels", &volume.labels)] {
            if !entries.is_empty() {
                definition.insert(key.to_owned(), map(entries).into());
            }
        }
        self.insert(key, definition);
    }

    /// A volume without a name gets one, so that it passes from a container to its replacement; replicas cannot share one.
    fn unnamed(&mut self, service: &Ready<'_>, path: &str, read_only: bool) -> Value {
        if service.replicas > 1 {
            return json!({"type": "volume", "target": path, "read_only": read_only, "volume": {}});
        }
        let hash = sha256_hex(path.trim_end_matches('/').as_bytes());
        let key = format!("landfall-{}-{}", service.name, &hash[..8]);
        let mut definition = named(self.app, &key, None);
        let handed = self.context.handed_volumes.get(service.name).and_then(|volumes| volumes.get(path));
        if let Some(handed) = handed.filter(|name| definition["name"] != name.as_str()) {
            definition = named(self.app, &key, Some(handed));
            definition.insert("external".to_owned(), json!(true));
        }
        self.insert(&key, definition);
        json!({"type": "volume", "source": key, "target": path, "read_only": read_only, "volume": {"nocopy": false}})
    }

    fn insert(&mut self, key: &str, definition: Map<String, Value>) {
        let name = definition["name"].as_str().unwrap_or_default().to_owned();
        // Where Docker or an older container made it, it is no other volume.
        let hash = spec_hash::of_definition(&definition);
        self.specs.insert(name, VolumeSpec { key: key.to_owned(), hash });
        self.definitions.insert(key.to_owned(), definition.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_has_the_services_volumes_and_none_of_its_names() {
        let project = json!({
            "name": "web", "volumes": {"data": {"name": "web_data"}}, "networks": {"default": {"name": "web_default"}},
            "services": {"api": {"image": "a"}, "db": {
                "image": "d", "command": ["mongod"], "user": "999", "deploy": {"replicas": 1}, "ports": [{"target": 1}],
                "networks": {"default": {"aliases": ["store"], "ipv4_address": "10.0.0.2"}}, "healthcheck": {"test": ["CMD", "x"]},
                "labels": {"io.landfall.spec": "v1:1f", "io.landfall.app": "web"}, "volumes": [{"source": "data"}],
            }},
        });
        let mut wanted = project.clone();
        wanted["services"] = json!({"landfall-repair-db": {
            "image": "d", "command": ["mongod", "--repair"], "user": "999", "deploy": {"replicas": 1},
            "networks": {"default": {}}, "healthcheck": {"disable": true}, "container_name": "web-db-repair",
            "labels": {"io.landfall.app": "web"}, "volumes": [{"source": "data"}],
        }});
        let words = ["mongod", "--repair"].map(str::to_owned);
        assert_eq!(repair(&project, "web", "db", &words), Some(wanted));
        assert_eq!(repair(&project, "web", "store", &words), None);
        assert_eq!(repair(&json!(["x"]), "web", "db", &words), None);
    }

    #[test]
    fn a_part_has_the_services_that_are_asked_for_and_all_else() {
        let project = json!({
            "name": "web", "volumes": {"data": {"name": "web_data"}},
            "services": {
                "api": {"image": "a", "deploy": {"replicas": 1}},
                "side": {"image": "s", "deploy": {"replicas": 1}, "network_mode": "service:api"},
                "store": {"image": "b", "deploy": {"replicas": 1}},
            },
        });
        let scale = |service: &str, count| BTreeMap::from([(service.to_owned(), count)]);
        let mut wanted = project.clone();
        wanted["services"] = json!({"api": {"image": "a", "deploy": {"replicas": 3}}});
        assert_eq!(part(&project, &scale("api", 3), &Joined::new()), wanted);
        let joined = Joined::from([("side".to_owned(), (vec!["network_mode".to_owned()], "1f".to_owned()))]);
        let side = json!({"image": "s", "deploy": {"replicas": 2}, "network_mode": "container:1f"});
        wanted["services"] = json!({"side": side});
        assert_eq!(part(&project, &scale("side", 2), &joined), wanted);
        // What is no project gives none, and no panic.
        assert_eq!(part(&json!(["x"]), &scale("api", 1), &Joined::new()), json!(["x"]));
    }
}
