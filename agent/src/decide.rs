//! The rollout's state machine: from what is remembered and what is seen to the one thing to do next. No I/O: the same
//! code runs in the agent and in tests with made-up Engines and clocks.
//!
//! `Idle -> Preparing -> Rolling -> Monitoring -> Probation -> Idle`; from `Rolling`, `Monitoring` and `Probation` also
//! `-> RollingBack -> Idle`, and `-> Held` where the way back failed too or the file asks for a person.

use std::collections::BTreeSet;

use landfall_core::protocol::{Cause, HistoryEvent};

use crate::converge::{Mode, Next, Step, View, converge};
use crate::ending;
use crate::observed::{Container, Millis, Observed, RunState};
use crate::outcome;
use crate::preparation;
use crate::repairs::{self, Examination};
use crate::runtime::Runtime;
use crate::spec::Deployment;
use crate::startups::Startups;
use crate::state::{AppState, Armed, Attempt, Generation, Phase};

/// How long the old containers are kept after a deployment went live.
pub const PROBATION: Millis = 300_000;

/// A deployment that passed preflight: everything it needs is on this VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What is to run.
    pub deployment: Deployment,
    /// From when and where.
    pub attempt: Attempt,
}

/// What the machine around the app is like.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// The app's and Compose project's name.
    pub app: &'a str,
    /// The kernel's boot id.
    pub boot: &'a str,
    /// What simultaneous starts may ask of the machine in a cold start, in thousandths of a core.
    pub budget: Millis,
    /// How many containers the Engine may be starting at one moment in a cold start: its cores.
    pub calls_at_once: usize,
    /// What starts took in the past.
    pub startups: &'a Startups,
    /// How long the way back stays armed, milliseconds.
    pub probation: Millis,
}

/// What to write to the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What happened.
    pub event: HistoryEvent,
    /// To which deployment.
    pub deployment: Option<Deployment>,
    /// Why.
    pub reason: Option<String>,
    /// The kind of failure that this is, if it is one.
    pub cause: Option<Cause>,
    /// Services touched.
    pub services: Vec<String>,
    /// The attempt it belongs to.
    pub attempt: Option<Attempt>,
    /// The container whose log says why.
    pub evidence: Option<String>,
}

/// The one thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A change to one container.
    Do(Step),
    /// Have Compose create what [`preparation::wanted`] says, then call [`preparation::prepared`].
    Prepare,
    /// Remove a network that nothing needs any more, once, then remember that it was tried.
    RemoveNetwork(String),
    /// Nothing of the app runs any more and its life is over: what it left is removed, and it is forgotten.
    Forget,
    /// Look at a lock file, and tell the [`Runtime`].
    Examine(Examination),
    /// Have Compose create the container that repairs this service.
    Repair(String),
    /// Remember this (ledger first), then decide again.
    Move(Box<AppState>, Option<Box<Note>>),
    /// Nothing, until then or until something happens.
    Wait {
        /// Look again then at the latest.
        until: Option<Millis>,
        /// Containers to probe meanwhile.
        probe: Vec<String>,
        /// For people; none when all is as it should be.
        why: Option<String>,
    },
}

/// Decides.
pub fn decide(
    machine: Machine<'_>,
    state: &AppState,
    seen: &Observed,
    runtime: &Runtime,
    candidate: Option<&Candidate>,
    now: Millis,
) -> Decision {
    if let Some((until, why)) = &state.hands_off {
        if now < *until {
            return Decision::Wait { until: Some(*until), probe: Vec::new(), why: Some(format!("hands off: {why}")) };
        }
        return Decision::Move(Box::new(AppState { hands_off: None, ..state.clone() }), None);
    }
    let run = |target: &Generation, mode: Mode, neighbours: &BTreeSet<&str>| {
        converge(&View {
            app: machine.app,
            target,
            neighbours,
            seen,
            runtime,
            completed: &state.completed,
            incidents: &state.incidents,
            boot: machine.boot,
            startups: machine.startups,
            budget: machine.budget,
            calls_at_once: machine.calls_at_once,
            mode,
            now,
        })
    };
    let none = BTreeSet::new();
    if state.recreation.is_some() {
        return Decision::Prepare;
    }
    if supervised(&state.phase)
        && let Some(decision) = preparation::replace_missing(state, seen, runtime, now)
    {
        return decision;
    }
    match &state.phase {
        Phase::Ending { .. } => ending::next(seen),
        Phase::Preparing { .. } => Decision::Prepare,
        Phase::Rolling { target, from, attempt } => {
            let neighbours = from.as_ref().map(Generation::all_ids).unwrap_or_default();
            match run(target, Mode::Forward, &neighbours) {
                Next::Failed { service, id, why } => {
                    outcome::fail(state, target, from.as_ref(), attempt, &service, id, &why)
                }
                Next::Settled => {
                    let until = now + outcome::monitor_window(target, from.as_ref());
                    let phase = Phase::Monitoring {
                        target: target.clone(),
                        from: from.clone(),
                        attempt: attempt.clone(),
                        until,
                    };
                    Decision::Move(Box::new(AppState { phase, ..state.clone() }), None)
                }
                next => plain(state, next),
            }
        }
        Phase::Monitoring { target, from, attempt, until } => {
            let neighbours = from.as_ref().map(Generation::all_ids).unwrap_or_default();
            match run(target, Mode::Forward, &neighbours) {
                Next::Failed { service, id, why } => {
                    outcome::fail(state, target, from.as_ref(), attempt, &service, id, &why)
                }
                Next::Settled if now >= *until => outcome::commit(machine, state, target, from.as_ref(), attempt, now),
                Next::Settled => Decision::Wait {
                    until: Some(*until),
                    probe: Vec::new(),
                    why: Some("all services are well; watching them until the end of the monitor window".to_owned()),
                },
                next => plain(state, next),
            }
        }
        Phase::RollingBack { failed, to, reason, attempt } => match to {
            Some(to) => match run(to, Mode::Back, &none) {
                Next::Failed { service, id, why: second } => {
                    outcome::hold_after_failed_return(state, to, &service, id, reason, &second)
                }
                Next::Settled => outcome::returned(state, failed, Some(to), reason, attempt),
                next => plain(state, next),
            },
            None => outcome::stop_all_of(seen, failed)
                .unwrap_or_else(|| outcome::returned(state, failed, None, reason, attempt)),
        },
        Phase::Idle => idle(state, seen, candidate, |target| run(target, Mode::Supervise, &none)),
        Phase::Probation(armed) => {
            if let Some(decision) = outcome::probation_failed(state, seen, runtime, armed) {
                return decision;
            }
            if now >= armed.until {
                return outcome::end_probation(state, armed);
            }
            if let Some(candidate) = candidate.filter(|c| wants(state, c)) {
                return preparation::begin(state, seen, candidate);
            }
            probation(state, armed, |target| run(target, Mode::Supervise, &none))
        }
        Phase::Held { reason, ends_when_well, .. } => {
            held(state, reason, *ends_when_well, |target| run(target, Mode::Supervise, &none))
        }
    }
}

fn held(state: &AppState, reason: &str, ends_when_well: bool, supervise: impl Fn(&Generation) -> Next) -> Decision {
    let stays = Decision::Wait { until: None, probe: Vec::new(), why: Some(reason.to_owned()) };
    match state.live.as_ref().map(supervise) {
        Some(Next::Settled) if ends_when_well => {
            Decision::Move(Box::new(AppState { phase: Phase::Idle, ..state.clone() }), None)
        }
        None | Some(Next::Settled) => stays,
        Some(next) => plain(state, next),
    }
}

/// Whether containers that are gone are made again: not in the middle of a swap, where it is the new release's failure.
fn supervised(phase: &Phase) -> bool {
    match phase {
        Phase::Idle | Phase::Probation(_) | Phase::Held { .. } | Phase::RollingBack { .. } => true,
        Phase::Preparing { .. } | Phase::Rolling { .. } | Phase::Monitoring { .. } | Phase::Ending { .. } => false,
    }
}

fn probation(state: &AppState, armed: &Armed, supervise: impl Fn(&Generation) -> Next) -> Decision {
    let Some(live) = &state.live else {
        return Decision::Wait { until: Some(armed.until), probe: Vec::new(), why: None };
    };
    match plain(state, supervise(live)) {
        Decision::Wait { until: other, probe, why } => {
            Decision::Wait { until: Some(other.map_or(armed.until, |o| o.min(armed.until))), probe, why }
        }
        decision => decision,
    }
}

/// Whether this candidate is something to roll out now.
fn wants(state: &AppState, candidate: &Candidate) -> bool {
    state.hold.is_none()
        && state.live.as_ref().is_none_or(|live| live.deployment.id != candidate.deployment.id)
        && !quarantined(state, &candidate.deployment, candidate.attempt.sequence)
}

/// Whether this deployment failed before; a publication with a higher sequence lifts it.
pub fn quarantined(state: &AppState, deployment: &Deployment, sequence: Option<u64>) -> bool {
    state.quarantine.get(&deployment.id).is_some_and(|q| sequence.is_none() || sequence <= q.sequence)
}

fn plain(state: &AppState, next: Next) -> Decision {
    match next {
        Next::Do(step) => Decision::Do(step),
        Next::Completed(key) => {
            let mut state = state.clone();
            state.completed.insert(key);
            Decision::Move(Box::new(state), None)
        }
        Next::Examine(examination) => Decision::Examine(examination),
        Next::Repair(service) => Decision::Repair(service),
        Next::Remember(what) => {
            let (state, note) = repairs::remembered(state, *what);
            Decision::Move(Box::new(state), note.map(Box::new))
        }
        Next::Wait { until, probe, why } => Decision::Wait { until, probe, why: Some(why) },
        Next::Settled => Decision::Wait { until: None, probe: Vec::new(), why: None },
        Next::Failed { service, why, .. } => {
            Decision::Wait { until: None, probe: Vec::new(), why: Some(format!("`{service}`: {}", why.reason)) }
        }
    }
}

fn idle(
    state: &AppState,
    seen: &Observed,
    candidate: Option<&Candidate>,
    supervise: impl Fn(&Generation) -> Next,
) -> Decision {
    if let Some(container) = state.to_remove.iter().find_map(|id| seen.containers.get(id)) {
        return Decision::Do(if container.runs() {
            Step::Stop { id: container.id.clone(), grace: 10 }
        } else {
            remove(container)
        });
    }
    if !state.to_remove.is_empty() {
        return Decision::Move(Box::new(AppState { to_remove: BTreeSet::new(), ..state.clone() }), None);
    }
    if let Some(network) = state.networks_to_remove.first() {
        return Decision::RemoveNetwork(network.clone());
    }
    let kept = state.live.as_ref().map(Generation::all_ids).unwrap_or_default();
    let leftover = seen
        .containers
        .values()
        .find(|c| c.state == RunState::Created && c.spec.is_some() && !kept.contains(c.id.as_str()));
    if let Some(container) = leftover {
        return Decision::Do(remove(container));
    }
    let mut over = seen.containers.values().filter(|c| c.repairs() && !c.runs());
    if let Some(step) = over.find_map(|c| repairs::leftover(state, c)) {
        return Decision::Do(step);
    }
    if let Some(candidate) = candidate.filter(|c| wants(state, c)) {
        return preparation::begin(state, seen, candidate);
    }
    state
        .live
        .as_ref()
        .map_or(Decision::Wait { until: None, probe: Vec::new(), why: None }, |live| plain(state, supervise(live)))
}

/// What was made by hand may hold data that nobody named: only our own containers take their volumes with them.
fn remove(container: &Container) -> Step {
    Step::Remove { id: container.id.clone(), with_volumes: container.spec.is_some() }
}

/// A network was removed, or something else still needs it: either way it is not tried again.
pub fn network_removed(state: &AppState, network: &str) -> AppState {
    let mut next = state.clone();
    next.networks_to_remove.remove(network);
    next
}
