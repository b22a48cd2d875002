//! What of a container may leave the machine, by name: whatever is not written down here does not. Variables, labels and log options are
//! names only, and of a command only its first word with a count of the rest, for command lines hold secrets. Pure.

use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};

use crate::docker::name_of;

/// Labels whose values are shown: ours and Compose's own, which no release can fill.
const LABELS: [&str; 7] = [
    "io.landfall.app",
    "io.landfall.spec",
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.compose.container-number",
    "com.docker.compose.oneoff",
    "com.docker.compose.version",
];

/// The container without values.
pub fn shown(container: &ContainerInspectResponse) -> Value {
    let (host, config) =
        (container.host_config.clone().unwrap_or_default(), container.config.clone().unwrap_or_default());
    let state = container.state.clone().unwrap_or_default();
    let health = state.health.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let mut label_names: Vec<&String> = labels.keys().collect();
    label_names.sort();
    let shown_labels: serde_json::Map<String, Value> =
        LABELS.iter().filter_map(|name| labels.get(*name).map(|value| ((*name).to_owned(), json!(value)))).collect();
    let mounts = container.mounts.clone().unwrap_or_default();
    let mounts = mounts.iter().map(|mount| {
        json!({ "type": mount.typ, "name": mount.name, "source": mount.source, "destination": mount.destination, "rw": mount.rw })
    });
    let networks = container.network_settings.clone().unwrap_or_default();
    let ports = networks.ports.map(|ports| json!(ports));
    let networks = networks.networks.unwrap_or_default();
    let networks: serde_json::Map<String, Value> =
        networks.into_iter().map(|(name, end)| (name, json!(end.ip_address))).collect();
    json!({
        "id": container.id,
        "name": name_of(container),
        "created": container.created.as_ref().map(ToString::to_string),
        "image": config.image,
        "image_id": container.image,
        "driver": container.driver,
        "state": {
            "status": state.status.map(|status| status.to_string()),
            "exit_code": state.exit_code,
            "oom_killed": state.oom_killed,
            "started_at": state.started_at,
            "finished_at": state.finished_at,
            "health": health.status.map(|status| status.to_string()),
            "failing_streak": health.failing_streak,
        },
        "restart_count": container.restart_count,
        "user": config.user,
        "stop_signal": config.stop_signal,
        "stop_timeout": config.stop_timeout,
        "environment_names": config.env.map(|all| all.iter().map(|one| name(one).to_owned()).collect::<Vec<_>>()),
        "label_names": label_names,
        "labels": shown_labels,
        "entrypoint": config.entrypoint.as_deref().map(command),
        "command": config.cmd.as_deref().map(command),
        "health_check": config.healthcheck.map(|check| json!({
            "test": check.test.as_deref().map(command), "interval": check.interval, "timeout": check.timeout,
            "start_period": check.start_period, "retries": check.retries,
        })),
        "mounts": mounts.collect::<Vec<_>>(),
        "networks": networks,
        "ports": ports,
        "host": {
            "memory": host.memory,
            "memory_swap": host.memory_swap,
            "nano_cpus": host.nano_cpus,
            "pids_limit": host.pids_limit,
            "cgroup_parent": host.cgroup_parent,
            "network_mode": host.network_mode,
            "restart_policy": host.restart_policy.map(|policy| json!(policy)),
            "log_driver": host.log_config.as_ref().and_then(|log| log.typ.clone()),
            "log_option_names": host.log_config.and_then(|log| log.config).map(|all| all.into_keys().collect::<Vec<_>>()),
            "privileged": host.privileged,
            "read_only": host.readonly_rootfs,
            "cap_add": host.cap_add,
            "cap_drop": host.cap_drop,
            "runtime": host.runtime,
        },
    })
}

/// Of `NAME=value`.
pub fn name(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

/// The program, and how many words follow. A first word with a space in it is a command line: only its own first word is a program.
fn command(words: &[String]) -> Value {
    let first = words.first().and_then(|word| word.split_whitespace().next());
    json!({ "program": first, "more_words": words.len().saturating_sub(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-0123456789";

    /// Each text in it is the canary, but for what identifies the container.
    fn container() -> ContainerInspectResponse {
        serde_json::from_value(json!({
            "Id": "abc", "Name": "/web-api-1", "Path": CANARY, "Args": [CANARY], "LogPath": CANARY,
            "State": { "Status": "exited", "ExitCode": 3, "Error": CANARY,
                       "Health": { "Status": "unhealthy", "FailingStreak": 2, "Log": [{ "ExitCode": 1, "Output": CANARY }] } },
            "HostConfig": { "Memory": 67_108_864, "Binds": [CANARY], "ExtraHosts": [CANARY], "Tmpfs": { "/x": CANARY },
                            "Annotations": { "x": CANARY }, "Sysctls": { "x": CANARY }, "StorageOpt": { "x": CANARY },
                            "SecurityOpt": [CANARY], "Dns": [CANARY],
                            "LogConfig": { "Type": "splunk", "Config": { "splunk-token": CANARY } } },
            "Config": { "Hostname": CANARY, "Domainname": CANARY, "WorkingDir": CANARY, "Image": "registry/x@sha256:0",
                        "Env": [format!("DB_PASSWORD={CANARY}"), format!("EMPTY="), "BARE".to_owned()],
                        "Cmd": ["sh", "-c", CANARY], "Entrypoint": [format!("run --token={CANARY}")],
                        "Healthcheck": { "Test": ["CMD-SHELL", CANARY] },
                        "Labels": { "io.landfall.app": "web", "note": CANARY } }
        }))
        .expect("as the Engine says it")
    }

    #[test]
    fn values_stay_and_names_go_along() {
        let shown = shown(&container());
        let text = shown.to_string();
        assert!(!text.contains(CANARY), "{text}");
        assert_eq!(shown["environment_names"], json!(["DB_PASSWORD", "EMPTY", "BARE"]));
        assert_eq!(shown["label_names"], json!(["io.landfall.app", "note"]));
        assert_eq!(shown["labels"], json!({ "io.landfall.app": "web" }));
        assert_eq!(shown["command"], json!({ "program": "sh", "more_words": 2 }));
        assert_eq!(shown["entrypoint"]["program"], "run");
        assert_eq!(shown["host"]["log_option_names"], json!(["splunk-token"]));
        assert_eq!((&shown["name"], &shown["state"]["exit_code"]), (&json!("web-api-1"), &json!(3)));
    }
}
