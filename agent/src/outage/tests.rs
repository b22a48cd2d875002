use std::time::Duration;

use landfall_core::ids::{deployment_id, release_id_of_images};

use super::*;
use crate::spec::{Deployment, Order, RestartCondition, RestartPolicy, Run, ServiceSpec};
use crate::state::Generation;

const UP: RunState = RunState::Running;
const DOWN: RunState = RunState::Exited { code: 137, out_of_memory: false };

fn service(one_shot: bool) -> ServiceSpec {
    ServiceSpec {
        spec: "spec".to_owned(),
        image: "image".to_owned(),
        replicas: 1,
        depends_on: Vec::new(),
        order: Order::StopFirst,
        one_shot,
        run: Run::WhenChanged,
        rollback_hold: false,
        pause_on_failure: false,
        monitor: Duration::ZERO,
        stop_grace: Duration::ZERO,
        restart: RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::ZERO,
            max_attempts: None,
            window: Duration::ZERO,
        },
        namespace_of: None,
        shared_namespaces: Vec::new(),
        parallelism: 1,
        host_ports: Vec::new(),
        memory: 0,
        secrets: None,
        on_rotate: crate::on_rotate::OnRotate::Restart,
        unclean: None,
        delay: Duration::ZERO,
    }
}

/// Services `api` and `store`, and the one-shot `migrate`, each one container of its name.
struct World {
    state: AppState,
    seen: Observed,
    runtime: Runtime,
    outages: Outages,
    now: Millis,
}

impl World {
    fn new() -> Self {
        let release = release_id_of_images([]);
        let names = ["api", "store", "migrate"];
        let deployment = Deployment {
            id: deployment_id(&release, Vec::new()),
            release,
            services: names.iter().map(|name| ((*name).to_owned(), service(*name == "migrate"))).collect(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
        };
        let containers = names.iter().map(|name| ((*name).to_owned(), vec![(*name).to_owned()])).collect();
        let container = |name: &str| Container {
            id: name.to_owned(),
            name: name.to_owned(),
            project: "web".to_owned(),
            one_off: false,
            service: name.to_owned(),
            spec: None,
            state: UP,
            started_at: 1,
            finished_at: 0,
            check: None,
            health: Health::Unknown,
            ports: Vec::new(),
            unnamed_volumes: BTreeMap::new(),
        };
        let seen = Observed { containers: names.iter().map(|name| ((*name).to_owned(), container(name))).collect() };
        let mut world = Self {
            state: AppState { live: Some(Generation { deployment, containers }), ..AppState::default() },
            seen,
            runtime: Runtime::default(),
            outages: Outages::default(),
            now: 1000,
        };
        world.set("migrate", RunState::Exited { code: 0, out_of_memory: false });
        world
    }

    fn set(&mut self, id: &str, state: RunState) {
        let container = self.seen.containers.get_mut(id).unwrap();
        container.state = state;
        if state != UP {
            container.finished_at = self.now;
        }
    }

    fn look(&mut self, gap: bool) -> Vec<News> {
        self.now += 100;
        self.runtime.note(&self.seen, gap, None, self.now);
        self.outages.look(&self.state, &self.seen, &self.runtime, gap, self.now)
    }

    /// The agent starts it; true where that is a restart of its own.
    fn start(&mut self, id: &str) -> bool {
        self.runtime.started(id);
        self.set(id, UP);
        self.outages.started(id, id)
    }
}

fn down(services: &[&str]) -> News {
    News::Down(services.iter().map(ToString::to_string).collect())
}

#[test]
fn a_stack_found_down_is_one_story_and_a_one_shot_is_no_part_of_it() {
    let mut world = World::new();
    for id in ["api", "store"] {
        world.set(id, DOWN);
    }
    assert_eq!(world.look(true), [down(&["api", "store"])]);
    assert!(!world.start("store"));
    assert_eq!(world.look(false), []);
    assert!(!world.start("api"));
    let recovered = News::Recovered { services: vec!["api".into(), "store".into()], took: 200 };
    assert_eq!(world.look(false), [recovered]);
    assert_eq!(world.look(false), []);
    assert_eq!((world.outages.restarts("api"), world.outages.restarts("migrate")), (1, 0));
}

#[test]
fn a_crash_of_one_is_a_restart_of_its_own() {
    let mut world = World::new();
    assert_eq!(world.look(true), []);
    world.set("api", DOWN);
    let failed = News::Failed { service: "api".into(), what: "it exited with code 137".into() };
    assert_eq!(world.look(false), [failed]);
    assert_eq!(world.look(false), [], "told once");
    assert!(world.start("api"));
    assert_eq!(world.look(false), []);
    assert_eq!(world.outages.restarts("api"), 1);
}

#[test]
fn all_of_several_down_at_once_is_an_outage_without_a_gap() {
    let mut world = World::new();
    assert_eq!(world.look(true), []);
    for id in ["api", "store"] {
        world.set(id, DOWN);
    }
    assert!(world.look(false).contains(&down(&["api", "store"])));
    assert!(!world.start("store") && !world.start("api"));
    assert!(matches!(&world.look(false)[..], [News::Recovered { .. }]));
}

#[test]
fn what_crashes_again_within_an_outage_is_a_restart_and_the_outage_ends_when_it_is_well() {
    let mut world = World::new();
    world.set("api", DOWN);
    assert_eq!(world.look(true), [down(&["api"])]);
    assert!(!world.start("api"));
    world.set("api", DOWN);
    assert!(matches!(&world.look(false)[..], [News::Failed { .. }]));
    assert!(world.start("api"), "the second start is its own");
    let recovered = News::Recovered { services: vec!["api".into()], took: 200 };
    assert_eq!(world.look(false), [recovered]);
    assert_eq!(world.outages.restarts("api"), 2);
}

#[test]
fn it_is_well_only_once_its_health_check_passes() {
    let mut world = World::new();
    let check =
        crate::observed::Check { command: Vec::new(), interval: 1000, timeout: 1000, retries: 3, start_period: 0 };
    world.seen.containers.get_mut("api").unwrap().check = Some(check);
    world.set("api", DOWN);
    assert_eq!(world.look(true), [down(&["api"])]);
    world.start("api");
    assert_eq!(world.look(false), []);
    world.runtime.probe_passed("api", world.now);
    assert!(matches!(&world.look(false)[..], [News::Recovered { .. }]));
}

#[test]
fn a_failing_health_check_is_told_once() {
    let mut world = World::new();
    world.look(true);
    world.seen.containers.get_mut("api").unwrap().health = Health::Unhealthy;
    let failed = News::Failed { service: "api".into(), what: "its health check fails".into() };
    assert_eq!(world.look(false), [failed]);
    assert_eq!(world.look(false), []);
}
