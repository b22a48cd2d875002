//! A project that runs already, made by hand with plain `docker compose up -d`, and its first release: same name, volumes
//! kept, services replaced one by one, the containers made by hand as the way back, and nothing unknown touched.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_sample::http;
use landfall_tests::events::Recorder;
use landfall_tests::programs;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;

/// A service that no release has.
const EXTRA: &str = "  extra:\n    image: registry.example/sample/base:1\n    command: [\"store\"]\n\nvolumes:\n";
const MARKER: &[u8] = b"written before there were releases";

#[test]
fn a_project_made_by_hand_is_adopted_by_its_first_release() {
    on_a_vm("adopt", |vm| {
        let old = made_by_hand(vm)?;
        let volume = vm.engine.call("GET", &format!("/volumes/{}_data", vm.app), None)?;
        let recorder = Recorder::start(&vm.engine, &[vm.app.as_str()])?;
        vm.live(&vm.publish_version("v2", &[])?)?;

        let new = vm.engine.serving_ids(vm.app.as_str())?;
        for service in ["api", "proxy", "store"] {
            ensure!(new[service] != old[service], "`{service}` was not replaced");
            let kept = vm.engine.inspect(&old[service]).context("the container made by hand is the way back")?;
            ensure!(kept["State"]["Running"] == false, "two containers of `{service}` run");
        }
        ensure!(new["extra"] == old["extra"], "`extra` is of no release and was touched");
        one_by_one(vm, &recorder)?;
        ensure!(vm.engine.call("GET", &format!("/volumes/{}_data", vm.app), None)? == volume, "another volume");
        marker_is_there(vm)
    });
}

#[test]
fn a_first_release_that_fails_returns_to_the_containers_made_by_hand() {
    on_a_vm("adopt-back", |vm| {
        let old = made_by_hand(vm)?;
        vm.publish_version("v2", &[("MODE", "never-healthy")])?;
        vm.recorded(0, HistoryEvent::RolledBack, None)?;
        eventually(SOON, "what was made by hand serves", || {
            let version = vm.ask()?.version;
            ensure!(version == "v1", "{version} is served");
            Ok(())
        })?;
        assert_eq!(vm.engine.serving_ids(vm.app.as_str())?, old, "the very containers made by hand");
        marker_is_there(vm)?;

        // They are looked after from now on, and a better release replaces them.
        vm.engine.kill(&old["api"])?;
        eventually(SOON, "the api made by hand is started again", || vm.ask().map(drop))?;
        assert_eq!(vm.engine.serving_ids(vm.app.as_str())?, old);
        vm.live(&vm.publish_version("v3", &[])?)?;
        marker_is_there(vm)
    });
}

/// A volume that nobody named is all the data there is: it passes from container to container, and outlives the first of them.
#[test]
fn data_in_a_volume_without_a_name_is_kept() {
    on_a_vm("adopt-unnamed", |vm| {
        vm.restart_agent_with_probation(Duration::from_secs(2))?;
        vm.project.edit("compose.yaml", "      - data:/data\n", "      - /data\n")?;
        let old = made_by_hand(vm)?;
        let volume = volume_of(vm, &old["store"])?;
        vm.live(&vm.publish_version("v2", &[])?)?;
        marker_is_there(vm)?;
        eventually(SOON, "the store made by hand is removed", || {
            ensure!(vm.engine.inspect(&old["store"]).is_err(), "it is there");
            Ok(())
        })?;
        // Replaced once more, by one that only its memory tells from the last.
        vm.project.edit("compose.yaml", STORE_CAP, &STORE_CAP.replace("32M", "33M"))?;
        let release = vm.publish()?;
        vm.recorded(0, HistoryEvent::Live, Some(&release))?;
        let new = vm.engine.serving(vm.app.as_str(), "store")?.id;
        ensure!(volume_of(vm, &new)? == volume, "another volume");
        marker_is_there(vm)
    });
}

/// The end of the store in the fixture.
const STORE_CAP: &str =
    "      resources: { limits: { memory: 32M } }\n      update_config: { monitor: 2s }\n\nvolumes:";

fn volume_of(vm: &Vm, container: &str) -> Result<String> {
    let mounts = vm.engine.inspect(container)?["Mounts"].clone();
    let data = mounts.as_array().and_then(|all| all.iter().find(|mount| mount["Destination"] == "/data"));
    Ok(data
        .and_then(|mount| mount["Name"].as_str())
        .with_context(|| format!("no volume at /data: {mounts}"))?
        .to_owned())
}

/// Starts v1 of the project and a service more, without us, and writes to its volume. The containers by service.
fn made_by_hand(vm: &Vm) -> Result<BTreeMap<String, String>> {
    vm.project.set_version(&vm.registry, "v1", &[])?;
    let extra = EXTRA.replace("registry.example", vm.registry.address());
    vm.project.edit("compose.yaml", "volumes:\n  data", &format!("{extra}  data"))?;
    let ran = Command::new(programs::compose_plugin()?)
        .arg("--file")
        .arg(vm.project.compose_file())
        .args(["--project-name", vm.app.as_str(), "up", "--detach"])
        .env("PORT", vm.port().to_string())
        .output()?;
    ensure!(ran.status.success(), "`docker compose up -d`: {}", String::from_utf8_lossy(&ran.stderr));
    vm.project.edit("compose.yaml", &extra, "volumes:\n")?;
    eventually(SOON, "what was made by hand serves", || vm.ask().map(drop))?;
    let answer = http::call(&store(vm)?, ("PUT", "/keys/marker"), MARKER)?;
    ensure!(answer.status == 204, "the store answered {}", answer.status);
    vm.engine.serving_ids(vm.app.as_str())
}

fn marker_is_there(vm: &Vm) -> Result<()> {
    let answer = http::call(&store(vm)?, ("GET", "/keys/marker"), &[])?;
    ensure!(answer.status == 200 && answer.body == MARKER, "{}: {}", answer.status, answer.text());
    Ok(())
}

/// Where the store listens: nobody but the api is to ask it, so its address on the bridge is used.
fn store(vm: &Vm) -> Result<String> {
    let look = vm.engine.inspect(&vm.engine.serving(vm.app.as_str(), "store")?.id)?;
    let networks = look["NetworkSettings"]["Networks"].as_object().context("no networks")?;
    let address = networks.values().find_map(|network| network["IPAddress"].as_str()).context("no address")?;
    Ok(format!("{address}:8080"))
}

/// Never two of the services that serve are down at once.
fn one_by_one(vm: &Vm, recorder: &Recorder) -> Result<()> {
    let changes = recorder.changes();
    let mut down = Vec::new();
    let mut replaced = 0;
    for change in changes.iter().filter(|change| change.kind == "container") {
        let service = change.what.trim_start_matches(vm.app.as_str());
        match (change.action.as_str(), service) {
            ("die", "-api-1" | "-proxy-1" | "-store-1") => down.push(service),
            ("start", _) if down.contains(&service) => {
                down.retain(|one| *one != service);
                replaced += 1;
            }
            _ => {}
        }
        ensure!(down.len() < 2, "{down:?} were down at once: {changes:?}");
    }
    ensure!(replaced == 3, "{replaced} services were replaced: {changes:?}");
    Ok(())
}
