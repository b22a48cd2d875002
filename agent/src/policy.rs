//! Policy, second pass: the canonical project against what this host allows (design section 10). Keys that are refused
//! outright are in [`crate::model`]; this judges values. Bind mounts are judged where they are resolved, in [`crate::mounts`].
//! Pure. A rule here is never loosened by the release: only by landfall.yaml.

use std::net::{IpAddr, Ipv4Addr};

use landfall_core::config::{Host, Ports, Preview};
use landfall_core::ids::AppName;
use serde_json::Value;

use crate::model::{Canonical, Deploy, Network, Service, Text, TextMap, Volume};
use crate::mounts::bind_allowed;
use crate::reading::Reading;
use crate::refusal::{Problem, Rule};

/// Labels with these prefixes are not a release's to set.
const RESERVED: &[&str] = &["io.landfall.", "com.docker.compose."];
/// Options of the bridge driver that only say how this network behaves towards itself.
const BRIDGE_OPTIONS: &[&str] = &[
    "com.docker.network.driver.mtu",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
];

/// Azure's metadata service, and its `WireServer` and name server: with a network of that address the machine would ask a container.
const MACHINE: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(168, 63, 129, 16)];

/// All that this host's policy has against the project.
pub fn judge(project: &Canonical, app: &AppName, preview: Option<&Preview>, host: &Host) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, service) in &project.services {
        let mut reading = Reading::of(name);
        judge_service(service, host, &mut reading);
        if let Some(preview) = preview {
            judge_preview(service, preview, &mut reading);
        }
        problems.append(&mut reading.problems);
    }
    for (key, network) in &project.networks {
        judge_network(key, network, app, &mut problems);
    }
    for (key, volume) in &project.volumes {
        judge_volume(key, volume, app, host, &mut problems);
    }
    for (key, config) in &project.configs {
        if config.external || config.template_driver.is_some() {
            let key = format!("configs.{key}");
            problems.push(Problem::new(Rule::NotSupported, key, "a config that is not in the project"));
        }
    }
    problems
}

fn judge_service(service: &Service, host: &Host, reading: &mut Reading<'_>) {
    for (key, mode) in
        [("network_mode", &service.network_mode), ("ipc", &service.ipc), ("pid", &service.pid), ("uts", &service.uts)]
    {
        judge_namespace(key, mode.as_ref(), reading);
    }
    if let Some(mode) = service.userns_mode.as_ref().filter(|mode| !mode.is_empty()) {
        reading.problem(Rule::Userns, "userns_mode", format!("the user namespace `{mode}`"));
    }
    for option in &service.security_opt {
        if !matches!(&**option, "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true") {
            reading.problem(Rule::SecurityOpt, "security_opt", format!("`{option}`"));
        }
    }
    if service.oom_score_adj.as_ref().is_some_and(|score| score.starts_with('-')) {
        reading.problem(Rule::OomKill, "oom_score_adj", "the kernel would rather kill the host's own programs");
    }
    if service.pull_policy.as_deref().is_some_and(|policy| policy == "build") {
        reading.problem(Rule::Build, "pull_policy", "the image would be built on this host");
    }
    judge_labels("labels", &service.labels, |key, what| reading.problem(Rule::ReservedLabel, key, what));
    for port in &service.ports {
        let open = port.host_ip.as_deref().unwrap_or_default();
        let loopback = open == "localhost" || open.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if host.publish_loopback_only && !loopback {
            let target = port.target.as_deref().unwrap_or_default();
            let open = if open.is_empty() { "all addresses" } else { open };
            reading.problem(Rule::Loopback, "ports", format!("port {target} would be published on {open}"));
        }
        if port.mode.as_deref().is_some_and(|mode| mode != "ingress" && mode != "host") {
            reading.problem(Rule::BadValue, "ports.mode", "expected `ingress` or `host`");
        }
    }
    for (network, attachment) in &service.networks {
        let Some(attachment) = attachment else { continue };
        if !attachment.driver_opts.is_empty() || attachment.interface_name.is_some() {
            reading.problem(Rule::NetworkOption, &format!("networks.{network}"), "options of the network driver");
        }
    }
    if let Some(deploy) = &service.deploy {
        judge_deploy(deploy, reading);
    }
}

/// Beside others of its kind: a port that stands in the compose file as a number can be had by one of them only.
fn judge_preview(service: &Service, preview: &Preview, reading: &mut Reading<'_>) {
    for port in &service.ports {
        let text = port.published.as_deref().unwrap_or_default();
        // The Engine takes one that is free.
        if text.is_empty() || text == "0" {
            continue;
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let range = from.parse::<u16>().ok().zip(to.parse::<u16>().ok());
        let what = match preview.ports {
            Ports::Block(least, most) if range.is_some_and(|(from, to)| least <= from && to <= most) => continue,
            Ports::Block(least, most) => format!("port {text} is not of this preview, which has {least}-{most}"),
            Ports::None | Ports::AllTaken(_) => format!("port {text}, and this preview has none"),
        };
        reading.problem(Rule::PreviewPort, "ports", what);
    }
}

fn judge_namespace(key: &str, mode: Option<&Text>, reading: &mut Reading<'_>) {
    let Some(mode) = mode.filter(|mode| !mode.is_empty()) else { return };
    match (&**mode, key) {
        ("host", _) => reading.problem(Rule::HostNamespace, key, "shares a namespace with the host"),
        ("none", _) | ("private" | "shareable", "ipc") => {}
        (other, "network_mode" | "ipc" | "pid") if other.starts_with("service:") => {}
        (other, "network_mode" | "ipc" | "pid") if other.starts_with("container:") => {
            reading.problem(Rule::ForeignNamespace, key, format!("`{other}`: shares a namespace with a container"));
        }
        (other, "network_mode") => {
            reading.problem(Rule::ForeignNetwork, key, format!("`{other}` is a network of Docker or of others"));
        }
        (other, _) => reading.problem(Rule::NotSupported, key, format!("`{other}`")),
    }
}

fn judge_labels(key: &str, labels: &TextMap, mut problem: impl FnMut(&str, String)) {
    for label in labels.keys().filter(|label| RESERVED.iter().any(|prefix| label.starts_with(prefix))) {
        problem(key, format!("the label `{label}` is reserved"));
    }
}

fn judge_deploy(deploy: &Deploy, reading: &mut Reading<'_>) {
    if deploy.mode.as_deref().is_some_and(|mode| mode != "replicated") {
        reading.problem(Rule::NotSupported, "deploy.mode", "only `replicated` makes sense on one machine");
    }
    let given = |value: &Option<Value>| value.as_ref().is_some_and(|v| v.as_object().is_none_or(|map| !map.is_empty()));
    for (key, there) in [
        ("deploy.endpoint_mode", deploy.endpoint_mode.is_some()),
        ("deploy.placement", given(&deploy.placement)),
        ("deploy.rollback_config", given(&deploy.rollback_config)),
    ] {
        if there {
            reading.problem(Rule::NotSupported, key, "a setting for a cluster");
        }
    }
    let Some(reservations) = deploy.resources.as_ref().and_then(|resources| resources.reservations.as_ref()) else {
        return;
    };
    if !reservations.devices.is_empty() || !reservations.generic_resources.is_empty() {
        reading.problem(Rule::Devices, "deploy.resources.reservations", "devices of the host");
    }
}

fn judge_network(key: &str, network: &Network, app: &AppName, problems: &mut Vec<Problem>) {
    let mut problem = |rule, part: &str, what: String| {
        let key = if part.is_empty() { format!("networks.{key}") } else { format!("networks.{key}.{part}") };
        problems.push(Problem::new(rule, key, what));
    };
    if network.external || !is_own(network.name.as_ref(), app) {
        problem(Rule::ForeignNetwork, "", foreign(network.name.as_ref(), app));
    }
    if let Some(driver) = network.driver.as_ref().filter(|driver| &***driver != "bridge") {
        problem(Rule::NetworkDriver, "driver", format!("the driver `{driver}`"));
    }
    for option in network.driver_opts.keys().filter(|option| !BRIDGE_OPTIONS.contains(&option.as_str())) {
        problem(Rule::NetworkOption, "driver_opts", format!("the option `{option}`"));
    }
    if let Some(ipam) = &network.ipam
        && (ipam.driver.as_deref().is_some_and(|driver| driver != "default") || !ipam.options.is_empty())
    {
        problem(Rule::NetworkOption, "ipam", "a driver or options for address management".to_owned());
    }
    for subnet in network.ipam.iter().flat_map(|ipam| &ipam.config).filter_map(|pool| pool.subnet.as_deref()) {
        if let Some(taken) = MACHINE.iter().find(|address| covers(subnet, **address)) {
            problem(
                Rule::NetworkOption,
                "ipam",
                format!("the subnet `{subnet}` covers {taken}, where the machine asks its cloud"),
            );
        }
    }
    judge_labels("labels", &network.labels, |part, what| problem(Rule::ReservedLabel, part, what));
}

/// Whether an IPv4 network has this address. One that is none is for the Engine to refuse.
fn covers(subnet: &str, address: Ipv4Addr) -> bool {
    let Some((network, bits)) = subnet.split_once('/') else { return false };
    let (Ok(network), Ok(bits @ 0..=32)) = (network.parse::<Ipv4Addr>(), bits.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    network.to_bits() & mask == address.to_bits() & mask
}

fn judge_volume(key: &str, volume: &Volume, app: &AppName, host: &Host, problems: &mut Vec<Problem>) {
    let mut problem = |rule, part: &str, what: String| {
        let key = if part.is_empty() { format!("volumes.{key}") } else { format!("volumes.{key}.{part}") };
        problems.push(Problem::new(rule, key, what));
    };
    if volume.external || !is_own(volume.name.as_ref(), app) {
        problem(Rule::ForeignVolume, "", foreign(volume.name.as_ref(), app));
    }
    if let Some(driver) = volume.driver.as_ref().filter(|driver| &***driver != "local") {
        problem(Rule::VolumeDriver, "driver", format!("the driver `{driver}`"));
    }
    if let Some(what) = forbidden_options(&volume.driver_opts, host) {
        problem(Rule::VolumeDriver, "driver_opts", what);
    }
    judge_labels("labels", &volume.labels, |part, what| problem(Rule::ReservedLabel, part, what));
}

/// What a volume's driver options mount, unless it is memory or a path that the host allows.
fn forbidden_options(options: &TextMap, host: &Host) -> Option<String> {
    if options.is_empty() {
        return None;
    }
    if let Some(odd) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
        return Some(format!("the option `{odd}`"));
    }
    let text = |key: &str| options.get(key).map_or("", |value| &**value);
    let (kind, device) = (text("type"), text("device"));
    let mut flags = text("o").split(',').map(str::trim).filter(|flag| !flag.is_empty());
    // By allow-list: with `bind` among the flags the kernel ignores the type, and a relative device is one of the host's root.
    if kind == "tmpfs" && device == "tmpfs" && flags.clone().all(is_tmpfs_flag) {
        return None;
    }
    let binds = matches!(kind, "" | "none" | "bind") && flags.all(|flag| matches!(flag, "bind" | "ro" | "rw"));
    if binds && bind_allowed(device, host) {
        return None;
    }
    Some(format!("it mounts `{device}` (type `{kind}`, options `{}`)", text("o")))
}

fn is_tmpfs_flag(flag: &str) -> bool {
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    matches!(name, "size" | "mode" | "uid" | "gid" | "nr_inodes" | "noexec" | "nosuid" | "nodev" | "ro" | "rw")
}

/// Whether a real name belongs to this project: nobody else's project can have a name with this beginning, because app names
/// have no underscore.
fn is_own(name: Option<&Text>, app: &AppName) -> bool {
    name.is_none_or(|name| name.starts_with(&format!("{app}_")))
}

fn foreign(name: Option<&Text>, app: &AppName) -> String {
    let name = name.map_or("", |name| &**name);
    format!("`{name}` is not of this project (its own names begin with `{app}_`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_subnet_covers() {
        let [imds, wireserver] = MACHINE;
        for (subnet, address, covered) in [
            ("169.254.169.0/24", imds, true),
            ("169.254.0.0/16", imds, true),
            ("169.254.169.254/32", imds, true),
            ("0.0.0.0/0", imds, true),
            ("169.254.168.0/24", imds, false),
            ("168.63.129.16/28", wireserver, true),
            ("172.28.0.0/16", wireserver, false),
            ("fd00::/8", imds, false),
            ("169.254.0.0/33", imds, false),
            ("169.254.0.0", imds, false),
        ] {
            assert_eq!(covers(subnet, address), covered, "{subnet} {address}");
        }
    }
}
