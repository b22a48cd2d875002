//! Data directories that were not shut down cleanly: told once, and started, left for a person or repaired, whatever dies meanwhile.

use landfall_agent::intents;
use landfall_agent::observed::{Millis, RunState};
use landfall_agent::runtime::Runtime;
use landfall_agent::spec::Deployment;
use landfall_agent::state::Phase;
use landfall_agent::unclean::{Then, Unclean};
use landfall_core::protocol::HistoryEvent;

use crate::world::{Nature, World, candidate, good, stack};

const REPAIR: &str = "landfall-repair-store";

fn with(name: &str, store: &str, then: Then) -> Deployment {
    let mut deployment = stack(name, "api-1");
    let spec = deployment.services.get_mut("store").unwrap();
    store.clone_into(&mut spec.spec);
    spec.restart.window = std::time::Duration::from_mins(10);
    spec.unclean = Some(Unclean {
        file: "/data/lock".to_owned(),
        then,
        repair: vec!["repair".to_owned()],
        within: 60_000,
        user: None,
        entrypoint: None,
    });
    deployment
}

/// The repair takes 3 s.
fn natures(service: &str, spec: &str) -> Nature {
    if service == REPAIR { Nature::Completes(3000) } else { good(service, spec) }
}

fn rolled(then: Then) -> World {
    let mut world = World::new();
    world.roll(&with("v1", "store-1", then), &natures);
    assert_eq!(world.events, [HistoryEvent::RolloutStarted, HistoryEvent::Live]);
    world.events.clear();
    world.starts.clear();
    world
}

/// kill -9 of the store, so that its lock file stays.
fn kill(world: &mut World) {
    let (id, now) = (world.running()["store"].clone(), world.now);
    let store = world.seen.containers.get_mut(&id).unwrap();
    store.state = RunState::Exited { code: 137, out_of_memory: false };
    store.finished_at = now;
}

fn serves(world: &World) -> bool {
    world.running().contains_key("store")
}

fn goes_on(world: &mut World, natures: &dyn Fn(&str, &str) -> Nature, by: Millis) {
    let end = world.now + by;
    world.run(None, natures, &|w| w.now > end);
}

fn repairs(world: &World) -> usize {
    world.starts.iter().filter(|(service, _)| service == REPAIR).count()
}

#[test]
fn what_ended_in_order_is_looked_at_and_nothing_is_told() {
    let mut world = rolled(Then::Repair);
    let looks = world.looks;
    assert!(looks > 0);
    world.run(Some(&candidate(&with("v2", "store-2", Then::Repair), None)), &natures, &|w| {
        matches!(w.state.phase, Phase::Probation(_))
    });
    assert!(world.looks > looks);
    assert_eq!(world.events, [HistoryEvent::RolloutStarted, HistoryEvent::Live]);
    let looks = world.looks;
    goes_on(&mut world, &natures, 60_000);
    assert_eq!(world.looks, looks, "nobody looks at what runs");
}

#[test]
fn it_is_told_and_started_all_the_same() {
    let mut world = rolled(Then::Start);
    kill(&mut world);
    world.run(None, &natures, &serves);
    assert_eq!(world.events, [HistoryEvent::Unclean]);
    assert_eq!(world.state.incidents.len(), 1);
    // The next end is an orderly one, and nothing is left to say.
    let id = world.running()["store"].clone();
    world.apply(&landfall_agent::converge::Step::Stop { id, grace: 10 });
    world.run(None, &natures, &serves);
    assert_eq!(world.events, [HistoryEvent::Unclean]);
    assert!(world.state.incidents.is_empty());
}

#[test]
fn who_waits_is_started_when_a_person_has_repaired_or_says_so() {
    for retried in [false, true] {
        let mut world = rolled(Then::Wait);
        kill(&mut world);
        goes_on(&mut world, &natures, 120_000);
        assert!(!serves(&world), "it waits");
        assert_eq!(world.events, [HistoryEvent::Unclean], "told once");
        // Another agent knows it too.
        world.runtime = Runtime::default();
        goes_on(&mut world, &natures, 60_000);
        assert!(!serves(&world) && world.events == [HistoryEvent::Unclean]);
        if retried {
            world.state = intents::operator_retry(&world.state);
        } else {
            // The file is empty before the repair is over.
            world.locked.remove("store");
            world.person_repairs = true;
            goes_on(&mut world, &natures, 20_000);
            assert!(!serves(&world), "started under the hands of who repairs");
            world.person_repairs = false;
        }
        let began = world.now;
        world.run(None, &natures, &serves);
        assert!(world.now - began <= 5000, "after {} ms", world.now - began);
        assert_eq!(world.state.incidents.is_empty(), !retried);
    }
}

#[test]
fn it_is_repaired_once_and_started() {
    let mut world = rolled(Then::Repair);
    kill(&mut world);
    world.run(None, &natures, &|w| serves(w) && w.seen.of_service(REPAIR).next().is_none());
    assert_eq!(world.events, [HistoryEvent::Unclean, HistoryEvent::Repaired]);
    assert_eq!(repairs(&world), 1);
    let order: Vec<&str> = world.starts.iter().map(|(service, _)| service.as_str()).collect();
    assert_eq!(order, [REPAIR, "store"]);
    assert!(world.starts[1].1 - world.starts[0].1 >= 3000);
}

/// Wherever the agent dies, it finds the repair again: `World::create_repair` refuses a second one of the name.
#[test]
fn an_agent_that_dies_in_a_repair_goes_on_with_it() {
    for after in [0, 100, 1500, 2900, 3100] {
        let mut world = rolled(Then::Repair);
        kill(&mut world);
        world.run(None, &natures, &|w| w.seen.of_service(REPAIR).next().is_some());
        goes_on(&mut world, &natures, after);
        world.runtime = Runtime::default();
        world.gap = true;
        world.run(None, &natures, &serves);
        assert_eq!(repairs(&world), 1, "after {after} ms");
        assert_eq!(world.events, [HistoryEvent::Unclean, HistoryEvent::Repaired]);
    }
}

#[test]
fn a_repair_that_fails_or_takes_too_long_waits_for_a_person() {
    for nature in [Nature::Crashes(1000), Nature::NeverWell] {
        let bad = |service: &str, spec: &str| if service == REPAIR { nature } else { natures(service, spec) };
        let mut world = rolled(Then::Repair);
        kill(&mut world);
        goes_on(&mut world, &bad, 300_000);
        assert!(!serves(&world), "{nature:?}");
        assert_eq!(world.events, [HistoryEvent::Unclean, HistoryEvent::RepairFailed], "{nature:?}");
        assert_eq!(repairs(&world), 1, "{nature:?}");
        assert!(world.seen.of_service(REPAIR).next().is_none(), "{nature:?}: it is left behind");
        world.state = intents::operator_retry(&world.state);
        world.run(None, &bad, &serves);
    }
}

#[test]
fn what_a_repair_does_not_help_is_not_repaired_for_ever() {
    let mut world = rolled(Then::Repair);
    let id = world.running()["store"].clone();
    world.natures.insert(id, Nature::Crashes(2000));
    goes_on(&mut world, &natures, 300_000);
    assert_eq!(repairs(&world), 1);
    assert!(!serves(&world));
    assert_eq!(world.events, [HistoryEvent::Unclean, HistoryEvent::Repaired, HistoryEvent::Unclean]);
}

/// A first release over a volume whose store died with another machine: dependents wait, the rollout does not fail.
#[test]
fn a_first_release_over_an_old_volume_waits_in_its_rollout() {
    let mut world = World::new();
    world.locked.insert("store".to_owned());
    let first = candidate(&with("v1", "store-1", Then::Wait), None);
    let end = world.now + 120_000;
    world.run(Some(&first), &natures, &|w| w.now > end);
    assert!(world.running().is_empty() && matches!(world.state.phase, Phase::Rolling { .. }));
    world.locked.remove("store");
    world.run(Some(&first), &natures, &|w| w.state.live.is_some());
    assert_eq!(world.events, [HistoryEvent::RolloutStarted, HistoryEvent::Unclean, HistoryEvent::Live]);
}

/// A store that is ill is stopped and started, not restarted: its lock file is looked at in between.
#[test]
fn a_restart_is_a_stop_and_a_start() {
    let mut world = rolled(Then::Wait);
    let id = world.running()["store"].clone();
    world.seen.containers.get_mut(&id).unwrap().health = landfall_agent::observed::Health::Unhealthy;
    let looks = world.looks;
    world.run(None, &natures, &|w| w.looks > looks && serves(w));
    assert!(world.events.is_empty());
}
