//! What a stack can look like beyond plain services: a shared namespace, a network whose definition changes, replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use landfall_core::ids::ReleaseId;
use landfall_core::protocol::HistoryEvent;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::{eventually, throughout};
use serde_json::json;

const API: &str = "  api:\n";
const SIDECAR: &str = "  sidecar:
    image: registry.example/sample/base:1
    command: [\"proxy\", \"/etc/proxy.conf\"]
    volumes: [\"./proxy.conf:/etc/proxy.conf:ro\"]
    network_mode: service:api
    healthcheck:
      test: [\"CMD\", \"/landfall-sample\", \"probe\", \"http://127.0.0.1:8080/health\"]
      interval: 1s
      timeout: 1s
    deploy:
      resources: { limits: { memory: 32M } }
      update_config: { monitor: 1s }

  api:
";

/// How long nothing more may be told: several tries fall into it.
const TRIES: Duration = Duration::from_secs(8);

/// Its health check asks the api, through the network that they share.
#[test]
fn a_sidecar_is_replaced_with_the_service_whose_network_it_shares() {
    on_a_vm("sidecar", |vm| {
        let sidecar = SIDECAR.replace("registry.example", vm.registry.address());
        vm.project.edit("compose.yaml", API, &sidecar)?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        let app = vm.app.to_string();
        let v1 = vm.engine.serving_ids(&app)?;
        joined(vm, &v1)?;

        let v2 = vm.publish_version("v2", &[])?;
        vm.live(&v2)?;
        let ids = vm.engine.serving_ids(&app)?;
        ensure!(ids["api"] != v1["api"] && ids["sidecar"] != v1["sidecar"], "both are new: {ids:?}");
        ensure!(ids["proxy"] == v1["proxy"] && ids["store"] == v1["store"], "the others are not: {ids:?}");
        joined(vm, &ids)?;

        // Taken back together.
        let seq = vm.last_seq()?;
        vm.publish_version("v3", &[("MODE", "never-healthy")])?;
        vm.recorded(seq, HistoryEvent::RolledBack, None)?;
        vm.serves(&v2)?;
        assert_eq!(vm.engine.serving_ids(&app)?, ids);
        joined(vm, &ids)?;

        // The api crashes: its network is new, and the sidecar must not stay in the dead one.
        let began = started(vm, &ids["sidecar"])?;
        vm.engine.kill(&ids["api"])?;
        eventually(SOON, "the sidecar is started after the api", || {
            let again = started(vm, &ids["sidecar"])?;
            ensure!(again > began && again > started(vm, &ids["api"])?, "started at {again}");
            Ok(())
        })?;
        vm.serves(&v2)
    });
}

fn joined(vm: &Vm, ids: &BTreeMap<String, String>) -> Result<()> {
    let mode = vm.engine.inspect(&ids["sidecar"])?["HostConfig"]["NetworkMode"].clone();
    ensure!(mode == format!("container:{}", ids["api"]), "the sidecar is in {mode}");
    Ok(())
}

fn started(vm: &Vm, id: &str) -> Result<String> {
    Ok(vm.engine.inspect(id)?["State"]["StartedAt"].as_str().context("no `StartedAt`")?.to_owned())
}

#[test]
fn a_changed_network_is_made_beside_the_old_one_which_goes_after_probation() {
    on_a_vm("network", |vm| {
        vm.restart_agent_with_probation(Duration::from_secs(4))?;
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let old = networks(vm)?;

        vm.project.edit(
            "compose.yaml",
            "volumes:\n  data",
            "networks:\n  default: { labels: { tier: gold } }\n\nvolumes:\n  data",
        )?;
        let release = vm.publish()?;
        vm.recorded(0, HistoryEvent::Live, Some(&release))?;
        vm.serves(&v1)?;
        let after = vm.engine.serving_ids(&app)?;
        for service in ["api", "proxy", "store"] {
            ensure!(before[service] != after[service], "{service} is on the old network");
        }
        eventually(SOON, "the old network is gone, the new one serves", || {
            let now = networks(vm)?;
            ensure!(now.len() == 1 && now != old, "{now:?}, before it was {old:?}");
            Ok(())
        })?;
        vm.serves(&v1)?;

        // The same again is no change, and a release on it keeps its network.
        let new = networks(vm)?;
        vm.live(&vm.publish_version("v2", &[])?)?;
        assert_eq!(networks(vm)?, new);
        Ok(())
    });
}

/// What passes every check and cannot be created, for its addresses are somebody else's: told once, tried again, and made when it can be.
#[test]
fn a_network_whose_addresses_are_taken_is_made_when_they_are_free() {
    on_a_vm("taken", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let [high, low] = vm.port().to_be_bytes();
        let subnet = format!("10.{high}.{low}.0/24");
        let taker = format!("{}-taker", vm.app);
        let of_taker = json!({ "Name": taker, "IPAM": { "Config": [{ "Subnet": subnet }] } });
        vm.engine.call("POST", "/networks/create", Some(&of_taker))?;
        let told = what_cannot_be_created_is_told_once(vm, &subnet);
        vm.engine.call("DELETE", &format!("/networks/{taker}"), None)?;
        let release = told?;
        vm.serves(&v1)?;
        vm.recorded(0, HistoryEvent::Live, Some(&release))?;
        vm.serves(&v1)
    });
}

fn what_cannot_be_created_is_told_once(vm: &Vm, subnet: &str) -> Result<ReleaseId> {
    let networks =
        format!("networks:\n  default: {{ ipam: {{ config: [{{ subnet: {subnet} }}] }} }}\n\nvolumes:\n  data");
    vm.project.edit("compose.yaml", "volumes:\n  data", &networks)?;
    let release = vm.publish()?;
    let entry = vm.recorded(0, HistoryEvent::Refused, Some(&release))?;
    let reason = entry.reason.context("no reason")?;
    ensure!(reason.contains("could not create") && reason.contains("overlaps"), "{reason}");
    throughout(TRIES, "it is told once", || {
        let told = vm.history()?.into_iter().filter(|entry| entry.event == HistoryEvent::Refused).count();
        let log = std::fs::read_to_string(vm.directory().join("landfall-agent.log"))?;
        let logged = log.lines().filter(|line| line.contains("is not rolled out")).count();
        ensure!((told, logged) == (1, 1), "told {told} times, logged {logged} times");
        Ok(())
    })?;
    Ok(release)
}

fn container(vm: &Vm, name: &str) -> Result<String> {
    let all = vm.engine.containers(vm.app.as_str())?;
    let found = all.iter().find(|c| c.names.iter().any(|n| n == name));
    Ok(found.with_context(|| format!("no container `{name}`"))?.id.clone())
}

fn networks(vm: &Vm) -> Result<Vec<String>> {
    let filters = landfall_tests::engine::escape(&format!("{{\"label\":[\"com.docker.compose.project={}\"]}}", vm.app));
    let all = vm.engine.call("GET", &format!("/networks?filters={filters}"), None)?;
    let names = all.as_array().context("no list")?.iter().filter_map(|n| n["Name"].as_str().map(str::to_owned));
    Ok(names.collect())
}

/// Two of the api: the second old one serves until the first new one does.
#[test]
fn replicas_take_turns_so_that_one_serves() {
    on_a_vm("replicas", |vm| {
        vm.project.edit(
            "compose.yaml",
            "    environment: { STORE: \"store:8080\" }\n    depends_on:",
            "    environment: { STORE: \"store:8080\" }\n    scale: 2\n    depends_on:",
        )?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        let v2 = vm.publish_version("v2", &[])?;
        vm.live(&v2)?;
        let place = |name: &str| container(vm, &format!("/{}-api-{name}", vm.app));
        let first = place("1")?;
        let log = vm.engine.log(&first, 0)?;
        let listening = log.iter().find_map(|line| line.split_once(' ').filter(|(_, text)| text.contains("listens")));
        let (listening, _) = listening.with_context(|| format!("the new api says nothing: {log:?}"))?;
        let stopped = vm.engine.inspect(&place("2-prev")?)?["State"]["FinishedAt"].clone();
        let stopped = stopped.as_str().context("no `FinishedAt`")?;
        let times: (Timestamp, Timestamp) = (listening.parse()?, stopped.parse()?);
        ensure!(
            times.0 < times.1,
            "the second old one stopped at {stopped}, the first new one listened at {listening}"
        );
        let running: Vec<_> = vm.engine.containers(vm.app.as_str())?;
        let apis = running.iter().filter(|c| c.service() == "api" && c.status.starts_with("Up")).count();
        ensure!(apis == 2, "{apis} of the api run");
        Ok(())
    });
}
