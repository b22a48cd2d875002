//! kill -9 at a bad moment: nobody helps, and the stack converges.

use anyhow::{Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, Vm};
use landfall_tests::wait::eventually;

#[test]
fn an_agent_killed_in_the_middle_of_a_rollout_goes_on() {
    on_a_vm("agent-kill", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let v2 = vm.publish_version("v2", &[])?;
        eventually(ROLLOUT, "the old api is stopped or renamed", || {
            let old = vm.engine.inspect(&before["api"])?;
            let name = old["Name"].as_str().unwrap_or_default();
            let untouched = old["State"]["Running"] == true && !name.contains("prev");
            ensure!(!untouched, "`{name}` serves");
            Ok(())
        })?;
        vm.kill_agent()?;
        vm.start_agent()?;
        vm.live(&v2)?;
        let after = vm.engine.serving_ids(&app)?;
        for neighbour in ["proxy", "store"] {
            assert_eq!(before[neighbour], after[neighbour], "{neighbour}");
        }
        one_container_each(vm)
    });
}

#[test]
fn an_agent_killed_on_the_way_back_goes_on() {
    on_a_vm("back-kill", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let seq = vm.last_seq()?;
        vm.publish_version("v2", &[("MODE", "never-healthy")])?;
        vm.recorded(seq, HistoryEvent::RollbackStarted, None)?;
        vm.kill_agent()?;
        vm.start_agent()?;
        vm.recorded(seq, HistoryEvent::RolledBack, None)?;
        vm.serves(&v1)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);
        one_container_each(vm)
    });
}

#[test]
fn a_watcher_killed_at_a_publication_finds_it() {
    on_a_vm("watcher-kill", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let v2 = vm.publish_version("v2", &[])?;
        vm.kill_watcher()?;
        vm.start_watcher()?;
        vm.live(&v2).map(drop)
    });
}

fn one_container_each(vm: &Vm) -> Result<()> {
    for service in ["api", "proxy", "store"] {
        vm.engine.serving(vm.app.as_str(), service)?;
    }
    Ok(())
}
