//! What should run and does not is started again, with back-off, and what is well is left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::{eventually, throughout};

#[test]
fn a_killed_container_is_started_again() {
    on_a_vm("killed", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let seq = vm.last_seq()?;
        vm.engine.kill(&before["api"])?;
        let entry = vm.recorded(seq, HistoryEvent::Restarted, None)?;
        assert_eq!(entry.services, ["api"]);
        vm.serves(&v1)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before, "the same containers, the api started again");
        Ok(())
    });
}

/// All containers at once, the agent too: they come back in the order of their dependencies.
#[test]
fn a_stack_that_is_down_comes_back_in_order() {
    on_a_vm("down", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let ran_migration = finished_at(vm, "migrate")?;
        vm.kill_agent()?;
        for id in before.values() {
            vm.engine.kill(id)?;
        }
        vm.start_agent()?;
        vm.serves(&v1)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);
        let [store, api, proxy] = ["store", "api", "proxy"].map(|name| started_at(vm, &before[name]));
        let (store, api, proxy) = (store?, api?, proxy?);
        ensure!(store < api && api < proxy, "started at {store} (store), {api} (api), {proxy} (proxy)");
        assert_eq!(finished_at(vm, "migrate")?, ran_migration, "a migration that completed does not run again");
        Ok(())
    });
}

/// `MODE=crash-again`: it serves once, and crashes whenever it is started again.
#[test]
fn a_crash_loop_backs_off_and_takes_no_neighbour_along() {
    on_a_vm("crash-loop", |vm| {
        vm.live(&vm.publish_version("v1", &[("MODE", "crash-again")])?)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let [store, proxy] = ["store", "proxy"].map(|name| started_at(vm, &before[name]));
        let (store, proxy) = (store?, proxy?);
        vm.engine.kill(&before["api"])?;

        let mut starts = BTreeSet::from([started_at(vm, &before["api"])?]);
        throughout(Duration::from_secs(16), "the neighbours run on", || {
            starts.insert(started_at(vm, &before["api"])?);
            ensure!(started_at(vm, &before["store"])? == store, "the store was started again");
            ensure!(started_at(vm, &before["proxy"])? == proxy, "the proxy was started again");
            Ok(())
        })?;
        // After 1, 2, 4 and 8 s; without back-off it would be once every 0.5 s.
        let again = starts.len() - 1;
        ensure!((2..=5).contains(&again), "it was started again {again} times in 16 s");
        eventually(SOON, "status says so", || {
            let status = vm.status()?;
            let api = status.services.iter().find(|s| s.service == "api").context("status has no api")?;
            ensure!(api.state == "backing-off" && api.restarts >= 2, "{api:?}");
            Ok(())
        })
    });
}

fn started_at(vm: &Vm, container: &str) -> Result<String> {
    state(vm, container, "StartedAt")
}

fn finished_at(vm: &Vm, service: &str) -> Result<String> {
    let containers = vm.engine.containers(vm.app.as_str())?;
    let container = containers.iter().find(|c| c.service() == service).with_context(|| format!("no `{service}`"))?;
    state(vm, &container.id, "FinishedAt")
}

fn state(vm: &Vm, container: &str, field: &str) -> Result<String> {
    Ok(vm.engine.inspect(container)?["State"][field].as_str().context("no such field")?.to_owned())
}
