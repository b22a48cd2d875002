//! A rotation from the vault to the containers, step by step, as the ledger has it.

use landfall_core::ids::AppName;
use landfall_core::secrets::{FetchedFile, NeedAnswer, NeededFile};

use super::*;
use crate::observed::Check;
use crate::state::Quarantine;

fn set(number: u32) -> String {
    format!("{number:032}")
}

fn open() -> SecretNeed {
    let file = NeededFile { secret: "db".parse().unwrap(), uid: None, gid: None, mode: None };
    SecretNeed { service: "api".to_owned(), files: [("DB".to_owned(), file)].into(), live: None }.served_live()
}

/// The newest set in the vault, and the one that containers see.
fn index(newest: u32, seen: u32) -> SecretsFile {
    let file = FetchedFile { version: newest.to_string(), fetched_at: String::new(), expires: None };
    let answer =
        NeedAnswer { set: Some(set(newest)), files: [("DB".to_owned(), file)].into(), ..NeedAnswer::default() };
    SecretsFile {
        format: 1,
        app: "web".parse::<AppName>().unwrap(),
        request: String::new(),
        needs: [(open().id(), answer)].into(),
        live: [(open().live.unwrap(), set(seen))].into(),
    }
}

fn deployment(on_rotate: OnRotate) -> Deployment {
    let text = r#"{"id": "ID", "release": "ID", "services": {"api": {"spec": "s", "image": "i", "replicas": 1, "depends_on": [],
        "order": "stop-first", "one_shot": false, "run": "when-changed", "rollback_hold": false, "pause_on_failure": false,
        "monitor": 10000, "stop_grace": 0, "restart": {"condition": "any", "delay": 0, "max_attempts": null, "window": 0},
        "namespace_of": null, "host_ports": [], "memory": 0}}}"#;
    let mut deployment: Deployment = serde_json::from_str(&text.replace("ID", &"ab".repeat(32))).unwrap();
    let spec = deployment.services.get_mut("api").unwrap();
    spec.secrets = answered(&open(), &index(1, 1));
    spec.on_rotate = on_rotate;
    deployment
}

fn container(health: Health) -> Container {
    Container {
        id: "one".to_owned(),
        name: "web-api-1".to_owned(),
        project: "web".to_owned(),
        one_off: false,
        service: "api".to_owned(),
        spec: Some("s".to_owned()),
        state: RunState::Running,
        started_at: 1,
        finished_at: 0,
        check: None,
        health,
        ports: Vec::new(),
        unnamed_volumes: BTreeMap::new(),
    }
}

struct World {
    state: AppState,
    container: Container,
    runtime: Runtime,
    index: SecretsFile,
    now: Millis,
}

impl World {
    fn new(on_rotate: OnRotate) -> Self {
        let deployment = deployment(on_rotate);
        let mut state = AppState::default();
        adopt(&mut state, &deployment, &[]);
        let containers = [("api".to_owned(), vec!["one".to_owned()])].into();
        state.live = Some(Generation { deployment, containers });
        Self {
            state,
            container: container(Health::Healthy),
            runtime: Runtime::default(),
            index: index(1, 1),
            now: 1000,
        }
    }

    /// One step: who was told, and the journal's line. None where there is nothing to do.
    fn step(&mut self) -> Option<(Option<String>, String)> {
        let containers = Observed { containers: [("one".to_owned(), self.container.clone())].into() };
        self.runtime.note(&containers, false, None, self.now);
        let seen = Seen { index: Some(&self.index), containers: &containers, runtime: &self.runtime, now: self.now };
        let turn = next(&self.state, seen)?;
        // What is remembered is what the ledger gives back.
        self.state = serde_json::from_str(&serde_json::to_string(&turn.state).unwrap()).unwrap();
        let line = turn.line.map_or(String::new(), |line| format!("{line:?}"));
        Some((turn.tell.map(|(signal, ids)| format!("{signal} {}", ids.join(" "))), line))
    }

    fn live(&self) -> &LiveSecrets {
        &self.state.live_secrets[&open().live.unwrap()]
    }

    fn quiet(&mut self) {
        assert_eq!(self.step(), None);
    }

    /// To where the new set is watched.
    fn rotated(on_rotate: OnRotate) -> Self {
        let mut world = Self::new(on_rotate);
        world.index = index(2, 1);
        world.step().unwrap();
        world.index = index(2, 2);
        world.step().unwrap();
        world
    }
}

fn hup() -> OnRotate {
    OnRotate::Signal("SIGHUP".to_owned())
}

#[test]
fn it_is_asked_for_then_told_then_watched() {
    let mut world = World::new(hup());
    world.quiet();
    world.index = index(2, 1);
    assert_eq!(world.step().unwrap(), (None, String::new()));
    assert_eq!(world.live().shown.set, set(2));
    assert_eq!(kept(&world.state).count(), 1, "the old set is kept");
    world.quiet();
    world.index = index(2, 2);
    let before = world.state.clone();
    let (told, line) = world.step().unwrap();
    assert_eq!(told.as_deref(), Some("SIGHUP one"));
    assert!(line.contains("db 1 -> 2") && line.contains("sent SIGHUP to 1 container"), "{line}");
    // Killed before it was remembered: told again.
    let after = std::mem::replace(&mut world.state, before);
    assert_eq!(world.step().unwrap().0.as_deref(), Some("SIGHUP one"));
    assert_eq!(world.state, after);
    world.quiet();
    assert_eq!(wakes_at(&world.state), Some(11_000));
    world.now = 11_000;
    assert_eq!(world.step().unwrap(), (None, String::new()));
    assert_eq!((world.live().switch.clone(), kept(&world.state).count()), (Switch::Done, 0));
    world.quiet();
}

#[test]
fn with_none_nobody_is_told_and_one_that_is_down_is_not_signalled() {
    let mut world = World::new(OnRotate::Nothing);
    world.index = index(2, 1);
    world.step().unwrap();
    world.index = index(2, 2);
    assert_eq!(world.step().unwrap().0, None);
    let mut world = World::new(hup());
    world.container.state = RunState::Exited { code: 0, out_of_memory: false };
    world.index = index(2, 1);
    world.step().unwrap();
    world.index = index(2, 2);
    let (told, line) = world.step().unwrap();
    assert!(told.is_none() && line.contains("none of its containers runs"), "{line}");
}

#[test]
fn what_makes_it_ill_is_taken_back_and_not_tried_again() {
    let ill: [fn(&mut World); 2] = [
        |world| world.container.health = Health::Unhealthy,
        |world| {
            world.container.state = RunState::Exited { code: 3, out_of_memory: false };
            world.container.finished_at = world.now + 1;
        },
    ];
    for ill in ill {
        let mut world = World::rotated(hup());
        world.quiet();
        world.now += 500;
        ill(&mut world);
        let (told, line) = world.step().unwrap();
        assert!(told.is_none() && line.contains("TakenBack") && line.contains("db 2 -> 1"), "{line}");
        assert_eq!(world.live().shown.set, set(1));
        world.quiet();
        world.container = container(Health::Healthy);
        world.index = index(2, 1);
        assert_eq!(world.step().unwrap().0.as_deref(), Some("SIGHUP one"));
        assert_eq!(world.live().switch, Switch::Done);
        world.now += 1_000_000;
        world.quiet();
        // Another version, or an operator, is another try.
        let mut retried = crate::intents::operator_retry(&world.state);
        std::mem::swap(&mut retried, &mut world.state);
        assert!(world.step().is_some());
        world.state = retried;
        world.index = index(3, 1);
        world.step().unwrap();
        assert_eq!((world.live().shown.set.clone(), world.live().refused.clone()), (set(3), None));
    }
}

#[test]
fn what_proves_nothing_takes_nothing_back() {
    // Ill before: perhaps the rotation is what mends it.
    let mut world = World::new(hup());
    world.container.health = Health::Unhealthy;
    world.index = index(2, 1);
    world.step().unwrap();
    world.index = index(2, 2);
    assert_eq!(world.step().unwrap().0.as_deref(), Some("SIGHUP one"));
    assert_eq!(world.live().switch, Switch::Done);
    // Ill after the window, or paused by a person.
    let mut world = World::rotated(hup());
    (world.container.state, world.container.health) = (RunState::Paused, Health::Unhealthy);
    world.quiet();
    world.container.state = RunState::Running;
    world.now += 10_000;
    world.step().unwrap();
    assert_eq!(world.live().switch, Switch::Done);
}

#[test]
fn it_begins_only_where_nothing_else_is_under_way() {
    let mut world = World::new(hup());
    world.index = index(2, 1);
    let idle = world.state.clone();
    world.state.hold = Some("a person".to_owned());
    world.quiet();
    world.state = AppState { hands_off: Some((Millis::MAX, String::new())), ..idle.clone() };
    world.quiet();
    world.state = AppState { phase: Phase::Ending { reason: String::new() }, ..idle.clone() };
    world.quiet();
    let generation = idle.live.clone().unwrap();
    let attempt = crate::state::Attempt::default();
    let armed = crate::state::Armed { from: generation.clone(), attempt, until: 0 };
    world.state = AppState { phase: Phase::Probation(armed), ..idle.clone() };
    world.quiet();
    // Begun before, it goes on.
    world.state = idle;
    world.step().unwrap();
    let attempt = crate::state::Attempt::default();
    world.state.phase = Phase::Monitoring { target: generation.clone(), from: Some(generation), attempt, until: 0 };
    world.index = index(2, 2);
    assert_eq!(world.step().unwrap().0.as_deref(), Some("SIGHUP one"));
    world.container.health = Health::Unhealthy;
    world.quiet();
}

#[test]
fn docker_has_time_to_call_it_unhealthy() {
    let mut world = World::new(hup());
    let check = Check { command: Vec::new(), interval: 30_000, timeout: 30_000, retries: 3, start_period: 0 };
    world.container.check = Some(check);
    world.index = index(2, 1);
    world.step().unwrap();
    world.index = index(2, 2);
    world.step().unwrap();
    assert_eq!(wakes_at(&world.state), Some(1000 + 240_000));
}

#[test]
fn what_is_in_use_is_remembered_and_no_more() {
    let mut state = AppState::default();
    let old = deployment(hup());
    adopt(&mut state, &old, &[]);
    state.live_secrets.values_mut().for_each(|live| live.shown.set = set(7));
    state.quarantine.insert(old.id.clone(), Quarantine { reason: String::new(), sequence: None });
    let mut new = deployment(hup());
    adopt(&mut state, &new, &[&old]);
    assert_eq!(state.live_secrets.values().map(|live| live.shown.set.clone()).collect::<Vec<_>>(), [set(7)]);
    let spec = new.services.get_mut("api").unwrap();
    spec.secrets = None;
    adopt(&mut state, &new, &[&old]);
    assert_eq!(state.live_secrets.len(), 1, "the way back needs it");
    adopt(&mut state, &new, &[]);
    assert!(state.live_secrets.is_empty());
}
