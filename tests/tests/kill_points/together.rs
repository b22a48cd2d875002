//! Two releases within one probation, and a kill of Compose between them: the last one is what is left.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use landfall_core::protocol::HistoryEvent;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{Published, ROLLOUT, Vm};
use landfall_tests::wait::{closely, eventually};

use crate::compose::{compose_of, kill_alive};

const PROBATION: Duration = Duration::from_secs(10);
const REPLICAS: usize = 2;

#[test]
fn two_releases_within_one_probation_end_with_the_last_alone() {
    on_a_vm("together", |vm| {
        let (from, to) = ("monitor: 2s }\n\n  migrate:", "monitor: 1s }\n      replicas: 2\n\n  migrate:");
        vm.project.edit("compose.yaml", from, to)?;
        vm.restart_agent_with_probation(PROBATION)?;
        vm.live(&vm.publish_version("v0", &[])?)?;
        let v1 = vm.publish_version("v1", &[])?;
        let live = vm.live(&v1)?;

        let v2 = vm.publish_version("v2", &[])?;
        let child = closely(ROLLOUT, "Compose is started", || compose_of(vm.agent_id()?))?;
        ensure!(kill_alive(child)?, "Compose was gone");
        let v3 = vm.publish_version("v3", &[])?;
        vm.live(&v3)?;

        let running = apis(vm, Some("running"))?;
        ensure!(running.len() == REPLICAS && all_are(&running, &v3), "{running:?} run, all of v3 should");
        let good = vm.recorded(live.seq, HistoryEvent::Good, Some(&v1.release))?;
        let (from, to): (Timestamp, Timestamp) = (live.at.parse()?, good.at.parse()?);
        ensure!(
            to.duration_since(from) < PROBATION.try_into()?,
            "v2 came after the probation of v1, from {from} to {to}"
        );
        eventually(ROLLOUT, "the containers of v1 and v2 are gone", || {
            let all = apis(vm, None)?;
            ensure!(
                all.len() == REPLICAS && all_are(&all, &v3),
                "{all:?}, without v1 {} and v2 {}",
                v1.image,
                v2.image
            );
            Ok(())
        })?;
        vm.serves(&v3).context("after the end of probation")
    });
}

/// The images of the api's containers in that state, or in any.
fn apis(vm: &Vm, state: Option<&str>) -> Result<Vec<String>> {
    let all = vm.engine.containers(vm.app.as_str())?.into_iter();
    let apis = all.filter(|c| c.service() == "api" && state.is_none_or(|state| c.state == state));
    Ok(apis.map(|container| container.image).collect())
}

fn all_are(images: &[String], published: &Published) -> bool {
    images.iter().all(|image| image.ends_with(&published.image.to_string()))
}
