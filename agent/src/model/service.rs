//! One service, as `docker compose config` writes it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::text::{Text, TextMap};
use super::{strip, wrong_shape};
use crate::refusal::{Problem, Rule};

/// A service of the canonical project.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the Compose Specification's own words")]
#[expect(clippy::struct_excessive_bools, reason = "the Compose Specification has them")]
pub struct Service {
    pub attach: Option<bool>,
    pub cap_drop: Vec<Text>,
    pub command: Option<Vec<Text>>,
    pub configs: Vec<ConfigUse>,
    pub container_name: Option<Text>,
    pub cpu_shares: Option<Text>,
    pub cpus: Option<Text>,
    pub cpuset: Option<Text>,
    pub depends_on: BTreeMap<String, DependsOn>,
    pub deploy: Option<Deploy>,
    pub dns: Vec<Text>,
    pub dns_opt: Vec<Text>,
    pub dns_search: Vec<Text>,
    pub domainname: Option<Text>,
    pub entrypoint: Option<Vec<Text>>,
    pub environment: BTreeMap<String, Option<Text>>,
    pub expose: Vec<Text>,
    pub extra_hosts: Vec<Text>,
    pub group_add: Vec<Text>,
    pub healthcheck: Option<Healthcheck>,
    pub hostname: Option<Text>,
    pub image: Option<Text>,
    pub init: bool,
    pub ipc: Option<Text>,
    pub labels: TextMap,
    pub logging: Option<Logging>,
    pub mac_address: Option<Text>,
    pub mem_limit: Option<Text>,
    pub mem_reservation: Option<Text>,
    pub mem_swappiness: Option<Text>,
    pub memswap_limit: Option<Text>,
    pub network_mode: Option<Text>,
    pub networks: BTreeMap<String, Option<Attachment>>,
    pub oom_score_adj: Option<Text>,
    pub pid: Option<Text>,
    pub pids_limit: Option<Text>,
    pub platform: Option<Text>,
    pub ports: Vec<Port>,
    pub profiles: Vec<Text>,
    pub pull_policy: Option<Text>,
    pub read_only: bool,
    pub restart: Option<Text>,
    pub scale: Option<Text>,
    pub secrets: Vec<SecretUse>,
    pub security_opt: Vec<Text>,
    pub shm_size: Option<Text>,
    pub stdin_open: bool,
    pub stop_grace_period: Option<Text>,
    pub stop_signal: Option<Text>,
    pub tmpfs: Vec<Text>,
    pub tty: bool,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub user: Option<Text>,
    pub userns_mode: Option<Text>,
    pub uts: Option<Text>,
    pub volumes: Vec<Mount>,
    pub working_dir: Option<Text>,
    #[serde(skip)]
    pub landfall: LandfallKeys,
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[expect(missing_docs, reason = "the Compose Specification's own words")]
        pub struct $name { $(pub $field: $type,)* }
    )*};
}

shapes! {
    /// `x-landfall`.
    LandfallKeys { run: Option<Text>, rollback: Option<Text>, secrets_env: Vec<Text>, health: Option<Text>, on_rotate: Option<Text>, unclean: Option<UncleanKeys>, }
    /// `x-landfall.unclean`.
    UncleanKeys { file: Option<Text>, then: Option<Text>, repair: Vec<Text>, within: Option<Text>, }
    /// An edge of `depends_on`.
    DependsOn { condition: Option<Text>, required: Option<bool>, restart: bool, }
    /// `healthcheck`.
    Healthcheck {
        test: Option<Vec<Text>>, interval: Option<Text>, timeout: Option<Text>, retries: Option<Text>,
        start_period: Option<Text>, start_interval: Option<Text>, disable: bool,
    }
    /// `logging`.
    Logging { driver: Option<Text>, options: TextMap, }
    /// An entry of `ports`.
    Port {
        name: Option<Text>, mode: Option<Text>, host_ip: Option<Text>, target: Option<Text>, published: Option<Text>,
        protocol: Option<Text>, app_protocol: Option<Text>,
    }
    /// An entry of `volumes`.
    Mount {
        r#type: Text, source: Option<Text>, target: Text, read_only: bool, consistency: Option<Text>,
        bind: Option<BindOptions>, volume: Option<VolumeOptions>, tmpfs: Option<TmpfsOptions>,
    }
    /// `volumes[].bind`.
    BindOptions {
        create_host_path: Option<bool>, propagation: Option<Text>, selinux: Option<Text>, recursive: Option<Text>,
    }
    /// `volumes[].volume`.
    VolumeOptions { nocopy: bool, subpath: Option<Text>, labels: TextMap, }
    /// `volumes[].tmpfs`.
    TmpfsOptions { size: Option<Text>, mode: Option<Text>, }
    /// An entry of `configs`.
    ConfigUse { source: Text, target: Option<Text>, uid: Option<Text>, gid: Option<Text>, mode: Option<Text>, }
    /// An entry of `secrets`.
    SecretUse { source: Text, target: Option<Text>, uid: Option<Text>, gid: Option<Text>, mode: Option<Text>, }
    /// An entry of `networks`.
    Attachment {
        aliases: Vec<Text>, ipv4_address: Option<Text>, ipv6_address: Option<Text>, link_local_ips: Vec<Text>,
        mac_address: Option<Text>, priority: Option<Text>, gw_priority: Option<Text>, interface_name: Option<Text>,
        driver_opts: TextMap,
    }
    /// `deploy`.
    Deploy {
        mode: Option<Text>, replicas: Option<Text>, labels: TextMap, endpoint_mode: Option<Text>,
        resources: Option<Resources>, restart_policy: Option<RestartPolicyKeys>, update_config: Option<UpdateConfig>,
        rollback_config: Option<Value>, placement: Option<Value>,
    }
    /// `deploy.resources`.
    Resources { limits: Option<Limits>, reservations: Option<Reservations>, }
    /// `deploy.resources.limits`.
    Limits { cpus: Option<Text>, memory: Option<Text>, pids: Option<Text>, }
    /// `deploy.resources.reservations`.
    Reservations {
        cpus: Option<Text>, memory: Option<Text>, pids: Option<Text>, devices: Vec<DeviceReservation>,
        generic_resources: Vec<Value>,
    }
    /// `deploy.restart_policy`.
    RestartPolicyKeys {
        condition: Option<Text>, delay: Option<Text>, max_attempts: Option<Text>, window: Option<Text>,
    }
    /// `deploy.update_config`.
    UpdateConfig {
        order: Option<Text>, parallelism: Option<Text>, delay: Option<Text>, monitor: Option<Text>,
        failure_action: Option<Text>, max_failure_ratio: Option<Text>,
    }
}

/// A reserved device: refused whatever it says.
pub type DeviceReservation = Value;

/// `ulimits.NAME`: one number, or two.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Ulimit {
    /// Soft and hard, apart.
    Pair {
        /// What a process starts with.
        soft: Text,
        /// What it can be raised to.
        hard: Text,
    },
    /// Both at once.
    Single(Text),
}

/// Keys that the Specification has and this host does not give: which rule, and what is said.
const REFUSED: &[(&str, Rule, &str)] = &[
    ("annotations", Rule::NotSupported, "annotations for the container's runtime"),
    ("blkio_config", Rule::NotSupported, "I/O weights"),
    ("build", Rule::Build, "the image would be built on this host"),
    ("cap_add", Rule::CapAdd, "added capabilities"),
    ("cgroup", Rule::Cgroup, "a choice of cgroup namespace"),
    ("cgroup_parent", Rule::Cgroup, "a choice of cgroup"),
    ("cpu_count", Rule::NotSupported, "a Windows key"),
    ("cpu_percent", Rule::NotSupported, "a Windows key"),
    ("cpu_period", Rule::NotSupported, "another form of `cpus`"),
    ("cpu_quota", Rule::NotSupported, "another form of `cpus`"),
    ("cpu_rt_period", Rule::NotSupported, "real-time scheduling"),
    ("cpu_rt_runtime", Rule::NotSupported, "real-time scheduling"),
    ("credential_spec", Rule::NotSupported, "a Windows key"),
    ("develop", Rule::Build, "instructions for a developer's machine"),
    ("device_cgroup_rules", Rule::Devices, "access to devices of the host"),
    ("devices", Rule::Devices, "devices of the host"),
    ("external_links", Rule::ForeignNamespace, "links to containers of others"),
    ("gpus", Rule::Devices, "GPUs of the host"),
    ("isolation", Rule::NotSupported, "a Windows key"),
    (
        "links",
        Rule::NotSupported,
        "links; services of a network find each other by name, and `networks.NAME.aliases` adds more",
    ),
    ("models", Rule::NotSupported, "models"),
    ("oom_kill_disable", Rule::OomKill, "the kernel may not kill it when memory runs out"),
    ("post_start", Rule::Hook, "a lifecycle hook"),
    ("post_stop", Rule::Hook, "a lifecycle hook"),
    ("pre_start", Rule::Hook, "a lifecycle hook"),
    ("pre_stop", Rule::Hook, "a lifecycle hook"),
    ("privileged", Rule::Privileged, "the container would own the machine"),
    ("provider", Rule::Provider, "a provider is a program that Compose runs on the host"),
    ("runtime", Rule::Runtime, "a choice of container runtime"),
    ("storage_opt", Rule::NotSupported, "options of the storage driver"),
    ("sysctls", Rule::Sysctls, "kernel parameters"),
    ("use_api_socket", Rule::UseApiSocket, "the Docker socket would be in the container"),
    ("volumes_from", Rule::VolumesFrom, "the volumes of another container"),
];

pub(super) fn read(name: &str, service: Value) -> Result<Service, Vec<Problem>> {
    let Value::Object(mut keys) = service else {
        return Err(vec![Problem::new(Rule::BadValue, name, "the service is empty").of(name)]);
    };
    let mut problems = Vec::new();
    let landfall = keys.remove("x-landfall");
    let mut keys = {
        keys.retain(|key, value| !key.starts_with("x-") && !value.is_null());
        keys
    };
    for (key, rule, what) in REFUSED {
        if keys.remove(*key).is_some_and(|value| asks(&value)) {
            problems.push(Problem::new(*rule, *key, what).of(name));
        }
    }
    if let Some(Value::Object(deploy)) = keys.get_mut("deploy") {
        deploy.retain(|key, value| !key.starts_with("x-") && !value.is_null());
    }
    let mut service = match serde_json::from_value(Value::Object(keys)) {
        Ok(service) => service,
        Err(error) => {
            problems.push(shape_of_service(&error).of(name));
            Service::default()
        }
    };
    match read_landfall(landfall) {
        Ok(keys) => service.landfall = keys,
        Err(problem) => problems.push(problem.of(name)),
    }
    if problems.is_empty() { Ok(service) } else { Err(problems) }
}

fn shape_of_service(error: &serde_json::Error) -> Problem {
    let mut problem = wrong_shape("service".to_owned(), error);
    if let Some(key) = problem.key.strip_prefix("service.") {
        problem.key = key.to_owned();
    }
    problem
}

fn read_landfall(keys: Option<Value>) -> Result<LandfallKeys, Problem> {
    let Some(mut keys) = keys.filter(|keys| !keys.is_null()) else { return Ok(LandfallKeys::default()) };
    strip(&mut keys);
    serde_json::from_value(keys).map_err(|error| {
        let mut problem = wrong_shape("x-landfall".to_owned(), &error);
        if problem.rule == Rule::UnknownKey {
            problem = Problem::new(Rule::NotSupported, problem.key, "not supported by this version");
        }
        problem
    })
}

/// Whether a value asks for anything: `false`, an empty text and an empty list do not.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(_) => true,
        Value::String(text) => !matches!(text.as_str(), "" | "false"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
