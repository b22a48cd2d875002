//! Start-first under load. In a binary of its own, so that no other test loads the machine beside it.

use anyhow::ensure;
use landfall_tests::load::Load;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;

/// Requests a second.
const RATE: u32 = 200;
const ROLLOUTS: usize = 10;

#[test]
fn ten_rollouts_in_a_row_lose_no_request() {
    on_a_vm("start-first", |vm| {
        let order = "update_config: { monitor: 1s, order: start-first }\n\n  migrate:";
        vm.project.edit("compose.yaml", "update_config: { monitor: 2s }\n\n  migrate:", order)?;
        vm.live(&vm.publish_version("v0", &[])?)?;

        let load = Load::start(&vm.url(), RATE)?;
        for number in 1..=ROLLOUTS {
            vm.live(&vm.publish_version(&format!("v{number}"), &[])?)?;
        }
        // Also with the last of the old ones gone.
        let sent = load.so_far().0.len();
        eventually(SOON, "another second of load", || {
            let more = load.so_far().0.len() - sent;
            ensure!(more >= RATE as usize, "{more} requests more");
            Ok(())
        })?;
        let answers = load.stop();

        let failures = answers.failures();
        ensure!(failures.is_empty(), "{} of {} requests failed: {failures:#?}", failures.len(), answers.0.len());
        let versions: Vec<String> = (0..=ROLLOUTS).map(|number| format!("v{number}")).collect();
        assert_eq!(answers.versions(), versions);
        eprintln!("{} requests through {ROLLOUTS} rollouts, none failed", answers.0.len());
        Ok(())
    });
}
