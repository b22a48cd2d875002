//! What the stack stands on goes away. The daemon, with or without its containers: the stack comes back, each service
//! after what it depends on. A daemon that hangs, a registry that is gone: the stack serves on, and status says so.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use landfall_core::protocol::HistoryEvent;
use landfall_sample::http;
use landfall_tests::events::Recorder;
use landfall_tests::suite::{on_a_vm, with_own_engine};
use landfall_tests::unit;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::{eventually, throughout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn every_container_and_the_daemon_are_killed() {
    with_own_engine("outage::every_container_and_the_daemon_are_killed", "all-killed", |vm, dockerd| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let seq = vm.last_seq()?;
        let processes: Result<Vec<i32>> = before.values().map(|id| process_of(vm, id)).collect();
        let began = Timestamp::now();
        dockerd.kill()?;
        for process in processes? {
            kill(Pid::from_raw(process), Signal::SIGKILL)?;
        }
        dockerd.resume()?;
        back_in_order(vm, &before, began)?;
        recovered_once(vm, seq)?;
        vm.serves(&v1)
    });
}

#[test]
fn the_daemon_is_restarted_while_the_agent_runs() {
    with_own_engine("outage::the_daemon_is_restarted_while_the_agent_runs", "restart", |vm, dockerd| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let seq = vm.last_seq()?;
        let began = Timestamp::now();
        dockerd.stop()?;
        // Open requests make it wait before it ends; the agent's stream of events must be none of them.
        ensure!(!dockerd.log().contains("Error shutting down http server"), "somebody kept dockerd waiting");
        dockerd.resume()?;
        back_in_order(vm, &before, began)?;
        vm.serves(&v1)?;
        recovered_once(vm, seq)?;
        // And the agent still rolls out.
        vm.live(&vm.publish_version("v2", &[])?).map(drop)
    });
}

/// How soon a person at a terminal is answered, whatever hangs.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long the daemon hangs before it is judged.
const HANG: Duration = Duration::from_secs(3);

#[test]
fn a_daemon_that_hangs_is_told_and_outlived() {
    with_own_engine("outage::a_daemon_that_hangs_is_told_and_outlived", "hung", |vm, dockerd| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        vm.stop_agent()?;
        let manager = ServiceManager::start(vm)?;
        vm.start_agent_with(&[("NOTIFY_SOCKET", &manager.path), ("WATCHDOG_USEC", "1500000".as_ref())])?;
        eventually(SOON, "the agent answers and finds nothing wrong", || {
            let shown = vm.landfall(&["status"])?;
            ensure!(shown.code == 0, "{shown:?}");
            Ok(())
        })?;

        let agent = vm.agent_id()?;
        let frozen = dockerd.freeze()?;
        manager.pets()?;
        throughout(HANG, "the containers serve on", || serves_without_names(vm))?;
        says_that_the_engine_hangs(vm)?;
        let v2 = vm.publish_version("v2", &[])?;
        let pets = manager.pets()?;
        if unit::shipped().is_some() {
            ensure!(vm.agent_id()? == agent, "systemd has ended the agent");
        } else {
            ensure!(pets >= 2, "the watchdog was petted {pets} times in a hang of more than {} s", HANG.as_secs());
        }

        // Neither its end nor its start waits for the Engine.
        let began = Instant::now();
        let status = vm.stop_agent()?;
        ensure!(status.success() && began.elapsed() < PATIENCE, "{status} after {:?}", began.elapsed());
        vm.start_agent()?;
        eventually(SOON, "a new agent answers", || says_that_the_engine_hangs(vm))?;
        serves_without_names(vm)?;

        drop(frozen);
        ensure!(vm.ask()?.version == "v1", "the stack was touched");
        vm.live(&v2)?;
        eventually(SOON, "status finds nothing wrong", || {
            let shown = vm.landfall(&["status"])?;
            ensure!(shown.code == 0, "{shown:?}");
            Ok(())
        })
    });
}

/// What the proxy answers by itself: dockerd is also the name server of its containers, so names do not resolve meanwhile.
fn serves_without_names(vm: &Vm) -> Result<()> {
    let answer = http::get(&format!("{}proxy-health", vm.url()))?;
    ensure!(answer.status == 200, "the proxy answered {}", answer.status);
    Ok(())
}

fn says_that_the_engine_hangs(vm: &Vm) -> Result<()> {
    let asked = Instant::now();
    let shown = vm.landfall(&["status"])?;
    ensure!(asked.elapsed() < PATIENCE, "status took {:?}: {shown:?}", asked.elapsed());
    ensure!(shown.code == 10, "something is wrong, so status ends with 10: {shown:?}");
    for words in ["Docker Engine does not answer", "systemctl status docker"] {
        ensure!(shown.stdout.contains(words), "status does not say `{words}`: {shown:?}");
    }
    Ok(())
}

/// As much of systemd as counts the watchdog's pets.
struct ServiceManager {
    path: std::path::PathBuf,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn start(vm: &Vm) -> Result<Self> {
        let path = vm.root().join("notify.sock");
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        socket.set_nonblocking(true)?;
        Ok(Self { path, socket })
    }

    /// How many came since the last call.
    fn pets(&self) -> Result<usize> {
        let mut count = 0;
        let mut message = [0; 4096];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) => count += usize::from(message[..length].starts_with(b"WATCHDOG=1")),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[test]
fn a_registry_that_is_gone_stops_releases_and_nothing_else() {
    on_a_vm("no-registry", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let recorder = Recorder::start(&vm.engine, &[&app, vm.registry.address()])?;
        let last_good_poll = vm.status()?.last_good_poll.context("it has polled")?;
        vm.registry.kill()?;
        eventually(SOON, "status says that the registry is out of reach, and since when", || {
            let shown = vm.landfall(&["status"])?;
            for words in [vm.registry.address(), "cannot be reached", "check the network", "polled"] {
                ensure!(shown.stdout.contains(words), "it does not say `{words}`: {}", shown.stdout);
            }
            Ok(())
        })?;
        throughout(Duration::from_secs(3), "the stack is left alone", || {
            let changes = recorder.changes();
            ensure!(changes.is_empty(), "{changes:?}");
            vm.ask().map(drop)
        })?;
        let shown = vm.status()?.last_good_poll.context("it has polled")?;
        ensure!(shown.parse::<Timestamp>()? < Timestamp::now() - HANG, "a poll is called good: {shown}");
        ensure!(shown >= last_good_poll, "the last good poll is forgotten");

        // What runs is looked after, from what is on the machine.
        let seq = vm.last_seq()?;
        vm.engine.kill(&before["api"])?;
        vm.recorded(seq, HistoryEvent::Restarted, None)?;
        vm.serves(&v1)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);

        vm.registry.resume()?;
        vm.live(&vm.publish_version("v2", &[])?)?;
        eventually(SOON, "status has no complaint", || {
            let status = vm.status()?;
            ensure!(status.reason.is_none(), "{:?}", status.reason);
            Ok(())
        })
    });
}

/// The whole outage is one entry of the history.
fn recovered_once(vm: &Vm, seq: u64) -> Result<()> {
    let entry = vm.recorded(seq, HistoryEvent::Recovered, None)?;
    ensure!(entry.services == ["api", "proxy", "store"] && entry.took_ms.is_some(), "{entry:?}");
    let after: Vec<_> = vm.history()?.into_iter().filter(|entry| entry.seq > seq).map(|entry| entry.event).collect();
    ensure!(after == [HistoryEvent::Recovered], "{after:?}");
    Ok(())
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
