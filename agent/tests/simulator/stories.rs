//! Whole stories: rolled out, taken back, started after a power cut, kept alive.

use std::collections::BTreeSet;

use landfall_agent::observed::{Health, Millis, RunState};
use landfall_agent::runtime::Runtime;
use landfall_agent::spec::{Condition, Order};
use landfall_agent::state::{AppState, Phase};
use landfall_agent::{ending, intents};
use landfall_core::protocol::HistoryEvent;

use crate::world::{Nature, World, candidate, good, one_shot, service, stack};

#[test]
fn the_first_release_starts_in_order_and_then_nothing_happens() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let order: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(order, ["store", "migrate", "api", "proxy"]);
    assert_eq!(world.events, [HistoryEvent::RolloutStarted, HistoryEvent::Live]);
    let before = world.mutations;
    let end = world.now + 300_000;
    world.run(Some(&candidate(&stack("v1", "api-1"), None)), &good, &|w| w.now > end);
    assert_eq!(world.mutations, before, "an unchanged deployment is zero mutations");
}

#[test]
fn only_the_changed_service_is_replaced() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let before = world.running();
    world.starts.clear();
    world.run(Some(&candidate(&stack("v2", "api-2"), None)), &good, &|w| matches!(w.state.phase, Phase::Probation(_)));
    let after = world.running();
    assert_ne!(before["api"], after["api"]);
    assert_eq!((&before["proxy"], &before["store"]), (&after["proxy"], &after["store"]));
    let started: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(started, ["api"], "the migration did not change and does not run again");
    assert_eq!(world.seen.named("web-api-1").unwrap().id, after["api"]);
    assert_eq!(world.seen.named("web-api-1-prev").unwrap().id, before["api"]);
    world.run(None, &good, &|w| w.state.phase == Phase::Idle && w.state.to_remove.is_empty());
    assert!(world.seen.named("web-api-1-prev").is_none(), "removed after probation");
}

#[test]
fn a_preview_ends_whatever_it_is_about_and_leaves_no_container() {
    let phases: [&dyn Fn(&World) -> bool; 4] = [
        &|w| matches!(w.state.phase, Phase::Preparing { .. }),
        &|w| matches!(w.state.phase, Phase::Rolling { .. }) && w.seen.named("web-api-1-prev").is_some(),
        &|w| matches!(w.state.phase, Phase::Probation(_)),
        &|w| w.state.phase == Phase::Idle && w.state.to_remove.is_empty(),
    ];
    for reached in phases {
        let mut world = World::new();
        world.roll(&stack("v1", "api-1"), &good);
        let newer = candidate(&stack("v2", "api-2"), None);
        world.run(Some(&newer), &good, reached);
        let phase = world.state.word();
        let held = AppState { hold: Some("looking at it".to_owned()), ..world.state.clone() };
        assert_eq!(ending::begin(&held, "gone"), None, "{phase}: an operator keeps it");
        world.state = ending::begin(&world.state, "gone").unwrap();
        world.run(Some(&newer), &good, &|w| w.forgotten);
        assert!(world.seen.containers.is_empty(), "{phase}: {:?}", world.seen.containers);
    }
}

#[test]
fn a_bad_release_is_taken_back_whole_by_the_same_containers() {
    for nature in [Nature::NeverWell, Nature::Crashes(0), Nature::Crashes(3000)] {
        let mut world = World::new();
        world.roll(&stack("v1", "api-1"), &good);
        let before = world.running();
        world.starts.clear();
        let mut bad = stack("v2", "api-2");
        bad.services.insert("store".into(), service("store-2", &[]));
        bad.services.insert("migrate".into(), one_shot("migrate-2", &[("store", Condition::Healthy)]));
        let natures = move |service: &str, spec: &str| if spec == "api-2" { nature } else { good(service, spec) };
        let candidate = candidate(&bad, Some(7));
        world.run(Some(&candidate), &natures, &|w| w.events.contains(&HistoryEvent::RolledBack));
        world.run(Some(&candidate), &natures, &|w| w.state.phase == Phase::Idle && w.state.to_remove.is_empty());
        assert_eq!(world.running(), before, "{nature:?}: the same container ids serve");
        let migrations = world.starts.iter().filter(|(s, _)| s == "migrate").count();
        assert_eq!(migrations, 1, "the new one ran once, the old one never on the way back");
        assert!(world.state.quarantine.contains_key(&bad.id));
        let mutations = world.mutations;
        let end = world.now + 120_000;
        world.run(Some(&candidate), &natures, &|w| w.now > end);
        assert_eq!(world.mutations, mutations, "{nature:?}: no loop");
    }
}

#[test]
fn a_higher_sequence_of_the_same_content_is_a_new_try() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let bad = stack("v2", "api-2");
    let natures = |service: &str, spec: &str| if spec == "api-2" { Nature::Crashes(0) } else { good(service, spec) };
    world.run(Some(&candidate(&bad, Some(7))), &natures, &|w| w.events.contains(&HistoryEvent::RolledBack));
    world.run(Some(&candidate(&bad, Some(8))), &good, &|w| matches!(w.state.phase, Phase::Probation(_)));
    assert_eq!(world.state.live.as_ref().unwrap().deployment.id, bad.id);
}

#[test]
fn a_failed_first_release_is_stopped_and_waits_for_a_better_one() {
    let mut world = World::new();
    let bad = stack("v1", "api-1");
    let natures = |service: &str, spec: &str| if service == "api" { Nature::NeverWell } else { good(service, spec) };
    world.run(Some(&candidate(&bad, None)), &natures, &|w| w.events.contains(&HistoryEvent::RolledBack));
    world.run(Some(&candidate(&bad, None)), &natures, &|w| w.seen.containers.is_empty());
    world.roll(&stack("v2", "api-2"), &good);
}

#[test]
fn after_a_power_cut_all_start_in_order_each_after_its_dependencies() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    for container in world.seen.containers.values_mut() {
        container.state =
            RunState::Exited { code: if container.service == "migrate" { 0 } else { 137 }, out_of_memory: false };
        container.finished_at = world.now;
        container.health = Health::Unknown;
    }
    world.starts.clear();
    world.runtime = Runtime::default();
    world.gap = true;
    let began = world.now;
    world.run(None, &good, &|w| w.running().len() == 3);
    let order: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(order, ["store", "api", "proxy"], "the one-shot does not run at a reboot");
    assert_eq!(world.starts[0].1, began, "no back-off after a power cut");
    assert!(world.starts[1].1 - world.starts[0].1 >= 1000 && world.starts[2].1 - world.starts[1].1 >= 1000);
}

#[test]
fn a_crash_loop_backs_off_and_leaves_its_neighbours() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let neighbours: BTreeSet<String> = ["proxy", "store"].iter().map(|s| world.running()[*s].clone()).collect();
    let api = world.running()["api"].clone();
    world.natures.insert(api, Nature::Crashes(200));
    world.starts.clear();
    let end = world.now + 90_000;
    world.run(None, &good, &|w| w.now > end);
    let starts: Vec<Millis> = world.starts.iter().map(|(_, at)| *at).collect();
    assert!((5..=8).contains(&starts.len()), "1, 2, 4, 8, 16, 32 s apart: {starts:?}");
    assert!(starts.windows(3).all(|w| w[2] - w[1] > w[1] - w[0]), "each pause is longer: {starts:?}");
    assert!(world.starts.iter().all(|(s, _)| s == "api"));
    assert!(neighbours.iter().all(|id| world.seen.containers[id].runs()));
}

#[test]
fn a_release_that_fails_within_probation_is_taken_back() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let before = world.running();
    let v2 = candidate(&stack("v2", "api-2"), None);
    world.run(Some(&v2), &good, &|w| matches!(w.state.phase, Phase::Probation(_)));
    let new = world.running()["api"].clone();
    world.natures.insert(new, Nature::Crashes(0));
    world.run(Some(&v2), &good, &|w| w.events.contains(&HistoryEvent::RolledBack));
    assert_eq!(world.running()["api"], before["api"]);
}

#[test]
fn start_first_stops_the_old_one_only_when_the_new_one_is_well() {
    let mut world = World::new();
    let with = |name: &str, api: &str| {
        let mut d = stack(name, api);
        d.services.get_mut("api").unwrap().order = Order::StartFirst;
        d
    };
    world.roll(&with("v1", "api-1"), &good);
    let old = world.running()["api"].clone();
    let v2 = candidate(&with("v2", "api-2"), None);
    world.run(Some(&v2), &good, &|w| {
        let well = w.seen.of_service("api").any(|c| c.runs() && c.health == Health::Healthy);
        assert!(well, "at no moment is there no api that serves");
        matches!(w.state.phase, Phase::Probation(_))
    });
    assert!(!world.seen.containers[&old].runs());
}

#[test]
fn a_newer_release_in_probation_ends_with_it_alone() {
    let mut world = World::new();
    let two = |name: &str, api: &str| {
        let mut d = stack(name, api);
        d.services.get_mut("api").unwrap().replicas = 2;
        d
    };
    world.roll(&two("v1", "api-1"), &good);
    world.run(Some(&candidate(&two("v2", "api-2"), None)), &good, &|w| matches!(w.state.phase, Phase::Probation(_)));
    let v3 = two("v3", "api-3");
    world.run(Some(&candidate(&v3, None)), &good, &|w| {
        w.state.live.as_ref().is_some_and(|g| g.deployment.id == v3.id)
            && w.state.phase == Phase::Idle
            && w.state.to_remove.is_empty()
    });
    let apis: Vec<_> = world.seen.of_service("api").collect();
    assert_eq!(apis.len(), 2);
    assert!(apis.iter().all(|c| c.runs() && c.spec.as_deref() == Some("api-3")));
}

#[test]
fn a_hold_lets_no_release_through_and_hands_off_heals_nothing() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    world.state.hold = Some("freeze".into());
    let mutations = world.mutations;
    let end = world.now + 60_000;
    world.run(Some(&candidate(&stack("v2", "api-2"), None)), &good, &|w| w.now > end);
    assert_eq!(world.mutations, mutations);
    world.state.hands_off = Some((world.now + 60_000, "debugging".into()));
    let api = world.running()["api"].clone();
    world.natures.insert(api, Nature::Crashes(0));
    let end = world.now + 50_000;
    world.run(None, &good, &|w| w.now > end);
    assert_eq!(world.mutations, mutations);
}

#[test]
fn a_paused_failure_waits_and_an_operator_can_go_back_or_try_again() {
    for go_back in [true, false] {
        let mut world = World::new();
        world.roll(&stack("v1", "api-1"), &good);
        let before = world.running();
        let mut bad = stack("v2", "api-2");
        bad.services.get_mut("api").unwrap().pause_on_failure = true;
        let natures =
            |service: &str, spec: &str| if spec == "api-2" { Nature::Crashes(0) } else { good(service, spec) };
        world.run(Some(&candidate(&bad, None)), &natures, &|w| matches!(w.state.phase, Phase::Held { .. }));
        let settled = |w: &World| w.state.phase == Phase::Idle && w.state.to_remove.is_empty();
        if go_back {
            world.state = intents::operator_rollback(&world.state, "it is worse").unwrap();
            world.run(None, &good, &settled);
            assert_eq!(world.running(), before);
        } else {
            let failed = world.state.live.clone().unwrap();
            world.state = intents::operator_retry(&world.state);
            world.run(None, &natures, &settled);
            assert!(!world.seen.containers.contains_key(&before["api"]), "the way back is given up");
            assert!(world.seen.containers.contains_key(&failed.ids("api")[0]));
        }
    }
}
