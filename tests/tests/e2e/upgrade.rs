//! Another version of Compose under a running stack changes nothing, there and back, and rolls out as the first did.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::{Cause, HistoryEvent};
use landfall_tests::events::Recorder;
use landfall_tests::programs;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::{eventually, throughout};
use serde_json::json;

/// How long the stack is watched after the translation by the other version.
const WATCH: Duration = Duration::from_secs(4);

#[test]
fn another_compose_under_a_running_stack_changes_nothing() {
    let own = programs::compose_plugin().expect("a Compose plugin");
    let other = programs::other_compose_plugin().expect("another Compose plugin");
    let versions = [&own, &other].map(|plugin| version(plugin).expect("a version"));
    assert_ne!(versions[0], versions[1], "two versions are to be compared");

    on_a_vm("compose", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        made_by(vm, "api", &versions[0])?;
        changes_nothing(vm, &other, "251ms")?;
        replaces_the_api_alone(vm, "v2")?;
        made_by(vm, "api", &versions[1])?;
        // Back down again, with containers of both.
        changes_nothing(vm, &own, "252ms")?;
        replaces_the_api_alone(vm, "v3")?;
        made_by(vm, "api", &versions[0])
    });
}

/// As on a machine where it is installed late, or that has just booted and is too slow to say its version.
#[test]
fn a_compose_that_cannot_be_used_is_looked_for_again() {
    on_a_vm("late-compose", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let seq = vm.last_seq()?;
        vm.stop_agent()?;
        // Written to in place: who may run it may run this file.
        let late = vm.directory().join("docker-compose");
        std::fs::write(&late, "no program")?;
        std::fs::set_permissions(&late, Permissions::from_mode(0o755))?;
        vm.start_agent_with(&[("LANDFALL_COMPOSE", &late)])?;
        let v2 = vm.publish_version("v2", &[])?;
        let refused = vm.recorded(seq, HistoryEvent::Refused, Some(&v2.release))?;
        ensure!(refused.cause == Some(Cause::Unavailable), "{refused:?}");
        let said = || Ok::<_, anyhow::Error>(vm.landfall(&["status"])?.stdout);
        ensure!(said()?.starts_with("problem: cannot ask Docker Compose for its version"), "{}", said()?);
        vm.serves(&v1)?;

        std::fs::write(&late, std::fs::read(programs::compose_plugin()?)?)?;
        vm.live(&v2)?;
        ensure!(!said()?.contains("problem"), "{}", said()?);
        Ok(())
    });
}

fn version(plugin: &Path) -> Result<String> {
    let output = Command::new(plugin).args(["version", "--short"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().trim_start_matches('v').to_owned())
}

/// Compose itself writes which version made a container.
fn made_by(vm: &Vm, service: &str, version: &str) -> Result<()> {
    let container = vm.engine.serving(vm.app.as_str(), service)?;
    let label = container.labels.get("com.docker.compose.version").context("no label of Compose's version")?;
    // A distribution adds its own to the version that `docker-compose version` prints.
    ensure!(version.starts_with(label.as_str()), "`{service}` was made by Compose {label}, not {version}");
    Ok(())
}

/// The agent starts with `plugin`, then the settings are touched and the release is published again.
fn changes_nothing(vm: &mut Vm, plugin: &Path, poll: &str) -> Result<()> {
    vm.stop_agent()?;
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str(), vm.registry.address()])?;
    let before = SystemTime::now();
    vm.start_agent_with(&[("LANDFALL_COMPOSE", plugin)])?;
    translated_since(vm, before)?;
    let before = SystemTime::now();
    vm.configure(&json!({ "poll": poll }))?;
    translated_since(vm, before)?;
    let sequence = vm.channel_file()?.sequence;
    vm.publish()?;
    eventually(SOON, "the watcher takes the new sequence", || {
        ensure!(vm.channel_file()?.sequence > sequence, "{sequence:?}");
        Ok(())
    })?;
    throughout(WATCH, &format!("no change by `{}`", plugin.display()), || {
        let changes = recorder.changes();
        ensure!(changes.is_empty(), "{changes:?}");
        Ok(())
    })
}

/// The live deployment's final model was written anew: it went through the translation again.
fn translated_since(vm: &Vm, before: SystemTime) -> Result<()> {
    eventually(SOON, "the live release is translated again", || {
        let live = vm.status()?.deployment.context("nothing is live")?;
        let path = vm.layout().deployment_model(&vm.app, &live);
        let written = std::fs::metadata(&path)?.modified()?;
        ensure!(written > before, "`{}` was written before", path.display());
        Ok(())
    })
}

fn replaces_the_api_alone(vm: &Vm, version: &str) -> Result<()> {
    let app = vm.app.as_str();
    let others = |mut ids: BTreeMap<String, String>| {
        ids.remove("api");
        ids
    };
    let before = others(vm.engine.serving_ids(app)?);
    vm.live(&vm.publish_version(version, &[])?)?;
    assert_eq!(others(vm.engine.serving_ids(app)?), before, "the neighbours of the api");
    Ok(())
}
