//! Two releases within one probation, and a kill of Compose between them: the last one is what is left.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use landfall_core::protocol::{HistoryEntry, HistoryEvent};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{Published, ROLLOUT, Vm};
use landfall_tests::wait::eventually;

use crate::compose::{kill_alive, started, told};
use crate::drill::publish_beside;

const PROBATION: Duration = Duration::from_secs(10);
const REPLICAS: usize = 2;
/// Compose may end before it is met.
const TRIES: u32 = 5;

#[test]
fn two_releases_within_one_probation_end_with_the_last_alone() {
    on_a_vm("together", |vm| {
        let (from, to) = ("monitor: 2s }\n\n  migrate:", "monitor: 1s }\n      replicas: 2\n\n  migrate:");
        vm.project.edit("compose.yaml", from, to)?;
        vm.restart_agent_with_probation(PROBATION)?;
        vm.live(&vm.publish_version("v0", &[])?)?;
        let live = killed_within_probation(vm)?;
        let last = vm.publish_version("last", &[])?;
        vm.live(&last)?;

        let running = apis(vm, Some("running"))?;
        ensure!(running.len() == REPLICAS && all_are(&running, &last), "{running:?} run, not the last release alone");
        let next = vm.recorded(live.seq, HistoryEvent::RolloutStarted, None)?;
        let (from, to): (Timestamp, Timestamp) = (live.at.parse()?, next.at.parse()?);
        ensure!(to.duration_since(from) < PROBATION.try_into()?, "probation had ended by time, from {from} to {to}");
        let refused: Vec<_> = vm.history()?.into_iter().filter(|e| e.event == HistoryEvent::Refused).collect();
        ensure!(refused.is_empty(), "{refused:?}");
        eventually(ROLLOUT, "the containers of all others are gone", || {
            let all = apis(vm, None)?;
            ensure!(all.len() == REPLICAS && all_are(&all, &last), "{all:?}, not {} alone", last.image);
            Ok(())
        })?;
        vm.serves(&last).context("after the end of probation")
    });
}

/// Lets a release go live and, while it is on probation, publishes another whose Compose is killed. Says when it went live.
fn killed_within_probation(vm: &mut Vm) -> Result<HistoryEntry> {
    for attempt in 1..=TRIES {
        let first = vm.publish_version(&format!("v{attempt}a"), &[])?;
        let live = vm.live(&first)?;
        let (second, killed) = publish_beside(vm, &format!("v{attempt}b"), &[], || {
            let child = started(vm)?;
            told(vm, "probation")?;
            kill_alive(child)
        })?;
        if killed {
            return Ok(live);
        }
        vm.live(&second)?;
    }
    bail!("Compose was gone before it could be killed, {TRIES} times")
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
