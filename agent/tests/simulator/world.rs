//! A made-up Engine with a made-up clock: what it does with a step is simulated, the decisions are the shipped code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landfall_agent::converge::Step;
use landfall_agent::decide::{self, Candidate, Decision, Machine};
use landfall_agent::observed::{Check, Container, Health, Millis, Observed, RunState};
use landfall_agent::on_rotate::OnRotate;
use landfall_agent::preparation;
use landfall_agent::repairs::Verdict;
use landfall_agent::runtime::Runtime;
use landfall_agent::spec::{
    Condition, Dependency, Deployment, Order, RestartCondition, RestartPolicy, Run, ServiceSpec,
};
use landfall_agent::startups::Startups;
use landfall_agent::state::{AppState, Attempt, Creation, Phase};
use landfall_agent::unclean;
use landfall_core::ids::{Digest, deployment_id, release_id_of_images};
use landfall_core::protocol::HistoryEvent;

/// How a made-up container behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Healthy this long after its start.
    Well(Millis),
    /// Up, never healthy.
    NeverWell,
    /// Exits with 1 this long after its start.
    Crashes(Millis),
    /// Runs this long and exits with 0.
    Completes(Millis),
}

pub(crate) struct World {
    pub(crate) seen: Observed,
    pub(crate) natures: BTreeMap<String, Nature>,
    pub(crate) state: AppState,
    pub(crate) runtime: Runtime,
    pub(crate) now: Millis,
    pub(crate) made: usize,
    pub(crate) gap: bool,
    pub(crate) events: Vec<HistoryEvent>,
    pub(crate) starts: Vec<(String, Millis)>,
    pub(crate) mutations: usize,
    pub(crate) removed_networks: Vec<String>,
    pub(crate) forgotten: bool,
    /// Services whose lock file has something in it.
    pub(crate) locked: BTreeSet<String>,
    pub(crate) looks: usize,
    /// A person repairs at this moment.
    pub(crate) person_repairs: bool,
    pub(crate) startups: Startups,
    pub(crate) budget: Millis,
}

pub(crate) fn service(spec: &str, after: &[(&str, Condition)]) -> ServiceSpec {
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
        shared_namespaces: Vec::new(),
        parallelism: 1,
        host_ports: Vec::new(),
        memory: 64 << 20,
        secrets: None,
        on_rotate: OnRotate::Restart,
        unclean: None,
        delay: Duration::ZERO,
    }
}

pub(crate) fn one_shot(spec: &str, after: &[(&str, Condition)]) -> ServiceSpec {
    let mut service = service(spec, after);
    service.one_shot = true;
    service.restart.condition = RestartCondition::None;
    service
}

pub(crate) fn deployment(name: &str, services: &[(&str, ServiceSpec)]) -> Deployment {
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
pub(crate) fn stack(name: &str, api: &str) -> Deployment {
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
    pub(crate) fn new() -> Self {
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
            removed_networks: Vec::new(),
            forgotten: false,
            locked: BTreeSet::new(),
            looks: 0,
            person_repairs: false,
            startups: Startups::default(),
            budget: 4000,
        }
    }

    /// What Compose's create-only call does.
    pub(crate) fn create(&mut self, natures: &dyn Fn(&str, &str) -> Nature) {
        let (target, creation) = preparation::wanted(&self.state).expect("something is to be created");
        let (target, Creation { existing, scale }) = (target.clone(), creation.clone());
        for (service, count) in &scale {
            let spec = &target.services[service];
            let there = self.seen.of_service(service).count();
            for _ in there..usize::try_from(*count).unwrap() {
                self.made += 1;
                let id = format!("{:08}{:056}", self.made, 0);
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
                    ports: spec.host_ports.clone(),
                    unnamed_volumes: BTreeMap::new(),
                };
                self.seen.containers.insert(id, container);
                self.mutations += 1;
            }
            assert!(existing.contains_key(service));
        }
        let (state, note) = preparation::prepared(&self.state, &self.seen).expect("all containers are there");
        self.events.push(note.event);
        self.state = state;
    }

    /// The container of a repair, as Compose makes it: a second one of its name cannot be made.
    fn create_repair(&mut self, service: &str, natures: &dyn Fn(&str, &str) -> Nature) {
        let name = unclean::repair_container("web", service);
        assert!(self.seen.named(&name).is_none(), "two repairs of `{service}`");
        self.made += 1;
        let id = format!("{:08}{:056}", self.made, 0);
        let service = unclean::repair_service(service);
        self.natures.insert(id.clone(), natures(&service, ""));
        let container = Container {
            id: id.clone(),
            name,
            project: "web".into(),
            one_off: false,
            service,
            spec: None,
            state: RunState::Created,
            started_at: 0,
            finished_at: 0,
            check: None,
            health: Health::Unknown,
            ports: Vec::new(),
            unnamed_volumes: BTreeMap::new(),
        };
        self.seen.containers.insert(id, container);
    }

    /// Time goes on: containers become healthy, exit, complete.
    pub(crate) fn advance(&mut self, by: Millis) {
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
                    if let Some(service) = container.service.strip_prefix("landfall-repair-") {
                        self.locked.remove(service);
                    }
                }
                Nature::Well(_) | Nature::NeverWell | Nature::Crashes(_) | Nature::Completes(_) => {}
            }
        }
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        self.mutations += 1;
        match step {
            Step::Stop { id, .. } => {
                self.runtime.stopped_on_purpose(id);
                let now = self.now;
                let container = self.seen.containers.get_mut(id).unwrap();
                assert!(container.runs(), "stopped what does not run: {}", container.name);
                container.state = RunState::Exited { code: 143, out_of_memory: false };
                self.locked.remove(&container.service);
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
                self.locked.insert(container.service.clone());
            }
            Step::Remove { id, .. } => {
                assert!(!self.seen.containers[id].runs());
                self.seen.containers.remove(id);
            }
        }
    }

    /// What the shipped code decides now.
    pub(crate) fn decide(&mut self, candidate: Option<&Candidate>) -> Decision {
        let running = self.state.current().map(|g| g.deployment.clone());
        self.runtime.note(&self.seen, std::mem::take(&mut self.gap), running.as_ref(), self.now);
        let machine = Machine {
            app: "web",
            boot: "boot",
            budget: self.budget,
            calls_at_once: 2,
            startups: &self.startups,
            probation: 300_000,
        };
        decide::decide(machine, &self.state, &self.seen, &self.runtime, candidate, self.now)
    }

    /// Turns until `done`, at most ten minutes of made-up time.
    pub(crate) fn run(
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
            match self.decide(candidate) {
                Decision::Do(step) => self.apply(&step),
                Decision::Prepare => self.create(natures),
                Decision::RemoveNetwork(name) => {
                    self.removed_networks.push(name.clone());
                    self.state = decide::network_removed(&self.state, &name);
                }
                Decision::Examine(examination) => {
                    self.looks += 1;
                    let service = &self.seen.containers[&examination.id].service;
                    let verdict = match (self.person_repairs, self.locked.contains(service)) {
                        (true, _) => Verdict::Repairing,
                        (false, true) => Verdict::Left,
                        (false, false) => Verdict::Clean,
                    };
                    self.runtime.note_examined(&examination.id, verdict, self.now);
                }
                Decision::Repair(service) => self.create_repair(&service, natures),
                Decision::Forget => {
                    self.forgotten = true;
                    return;
                }
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

    pub(crate) fn running(&self) -> BTreeMap<String, String> {
        self.seen.containers.values().filter(|c| c.runs()).map(|c| (c.service.clone(), c.id.clone())).collect()
    }

    pub(crate) fn roll(&mut self, deployment: &Deployment, natures: &dyn Fn(&str, &str) -> Nature) {
        let candidate = candidate(deployment, None);
        self.run(Some(&candidate), natures, &|w| {
            w.state.phase == Phase::Idle && w.state.live.is_some() && w.state.to_remove.is_empty()
        });
    }
}

pub(crate) fn candidate(deployment: &Deployment, sequence: Option<u64>) -> Candidate {
    Candidate { deployment: deployment.clone(), attempt: Attempt { began: 0, detected_at: None, sequence } }
}

pub(crate) fn good(service: &str, _: &str) -> Nature {
    if service == "migrate" { Nature::Completes(500) } else { Nature::Well(1000) }
}
