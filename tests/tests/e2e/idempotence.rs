//! What is the same is left alone, provably: no change at all in the Engine's own record.

use std::time::Duration;

use anyhow::{Result, ensure};
use landfall_tests::events::Recorder;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::{eventually, throughout};

/// How long an unchanged stack is watched: many polls and many rounds of the agent.
const WATCH: Duration = Duration::from_secs(8);

#[test]
fn a_release_with_equal_content_changes_nothing() {
    on_a_vm("equal", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let recorder = Recorder::start(&vm.engine, &[&app, vm.registry.address()])?;

        // Unchanged, for many polls.
        let polled = vm.channel_file()?.last_good_poll;
        throughout(WATCH, "no change without a release", || no_change(&recorder))?;
        // The time of a good poll is written every few seconds only.
        eventually(SOON, "the watcher polls on", || {
            ensure!(vm.channel_file()?.last_good_poll != polled, "{polled:?}");
            Ok(())
        })?;

        // The same content, published again.
        let sequence = vm.channel_file()?.sequence;
        let again = vm.publish()?;
        assert_eq!(again, v1.release, "the same content has the same id");
        eventually(SOON, "the watcher takes the new sequence", || {
            ensure!(vm.channel_file()?.sequence > sequence, "{sequence:?}");
            Ok(())
        })?;
        throughout(WATCH, "no change by a release of equal content", || no_change(&recorder))?;

        // An agent that starts finds all as it should be.
        vm.kill_agent()?;
        vm.start_agent()?;
        eventually(SOON, "the new agent answers", || vm.status().map(drop))?;
        throughout(WATCH, "no change by a new agent", || no_change(&recorder))?;

        proof_that_a_restart_is_seen(vm, &recorder)
    });
}

fn no_change(recorder: &Recorder) -> Result<()> {
    let changes = recorder.changes();
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

fn proof_that_a_restart_is_seen(vm: &Vm, recorder: &Recorder) -> Result<()> {
    vm.engine.restart(&vm.engine.serving(vm.app.as_str(), "store")?.id)?;
    eventually(SOON, "the recorder sees a restart", || {
        let changes = recorder.changes();
        ensure!(changes.iter().any(|change| change.action == "restart"), "{changes:?}");
        Ok(())
    })
}
