//! The plan: which one thing to do next so that a generation runs, in order, each service after its dependencies are
//! well. The same function rolls forward, rolls back, starts a machine after a reboot, and keeps a stack alive: only
//! the [`Mode`] says what a failure means. Pure and total: no clock, no Engine, no panic.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::protocol::Cause;

use crate::judge::{self, Judged};
use crate::observed::{Container, Millis, Observed, RunState};
use crate::order::start_order;
use crate::place;
use crate::repairs::{Examination, Incident, Remembered};
use crate::runtime::Runtime;
use crate::spec::Condition;
use crate::startups::{CALL, Startups};
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
        /// Its volumes without a name go with it.
        with_volumes: bool,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// One step, then look again.
    Do(Step),
    /// A one-shot ran to its end: record this key, then look again.
    Completed(String),
    /// Look at a lock file, then look again.
    Examine(Examination),
    /// Have the container created that repairs this service, then look again.
    Repair(String),
    /// Remember what became of a data directory, then look again.
    Remember(Box<Remembered>),
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
        why: Fault,
    },
}

/// Why a service is not well, as a kind and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Of which kind.
    pub cause: Cause,
    /// For people.
    pub reason: String,
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
    /// Data directories that were not shut down cleanly, by service.
    pub incidents: &'a BTreeMap<String, Incident>,
    /// The kernel's boot id.
    pub boot: &'a str,
    /// What starts took in the past.
    pub startups: &'a Startups,
    /// What simultaneous starts may ask of the machine in a cold start, in thousandths of a core.
    pub budget: Millis,
    /// How many containers the Engine may be starting at one moment.
    pub calls_at_once: usize,
    /// What is being done.
    pub mode: Mode,
    /// Now.
    pub now: Millis,
}

/// How a service stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It serves (or completed).
    Well,
    /// Up, not yet judged healthy.
    Up { probe: Vec<String>, until: Millis },
    /// Not up yet, or waiting for something.
    Waiting { until: Option<Millis>, why: String },
}

impl Standing {
    fn probe_nothing(&mut self) {
        if let Self::Up { probe, .. } = self {
            probe.clear();
        }
    }
}

/// What one look at a service says.
pub(crate) enum Look {
    Stands(Standing),
    Act(Next),
}

impl Look {
    pub(crate) fn waits(until: Option<Millis>, why: impl Into<String>) -> Self {
        Self::Stands(Standing::Waiting { until, why: why.into() })
    }
}

/// The next thing to do.
pub fn converge(view: &View<'_>) -> Next {
    let order = start_order(&view.target.deployment, view.startups);
    let load = order.iter().map(|name| load_of(view, name)).sum();
    let (mut urgent, mut reserved) = (true, None);
    let mut awaited: BTreeSet<&str> = BTreeSet::new();
    let mut standing: BTreeMap<&str, Standing> = BTreeMap::new();
    for name in &order {
        let Some(spec) = view.target.deployment.services.get(*name) else { continue };
        let unmet = spec.depends_on.iter().filter(|edge| match (edge.condition, standing.get(edge.service.as_str())) {
            // A service that is not in the deployment is not waited for.
            (_, None | Some(Standing::Well)) | (Condition::Started, Some(Standing::Up { .. })) => false,
            (Condition::Healthy | Condition::Completed, Some(Standing::Up { .. }))
            | (_, Some(Standing::Waiting { .. })) => true,
        });
        let unmet: Vec<&str> = unmet.map(|edge| edge.service.as_str()).collect();
        let blocked = unmet.first().copied();
        // Who waits for one that is not even started has no use for news of the others.
        if unmet.iter().all(|other| matches!(standing.get(other), Some(Standing::Up { .. }))) {
            awaited.extend(unmet);
        }
        let turn = place::Turn { name, spec, index: 0, blocked, load, urgent, reserved, unwell: 0 };
        match look(view, turn) {
            Look::Act(next) => return next,
            Look::Stands(stands) => {
                if urgent && stands != Standing::Well {
                    urgent = false;
                    reserved = comes_first(view, name);
                }
                standing.insert(name, stands);
            }
        }
    }
    if let Some(step) = stop_strangers(view, &standing) {
        return Next::Do(step);
    }
    if view.mode == Mode::Supervise {
        // Nobody waits for the others: Docker's own checks will do, and a probe costs CPU that those who start need.
        standing.iter_mut().filter(|(name, _)| !awaited.contains(*name)).for_each(|(_, stands)| stands.probe_nothing());
    }
    summary(&standing)
}

/// What a service that is on its way up asks of the machine, in thousandths of a core.
fn load_of(view: &View<'_>, name: &str) -> Millis {
    let patience = view.startups.patience(name);
    let containers = view.target.ids(name).iter().filter_map(|id| view.seen.containers.get(id));
    let on_its_way = |c: &Container| judge::on_its_way(view, c) && view.now - c.started_at < patience;
    let starting = containers.filter(|c| view.runtime.is_starting(&c.id) || on_its_way(c)).count();
    Millis::try_from(starting).unwrap_or(0) * view.startups.demand(name)
}

/// Until when a service has the Engine to itself, where it is being started or is about to be well: then what follows it is
/// started.
fn comes_first(view: &View<'_>, name: &str) -> Option<Millis> {
    let containers: Vec<_> = view.target.ids(name).iter().filter_map(|id| view.seen.containers.get(id)).collect();
    if containers.iter().any(|c| view.runtime.is_starting(&c.id)) {
        return Some(view.now + CALL);
    }
    let starting = containers.into_iter().filter(|c| judge::on_its_way(view, c)).map(|c| c.started_at).max()?;
    let well = starting + view.startups.least(name);
    // It may be late; one that hangs holds up nobody for ever.
    let soon = well - CALL..(well + CALL).max(starting + view.startups.patience(name));
    soon.contains(&view.now).then_some(well.max(view.now) + CALL)
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

/// Containers of services that the target does not have: stopped once everything else stands. Those that we did not make
/// are no release's, and are left to whoever made them.
fn stop_strangers(view: &View<'_>, standing: &BTreeMap<&str, Standing>) -> Option<Step> {
    if view.mode == Mode::Supervise || standing.values().any(|s| *s != Standing::Well) {
        return None;
    }
    let services = &view.target.deployment.services;
    let stranger = |c: &&Container| c.runs() && c.spec.is_some() && !services.contains_key(&c.service);
    view.seen.containers.values().find(stranger).map(|c| Step::Stop { id: c.id.clone(), grace: place::STRANGERS_GRACE })
}

fn look(view: &View<'_>, service: place::Turn<'_>) -> Look {
    let place::Turn { name, spec, .. } = service;
    let ids = view.target.ids(name);
    if spec.one_shot {
        return look_at_one_shot(view, service, ids);
    }
    let mut unwell = 0_u32;
    let mut waits = None;
    let mut probe = Vec::new();
    let mut until = Millis::MAX;
    for (index, id) in ids.iter().enumerate() {
        let Some(container) = view.seen.containers.get(id) else {
            return missing(view, name, id);
        };
        let turn = place::Turn { index, unwell, ..service };
        match place::take_over(view, turn, container) {
            Some(Look::Act(next)) => return Look::Act(next),
            // One replica that waits does not keep another from being judged.
            Some(Look::Stands(stands)) => {
                unwell += 1;
                waits.get_or_insert(stands);
                continue;
            }
            None => {}
        }
        if let Some(step) = judge::after_dependency(view, spec, container) {
            return Look::Act(Next::Do(step));
        }
        match judge::judge(view, container) {
            Judged::Well => {
                if let Some(look) = place::retire_replaced(view, turn, container) {
                    return look;
                }
            }
            Judged::Starting(end) => {
                unwell += 1;
                probe.push(id.clone());
                until = until.min(end);
            }
            Judged::Ill(why) => return judge::ill(view, name, spec, container, why),
        }
    }
    // What is up is probed first; what waits for its turn is looked at again when that is done.
    if !probe.is_empty() {
        return Look::Stands(Standing::Up { probe, until });
    }
    if let Some(stands) = waits {
        return Look::Stands(stands);
    }
    place::retire_old(view, name, spec).unwrap_or(Look::Stands(Standing::Well))
}

fn missing(view: &View<'_>, name: &str, id: &str) -> Look {
    let reason = format!("its container {} is gone", &id[..id.len().min(12)]);
    match view.mode {
        Mode::Supervise => Look::waits(None, reason),
        Mode::Forward | Mode::Back => {
            let why = Fault { cause: Cause::Gone, reason };
            Look::Act(Next::Failed { service: name.to_owned(), id: None, why })
        }
    }
}

fn look_at_one_shot(view: &View<'_>, service: place::Turn<'_>, ids: &[String]) -> Look {
    let place::Turn { name, spec, .. } = service;
    let key = completion_key(&view.target.deployment, name, view.boot);
    // Never during a way back: an old migrator on a new schema fails exactly when it is needed.
    if view.mode == Mode::Back || view.completed.contains(&key) {
        return Look::Stands(Standing::Well);
    }
    let Some(container) = ids.first().and_then(|id| view.seen.containers.get(id)) else {
        return ids.first().map_or(Look::Stands(Standing::Well), |id| missing(view, name, id));
    };
    match container.state {
        RunState::Running | RunState::Paused => Look::waits(None, "is running to its end"),
        // Only a run of this spec counts; an exit that we saw end well is its completion.
        RunState::Exited { code: 0, .. }
            if spec.run == crate::spec::Run::WhenChanged || view.runtime.exits(&container.id) > 0 =>
        {
            Look::Act(Next::Completed(key))
        }
        RunState::Created | RunState::Exited { .. } => {
            place::take_over(view, place::Turn { load: 0, ..service }, container)
                .unwrap_or(Look::waits(None, "is to run"))
        }
    }
}
