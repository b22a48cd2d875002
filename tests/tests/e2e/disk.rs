//! A disk that has less free than `host.reserve.disk`: what must be pulled waits, what is here does not, and nothing that runs is touched.
//! A share that no disk has free stands for a full one; a disk that is full in truth is in `tests/tests/caps`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::{Cause, HistoryEvent};
use landfall_tests::events::Recorder;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{Published, SOON, Vm};
use landfall_tests::wait::{eventually, throughout};
use serde_json::json;

/// How long nothing may happen: some tries fall into it.
const WATCH: Duration = Duration::from_secs(6);

#[test]
fn what_must_be_pulled_waits_for_room_and_what_is_here_does_not() {
    on_a_vm("disk", |vm| {
        let v0 = vm.publish_version("v0", &[])?;
        vm.live(&v0)?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let seq = vm.last_seq()?;

        keep_free(vm, "99%")?;
        let recorder = Recorder::start(&vm.engine, &[vm.app.as_str(), vm.registry.address()])?;
        let v2 = vm.publish_version("v2", &[])?;
        waits(vm, seq, &v2)?;
        throughout(WATCH, "nothing is pulled, nothing is touched", || {
            ensure!(recorder.changes().is_empty(), "{:?}", recorder.changes());
            ensure!(vm.ask()?.version == "v1");
            Ok(())
        })?;
        ensure!(vm.engine.serving_ids(vm.app.as_str())? == before);
        let told = vm.history()?.into_iter().filter(|entry| entry.seq > seq && entry.event == HistoryEvent::Refused);
        ensure!(told.count() == 1, "told at each try: {:?}", vm.history()?);
        let status = vm.landfall(&["status"])?;
        ensure!(status.code == 0, "what runs is well: {status:?}");

        // Its images are here: the way back needs no room.
        let seq = vm.last_seq()?;
        ensure!(vm.publish_version("v0", &[])?.release == v0.release, "another release");
        vm.recorded(seq, HistoryEvent::Live, Some(&v0.release))?;
        vm.serves(&v0)?;
        ensure!(!recorder.changes().iter().any(|change| change.action == "pull"), "{:?}", recorder.changes());

        let seq = vm.last_seq()?;
        let v3 = vm.publish_version("v3", &[])?;
        waits(vm, seq, &v3)?;
        keep_free(vm, "0%")?;
        vm.live(&v3)?;
        ensure!(recorder.changes().iter().any(|change| change.action == "pull"), "the judge sees no pulls");
        eventually(SOON, "nothing is left of the reason", || {
            let reason = vm.status()?.reason;
            ensure!(reason.is_none(), "{reason:?}");
            Ok(())
        })
    });
}

fn keep_free(vm: &Vm, share: &str) -> Result<()> {
    vm.configure_host(&json!({ "reserve": { "disk": share } }), &[])
}

fn waits(vm: &Vm, seq: u64, published: &Published) -> Result<()> {
    let entry = vm.recorded(seq, HistoryEvent::Refused, Some(&published.release))?;
    ensure!(entry.cause == Some(Cause::DiskFull), "{entry:?}");
    let root = vm.engine.image_root()?;
    eventually(SOON, "`status` says why", || {
        let status = vm.status()?;
        let reason = status.reason.context("no reason")?;
        for words in [&format!("`{}` is ", root.display()), "% full, and 99% must stay free", " more must be free"] {
            ensure!(reason.contains(words), "no `{words}` in: {reason}");
        }
        ensure!(status.next.starts_with("make room on the disk"), "{}", status.next);
        Ok(())
    })
}
