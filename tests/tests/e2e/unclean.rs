//! A store that was killed leaves its lock file with something in it (`x-landfall.unclean`): seen before its container starts, told
//! with the command that repairs, and started, left for a person or repaired, as the file says.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::{HistoryEvent, UncleanStatus};
use landfall_tests::process::tail;
use landfall_tests::ran::Ran;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::{eventually, throughout};

/// How long a store that waits is watched: longer than between two looks at its file.
const LEFT_ALONE: Duration = Duration::from_secs(7);

#[test]
fn a_killed_store_is_told_and_started_all_the_same() {
    on_a_vm("unclean-start", |vm| {
        live_with(vm, "start", "100")?;
        let seq = vm.last_seq()?;
        kill(vm)?;
        let entry = vm.recorded(seq, HistoryEvent::Unclean, None)?;
        assert_eq!(entry.services, ["store"]);
        running(vm)?;
        let told = told(vm)?;
        ensure!(told.reason.contains("`/data/store.lock` was not empty"), "{told:?}");
        // Pasted while it runs: nobody starts it under the hands of who repairs.
        let landfall = landfall_tests::programs::find("landfall")?;
        let line = told.repair.replace("landfall ", &format!("{} --root {} ", landfall.display(), vm.root().display()));
        ensure!(line != told.repair, "the agent is not told: {line}");
        paste(&line)?;
        assert_eq!(repairs(vm)?, 1);
        running(vm)?;
        eventually(SOON, "it is started from a clean directory, and nothing is left to say", || {
            let unclean = vm.status()?.unclean;
            ensure!(unclean.is_empty(), "{unclean:?}");
            Ok(())
        })?;
        // What we stop ourselves ends in order.
        let seq = vm.last_seq()?;
        vm.project.edit(
            "compose.yaml",
            "command: [\"store\"]",
            "command: [\"store\"]\n    environment: { OTHER: \"1\" }",
        )?;
        let id = vm.publish()?;
        vm.recorded(seq, HistoryEvent::Live, Some(&id))?;
        let events: Vec<_> = vm.history()?.into_iter().filter(|e| e.seq > seq).map(|e| e.event).collect();
        ensure!(!events.contains(&HistoryEvent::Unclean), "{events:?}");
        Ok(())
    });
}

#[test]
fn a_store_that_waits_is_started_when_the_pasted_command_has_repaired_it() {
    on_a_vm("unclean-wait", |vm| {
        live_with(vm, "wait", "6000")?;
        let seq = vm.last_seq()?;
        kill(vm)?;
        vm.recorded(seq, HistoryEvent::Unclean, None)?;
        throughout(LEFT_ALONE, "it waits", || down(vm))?;
        let told = told(vm)?;
        ensure!(told.reason.contains("waits for the repair"), "{told:?}");
        let screen = vm.landfall(&["status"])?;
        ensure!(
            screen.code == 10 && screen.stdout.contains(&told.repair),
            "`status` has not the whole command: {screen:?}"
        );
        paste(&told.repair)?;
        running(vm)?;
        assert_eq!(repairs(vm)?, 1);
        let events: Vec<_> = vm.history()?.into_iter().filter(|e| e.seq > seq).map(|e| e.event).collect();
        ensure!(events.iter().filter(|event| **event == HistoryEvent::Unclean).count() == 1, "told once: {events:?}");
        Ok(())
    });
}

#[test]
fn a_repair_outlives_the_agent_and_is_done_once() {
    on_a_vm("unclean-repair", |vm| {
        live_with(vm, "repair", "4000")?;
        let seq = vm.last_seq()?;
        kill(vm)?;
        let name = format!("{}-store-repair", vm.app);
        eventually(SOON, "the repair runs", || {
            let running = vm.engine.inspect(&name)?["State"]["Running"] == true;
            ensure!(running, "it does not");
            down(vm)
        })?;
        let repair = vm.engine.inspect(&name)?;
        let store = vm.engine.inspect(&format!("{}-store-1", vm.app))?;
        for key in ["Memory", "NetworkMode", "PidsLimit"] {
            assert_eq!(repair["HostConfig"][key], store["HostConfig"][key], "{key}");
        }
        assert_eq!(repair["Config"]["Image"], store["Config"]["Image"]);
        vm.kill_agent()?;
        vm.start_agent()?;
        let entry = vm.recorded(seq, HistoryEvent::Repaired, None)?;
        assert_eq!(entry.services, ["store"]);
        running(vm)?;
        assert_eq!(repairs(vm)?, 1, "repairs");
        ensure!(vm.engine.inspect(&name).is_err(), "its container is left");
        let log = tail(&vm.directory().join("landfall-agent.log"), 200);
        ensure!(!log.contains("it exited with code 0"), "the end of a repair is told as a failure: {log}");
        assert_eq!(vm.ask()?.version, "v1");
        Ok(())
    });
}

#[test]
fn a_repair_that_fails_waits_for_a_person_with_the_end_of_its_log() {
    on_a_vm("unclean-fails", |vm| {
        live_with(vm, "repair", "fail")?;
        let seq = vm.last_seq()?;
        kill(vm)?;
        let entry = vm.recorded(seq, HistoryEvent::RepairFailed, None)?;
        ensure!(entry.reason.as_deref() == Some("the repair ended with exit code 1"), "{entry:?}");
        throughout(LEFT_ALONE, "it waits", || down(vm))?;
        assert_eq!(repairs(vm)?, 1, "repairs");
        let log = tail(&vm.directory().join("landfall-agent.log"), 60);
        ensure!(log.contains("the data cannot be repaired: `fail`"), "its own words are not in the journal: {log}");
        let told = told(vm)?;
        ensure!(told.reason.contains("exit code 1"), "{told:?}");
        let said = vm.landfall(&["retry"])?;
        ensure!(said.code == 0, "{said:?}");
        running(vm)
    });
}

/// Publishes the sample with a policy for its store, and waits until it is live.
fn live_with(vm: &mut Vm, then: &str, how: &str) -> Result<()> {
    let unclean = format!("{{ file: /data/store.lock, then: {then}, repair: [\"repair\", \"{how}\"] }}");
    let with = format!("command: [\"store\"]\n    x-landfall: {{ unclean: {unclean} }}");
    vm.project.edit("compose.yaml", "command: [\"store\"]", &with)?;
    vm.live(&vm.publish_version("v1", &[])?)?;
    let events: Vec<_> = vm.history()?.into_iter().map(|entry| entry.event).collect();
    ensure!(!events.contains(&HistoryEvent::Unclean), "a new volume is clean: {events:?}");
    Ok(())
}

fn kill(vm: &Vm) -> Result<()> {
    vm.engine.kill(&vm.engine.serving(vm.app.as_str(), "store")?.id)
}

fn down(vm: &Vm) -> Result<()> {
    ensure!(vm.engine.serving(vm.app.as_str(), "store").is_err(), "the store runs");
    Ok(())
}

fn running(vm: &Vm) -> Result<()> {
    eventually(ROLLOUT, "the store serves", || {
        let status = vm.status()?;
        let store = status.services.iter().find(|s| s.service == "store").context("status has no store")?;
        ensure!(store.state == "healthy", "{store:?}");
        vm.engine.serving(vm.app.as_str(), "store").map(drop)
    })
}

/// What status says of the store.
fn told(vm: &Vm) -> Result<UncleanStatus> {
    eventually(SOON, "status says so", || {
        let told = vm.status()?.unclean;
        let [told] = told.as_slice() else { anyhow::bail!("{told:?}") };
        ensure!(told.service == "store" && told.repair.contains(" repair "), "{told:?}");
        Ok(told.clone())
    })
}

/// As a person does.
fn paste(line: &str) -> Result<()> {
    let ran = Ran::of(Command::new("/bin/sh").args(["-c", line]))?;
    ensure!(ran.code == 0, "{line}: {ran:?}");
    Ok(())
}

/// How often it was repaired, as the volume has it.
fn repairs(vm: &Vm) -> Result<usize> {
    let volume = vm.engine.data_root()?.join("volumes").join(format!("{}_data/_data/store.repairs", vm.app));
    let text = std::fs::read_to_string(&volume).with_context(|| volume.display().to_string())?;
    Ok(text.lines().count())
}
