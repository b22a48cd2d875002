//! What the Engine says of a container, in our own words. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, HealthConfig, HealthStatusEnum, MountPoint, PortBinding,
};

use crate::engine::{ONE_OFF, PROJECT, SERVICE, SPEC};
use crate::observed::{Check, Container, Health, Millis, RunState};

/// One container.
pub fn container(id: &str, look: ContainerInspectResponse) -> Container {
    let config = look.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let state = look.state.unwrap_or_default();
    let run = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => RunState::Created,
        Some(
            ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD | ContainerStateStatusEnum::REMOVING,
        ) => RunState::Exited { code: state.exit_code.unwrap_or(0), out_of_memory: state.oom_killed.unwrap_or(false) },
        Some(ContainerStateStatusEnum::PAUSED) => RunState::Paused,
        _ => RunState::Running,
    };
    let streak = state.health.as_ref().and_then(|h| h.failing_streak).unwrap_or(0);
    let health = match state.health.and_then(|h| h.status) {
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        // Without a failed check it only was paused, and is called so until the next check.
        Some(HealthStatusEnum::UNHEALTHY) if streak > 0 => Health::Unhealthy,
        _ => Health::Unknown,
    };
    Container {
        id: id.to_owned(),
        name: look.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        project: labels.get(PROJECT).cloned().unwrap_or_default(),
        one_off: labels.get(ONE_OFF).is_some_and(|v| v == "True"),
        service: labels.get(SERVICE).cloned().unwrap_or_default(),
        spec: labels.get(SPEC).cloned(),
        state: run,
        started_at: time(state.started_at.as_deref()),
        finished_at: time(state.finished_at.as_deref()),
        check: config.healthcheck.and_then(check),
        health,
        ports: host_ports(look.host_config.and_then(|h| h.port_bindings).unwrap_or_default()),
        unnamed_volumes: look.mounts.unwrap_or_default().into_iter().filter_map(unnamed_volume).collect(),
    }
}

/// `ip:port/proto`, as a deployment writes them.
fn host_ports(bindings: HashMap<String, Option<Vec<PortBinding>>>) -> Vec<String> {
    let mut ports = Vec::new();
    for (inside, bound) in bindings {
        let protocol = inside.rsplit_once('/').map_or("tcp", |(_, protocol)| protocol);
        for binding in bound.unwrap_or_default() {
            let Some(port) = binding.host_port.filter(|port| !matches!(port.as_str(), "" | "0")) else { continue };
            let ip = binding.host_ip.filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
            ports.push(format!("{ip}:{port}/{protocol}"));
        }
    }
    ports.sort();
    ports
}

/// Docker names a volume that nobody named with 64 hex digits.
fn unnamed_volume(mount: MountPoint) -> Option<(String, String)> {
    let name = mount.name?;
    let unnamed = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    (unnamed && mount.typ.is_some_and(|typ| typ == "volume")).then_some((mount.destination?, name))
}

/// Docker writes year 1 for "never": 0.
fn time(text: Option<&str>) -> Millis {
    text.and_then(|t| t.parse::<jiff::Timestamp>().ok()).map_or(0, |t| t.as_millisecond().max(0))
}

/// Docker's defaults where the file is silent: 30 s, 30 s, 3 (Engine API reference, `HealthConfig`).
fn check(config: HealthConfig) -> Option<Check> {
    let test = config.test?;
    let command = match test.first().map(String::as_str) {
        Some("CMD") => test[1..].to_vec(),
        Some("CMD-SHELL") => vec!["/bin/sh".to_owned(), "-c".to_owned(), test[1..].join(" ")],
        _ => return None,
    };
    let millis = |nanos: Option<i64>, default: i64| nanos.filter(|n| *n > 0).map_or(default, |n| n / 1_000_000);
    Some(Check {
        command,
        interval: millis(config.interval, 30_000),
        timeout: millis(config.timeout, 30_000),
        retries: config.retries.filter(|r| *r > 0).unwrap_or(3),
        start_period: millis(config.start_period, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_zero() {
        assert_eq!(time(Some("0001-01-01T00:00:00Z")), 0);
        assert_eq!(time(Some("1970-01-01T00:00:01.5Z")), 1500);
    }

    #[test]
    fn ports_are_written_as_a_deployment_writes_them() {
        let binding =
            |ip: &str, port: &str| PortBinding { host_ip: Some(ip.to_owned()), host_port: Some(port.to_owned()) };
        let bindings = HashMap::from([
            ("80/tcp".to_owned(), Some(vec![binding("127.0.0.1", "8080"), binding("", "81"), binding("::1", "82")])),
            ("53/udp".to_owned(), Some(vec![binding("", "")])),
            ("9/tcp".to_owned(), None),
        ]);
        assert_eq!(host_ports(bindings), ["0.0.0.0:81/tcp", "127.0.0.1:8080/tcp", "[::1]:82/tcp"]);
    }
}
