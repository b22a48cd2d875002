//! The rollout's state machine: from what is remembered and what is seen to the one thing to do next. No I/O: the same
//! code runs in the agent and in tests with made-up Engines and clocks.
//!
//! `Idle -> Preparing -> Rolling -> Monitoring -> Probation -> Idle`; from `Rolling`, `Monitoring` and `Probation` also
//! `-> RollingBack -> Idle`, and `-> Held` where the way back failed too or the file asks for a person.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::protocol::HistoryEvent;

use crate::converge::{Mode, Next, Step, View, converge};
use crate::observed::{Health, Millis, Observed, RunState};
use crate::runtime::Runtime;
use crate::spec::Deployment;
use crate::state::{AppState, Attempt, Generation, Phase, Quarantine};

/// How long the old containers are kept after a deployment went live.
pub const PROBATION: Millis = 300_000;
/// Exits within probation that count as a crash loop.
const CRASH_LOOP: u32 = 2;

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
    /// How many containers may be on their way up at once in a cold start.
    pub starts_at_once: usize,
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
    /// Have Compose create the new containers, then call [`prepared`].
    Prepare,
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
            boot: machine.boot,
            starts_at_once: machine.starts_at_once,
            mode,
            now,
        })
    };
    let none = BTreeSet::new();
    match &state.phase {
        Phase::Preparing { .. } => Decision::Prepare,
        Phase::Rolling { target, from, attempt } => {
            let neighbours = from.as_ref().map(Generation::all_ids).unwrap_or_default();
            match run(target, Mode::Forward, &neighbours) {
                Next::Failed { service, id, reason } => {
                    fail(state, target, from.as_ref(), attempt, &service, id, &reason)
                }
                Next::Settled => {
                    let until = now + monitor_window(target, from.as_ref());
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
                Next::Failed { service, id, reason } => {
                    fail(state, target, from.as_ref(), attempt, &service, id, &reason)
                }
                Next::Settled if now >= *until => commit(machine, state, target, from.as_ref(), attempt, now),
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
                Next::Failed { service, id, reason: second } => {
                    hold_after_failed_return(state, to, &service, id, reason, &second)
                }
                Next::Settled => returned(state, failed, Some(to), reason, attempt),
                next => plain(state, next),
            },
            None => stop_all_of(seen, failed).unwrap_or_else(|| returned(state, failed, None, reason, attempt)),
        },
        Phase::Idle => idle(state, seen, candidate, |target| run(target, Mode::Supervise, &none)),
        Phase::Probation { from, attempt, until } => {
            if let Some(decision) = probation_failed(state, seen, runtime, from, attempt) {
                return decision;
            }
            if now >= *until {
                return end_probation(state, from, attempt);
            }
            if candidate.is_some_and(|c| wants(state, c)) {
                return end_probation(state, from, attempt);
            }
            state.live.as_ref().map_or(Decision::Wait { until: Some(*until), probe: Vec::new(), why: None }, |live| {
                match plain(state, run(live, Mode::Supervise, &none)) {
                    Decision::Wait { until: other, probe, why } => {
                        Decision::Wait { until: Some(other.map_or(*until, |o| o.min(*until))), probe, why }
                    }
                    decision => decision,
                }
            })
        }
        Phase::Held { reason, ends_when_well, .. } => match &state.live {
            Some(live) => match run(live, Mode::Supervise, &none) {
                Next::Settled if *ends_when_well => {
                    Decision::Move(Box::new(AppState { phase: Phase::Idle, ..state.clone() }), None)
                }
                Next::Settled => Decision::Wait { until: None, probe: Vec::new(), why: Some(reason.clone()) },
                next => plain(state, next),
            },
            None => Decision::Wait { until: None, probe: Vec::new(), why: Some(reason.clone()) },
        },
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
        Next::Wait { until, probe, why } => Decision::Wait { until, probe, why: Some(why) },
        Next::Settled => Decision::Wait { until: None, probe: Vec::new(), why: None },
        Next::Failed { service, reason, .. } => {
            Decision::Wait { until: None, probe: Vec::new(), why: Some(format!("`{service}`: {reason}")) }
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
            Step::Remove { id: container.id.clone() }
        });
    }
    if !state.to_remove.is_empty() {
        return Decision::Move(Box::new(AppState { to_remove: BTreeSet::new(), ..state.clone() }), None);
    }
    let kept = state.live.as_ref().map(Generation::all_ids).unwrap_or_default();
    let leftover = seen
        .containers
        .values()
        .find(|c| c.state == RunState::Created && c.spec.is_some() && !kept.contains(c.id.as_str()));
    if let Some(container) = leftover {
        return Decision::Do(Step::Remove { id: container.id.clone() });
    }
    if let Some(candidate) = candidate.filter(|c| wants(state, c)) {
        return prepare(state, seen, candidate);
    }
    state
        .live
        .as_ref()
        .map_or(Decision::Wait { until: None, probe: Vec::new(), why: None }, |live| plain(state, supervise(live)))
}

/// Whose containers stay as they are: spec and number agree, and all of them are there.
fn unchanged(state: &AppState, seen: &Observed, target: &Deployment, service: &str) -> Option<Vec<String>> {
    let spec = target.services.get(service)?;
    let ids: Vec<String> = if let Some(live) = &state.live {
        let same =
            live.deployment.services.get(service).is_some_and(|s| s.spec == spec.spec && s.replicas == spec.replicas);
        same.then(|| live.ids(service).to_vec())?
    } else {
        let mut ours: Vec<_> = seen.of_service(service).filter(|c| c.spec.as_ref() == Some(&spec.spec)).collect();
        ours.sort_by(|a, b| a.name.cmp(&b.name));
        ours.into_iter().map(|c| c.id.clone()).collect()
    };
    (ids.len() == spec.replicas as usize && ids.iter().all(|id| seen.containers.contains_key(id))).then_some(ids)
}

fn prepare(state: &AppState, seen: &Observed, candidate: &Candidate) -> Decision {
    let target = &candidate.deployment;
    let mut existing = BTreeMap::new();
    let mut scale = BTreeMap::new();
    for (service, spec) in &target.services {
        if unchanged(state, seen, target, service).is_none() {
            let ids: Vec<String> = seen.of_service(service).map(|c| c.id.clone()).collect();
            let count = u32::try_from(ids.len()).unwrap_or(u32::MAX).saturating_add(spec.replicas);
            existing.insert(service.clone(), ids);
            scale.insert(service.clone(), count);
        }
    }
    let phase = Phase::Preparing { target: target.clone(), existing, scale, attempt: candidate.attempt.clone() };
    let mut next = AppState { phase, ..state.clone() };
    next.quarantine.remove(&target.id);
    Decision::Move(Box::new(next), None)
}

/// After Compose created the new containers: which they are. The error says what is missing.
pub fn prepared(state: &AppState, seen: &Observed) -> Result<(AppState, Note), String> {
    let Phase::Preparing { target, existing, attempt, .. } = &state.phase else {
        return Err("nothing is being prepared".to_owned());
    };
    let mut containers = BTreeMap::new();
    for (service, spec) in &target.services {
        let ids = if let Some(old) = existing.get(service) {
            let mut new: Vec<_> = seen.of_service(service).filter(|c| !old.contains(&c.id)).collect();
            new.sort_by(|a, b| a.name.len().cmp(&b.name.len()).then(a.name.cmp(&b.name)));
            if new.len() != spec.replicas as usize {
                return Err(format!("`{service}` has {} new containers, {} were asked for", new.len(), spec.replicas));
            }
            new.into_iter().map(|c| c.id.clone()).collect()
        } else {
            unchanged(state, seen, target, service).ok_or_else(|| format!("a container of `{service}` went away"))?
        };
        containers.insert(service.clone(), ids);
    }
    let target = Generation { deployment: target.clone(), containers };
    let from = state.live.clone().or_else(|| adopted(&target, existing));
    let services = existing.keys().cloned().collect();
    let note = Note {
        event: HistoryEvent::RolloutStarted,
        deployment: Some(target.deployment.clone()),
        reason: None,
        services,
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    let phase = Phase::Rolling { target, from, attempt: attempt.clone() };
    Ok((AppState { phase, ..state.clone() }, note))
}

/// A project that ran before Landfall: its containers as the generation to go back to, in the new release's order.
fn adopted(target: &Generation, existing: &BTreeMap<String, Vec<String>>) -> Option<Generation> {
    let found: BTreeMap<String, Vec<String>> =
        existing.iter().filter(|(_, ids)| !ids.is_empty()).map(|(s, ids)| (s.clone(), ids.clone())).collect();
    if found.is_empty() {
        return None;
    }
    let mut deployment = target.deployment.clone();
    deployment.services.retain(|service, _| found.contains_key(service));
    for (service, spec) in &mut deployment.services {
        "adopted".clone_into(&mut spec.spec);
        spec.replicas = found.get(service).map_or(1, |ids| u32::try_from(ids.len()).unwrap_or(1));
    }
    let names: BTreeSet<String> = deployment.services.keys().cloned().collect();
    for spec in deployment.services.values_mut() {
        spec.depends_on.retain(|edge| names.contains(&edge.service));
    }
    deployment.id = landfall_core::ids::deployment_id(&deployment.release, vec!["adopted".to_owned()]);
    Some(Generation { deployment, containers: found })
}

fn changed_services(target: &Generation, from: Option<&Generation>) -> Vec<String> {
    let changed = |service: &&String| from.is_none_or(|f| f.ids(service) != target.ids(service));
    target.deployment.services.keys().filter(changed).cloned().collect()
}

fn monitor_window(target: &Generation, from: Option<&Generation>) -> Millis {
    changed_services(target, from)
        .iter()
        .filter_map(|service| target.deployment.services.get(service))
        .filter(|spec| !spec.one_shot)
        .map(|spec| Millis::try_from(spec.monitor.as_millis()).unwrap_or(Millis::MAX / 4))
        .max()
        .unwrap_or(0)
}

fn fail(
    state: &AppState,
    target: &Generation,
    from: Option<&Generation>,
    attempt: &Attempt,
    service: &str,
    id: Option<String>,
    reason: &str,
) -> Decision {
    let reason = format!("`{service}`: {reason}");
    let spec = target.deployment.services.get(service);
    let mut next = state.clone();
    next.quarantine
        .insert(target.deployment.id.clone(), Quarantine { reason: reason.clone(), sequence: attempt.sequence });
    let irreversible = changed_services(target, from)
        .into_iter()
        .find(|name| target.deployment.services.get(name).is_some_and(|s| s.rollback_hold) && ran(state, target, name));
    let (event, phase) = if spec.is_some_and(|s| s.pause_on_failure) {
        next.live = Some(target.clone());
        let why = format!(
            "{reason}; the release asks to pause on failure: `landfall rollback` or publish a better one, then `landfall retry`"
        );
        (HistoryEvent::Held, Phase::Held { reason: why, ends_when_well: false, way_back: from.cloned() })
    } else if let Some(step) = irreversible {
        next.live = Some(target.clone());
        let why = format!(
            "{reason}; `{step}` cannot be undone (`rollback: hold`): decide, then `landfall rollback` or `landfall retry`"
        );
        (HistoryEvent::Held, Phase::Held { reason: why, ends_when_well: false, way_back: from.cloned() })
    } else {
        let phase = Phase::RollingBack {
            failed: target.clone(),
            to: from.cloned(),
            reason: reason.clone(),
            attempt: attempt.clone(),
        };
        (HistoryEvent::RollbackStarted, phase)
    };
    next.phase = phase;
    let note = Note {
        event,
        deployment: Some(target.deployment.clone()),
        reason: Some(reason),
        services: vec![service.to_owned()],
        attempt: Some(attempt.clone()),
        evidence: id,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

/// Whether an irreversible step has been taken: its completion stands in the state under any boot.
fn ran(state: &AppState, target: &Generation, service: &str) -> bool {
    target.deployment.services.get(service).is_some_and(|spec| {
        state.completed.iter().any(|key| key.starts_with(&format!("{service} {}", spec.spec))) || !spec.one_shot
    })
}

fn commit(
    machine: Machine<'_>,
    state: &AppState,
    target: &Generation,
    from: Option<&Generation>,
    attempt: &Attempt,
    now: Millis,
) -> Decision {
    let mut next = state.clone();
    next.live = Some(target.clone());
    next.phase = match from {
        Some(from) => Phase::Probation { from: from.clone(), attempt: attempt.clone(), until: now + machine.probation },
        None => Phase::Idle,
    };
    // What an older deployment's one-shots left is not needed once a newer one is live.
    let specs: BTreeSet<String> =
        target.deployment.services.iter().map(|(name, spec)| format!("{name} {}", spec.spec)).collect();
    next.completed.retain(|key| specs.iter().any(|spec| key.starts_with(spec)));
    let note = Note {
        event: HistoryEvent::Live,
        deployment: Some(target.deployment.clone()),
        reason: None,
        services: changed_services(target, from),
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

fn end_probation(state: &AppState, from: &Generation, attempt: &Attempt) -> Decision {
    let mut next = state.clone();
    next.to_remove = without(from, state.live.as_ref());
    next.phase = Phase::Idle;
    let note = Note {
        event: HistoryEvent::Good,
        deployment: state.live.as_ref().map(|g| g.deployment.clone()),
        reason: None,
        services: Vec::new(),
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

/// A first release that failed has nothing to go back to: all of it is stopped.
fn stop_all_of(seen: &Observed, failed: &Generation) -> Option<Decision> {
    let ids = failed.all_ids();
    let running = seen.containers.values().find(|c| c.runs() && ids.contains(c.id.as_str()))?;
    Some(Decision::Do(Step::Stop { id: running.id.clone(), grace: 10 }))
}

fn without(of: &Generation, kept: Option<&Generation>) -> BTreeSet<String> {
    let kept = kept.map(Generation::all_ids).unwrap_or_default();
    of.all_ids().into_iter().filter(|id| !kept.contains(id)).map(str::to_owned).collect()
}

fn probation_failed(
    state: &AppState,
    seen: &Observed,
    runtime: &Runtime,
    from: &Generation,
    attempt: &Attempt,
) -> Option<Decision> {
    let live = state.live.as_ref()?;
    let old = from.all_ids();
    for service in changed_services(live, Some(from)) {
        if live.deployment.services.get(&service).is_none_or(|s| s.one_shot) {
            continue;
        }
        for id in live.ids(&service).iter().filter(|id| !old.contains(id.as_str())) {
            let Some(container) = seen.containers.get(id) else { continue };
            let reason = if container.runs() && container.health == Health::Unhealthy {
                "its health check fails within probation".to_owned()
            } else if runtime.exits(id) >= CRASH_LOOP {
                format!("it exited {} times within probation", runtime.exits(id))
            } else {
                continue;
            };
            return Some(fail(state, live, Some(from), attempt, &service, Some(id.clone()), &reason));
        }
    }
    None
}

fn returned(
    state: &AppState,
    failed: &Generation,
    to: Option<&Generation>,
    reason: &str,
    attempt: &Attempt,
) -> Decision {
    let mut next = state.clone();
    next.live = to.cloned();
    next.to_remove = without(failed, to);
    next.phase = Phase::Idle;
    let note = Note {
        event: HistoryEvent::RolledBack,
        deployment: Some(failed.deployment.clone()),
        reason: Some(reason.to_owned()),
        services: changed_services(failed, to),
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

fn hold_after_failed_return(
    state: &AppState,
    to: &Generation,
    service: &str,
    id: Option<String>,
    first: &str,
    second: &str,
) -> Decision {
    let reason = format!("{first}; on the way back `{service}`: {second}");
    let mut next = state.clone();
    next.live = Some(to.clone());
    next.phase = Phase::Held { reason: reason.clone(), ends_when_well: true, way_back: None };
    let note = Note {
        event: HistoryEvent::Held,
        deployment: Some(to.deployment.clone()),
        reason: Some(reason),
        services: vec![service.to_owned()],
        attempt: None,
        evidence: id,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

/// A container could not be started, three times: in a rollout that is the end of it. None where nothing is rolling.
pub fn start_failed(state: &AppState, service: &str, id: &str, reason: &str) -> Option<(AppState, Note)> {
    let decision = match &state.phase {
        Phase::Rolling { target, from, attempt } | Phase::Monitoring { target, from, attempt, .. } => {
            fail(state, target, from.as_ref(), attempt, service, Some(id.to_owned()), reason)
        }
        Phase::RollingBack { to: Some(to), reason: first, .. } => {
            hold_after_failed_return(state, to, service, Some(id.to_owned()), first, reason)
        }
        Phase::RollingBack { to: None, .. }
        | Phase::Idle
        | Phase::Preparing { .. }
        | Phase::Probation { .. }
        | Phase::Held { .. } => return None,
    };
    match decision {
        Decision::Move(state, Some(note)) => Some((*state, *note)),
        Decision::Move(_, None) | Decision::Do(_) | Decision::Prepare | Decision::Wait { .. } => None,
    }
}

/// An operator asks to try again: quarantines are lifted, and a hold that waits for a person ends.
pub fn operator_retry(state: &AppState) -> AppState {
    let mut next = state.clone();
    next.quarantine.clear();
    if let Phase::Held { ends_when_well: false, way_back, .. } = &state.phase {
        next.to_remove.extend(way_back.iter().flat_map(|from| without(from, state.live.as_ref())));
        next.phase = Phase::Idle;
    }
    next
}

/// An operator asks to return to what ran before. The error says why there is no way back.
pub fn operator_rollback(state: &AppState, why: &str) -> Result<AppState, &'static str> {
    let (failed, to, attempt) = match &state.phase {
        Phase::Probation { from, attempt, .. } => (state.live.clone(), Some(from.clone()), attempt.clone()),
        Phase::Rolling { target, from, attempt } | Phase::Monitoring { target, from, attempt, .. } => {
            (Some(target.clone()), from.clone(), attempt.clone())
        }
        Phase::Held { way_back: Some(from), .. } => (state.live.clone(), Some(from.clone()), Attempt::default()),
        Phase::Idle | Phase::Held { way_back: None, .. } | Phase::Preparing { .. } => {
            return Err(
                "the containers of the deployment before are gone: publish the old content again, with `landfall publish`",
            );
        }
        Phase::RollingBack { .. } => return Err("a rollback is under way already: watch it with `landfall status`"),
    };
    let Some(failed) = failed else { return Err("nothing runs yet") };
    let mut next = state.clone();
    next.hold = Some(format!("rolled back by an operator: {why}"));
    next.phase = Phase::RollingBack { failed, to, reason: format!("an operator asked for it: {why}"), attempt };
    Ok(next)
}
