//! The daemon goes down, with or without its containers: the stack comes back, each service after what it depends on.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use landfall_tests::suite::with_own_engine;
use landfall_tests::vm::{ROLLOUT, Vm};
use landfall_tests::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn every_container_and_the_daemon_are_killed() {
    with_own_engine("outage::every_container_and_the_daemon_are_killed", "all-killed", |vm, dockerd| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let processes: Result<Vec<i32>> = before.values().map(|id| process_of(vm, id)).collect();
        let began = Timestamp::now();
        dockerd.kill()?;
        for process in processes? {
            kill(Pid::from_raw(process), Signal::SIGKILL)?;
        }
        dockerd.resume()?;
        back_in_order(vm, &before, began)?;
        vm.serves(&v1)
    });
}

#[test]
fn the_daemon_is_restarted_while_the_agent_runs() {
    with_own_engine("outage::the_daemon_is_restarted_while_the_agent_runs", "restart", |vm, dockerd| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let began = Timestamp::now();
        dockerd.stop()?;
        dockerd.resume()?;
        back_in_order(vm, &before, began)?;
        vm.serves(&v1)?;
        // And the agent still rolls out.
        vm.live(&vm.publish_version("v2", &[])?).map(drop)
    });
}

fn process_of(vm: &Vm, container: &str) -> Result<i32> {
    let process = vm.engine.inspect(container)?["State"]["Pid"].as_i64().context("no `Pid`")?;
    ensure!(process > 1, "{container} has no process");
    Ok(i32::try_from(process)?)
}

/// The same containers run, and each started after the one it depends on was listening again.
fn back_in_order(vm: &Vm, before: &BTreeMap<String, String>, began: Timestamp) -> Result<()> {
    eventually(ROLLOUT, "the same containers run again", || {
        let running = vm.engine.serving_ids(vm.app.as_str())?;
        ensure!(running == *before, "{:?} run", running.keys());
        for id in running.values() {
            ensure!(started(vm, id)? > began, "{id} was not started again");
        }
        Ok(())
    })?;
    for (service, dependency) in [("api", "store"), ("proxy", "api")] {
        let started = started(vm, &before[service])?;
        let listening = eventually(ROLLOUT, &format!("{dependency} says that it listens"), || {
            let log = vm.engine.log(&before[dependency], began.as_second())?;
            let lines = log.iter().filter_map(|line| line.split_once(' ')).filter(|(_, text)| text.contains("listens"));
            let mut times = lines.filter_map(|(time, _)| time.parse::<Timestamp>().ok()).filter(|time| *time > began);
            times.next().with_context(|| format!("{log:?}"))
        })?;
        ensure!(started > listening, "{service} started at {started}, {dependency} listened only at {listening}");
    }
    Ok(())
}

fn started(vm: &Vm, container: &str) -> Result<Timestamp> {
    let text = vm.engine.inspect(container)?["State"]["StartedAt"].as_str().context("no `StartedAt`")?.to_owned();
    Ok(text.parse()?)
}
