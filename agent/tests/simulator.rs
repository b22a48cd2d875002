//! The state machine under a made-up Engine and clock: whole stories in microseconds, with every step checked.
//! What is simulated is only what the Engine does with a step; the decisions are the shipped code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landfall_agent::converge::Step;
use landfall_agent::decide::{self, Candidate, Decision, Machine};
use landfall_agent::observed::{Check, Container, Health, Millis, Observed, RunState};
use landfall_agent::runtime::Runtime;
use landfall_agent::spec::{
    Condition, Dependency, Deployment, Order, RestartCondition, RestartPolicy, Run, ServiceSpec,
};
use landfall_agent::state::{AppState, Attempt, Phase};
use landfall_core::ids::{Digest, deployment_id, release_id_of_images};
use landfall_core::protocol::HistoryEvent;

/// How a made-up container behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// Healthy this long after its start.
    Well(Millis),
    /// Up, never healthy.
    NeverWell,
    /// Exits with 1 this long after its start.
    Crashes(Millis),
    /// Runs this long and exits with 0.
    Completes(Millis),
}

struct World {
    seen: Observed,
    natures: BTreeMap<String, Nature>,
    state: AppState,
    runtime: Runtime,
    now: Millis,
    made: usize,
    gap: bool,
    events: Vec<HistoryEvent>,
    starts: Vec<(String, Millis)>,
    mutations: usize,
}

fn service(spec: &str, after: &[(&str, Condition)]) -> ServiceSpec {
    ServiceSpec {
        spec: spec.to_owned(),
        image: format!("img@sha256:{}", "0".repeat(64)),
        replicas: 1,
        depends_on: after
            .iter()
            .map(|(s, condition)| Dependency { service: (*s).to_owned(), condition: *condition, restart: false })
            .collect(),
        order: Order::StopFirst,
        one_shot: false,
        run: Run::WhenChanged,
        rollback_hold: false,
        pause_on_failure: false,
        monitor: Duration::from_secs(10),
        stop_grace: Duration::from_secs(10),
        restart: RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(1),
            max_attempts: None,
            window: Duration::ZERO,
        },
        namespace_of: None,
        host_ports: Vec::new(),
        memory: 64 << 20,
        delay: Duration::ZERO,
    }
}

fn one_shot(spec: &str, after: &[(&str, Condition)]) -> ServiceSpec {
    let mut service = service(spec, after);
    service.one_shot = true;
    service.restart.condition = RestartCondition::None;
    service
}

fn deployment(name: &str, services: &[(&str, ServiceSpec)]) -> Deployment {
    let digest = Digest::of(name.as_bytes());
    let release = release_id_of_images([("x", &digest)]);
    Deployment {
        id: deployment_id(&release, vec![]),
        release,
        services: services.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
    }
}

/// proxy -> api -> store, and a migration between store and api.
fn stack(name: &str, api: &str) -> Deployment {
    deployment(
        name,
        &[
            ("store", service("store-1", &[])),
            ("migrate", one_shot("migrate-1", &[("store", Condition::Healthy)])),
            ("api", service(api, &[("store", Condition::Healthy), ("migrate", Condition::Completed)])),
            ("proxy", service("proxy-1", &[("api", Condition::Healthy)])),
        ],
    )
}

impl World {
    fn new() -> Self {
        Self {
            seen: Observed::default(),
            natures: BTreeMap::new(),
            state: AppState::default(),
            runtime: Runtime::default(),
            now: 1_000_000,
            made: 0,
            gap: true,
            events: Vec::new(),
            starts: Vec::new(),
            mutations: 0,
        }
    }

    /// What Compose's create-only call does.
    fn create(&mut self, natures: &dyn Fn(&str, &str) -> Nature) {
        let Phase::Preparing { target, existing, scale, .. } = self.state.phase.clone() else {
            panic!("not preparing")
        };
        for (service, count) in &scale {
            let spec = &target.services[service];
            let there = self.seen.of_service(service).count();
            for _ in there..usize::try_from(*count).unwrap() {
                self.made += 1;
                let id = format!("{:064}", self.made);
                self.natures.insert(id.clone(), natures(service, &spec.spec));
                let check = (!spec.one_shot).then(|| Check {
                    command: vec!["true".into()],
                    interval: 1000,
                    timeout: 1000,
                    retries: 3,
                    start_period: 0,
                });
                let container = Container {
                    name: format!("web-{service}-new{}", self.made),
                    id: id.clone(),
                    project: "web".into(),
                    one_off: false,
                    service: service.clone(),
                    spec: Some(spec.spec.clone()),
                    state: RunState::Created,
                    started_at: 0,
                    finished_at: 0,
                    check,
                    health: Health::Unknown,
                };
                self.seen.containers.insert(id, container);
                self.mutations += 1;
            }
            assert!(existing.contains_key(service));
        }
        let (state, note) = decide::prepared(&self.state, &self.seen).expect("all containers are there");
        self.events.push(note.event);
        self.state = state;
    }

    /// Time goes on: containers become healthy, exit, complete.
    fn advance(&mut self, by: Millis) {
        self.now += by;
        for container in self.seen.containers.values_mut().filter(|c| c.runs()) {
            let age = self.now - container.started_at;
            match self.natures[&container.id] {
                Nature::Well(after) if age >= after => container.health = Health::Healthy,
                Nature::Crashes(after) if age >= after => {
                    container.state = RunState::Exited { code: 1, out_of_memory: false };
                    container.finished_at = self.now;
                }
                Nature::Completes(after) if age >= after => {
                    container.state = RunState::Exited { code: 0, out_of_memory: false };
                    container.finished_at = self.now;
                }
                Nature::Well(_) | Nature::NeverWell | Nature::Crashes(_) | Nature::Completes(_) => {}
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        self.mutations += 1;
        match step {
            Step::Stop { id, .. } => {
                self.runtime.stopped_on_purpose(id);
                let now = self.now;
                let container = self.seen.containers.get_mut(id).unwrap();
                assert!(container.runs(), "stopped what does not run: {}", container.name);
                container.state = RunState::Exited { code: 143, out_of_memory: false };
                container.finished_at = now;
                container.health = Health::Unknown;
            }
            Step::Rename { id, to } => {
                assert!(self.seen.named(to).is_none(), "the name {to} is taken");
                self.seen.containers.get_mut(id).unwrap().name.clone_from(to);
            }
            Step::Start { id } | Step::Restart { id, .. } => {
                self.runtime.started(id);
                let now = self.now;
                let container = self.seen.containers.get_mut(id).unwrap();
                container.state = RunState::Running;
                container.started_at = now;
                container.health = Health::Unknown;
                self.starts.push((container.service.clone(), now));
            }
            Step::Remove { id } => {
                assert!(!self.seen.containers[id].runs());
                self.seen.containers.remove(id);
            }
        }
    }

    /// Turns until `done`, at most ten minutes of made-up time.
    fn run(
        &mut self,
        candidate: Option<&Candidate>,
        natures: &dyn Fn(&str, &str) -> Nature,
        done: &dyn Fn(&World) -> bool,
    ) {
        let end = self.now + 600_000;
        let mut still = 0;
        while !done(self) {
            assert!(self.now < end, "not done after ten minutes: {:?}", self.state.phase);
            assert!(still < 1000, "a thousand steps without time going on: {:?}", self.state.phase);
            self.runtime.note(&self.seen, std::mem::take(&mut self.gap));
            let machine = Machine { app: "web", boot: "boot", starts_at_once: 4, probation: 300_000 };
            match decide::decide(machine, &self.state, &self.seen, &self.runtime, candidate, self.now) {
                Decision::Do(step) => self.apply(&step),
                Decision::Prepare => self.create(natures),
                Decision::Move(state, note) => {
                    // What is written to the ledger must read back as it was.
                    let text = serde_json::to_string(&state).unwrap();
                    self.state = serde_json::from_str(&text).unwrap();
                    assert_eq!(self.state, *state);
                    self.events.extend(note.map(|n| n.event));
                }
                Decision::Wait { .. } => {
                    still = 0;
                    self.advance(100);
                    continue;
                }
            }
            still += 1;
        }
    }

    fn running(&self) -> BTreeMap<String, String> {
        self.seen.containers.values().filter(|c| c.runs()).map(|c| (c.service.clone(), c.id.clone())).collect()
    }

    fn roll(&mut self, deployment: &Deployment, natures: &dyn Fn(&str, &str) -> Nature) {
        let candidate = candidate(deployment, None);
        self.run(Some(&candidate), natures, &|w| {
            w.state.phase == Phase::Idle && w.state.live.is_some() && w.state.to_remove.is_empty()
        });
    }
}

fn candidate(deployment: &Deployment, sequence: Option<u64>) -> Candidate {
    Candidate { deployment: deployment.clone(), attempt: Attempt { began: 0, detected_at: None, sequence } }
}

fn good(service: &str, _: &str) -> Nature {
    if service == "migrate" { Nature::Completes(500) } else { Nature::Well(1000) }
}

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
    world.run(Some(&candidate(&stack("v2", "api-2"), None)), &good, &|w| {
        matches!(w.state.phase, Phase::Probation { .. })
    });
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
    world.run(Some(&candidate(&bad, Some(8))), &good, &|w| matches!(w.state.phase, Phase::Probation { .. }));
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
    world.run(Some(&v2), &good, &|w| matches!(w.state.phase, Phase::Probation { .. }));
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
        matches!(w.state.phase, Phase::Probation { .. })
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
    world
        .run(Some(&candidate(&two("v2", "api-2"), None)), &good, &|w| matches!(w.state.phase, Phase::Probation { .. }));
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
            world.state = decide::operator_rollback(&world.state, "it is worse").unwrap();
            world.run(None, &good, &settled);
            assert_eq!(world.running(), before);
        } else {
            let failed = world.state.live.clone().unwrap();
            world.state = decide::operator_retry(&world.state);
            world.run(None, &natures, &settled);
            assert!(!world.seen.containers.contains_key(&before["api"]), "the way back is given up");
            assert!(world.seen.containers.contains_key(&failed.ids("api")[0]));
        }
    }
}
