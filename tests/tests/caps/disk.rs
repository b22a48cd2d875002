//! A disk that a container fills: what must be pulled waits, what is here does not, and nothing that runs is touched.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::journal::event;
use landfall_core::protocol::{Cause, HistoryEvent};
use landfall_tests::events::Recorder;
use landfall_tests::gate::Gate;
use landfall_tests::images::{self, Image};
use landfall_tests::neighbours::Neighbours;
use landfall_tests::vm::SOON;
use landfall_tests::wait::{eventually, throughout};
use serde_json::{Value, json};

use crate::machine::{Machine, dockerd, journal, on_this_machine, run};

const MIB: usize = 1 << 20;
/// How long nothing may be pulled: some tries fall into it.
const WATCH: Duration = Duration::from_secs(8);
/// The metrics are written at least once a minute.
const METRICS: Duration = Duration::from_secs(90);

/// Where the small disk is mounted, and what is on it.
const DISK: &str = "/srv/docker";
const DISK_FILE: &str = "/srv/docker.img";

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn a_full_disk_stops_pulls_and_nothing_else() -> Result<()> {
    // Not every machine in a container has the nodes.
    run("for n in $(seq 0 31); do [ -b /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done")?;
    run(&format!(
        "truncate -s 400M {DISK_FILE} && mkfs.ext4 -q {DISK_FILE} && mkdir -p {DISK} && mount -o loop {DISK_FILE} {DISK}"
    ))?;
    // A fresh Engine 29 has images in containerd's directory, which stays where it is.
    dockerd(&json!({ "data-root": DISK, "features": { "containerd-snapshotter": false } }))?;
    let told = on_this_machine("disk", |machine| {
        what_is_here_is_rolled_out_and_what_is_not_waits(machine)?;
        what_would_not_fit_waits(machine)
    });
    dockerd(&json!({}))?;
    run(&format!("umount {DISK} && rm {DISK_FILE}"))?;
    told
}

fn what_is_here_is_rolled_out_and_what_is_not_waits(machine: &Machine) -> Result<()> {
    let vm = &machine.vm;
    let v2 = vm.publish_version("v2", &[])?;
    vm.live(&v2)?;
    machine.fill(Path::new(DISK), 5)?;

    let seq = vm.last_seq()?;
    let v1 = vm.publish_version("v1", &[])?;
    vm.recorded(seq, HistoryEvent::Live, Some(&v1.release))?;
    vm.serves(&v1)?;

    let seq = vm.last_seq()?;
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str(), vm.registry.address()])?;
    let neighbours = Neighbours::watch(vm, "nobody")?;
    let v3 = vm.publish_version("v3", &[])?;
    let refused = vm.recorded(seq, HistoryEvent::Refused, Some(&v3.release))?;
    ensure!(refused.cause == Some(Cause::DiskFull), "{refused:?}");
    let waits = || -> Result<String> {
        let reason = vm.status()?.reason.context("no reason")?;
        for words in
            ["waits for room on the disk", &format!("`{DISK}` is 9"), "10% must stay free", "more must be free"]
        {
            ensure!(reason.contains(words), "no `{words}` in: {reason}");
        }
        Ok(reason)
    };
    eprintln!("{}", eventually(SOON, "`status` says why", waits)?);
    throughout(WATCH, "nothing is pulled, nothing is touched", || {
        ensure!(recorder.changes().is_empty(), "{:?}", recorder.changes());
        vm.serves(&v1)
    })?;
    let told = journal(&[&format!("MESSAGE_ID={}", event::WAITS_FOR_DISK), &format!("LANDFALL_APP={}", vm.app)])?;
    ensure!(told.len() == 1 && told[0]["LANDFALL_RELEASE"] == v3.release.short(), "{told:?}");
    // What the alert asks for.
    let fires = || -> Result<()> {
        let page = std::fs::read_to_string(vm.layout().agent_metrics())?;
        let sample = |name: &str| -> Result<f64> {
            let line = page.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
            Ok(line.trim().parse()?)
        };
        let used = sample(&format!("landfall_disk_used_ratio{{path=\"{DISK}\"}}"))?;
        let reserve = sample("landfall_disk_reserve_ratio")?;
        ensure!(used >= 1.0 - reserve, "{used} of a disk is in use, and {reserve} must stay free");
        ensure!(sample(&format!("landfall_newest_release_refused{{app=\"{}\"}}", vm.app))? > 0.5, "not refused");
        Ok(())
    };
    eventually(METRICS, "`LandfallDiskFull` would fire", fires)?;
    let verified = machine.verified()?;
    let failed =
        |line: &Value| line["result"] == "fail" && line["what"].as_str().is_some_and(|what| what.contains(DISK));
    ensure!(verified.iter().any(failed), "`verify` says nothing: {verified:?}");
    neighbours.were_well()?;
    waits()?;

    machine.ask("bad", "/empty")?;
    vm.live(&v3)?;
    ensure!(recorder.changes().iter().any(|change| change.action == "pull"), "the judge sees no pulls");
    Ok(())
}

/// How large an image is is known when its download begins: it is let go of, and not begun again before there is room.
fn what_would_not_fit_waits(machine: &Machine) -> Result<()> {
    let vm = &machine.vm;
    // More than a tenth is free, and less than a tenth and four times the image.
    machine.fill(Path::new(DISK), 40)?;
    let mut padding = vm.app.as_str().as_bytes().to_vec();
    padding.resize(40 * MIB, b'.');
    let (repository, tag) = ("sample/api", "v4");
    let environment = [("VERSION", tag)];
    let command = ["api"];
    let image = Image {
        repository,
        tag,
        command: &command,
        environment: &environment,
        padding: &padding,
        owner: vm.app.as_str(),
        ..Image::default()
    };
    images::push(&vm.registry, &image)?;
    let gate = Gate::start(vm.registry.address(), 8 * MIB)?;
    let of = |address: &str, version: &str| format!("{address}/{repository}:{version}");
    vm.project.edit("compose.yaml", &of(vm.registry.address(), "v3"), &of(gate.address(), tag))?;
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str(), gate.address()])?;
    let seq = vm.last_seq()?;
    let v4 = vm.publish()?;
    let refused = vm.recorded(seq, HistoryEvent::Refused, Some(&v4))?;
    let reason = refused.reason.context("no reason")?;
    eprintln!("{reason}");
    ensure!(reason.contains("the images need about 16") && reason.contains(" more must be free"), "{reason}");
    throughout(WATCH, "nothing is pulled, nothing is touched", || {
        ensure!(recorder.changes().is_empty(), "{:?}", recorder.changes());
        ensure!(vm.ask()?.version == "v3");
        Ok(())
    })?;
    gate.open();
    machine.ask("bad", "/empty")?;
    vm.recorded(seq, HistoryEvent::Live, Some(&v4)).map(drop)
}
