//! While an image is pulled, `status` and `watch` say how much of it is here; afterwards nothing is left of that.

use std::process::Command;

use anyhow::{Context as _, ensure};
use landfall_tests::gate::Gate;
use landfall_tests::images::{self, Image};
use landfall_tests::programs;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON};
use landfall_tests::wait::eventually;

const MIB: usize = 1 << 20;
/// Enough for the Engine to say how far it is, which it does about every half mebibyte.
const LET_THROUGH: usize = 4 * MIB;

#[test]
fn a_pull_is_seen_while_it_runs_and_watched_to_its_end() {
    on_a_vm("pulls", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        // A layer that no other image has: it begins with the app's name, which no other test has.
        let mut padding = vm.app.as_str().as_bytes().to_vec();
        padding.resize(16 * MIB, b'.');
        let image = Image {
            repository: "sample/api",
            tag: "v2",
            command: &["api"],
            environment: &[("VERSION", "v2")],
            padding: &padding,
            owner: vm.app.as_str(),
            ..Image::default()
        };
        images::push(&vm.registry, &image)?;
        let gate = Gate::start(vm.registry.address(), LET_THROUGH)?;
        let api = |address: &str, version: &str| format!("{address}/sample/api:{version}");
        vm.project.edit("compose.yaml", &api(vm.registry.address(), "v1"), &api(gate.address(), "v2"))?;

        let watched = vm.directory().join("watch.log");
        let mut watch = Command::new(programs::find("landfall")?)
            .arg("--root")
            .arg(vm.root())
            .args(["watch", "--once"])
            .stdout(std::fs::File::create(&watched)?)
            .spawn()?;
        vm.publish()?;
        let pull = eventually(SOON, "a part of the image is here", || {
            let pulls = vm.status()?.pulls;
            let pull = pulls.first().context("nothing is pulled")?;
            ensure!(pull.done > 0 && pull.total > 0, "{pull:?}");
            Ok(pull.clone())
        })?;
        ensure!(pull.image.starts_with(&format!("{}/sample/api@sha256:", gate.address())), "{pull:?}");
        let (let_through, all) = (u64::try_from(LET_THROUGH)?, u64::try_from(padding.len())?);
        ensure!(pull.done <= let_through && pull.total > all && pull.total < 2 * all, "{pull:?}");
        let said = vm.landfall(&["status"])?.stdout;
        ensure!(said.contains("  pull       api@"), "{said}");
        let file = std::fs::read_to_string(vm.layout().agent_status())?;
        ensure!(!file.contains("\"pulls\""), "the file is not written anew for each byte: {file}");

        eventually(SOON, "whoever watches sees it", || {
            let said = std::fs::read_to_string(&watched)?;
            ensure!(said.contains("pulling api@"), "{said}");
            Ok(())
        })?;
        gate.open();
        eventually(ROLLOUT, "v2 is served", || {
            let served = vm.ask()?.version;
            ensure!(served == "v2", "{served}");
            Ok(())
        })?;
        let ended = eventually(SOON, "`watch --once` ends with the rollout", || watch.try_wait()?.context("it runs"))?;
        let said = std::fs::read_to_string(&watched)?;
        ensure!(ended.code() == Some(0), "{ended}: {said}");
        for part in [": rolling", "`api`: starting, 0 of 1 ready", "event: live of release"] {
            ensure!(said.contains(part), "no `{part}` in\n{said}");
        }
        ensure!(!said.contains('\x1b'), "only a terminal is drawn on: {said}");
        ensure!(vm.status()?.pulls.is_empty(), "nothing is left of a pull that is over");
        Ok(())
    });
}
