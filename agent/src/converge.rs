//! The plan: which one thing to do next so that a generation runs, in order, each service after its dependencies are
//! well. The same function rolls forward, rolls back, starts a machine after a reboot, and keeps a stack alive: only
//! the [`Mode`] says what a failure means. Pure and total: no clock, no Engine, no panic.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::{Container, Health, Millis, Observed, RunState};
use crate::order::start_order;
use crate::runtime::Runtime;
use crate::spec::{Condition, Order, RestartCondition, ServiceSpec};
use crate::state::{Generation, completion_key};

/// A change to one container. Each can be repeated: doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// SIGTERM, the grace period, SIGKILL.
    Stop {
        /// Container id.
        id: String,
        /// Seconds.
        grace: i64,
    },
    /// Give it another name.
    Rename {
        /// Container id.
        id: String,
        /// The new name.
        to: String,
    },
    /// Start it.
    Start {
        /// Container id.
        id: String,
    },
    /// Kill and start it: it is up and not healthy.
    Restart {
        /// Container id.
        id: String,
        /// Seconds.
        grace: i64,
    },
    /// Remove it; it is down and no generation needs it.
    Remove {
        /// Container id.
        id: String,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// One step, then look again.
    Do(Step),
    /// A one-shot ran to its end: record this key, then look again.
    Completed(String),
    /// Nothing to do but wait.
    Wait {
        /// Look again then at the latest; none means when something happens.
        until: Option<Millis>,
        /// Containers whose health check to run meanwhile.
        probe: Vec<String>,
        /// For people.
        why: String,
    },
    /// It is as it should be.
    Settled,
    /// A service is not well, and in this mode that is the end.
    Failed {
        /// Which.
        service: String,
        /// Its container, for the log.
        id: Option<String>,
        /// Why.
        reason: String,
    },
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New containers take over; one that fails ends the rollout.
    Forward,
    /// The old ones take over again; one-shots never run.
    Back,
    /// Keep it running; what fails is restarted with back-off.
    Supervise,
}

/// All that the plan looks at.
#[derive(Debug)]
pub struct View<'a> {
    /// The project name.
    pub app: &'a str,
    /// What should run.
    pub target: &'a Generation,
    /// Ids of containers that are not new in this rollout (the unchanged neighbours): they are restarted, never a reason to fail.
    pub neighbours: &'a BTreeSet<&'a str>,
    /// What is seen.
    pub seen: &'a Observed,
    /// What was learned.
    pub runtime: &'a Runtime,
    /// Completed one-shots.
    pub completed: &'a BTreeSet<String>,
    /// The kernel's boot id.
    pub boot: &'a str,
    /// How many containers may be on their way up at once.
    pub starts_at_once: usize,
    /// What is being done.
    pub mode: Mode,
    /// Now.
    pub now: Millis,
}

/// How a service stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It serves (or completed).
    Well,
    /// Up, not yet judged healthy.
    Up { probe: Vec<String>, until: Millis },
    /// Not up yet, or waiting for something.
    Waiting { until: Option<Millis>, why: String },
}

/// What one look at a service says.
enum Look {
    Stands(Standing),
    Act(Next),
}

/// The next thing to do.
pub fn converge(view: &View<'_>) -> Next {
    let order = start_order(&view.target.deployment);
    let mut standing: BTreeMap<&str, Standing> = BTreeMap::new();
    let mut starting = 0_usize;
    // Services on their way up count first, so that the limit on simultaneous starts sees all of them.
    for name in &order {
        let ids = view.target.ids(name);
        starting += ids.iter().filter(|id| on_its_way(view, id)).count();
    }
    for name in &order {
        let Some(spec) = view.target.deployment.services.get(*name) else { continue };
        let blocked = spec.depends_on.iter().find_map(|edge| {
            let well = match (edge.condition, standing.get(edge.service.as_str())) {
                // A service that is not in the deployment is not waited for.
                (_, None | Some(Standing::Well)) | (Condition::Started, Some(Standing::Up { .. })) => true,
                (Condition::Healthy | Condition::Completed, Some(Standing::Up { .. }))
                | (_, Some(Standing::Waiting { .. })) => false,
            };
            (!well).then_some(edge.service.as_str())
        });
        match look(view, name, spec, blocked, starting) {
            Look::Act(next) => return next,
            Look::Stands(stands) => {
                standing.insert(name, stands);
            }
        }
    }
    if let Some(step) = stop_strangers(view, &standing) {
        return Next::Do(step);
    }
    summary(&standing)
}

fn on_its_way(view: &View<'_>, id: &str) -> bool {
    view.seen
        .containers
        .get(id)
        .is_some_and(|c| c.runs() && c.check.is_some() && c.health != Health::Healthy && !view.runtime.gate_open(c))
}

fn summary(standing: &BTreeMap<&str, Standing>) -> Next {
    let mut probe = Vec::new();
    let mut until: Option<Millis> = None;
    let mut why = Vec::new();
    for (name, stands) in standing {
        match stands {
            Standing::Well => {}
            Standing::Up { probe: ids, until: end } => {
                probe.extend(ids.iter().cloned());
                until = Some(until.map_or(*end, |u| u.min(*end)));
                why.push(format!("`{name}` is starting"));
            }
            Standing::Waiting { until: end, why: text } => {
                if let Some(end) = end {
                    until = Some(until.map_or(*end, |u| u.min(*end)));
                }
                why.push(format!("`{name}` {text}"));
            }
        }
    }
    if why.is_empty() { Next::Settled } else { Next::Wait { until, probe, why: why.join(", ") } }
}

/// Containers of services that the target does not have: stopped once everything else stands.
fn stop_strangers(view: &View<'_>, standing: &BTreeMap<&str, Standing>) -> Option<Step> {
    if view.mode == Mode::Supervise || standing.values().any(|s| *s != Standing::Well) {
        return None;
    }
    view.seen
        .containers
        .values()
        .find(|c| c.runs() && !view.target.deployment.services.contains_key(&c.service))
        .map(|c| Step::Stop { id: c.id.clone(), grace: 10 })
}

fn look(view: &View<'_>, name: &str, spec: &ServiceSpec, blocked: Option<&str>, starting: usize) -> Look {
    let ids = view.target.ids(name);
    if spec.one_shot {
        return look_at_one_shot(view, name, spec, ids, blocked);
    }
    let mut all_well = true;
    let mut probe = Vec::new();
    let mut until = Millis::MAX;
    for (index, id) in ids.iter().enumerate() {
        let Some(container) = view.seen.containers.get(id) else {
            return missing(view, name, id);
        };
        if let Some(look) = take_over(view, name, spec, index, container, blocked, starting) {
            return look;
        }
        match judge(view, container) {
            Judged::Well => {}
            Judged::Starting(end) => {
                all_well = false;
                probe.push(id.clone());
                until = until.min(end);
            }
            Judged::Ill(reason) => return ill(view, name, spec, container, reason),
        }
    }
    if !all_well {
        return Look::Stands(Standing::Up { probe, until });
    }
    retire_old(view, name, spec).unwrap_or(Look::Stands(Standing::Well))
}

fn missing(view: &View<'_>, name: &str, id: &str) -> Look {
    let reason = format!("its container {} is gone", &id[..id.len().min(12)]);
    match view.mode {
        Mode::Supervise => Look::Stands(Standing::Waiting { until: None, why: reason }),
        Mode::Forward | Mode::Back => Look::Act(Next::Failed { service: name.to_owned(), id: None, reason }),
    }
}

/// Brings one replica up in its place: the old one stopped, the names exchanged, the new one started.
fn take_over(
    view: &View<'_>,
    name: &str,
    spec: &ServiceSpec,
    index: usize,
    container: &Container,
    blocked: Option<&str>,
    starting: usize,
) -> Option<Look> {
    let place = format!("{}-{name}-{}", view.app, index + 1);
    let start_first = spec.order == Order::StartFirst && view.mode != Mode::Supervise;
    let up = container.runs();
    if !up {
        if let Some(by) = blocked {
            return Some(Look::Stands(Standing::Waiting { until: None, why: format!("waits for `{by}`") }));
        }
        if let Some(look) = may_start(view, name, spec, container) {
            return Some(look);
        }
        if !start_first && let Some(old) = others(view, name).find(|c| c.runs()) {
            return Some(Look::Act(Next::Do(stop(old, spec))));
        }
        if view.mode == Mode::Supervise && starting >= view.starts_at_once {
            return Some(Look::Stands(Standing::Waiting { until: None, why: "waits for its turn".to_owned() }));
        }
    }
    // Names are exchanged before a stop-first start, and only after the new one is healthy with start-first.
    if container.name != place && (!start_first || (up && matches!(judge(view, container), Judged::Well))) {
        if let Some(holder) = view.seen.named(&place) {
            return Some(Look::Act(Next::Do(Step::Rename {
                id: holder.id.clone(),
                to: spare_name(view, &place, holder),
            })));
        }
        return Some(Look::Act(Next::Do(Step::Rename { id: container.id.clone(), to: place })));
    }
    (!up).then(|| Look::Act(Next::Do(Step::Start { id: container.id.clone() })))
}

/// Whether a container that is down may be started now.
fn may_start(view: &View<'_>, name: &str, spec: &ServiceSpec, container: &Container) -> Option<Look> {
    let RunState::Exited { code, out_of_memory } = container.state else { return None };
    let exits = view.runtime.exits(&container.id);
    if exits == 0 {
        return None;
    }
    let what = if out_of_memory {
        format!("was killed for memory (exit code {code})")
    } else {
        format!("exited with code {code}")
    };
    let fresh = !view.neighbours.contains(container.id.as_str());
    if view.mode == Mode::Forward && fresh {
        return Some(Look::Act(Next::Failed {
            service: name.to_owned(),
            id: Some(container.id.clone()),
            reason: what,
        }));
    }
    let never = match spec.restart.condition {
        RestartCondition::Any => false,
        RestartCondition::OnFailure => code == 0,
        RestartCondition::None => true,
    };
    if never || spec.restart.max_attempts.is_some_and(|most| exits > most) {
        return Some(Look::Stands(Standing::Waiting { until: None, why: format!("{what} and is not restarted") }));
    }
    let due = view.runtime.due(container, &spec.restart);
    (due > view.now).then(|| {
        Look::Stands(Standing::Waiting { until: Some(due), why: format!("{what}, restart number {exits} is due") })
    })
}

/// Containers of the service that are not the target's and that ran: the other generation.
fn others<'a>(view: &'a View<'_>, name: &'a str) -> impl Iterator<Item = &'a Container> {
    view.seen.of_service(name).filter(move |c| !view.target.ids(name).contains(&c.id) && c.state != RunState::Created)
}

fn spare_name(view: &View<'_>, place: &str, holder: &Container) -> String {
    let plain = format!("{place}-prev");
    if view.seen.named(&plain).is_none() { plain } else { format!("{plain}-{}", &holder.id[..holder.id.len().min(8)]) }
}

fn stop(container: &Container, spec: &ServiceSpec) -> Step {
    Step::Stop { id: container.id.clone(), grace: i64::try_from(spec.stop_grace.as_secs()).unwrap_or(i64::MAX) }
}

/// With start-first the old ones stop when all new ones are well; surplus replicas stop in any order.
fn retire_old(view: &View<'_>, name: &str, spec: &ServiceSpec) -> Option<Look> {
    others(view, name).find(|c| c.runs()).map(|old| Look::Act(Next::Do(stop(old, spec))))
}

enum Judged {
    Well,
    Starting(Millis),
    Ill(String),
}

fn judge(view: &View<'_>, container: &Container) -> Judged {
    let Some(check) = &container.check else { return Judged::Well };
    if container.health == Health::Unhealthy {
        return Judged::Ill("its health check fails".to_owned());
    }
    if container.health == Health::Healthy || view.runtime.gate_open(container) {
        return Judged::Well;
    }
    let end = container.started_at + check.deadline();
    if view.now >= end {
        return Judged::Ill(format!("it was not healthy {} s after its start", check.deadline() / 1000));
    }
    Judged::Starting(end)
}

fn ill(view: &View<'_>, name: &str, spec: &ServiceSpec, container: &Container, reason: String) -> Look {
    let fresh = !view.neighbours.contains(container.id.as_str());
    if view.mode != Mode::Supervise && fresh {
        return Look::Act(Next::Failed { service: name.to_owned(), id: Some(container.id.clone()), reason });
    }
    if spec.restart.condition == RestartCondition::None {
        return Look::Stands(Standing::Waiting { until: None, why: format!("{reason} and is not restarted") });
    }
    let grace = i64::try_from(spec.stop_grace.as_secs()).unwrap_or(i64::MAX);
    Look::Act(Next::Do(Step::Restart { id: container.id.clone(), grace }))
}

fn look_at_one_shot(view: &View<'_>, name: &str, spec: &ServiceSpec, ids: &[String], blocked: Option<&str>) -> Look {
    let key = completion_key(&view.target.deployment, name, view.boot);
    // Never during a way back: an old migrator on a new schema fails exactly when it is needed.
    if view.mode == Mode::Back || view.completed.contains(&key) {
        return Look::Stands(Standing::Well);
    }
    let Some(container) = ids.first().and_then(|id| view.seen.containers.get(id)) else {
        return ids.first().map_or(Look::Stands(Standing::Well), |id| missing(view, name, id));
    };
    match container.state {
        RunState::Running => Look::Stands(Standing::Waiting { until: None, why: "is running to its end".to_owned() }),
        // Only a run of this spec counts; an exit that we saw end well is its completion.
        RunState::Exited { code: 0, .. }
            if spec.run == crate::spec::Run::WhenChanged || view.runtime.exits(&container.id) > 0 =>
        {
            Look::Act(Next::Completed(key))
        }
        RunState::Created | RunState::Exited { .. } => take_over(view, name, spec, 0, container, blocked, 0)
            .unwrap_or(Look::Stands(Standing::Waiting { until: None, why: "is to run".to_owned() })),
    }
}
