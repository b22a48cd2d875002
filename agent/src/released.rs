//! The normal form of a service: what is left when two texts that mean the same are the same. Both the spec hash and the final
//! compose file are made of it, so that they cannot disagree. Pure.
//!
//! Only what becomes part of a container is in it: order, restarts and replicas are the agent's own business.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::caps::Caps;
use crate::model::{Attachment, Healthcheck, Port, Service, Text, Ulimit};
use crate::mounts::MountSpec;
use crate::reading::{Reading, duration_text};

/// A service in normal form.
#[derive(Debug, Clone, PartialEq)]
pub struct Released {
    /// Compose keys that are the same here and in the final file, defaults left out.
    pub plain: Map<String, Value>,
    /// Sorted.
    pub ports: Vec<PortSpec>,
    /// By network key; empty where a namespace is shared or there is no network.
    pub networks: Map<String, Value>,
    /// Sorted by target.
    pub mounts: Vec<MountSpec>,
    /// What the file says, if it does.
    pub logging: Option<Value>,
    /// Effective.
    pub caps: Caps,
    /// `container_name`, which becomes an alias: a fixed name cannot exist twice while one container replaces another.
    pub former_name: Option<String>,
    /// From the healthcheck's absence or presence.
    pub stop_grace: Duration,
}

/// A published port with its defaults stated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSpec {
    /// Where on the host; all addresses, of both IP versions, unless said.
    pub host_ip: Option<String>,
    /// A port, a range of ports, or nothing for any free one.
    pub published: Option<String>,
    /// In the container.
    pub target: String,
    /// `tcp` unless said.
    pub protocol: String,
}

impl PortSpec {
    /// `ip:port/proto`, where a fixed port of the host is bound.
    pub fn on_host(&self) -> Option<String> {
        let published = self.published.as_ref()?;
        let ip = self.host_ip.as_deref().unwrap_or("0.0.0.0");
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        Some(format!("{ip}:{published}/{}", self.protocol))
    }
}

/// Brings a service into normal form.
pub fn release(
    service: &Service,
    mounts: Vec<MountSpec>,
    caps: Caps,
    stop_grace: Duration,
    reading: &mut Reading<'_>,
) -> Released {
    let mut ports: Vec<PortSpec> = service.ports.iter().map(port).collect();
    ports.sort();
    ports.dedup();
    let logging = service.logging.as_ref().map(|logging| {
        let driver = logging.driver.as_ref().map_or("json-file", |driver| &**driver);
        json!({"driver": driver, "options": map(&logging.options)})
    });
    let networks = service.networks.iter().map(|(name, at)| (name.clone(), attachment(at.as_ref()))).collect();
    Released {
        plain: plain(service, stop_grace, caps.memory, reading),
        ports,
        networks,
        mounts,
        logging,
        caps,
        former_name: service.container_name.as_ref().map(|name| name.0.clone()),
        stop_grace,
    }
}

fn port(port: &Port) -> PortSpec {
    let or = |value: &Option<Text>, default: &str| match value.as_deref() {
        None | Some("") => default.to_owned(),
        Some(value) => value.to_owned(),
    };
    PortSpec {
        host_ip: port.host_ip.as_ref().filter(|ip| !ip.is_empty()).map(|ip| ip.0.clone()),
        published: port.published.as_ref().filter(|p| !matches!(&***p, "" | "0")).map(|p| p.0.clone()),
        target: or(&port.target, ""),
        protocol: or(&port.protocol, "tcp"),
    }
}

fn attachment(attachment: Option<&Attachment>) -> Value {
    let Some(at) = attachment else { return json!({}) };
    let mut keys = Keys::default();
    let mut aliases = at.aliases.clone();
    aliases.sort();
    aliases.dedup();
    keys.list("aliases", &aliases);
    keys.text("ipv4_address", at.ipv4_address.as_ref());
    keys.text("ipv6_address", at.ipv6_address.as_ref());
    keys.list("link_local_ips", &at.link_local_ips);
    keys.text("mac_address", at.mac_address.as_ref());
    keys.scalar("priority", at.priority.as_ref().filter(|p| &***p != "0"));
    keys.scalar("gw_priority", at.gw_priority.as_ref().filter(|p| &***p != "0"));
    Value::Object(keys.0)
}

fn plain(service: &Service, stop_grace: Duration, cap: Option<u64>, reading: &mut Reading<'_>) -> Map<String, Value> {
    let mut keys = Keys::default();
    // An empty list is not the same as none: it clears what the image has.
    for (key, words) in [("command", &service.command), ("entrypoint", &service.entrypoint)] {
        if let Some(words) = words {
            keys.0.insert(key.to_owned(), list(words));
        }
    }
    let environment: Map<String, Value> = service
        .environment
        .iter()
        // Named without a value and not among the variables of this app: not set.
        .filter_map(|(name, value)| Some((name.clone(), Value::from(value.as_ref()?.0.clone()))))
        .collect();
    keys.map("environment", environment);
    keys.map("labels", map(&service.labels));
    let ulimits = service.ulimits.iter().map(|(name, limit)| {
        let (soft, hard) = match limit {
            Ulimit::Pair { soft, hard } => (soft, hard),
            Ulimit::Single(both) => (both, both),
        };
        (name.clone(), json!({"soft": scalar(soft), "hard": scalar(hard)}))
    });
    keys.map("ulimits", ulimits.collect());
    for (key, items) in [
        ("dns", &service.dns),
        ("dns_opt", &service.dns_opt),
        ("dns_search", &service.dns_search),
        ("extra_hosts", &service.extra_hosts),
        ("group_add", &service.group_add),
    ] {
        keys.list(key, items);
    }
    for (key, items) in [
        ("cap_drop", &service.cap_drop),
        ("expose", &service.expose),
        ("security_opt", &service.security_opt),
        ("tmpfs", &service.tmpfs),
    ] {
        let mut items = items.clone();
        items.sort();
        items.dedup();
        keys.list(key, &items);
    }
    for (key, value) in [
        ("cpuset", &service.cpuset),
        ("domainname", &service.domainname),
        ("hostname", &service.hostname),
        ("ipc", &service.ipc),
        ("mac_address", &service.mac_address),
        ("network_mode", &service.network_mode),
        ("pid", &service.pid),
        ("platform", &service.platform),
        ("stop_signal", &service.stop_signal),
        ("user", &service.user),
        ("working_dir", &service.working_dir),
    ] {
        keys.text(key, value.as_ref());
    }
    for (key, value) in [("cpu_shares", &service.cpu_shares), ("mem_swappiness", &service.mem_swappiness)] {
        keys.scalar(key, value.as_ref());
    }
    keys.scalar("oom_score_adj", service.oom_score_adj.as_ref().filter(|score| &***score != "0"));
    let reserved = service.deploy.as_ref().and_then(|d| d.resources.as_ref()).and_then(|r| r.reservations.as_ref());
    let reserved = service.mem_reservation.as_ref().or(reserved.and_then(|reserved| reserved.memory.as_ref()));
    for (key, value) in [("mem_reservation", reserved), ("shm_size", service.shm_size.as_ref())] {
        if let Some(bytes) = reading.size(key, value) {
            // A preview's cap may be smaller than what its file reserves; the Engine wants it the other way round.
            let bytes = bytes.min(cap.unwrap_or(u64::MAX));
            keys.0.insert(key.to_owned(), bytes.to_string().into());
        }
    }
    for (key, on) in [
        ("init", service.init),
        ("read_only", service.read_only),
        ("stdin_open", service.stdin_open),
        ("tty", service.tty),
    ] {
        if on {
            keys.0.insert(key.to_owned(), true.into());
        }
    }
    if stop_grace != Duration::from_secs(10) {
        keys.0.insert("stop_grace_period".to_owned(), duration_text(stop_grace).into());
    }
    if let Some(check) = &service.healthcheck {
        keys.map("healthcheck", healthcheck(check, reading));
    }
    keys.0
}

fn healthcheck(check: &Healthcheck, reading: &mut Reading<'_>) -> Map<String, Value> {
    let mut keys = Keys::default();
    let none = check.test.as_ref().is_some_and(|test| test.first().is_some_and(|word| &**word == "NONE"));
    if check.disable || none {
        keys.0.insert("disable".to_owned(), true.into());
        return keys.0;
    }
    keys.list("test", check.test.as_deref().unwrap_or_default());
    for (key, value) in [
        ("interval", &check.interval),
        ("timeout", &check.timeout),
        ("start_period", &check.start_period),
        ("start_interval", &check.start_interval),
    ] {
        let value = reading.duration(&format!("healthcheck.{key}"), value.as_ref());
        if let Some(duration) = value.filter(|duration| !duration.is_zero()) {
            keys.0.insert(key.to_owned(), duration_text(duration).into());
        }
    }
    keys.scalar("retries", check.retries.as_ref().filter(|retries| &***retries != "0"));
    keys.0
}

/// Compose keys, without those that say nothing.
#[derive(Default)]
struct Keys(Map<String, Value>);

impl Keys {
    fn text(&mut self, key: &str, value: Option<&Text>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.0.insert(key.to_owned(), value.0.clone().into());
        }
    }

    fn scalar(&mut self, key: &str, value: Option<&Text>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), scalar(value));
        }
    }

    fn list(&mut self, key: &str, items: &[Text]) {
        if !items.is_empty() {
            self.0.insert(key.to_owned(), list(items));
        }
    }

    fn map(&mut self, key: &str, entries: Map<String, Value>) {
        if !entries.is_empty() {
            self.0.insert(key.to_owned(), entries.into());
        }
    }
}

fn list(items: &[Text]) -> Value {
    items.iter().map(|item| Value::from(item.0.clone())).collect()
}

/// Names to texts.
pub(crate) fn map(entries: &crate::model::TextMap) -> Map<String, Value> {
    entries.iter().map(|(key, value)| (key.clone(), Value::from(value.0.clone()))).collect()
}

/// A whole number as a number, anything else as the text it is.
fn scalar(text: &Text) -> Value {
    text.parse::<i64>().map_or_else(|_| Value::from(text.0.clone()), Value::from)
}
