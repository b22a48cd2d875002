//! What should run and does not is started again, with back-off, and what is well is left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::{AppStatus, HistoryEvent, Status};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::{eventually, throughout};

/// How long paused containers are watched.
const LEFT_ALONE: Duration = Duration::from_secs(3);

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
        let restarts = [("api", 1), ("migrate", 0), ("proxy", 0), ("store", 0)];
        eventually(SOON, "status counts it", || counted(&vm.status()?, restarts))?;
        let file = vm.layout().agent_status();
        eventually(SOON, "`status.json` counts it", || {
            let status: Status = serde_json::from_slice(&std::fs::read(&file)?)?;
            let same = status.apps.into_iter().find(|a| a.app == vm.app).context("it does not know the app")?;
            ensure!(same.release.as_ref() == Some(&v1.release), "{same:?}");
            counted(&same, restarts)
        })?;
        vm.stop_agent()?;
        ensure!(!file.exists(), "a status that nobody keeps is left");
        Ok(())
    });
}

fn counted(app: &AppStatus, restarts: [(&str, u32); 4]) -> Result<()> {
    let counts: Vec<(&str, u32)> = app.services.iter().map(|s| (s.service.as_str(), s.restarts)).collect();
    ensure!(counts == restarts, "{counts:?}");
    Ok(())
}

#[test]
fn a_container_removed_by_hand_comes_back() {
    on_a_vm("removed", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        vm.engine.remove(&before["api"])?;
        vm.serves(&v1)?;
        let after = vm.engine.serving_ids(&app)?;
        ensure!(after["api"] != before["api"], "the container that was removed serves");
        for neighbour in ["proxy", "store"] {
            assert_eq!(before[neighbour], after[neighbour], "{neighbour}");
        }
        // And it is the release's own from then on.
        eventually(SOON, "status knows it", || {
            let status = vm.status()?;
            let api = status.services.iter().find(|s| s.service == "api").context("status has no api")?;
            ensure!(api.state == "healthy", "{api:?}");
            Ok(())
        })?;
        vm.live(&vm.publish_version("v2", &[])?).map(drop)
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
        let seq = vm.last_seq()?;
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
        let entry = vm.recorded(seq, HistoryEvent::Recovered, None)?;
        assert_eq!(entry.services, ["api", "proxy", "store"]);
        ensure!(entry.took_ms.is_some(), "{entry:?}");
        let after: Vec<_> = vm.history()?.into_iter().filter(|e| e.seq > seq).map(|e| e.event).collect();
        assert_eq!(after, [HistoryEvent::Recovered], "one story, not one entry for each service");
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

/// What cannot be read of the ledger stops releases, not supervision; a person ends it.
#[test]
fn a_garbled_ledger_is_held_and_the_stack_is_supervised() {
    on_a_vm("garbled", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let ledger = vm.layout().ledger(&vm.app);
        vm.kill_agent()?;
        let damaged = std::fs::read_to_string(&ledger)? + "{\"format\":1,\"app\":\n";
        std::fs::write(&ledger, &damaged)?;
        vm.engine.kill(&before["api"])?;
        // Twice: what follows from the damage survives a restart.
        for _ in 0..2 {
            vm.start_agent()?;
            vm.serves(&v1)?;
            assert_eq!(vm.engine.serving_ids(&app)?, before, "the same containers, the api started again");
            eventually(SOON, "status says it on the app", || {
                let status = vm.status()?;
                let reason = status.reason.unwrap_or_default();
                ensure!(status.state == "held", "{}: {reason}", status.state);
                ensure!(reason.contains("is garbled") && reason.contains("`landfall retry`"), "{reason}");
                Ok(())
            })?;
            vm.kill_agent()?;
        }
        let kept = ledger.with_file_name(format!("{app}.jsonl.garbled-1"));
        assert_eq!(std::fs::read_to_string(&kept)?, damaged, "nothing is lost");
        vm.start_agent()?;
        let v2 = vm.publish_version("v2", &[])?;
        eventually(SOON, "v2 is staged", || {
            ensure!(vm.channel_file()?.release.as_ref() == Some(&v2.release), "it is not");
            Ok(())
        })?;
        throughout(Duration::from_secs(3), "no release changes", || {
            ensure!(vm.ask()?.version == "v1", "v2 is served");
            Ok(())
        })?;
        let ran = vm.landfall(&["retry"])?;
        ensure!(ran.code == 0, "{}", ran.stderr);
        vm.live(&v2).map(drop)
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

/// Whoever pauses a container looks into it: the Engine calls it unhealthy meanwhile, and we leave it alone.
#[test]
fn a_container_paused_by_hand_is_left_alone() {
    on_a_vm("paused", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let seq = vm.last_seq()?;
        vm.engine.pause(&app, true)?;
        eventually(SOON, "status says so", || {
            let words: Vec<String> = vm.status()?.services.into_iter().map(|service| service.state).collect();
            ensure!(words.iter().filter(|word| *word == "paused").count() == 3, "{words:?}");
            Ok(())
        })?;
        throughout(LEFT_ALONE, "nobody touches them", || {
            let states: Vec<_> =
                vm.engine.containers(&app)?.into_iter().map(|c| (c.service().to_owned(), c.state)).collect();
            let touched = states.iter().find(|(service, state)| state != "paused" && service != "migrate");
            touched.map_or(Ok(()), |(service, state)| Err(anyhow::anyhow!("`{service}` is {state}")))
        })?;
        vm.engine.pause(&app, false)?;
        vm.serves(&v1)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);
        ensure!(vm.last_seq()? == seq, "{:?}", vm.history()?);
        Ok(())
    });
}
