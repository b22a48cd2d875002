//! Start-first under load. In a binary of its own, and one after the other, so that no other test loads the machine beside it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use landfall_tests::load::{Answers, Load};
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::suite::{on_a_vm, on_a_vm_of};
use landfall_tests::tour::reads;
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;
use serde_json::json;

/// Requests a second.
const RATE: u32 = 200;
const ROLLOUTS: usize = 10;
/// The api's, in both fixtures.
const STOP_FIRST: &str = "update_config: { monitor: 2s }\n\n  migrate:";
const START_FIRST: &str = "update_config: { monitor: 1s, order: start-first }\n\n  migrate:";
/// Another consumer of the api's secret, and three more secrets.
const MORE: &str = "  worker:
    image: registry.example/sample/base:1
    command: [\"store\"]
    secrets: [API_KEY, THIRD]
    deploy: { resources: { limits: { memory: 32M } } }

volumes:
  data: {}

secrets:
  THIRD: { external: true, name: third }
  FOURTH: { external: true, name: fourth }
  FIFTH: { external: true, name: fifth }
";

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All answers, another second of load included: also with the last of the old containers gone.
fn ended(load: Load) -> Result<Answers> {
    let sent = load.so_far().0.len();
    eventually(SOON, "another second of load", || {
        let more = load.so_far().0.len() - sent;
        ensure!(more >= RATE as usize, "{more} requests more");
        Ok(())
    })?;
    Ok(load.stop())
}

#[test]
fn ten_rollouts_in_a_row_lose_no_request() {
    let _alone = alone();
    on_a_vm("start-first", |vm| {
        vm.project.edit("compose.yaml", STOP_FIRST, START_FIRST)?;
        vm.live(&vm.publish_version("v0", &[])?)?;

        let load = Load::start(&vm.url(), RATE)?;
        for number in 1..=ROLLOUTS {
            vm.live(&vm.publish_version(&format!("v{number}"), &[])?)?;
        }
        let answers = ended(load)?;
        let failures = answers.failures();
        ensure!(failures.is_empty(), "{} of {} requests failed: {failures:#?}", failures.len(), answers.0.len());
        let versions: Vec<String> = (0..=ROLLOUTS).map(|number| format!("v{number}")).collect();
        assert_eq!(answers.versions(), versions);
        eprintln!("{} requests through {ROLLOUTS} rollouts, none failed", answers.0.len());
        Ok(())
    });
}

#[test]
fn a_rotation_of_one_of_five_secrets_replaces_its_consumers_and_loses_no_request() {
    let _alone = alone();
    on_a_vm_of("secrets", "rotation-first", |vm| {
        let registry = vm.registry.address().to_owned();
        vm.project.edit("compose.yaml", STOP_FIRST, START_FIRST)?;
        vm.project.edit(
            "compose.yaml",
            "volumes:\n  data: {}\n\nsecrets:\n",
            &MORE.replace("registry.example", &registry),
        )?;
        vm.project.edit("compose.yaml", "    ports: [", "    secrets: [FOURTH]\n    ports: [")?;
        vm.project.edit("compose.yaml", "mode: 0400 }]", "mode: 0400 }, FIFTH]")?;
        let sandbox = vm.sandbox("kv")?;
        sandbox.grant("kv", "system", Grant::GET)?;
        for name in ["api-key", "store-key", "third", "fourth", "fifth"] {
            sandbox.set_secret("kv", name, "first")?;
        }
        vm.configure_vaults(&json!({ "default": { "url": sandbox.vault_url("kv")?, "refresh": "1s" } }))?;
        vm.start_fetcher(&sandbox)?;
        vm.start()?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let load = Load::start(&vm.url(), RATE)?;

        sandbox.set_secret("kv", "api-key", "second")?;
        reads(vm, "second")?;
        let after = eventually(SOON, "both consumers are replaced", || {
            let after = vm.engine.serving_ids(vm.app.as_str())?;
            ensure!(after.get("worker") != before.get("worker") && vm.status()?.reason.is_none(), "{after:?}");
            Ok(after)
        })?;
        let changed: Vec<&String> = before.keys().filter(|name| after.get(*name) != before.get(*name)).collect();
        assert_eq!(changed, ["api", "worker"]);
        let answers = ended(load)?;
        let failures = answers.failures();
        ensure!(failures.is_empty(), "{} of {} requests failed: {failures:#?}", failures.len(), answers.0.len());
        Ok(())
    });
}
