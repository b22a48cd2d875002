//! Stories of what a release can look like: replicas, networks, namespaces, ports that move, containers that somebody removed.

use std::time::Duration;

use landfall_agent::converge::Step;
use landfall_agent::decide::Decision;
use landfall_agent::observed::{Health, RunState};
use landfall_agent::spec::{Condition, Dependency, Deployment, NetworkSpec};
use landfall_agent::startups::StartUp;
use landfall_agent::state::Phase;
use landfall_core::protocol::HistoryEvent;

use crate::world::{Nature, World, candidate, deployment, good, service, stack};

fn is_idle(world: &World) -> bool {
    world.state.phase == Phase::Idle && world.state.to_remove.is_empty() && world.state.recreation.is_none()
}

fn in_probation(world: &World) -> bool {
    matches!(world.state.phase, Phase::Probation(_))
}

fn serving(world: &World, name: &str) -> usize {
    world.seen.of_service(name).filter(|c| c.runs() && c.health == Health::Healthy).count()
}

/// `delay` between replicas: by default one after the other, so that the others serve.
#[test]
fn replicas_are_replaced_one_group_after_the_other() {
    for (parallelism, least) in [(1, 2), (2, 1), (0, 0)] {
        let three = |name: &str, api: &str| {
            let mut d = stack(name, api);
            let spec = d.services.get_mut("api").unwrap();
            (spec.replicas, spec.parallelism, spec.delay) = (3, parallelism, Duration::from_secs(5));
            d
        };
        let mut world = World::new();
        world.roll(&three("v1", "api-1"), &good);
        world.starts.clear();
        let mut fewest = 3;
        world.run(Some(&candidate(&three("v2", "api-2"), None)), &good, &|w| {
            assert!(serving(w, "api") >= least, "parallelism {parallelism}: {} serve", serving(w, "api"));
            in_probation(w)
        });
        fewest = fewest.min(serving(&world, "api"));
        assert_eq!(fewest, 3);
        let starts: Vec<_> = world.starts.iter().filter(|(s, _)| s == "api").map(|(_, at)| *at).collect();
        assert_eq!(starts.len(), 3);
        let groups = starts.windows(2).filter(|w| w[1] - w[0] >= 5000).count();
        assert_eq!(groups, [2, 1, 0][usize::from(parallelism != 1) + usize::from(parallelism == 0)], "{starts:?}");
    }
}

#[test]
fn start_first_replicas_leave_one_by_one() {
    let two = |name: &str, api: &str| {
        let mut d = stack(name, api);
        let spec = d.services.get_mut("api").unwrap();
        (spec.replicas, spec.order) = (2, landfall_agent::spec::Order::StartFirst);
        d
    };
    let mut world = World::new();
    world.roll(&two("v1", "api-1"), &good);
    world.run(Some(&candidate(&two("v2", "api-2"), None)), &good, &|w| {
        let running = w.seen.of_service("api").filter(|c| c.runs()).count();
        assert!((2..=3).contains(&running), "{running} run: memory for one more was admitted");
        assert!(serving(w, "api") >= 2);
        in_probation(w)
    });
    let names: Vec<&str> = world.seen.of_service("api").filter(|c| c.runs()).map(|c| c.name.as_str()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"web-api-1") && names.contains(&"web-api-2"), "{names:?}");
}

#[test]
fn a_changed_network_goes_when_nothing_leads_back_to_it() {
    let on = |name: &str, api: &str, network: &str| {
        let mut d = stack(name, api);
        d.networks.insert(network.to_owned(), NetworkSpec { key: "default".to_owned(), hash: network.to_owned() });
        d
    };
    let mut world = World::new();
    world.roll(&on("v1", "api-1", "web_default"), &good);
    let v2 = candidate(&on("v2", "api-2", "web_default_1"), None);
    world.run(Some(&v2), &good, &in_probation);
    assert_eq!(world.removed_networks, [""; 0], "the way back still needs it");
    world.run(Some(&v2), &good, &|w| is_idle(w) && w.state.networks_to_remove.is_empty());
    assert_eq!(world.removed_networks, ["web_default"]);
    let bad = |service: &str, spec: &str| if spec == "api-3" { Nature::Crashes(0) } else { good(service, spec) };
    let v3 = candidate(&on("v3", "api-3", "web_default_2"), None);
    world.run(Some(&v3), &bad, &|w| w.events.contains(&HistoryEvent::RolledBack));
    world.run(Some(&v3), &bad, &|w| is_idle(w) && w.state.networks_to_remove.is_empty());
    assert_eq!(world.removed_networks, ["web_default", "web_default_2"]);
}

/// `sidecar` shares the api's network.
fn with_sidecar(name: &str, api: &str, sidecar: &str) -> Deployment {
    let mut d = stack(name, api);
    let mut side = service(sidecar, &[("api", Condition::Started)]);
    side.namespace_of = Some("api".to_owned());
    side.shared_namespaces = vec!["network_mode".to_owned()];
    d.services.insert("sidecar".to_owned(), side);
    d
}

#[test]
fn services_that_share_a_namespace_are_replaced_together_and_return_together() {
    let mut world = World::new();
    world.roll(&with_sidecar("v1", "api-1", "side-1"), &good);
    let before = world.running();
    let v2 = candidate(&with_sidecar("v2", "api-2", "side-1"), None);
    world.run(Some(&v2), &good, &in_probation);
    let after = world.running();
    assert_ne!(before["api"], after["api"]);
    assert_ne!(before["sidecar"], after["sidecar"], "it shares a namespace with one that was replaced");
    assert_eq!(before["proxy"], after["proxy"]);
    // The sidecar alone: its owner stays.
    let mut other = World::new();
    other.roll(&with_sidecar("v1", "api-1", "side-1"), &good);
    let before = other.running();
    other.run(Some(&candidate(&with_sidecar("v2", "api-1", "side-2"), None)), &good, &in_probation);
    assert_eq!(before["api"], other.running()["api"]);
    // And back: the old ones, the sidecar after its owner.
    let bad = |service: &str, spec: &str| if spec == "api-3" { Nature::NeverWell } else { good(service, spec) };
    let before = other.running();
    let v3 = candidate(&with_sidecar("v3", "api-3", "side-2"), None);
    other.run(Some(&v3), &bad, &|w| w.events.contains(&HistoryEvent::RolledBack));
    assert_eq!(before, other.running());
    let since = |name: &str| other.seen.containers[&before[name]].started_at;
    assert!(since("sidecar") >= since("api"));
}

#[test]
fn who_shares_a_namespace_is_started_again_after_its_owner() {
    let mut world = World::new();
    world.roll(&with_sidecar("v1", "api-1", "side-1"), &good);
    let ids = world.running();
    let api = world.seen.containers.get_mut(&ids["api"]).unwrap();
    (api.state, api.finished_at, api.health) =
        (RunState::Exited { code: 1, out_of_memory: false }, world.now, Health::Unknown);
    world.starts.clear();
    let end = world.now + 20_000;
    world.run(None, &good, &|w| w.now > end);
    let order: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(order, ["api", "sidecar"], "and the proxy, which shares nothing, runs on");
    assert_eq!(world.running(), ids);
}

#[test]
fn restart_true_follows_a_replacement_and_not_a_crash() {
    let with = |name: &str, api: &str| {
        let mut d = stack(name, api);
        let edge = Dependency { service: "api".to_owned(), condition: Condition::Healthy, restart: true };
        d.services.get_mut("proxy").unwrap().depends_on = vec![edge];
        d
    };
    let mut world = World::new();
    world.roll(&with("v1", "api-1"), &good);
    let proxy = world.running()["proxy"].clone();
    world.starts.clear();
    world.run(Some(&candidate(&with("v2", "api-2"), None)), &good, &in_probation);
    let order: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(order, ["api", "proxy"]);
    assert_eq!(world.running()["proxy"], proxy, "the same container, started again");
    world.run(None, &good, &is_idle);
    world.starts.clear();
    let api = world.running()["api"].clone();
    let crashed = world.seen.containers.get_mut(&api).unwrap();
    (crashed.state, crashed.finished_at) = (RunState::Exited { code: 1, out_of_memory: false }, world.now);
    let end = world.now + 20_000;
    world.run(None, &good, &|w| w.now > end);
    let order: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(order, ["api"]);
}

/// The release calls the service that has the port by another name: the old one must go first.
#[test]
fn a_port_that_moves_to_another_service_is_free_before_it_starts() {
    let one = |name: &str, ingress: &str| {
        let mut spec = service(ingress, &[]);
        spec.host_ports = vec!["0.0.0.0:80/tcp".to_owned()];
        deployment(name, &[(ingress, spec)])
    };
    let mut world = World::new();
    world.roll(&one("v1", "old-ingress"), &good);
    let old = world.running()["old-ingress"].clone();
    world.run(Some(&candidate(&one("v2", "ingress"), None)), &good, &|w| {
        let both = w.seen.containers.values().filter(|c| c.runs()).count();
        assert!(both <= 1, "two containers on one port");
        in_probation(w)
    });
    assert!(!world.seen.containers[&old].runs());
    let bad = |_: &str, spec: &str| if spec == "third" { Nature::Crashes(0) } else { Nature::Well(100) };
    world.run(None, &bad, &is_idle);
    let before = world.running();
    let v3 = candidate(&one("v3", "third"), None);
    world.run(Some(&v3), &bad, &|w| w.events.contains(&HistoryEvent::RolledBack));
    assert_eq!(world.running(), before);
}

#[test]
fn a_container_that_somebody_removed_is_made_again() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let before = world.running();
    // With the completed migration, as `docker container prune` does.
    let gone: Vec<String> = world
        .seen
        .containers
        .values()
        .filter(|c| ["api", "migrate"].contains(&c.service.as_str()))
        .map(|c| c.id.clone())
        .collect();
    for id in gone {
        world.seen.containers.remove(&id);
    }
    world.starts.clear();
    world.run(None, &good, &|w| is_idle(w) && serving(w, "api") == 1);
    let after = world.running();
    assert_ne!(before["api"], after["api"]);
    assert_eq!((&before["store"], &before["proxy"]), (&after["store"], &after["proxy"]));
    let order: Vec<&str> = world.starts.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(order, ["api"], "a migration that completed is not missed");
    assert_eq!(world.seen.named("web-api-1").unwrap().id, after["api"]);
    assert_eq!(world.events.last(), Some(&HistoryEvent::Restarted));
    let mutations = world.mutations;
    let end = world.now + 60_000;
    world.run(None, &good, &|w| w.now > end);
    assert_eq!(world.mutations, mutations, "once");
}

#[test]
fn the_way_back_is_made_again_where_somebody_removed_it() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let old = world.running()["api"].clone();
    let v2 = candidate(&stack("v2", "api-2"), None);
    world.run(Some(&v2), &good, &in_probation);
    world.seen.containers.remove(&old);
    let new = world.running()["api"].clone();
    world.natures.insert(new, Nature::Crashes(0));
    world.run(Some(&v2), &good, &|w| w.events.contains(&HistoryEvent::RolledBack));
    let api = &world.seen.containers[&world.running()["api"]];
    assert_eq!(api.spec.as_deref(), Some("api-1"));
}

#[test]
fn what_a_person_made_in_its_place_is_taken() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    let old = world.running()["api"].clone();
    let mut made = world.seen.containers.remove(&old).unwrap();
    made.id = format!("{:08}{:056}", 999, 0);
    world.natures.insert(made.id.clone(), Nature::Well(100));
    world.seen.containers.insert(made.id.clone(), made);
    let mutations = world.mutations;
    let end = world.now + 30_000;
    world.run(None, &good, &|w| w.now > end);
    assert_eq!(world.mutations, mutations);
    assert_eq!(world.state.live.as_ref().unwrap().ids("api"), [format!("{:08}{:056}", 999, 0)]);
}

/// The way back stays open while the next release is prepared.
#[test]
fn a_release_that_cannot_be_prepared_leaves_the_probation_before_it_as_it_was() {
    let mut world = World::new();
    world.roll(&stack("v1", "api-1"), &good);
    world.run(Some(&candidate(&stack("v2", "api-2"), None)), &good, &in_probation);
    let armed = world.state.phase.clone();
    let machine_sees = world.decide(Some(&candidate(&stack("v3", "api-3"), None)));
    let landfall_agent::decide::Decision::Move(state, None) = machine_sees else { panic!("{machine_sees:?}") };
    assert!(matches!(state.phase, Phase::Preparing { .. }));
    let (state, note) = landfall_agent::preparation::could_not_prepare(&state, "no space left");
    assert_eq!((state.phase, note.is_none()), (armed, true));
}

/// Four services that need a core each while they start, and four that only sleep: two cores.
#[test]
fn a_cold_start_gives_cores_to_those_who_need_them_and_lets_the_others_sleep_beside() {
    let names = ["a-burns", "b-burns", "c-burns", "d-burns", "w-sleeps", "x-sleeps", "y-sleeps", "z-sleeps"];
    let specs: Vec<_> = names.iter().map(|name| (*name, service(name, &[]))).collect();
    let all = deployment("v1", &specs);
    let well = |_: &str, _: &str| Nature::Well(1000);
    let mut world = World::new();
    world.roll(&all, &well);
    for name in names {
        let cpu = if name.ends_with("burns") { 1000 } else { 20 };
        world.startups.learn(name, StartUp { took: 1000, cpu, probing: 0, at_most: false });
    }
    world.budget = landfall_agent::startups::budget(2);
    for container in world.seen.containers.values_mut() {
        container.state = RunState::Exited { code: 137, out_of_memory: false };
        (container.finished_at, container.health) = (world.now, Health::Unknown);
    }
    world.gap = true;
    world.starts.clear();
    let began = world.now;
    world.run(None, &well, &|w| {
        let burning = w.seen.containers.values().filter(|c| c.runs() && c.health != Health::Healthy);
        assert!(burning.filter(|c| c.service.ends_with("burns")).count() <= 2);
        names.iter().all(|name| serving(w, name) == 1)
    });
    assert!(world.now - began < 3500, "{} ms: the sleepers slept beside the four that burn", world.now - began);
}

/// What was never seen starting is supposed to need a core.
#[test]
fn a_first_release_starts_no_more_at_once_than_the_machine_has_cores_for() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let all = deployment("v1", &names.map(|name| (name, service(name, &[]))));
    let well = |_: &str, _: &str| Nature::Well(1000);
    let mut world = World::new();
    world.budget = landfall_agent::startups::budget(2);
    let began = world.now;
    world.run(Some(&candidate(&all, None)), &well, &|w| {
        let starting = w.seen.containers.values().filter(|c| c.runs() && c.health != Health::Healthy);
        assert!(starting.count() <= 2);
        names.iter().all(|name| serving(w, name) == 1)
    });
    assert!(world.now - began < 4000, "{} ms for six starts of a second, two at a time", world.now - began);
}

/// `a`, `b` is the longest chain. While `a` is being started, and when it is about to be well, one of the Engine's two starts is
/// kept free.
#[test]
fn in_a_cold_start_nobody_is_in_the_way_of_the_longest_chain() {
    let specs = [("a", &[][..]), ("b", &["a"]), ("c", &[]), ("d", &["c"]), ("e", &["c"])];
    let after = |names: &[&'static str]| names.iter().map(|n| (*n, Condition::Healthy)).collect::<Vec<_>>();
    let all = deployment("v1", &specs.map(|(name, needs)| (name, service(name, &after(needs)))));
    let well = |name: &str, _: &str| Nature::Well(if name == "c" { 800 } else { 1000 });
    let mut world = World::new();
    world.roll(&all, &well);
    for (name, took) in [("a", 1000), ("b", 1000), ("c", 800), ("d", 100), ("e", 50)] {
        world.startups.learn(name, StartUp { took, cpu: 20, probing: 0, at_most: false });
    }
    for container in world.seen.containers.values_mut() {
        container.state = RunState::Exited { code: 137, out_of_memory: false };
        (container.finished_at, container.health) = (world.now, Health::Unknown);
    }
    world.gap = true;
    world.starts.clear();
    let Decision::Do(first) = world.decide(None) else { panic!("nothing is started") };
    let Step::Start { id } = &first else { panic!("{first:?}") };
    assert_eq!(world.seen.containers[id].service, "a");
    world.runtime.start_asked(id);
    assert!(matches!(world.decide(None), Decision::Wait { .. }), "`c` would be in the way of `a`");
    world.runtime.start_answered(id, None, world.now);
    world.apply(&first);
    world.run(None, &well, &|w| w.starts.len() == 3);
    let [.., (third, at)] = &world.starts[..] else { panic!("{:?}", world.starts) };
    assert_eq!((third.as_str(), at - world.starts[0].1), ("d", 800));
    let id = world.running()["d"].clone();
    world.runtime.start_asked(&id);
    assert!(matches!(world.decide(None), Decision::Wait { .. }), "`e` would be in the way of `b`");
    world.run(None, &well, &|w| w.starts.len() == 4);
    assert_eq!(world.starts[3].0, "b", "at once, though `d` is still being started");
}
