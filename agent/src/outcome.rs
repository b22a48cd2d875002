//! How a rollout ends: live, good, failed and on its way back, returned, or held for a person. Pure transitions.

use std::collections::BTreeSet;

use landfall_core::protocol::{Cause, HistoryEvent};

use crate::converge::{Fault, Step};
use crate::decide::{Decision, Machine, Note};
use crate::observed::{Health, Millis, Observed};
use crate::runtime::Runtime;
use crate::state::{AppState, Armed, Attempt, Generation, Phase, Quarantine};

/// Exits within probation that count as a crash loop.
const CRASH_LOOP: u32 = 2;

fn changed_services(target: &Generation, from: Option<&Generation>) -> Vec<String> {
    let changed = |service: &&String| from.is_none_or(|f| f.ids(service) != target.ids(service));
    target.deployment.services.keys().filter(changed).cloned().collect()
}

pub(crate) fn monitor_window(target: &Generation, from: Option<&Generation>) -> Millis {
    changed_services(target, from)
        .iter()
        .filter_map(|service| target.deployment.services.get(service))
        .filter(|spec| !spec.one_shot)
        .map(|spec| Millis::try_from(spec.monitor.as_millis()).unwrap_or(Millis::MAX / 4))
        .max()
        .unwrap_or(0)
}

pub(crate) fn fail(
    state: &AppState,
    target: &Generation,
    from: Option<&Generation>,
    attempt: &Attempt,
    service: &str,
    id: Option<String>,
    why: &Fault,
) -> Decision {
    let Fault { cause, reason } = why;
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
        cause: Some(*cause),
        services: vec![service.to_owned()],
        attempt: Some(attempt.clone()),
        evidence: id,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

/// Whether an irreversible step has been taken: its completion stands in the state under any boot.
fn ran(state: &AppState, target: &Generation, service: &str) -> bool {
    let spec = target.deployment.services.get(service);
    spec.is_some_and(|spec| !spec.one_shot || state.ever_completed(service, &spec.spec))
}

pub(crate) fn commit(
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
        Some(from) => {
            Phase::Probation(Armed { from: from.clone(), attempt: attempt.clone(), until: now + machine.probation })
        }
        None => Phase::Idle,
    };
    // What an older deployment's one-shots left is not needed once a newer one is live.
    let specs: BTreeSet<String> =
        target.deployment.services.iter().map(|(name, spec)| format!("{name} {}", spec.spec)).collect();
    next.completed.retain(|key| specs.iter().any(|spec| key.starts_with(spec)));
    let examined = |name: &String| target.deployment.services.get(name).is_some_and(|spec| spec.unclean.is_some());
    next.incidents.retain(|name, _| examined(name));
    let note = Note {
        event: HistoryEvent::Live,
        deployment: Some(target.deployment.clone()),
        reason: None,
        cause: None,
        services: changed_services(target, from),
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

pub(crate) fn end_probation(state: &AppState, armed: &Armed) -> Decision {
    let mut next = state.clone();
    let_go(&mut next, &armed.from, &[state.live.as_ref()]);
    next.phase = Phase::Idle;
    let note = Note {
        event: HistoryEvent::Good,
        deployment: state.live.as_ref().map(|g| g.deployment.clone()),
        reason: None,
        cause: None,
        services: Vec::new(),
        attempt: Some(armed.attempt.clone()),
        evidence: None,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

/// A first release that failed has nothing to go back to: all of it is stopped.
pub(crate) fn stop_all_of(seen: &Observed, failed: &Generation) -> Option<Decision> {
    let ids = failed.all_ids();
    let running = seen.containers.values().find(|c| c.runs() && ids.contains(c.id.as_str()))?;
    Some(Decision::Do(Step::Stop { id: running.id.clone(), grace: 10 }))
}

/// A generation is not needed any more: its containers and networks, but for those that the kept ones use, are to be removed.
pub(crate) fn let_go(state: &mut AppState, of: &Generation, kept: &[Option<&Generation>]) {
    let kept = || kept.iter().flatten();
    let ids = of.all_ids().into_iter().filter(|id| !kept().any(|g| g.all_ids().contains(id)));
    state.to_remove.extend(ids.map(str::to_owned));
    let networks =
        of.deployment.networks.keys().filter(|name| !kept().any(|g| g.deployment.networks.contains_key(*name)));
    state.networks_to_remove.extend(networks.cloned());
}

pub(crate) fn probation_failed(
    state: &AppState,
    seen: &Observed,
    runtime: &Runtime,
    armed: &Armed,
) -> Option<Decision> {
    let live = state.live.as_ref()?;
    let Armed { from, attempt, .. } = armed;
    let old = from.all_ids();
    for service in changed_services(live, Some(from)) {
        if live.deployment.services.get(&service).is_none_or(|s| s.one_shot) {
            continue;
        }
        for id in live.ids(&service).iter().filter(|id| !old.contains(id.as_str())) {
            let Some(container) = seen.containers.get(id) else { continue };
            let (cause, reason) = if container.runs() && container.health == Health::Unhealthy {
                (Cause::Unhealthy, "its health check fails within probation".to_owned())
            } else if runtime.exits(id) >= CRASH_LOOP {
                (Cause::Exited, format!("it exited {} times within probation", runtime.exits(id)))
            } else {
                continue;
            };
            return Some(fail(state, live, Some(from), attempt, &service, Some(id.clone()), &Fault { cause, reason }));
        }
    }
    None
}

pub(crate) fn returned(
    state: &AppState,
    failed: &Generation,
    to: Option<&Generation>,
    reason: &str,
    attempt: &Attempt,
) -> Decision {
    let mut next = state.clone();
    next.live = to.cloned();
    let_go(&mut next, failed, &[to]);
    next.phase = Phase::Idle;
    let note = Note {
        event: HistoryEvent::RolledBack,
        deployment: Some(failed.deployment.clone()),
        reason: Some(reason.to_owned()),
        cause: None,
        services: changed_services(failed, to),
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

pub(crate) fn hold_after_failed_return(
    state: &AppState,
    to: &Generation,
    service: &str,
    id: Option<String>,
    first: &str,
    second: &Fault,
) -> Decision {
    let reason = format!("{first}; on the way back `{service}`: {}", second.reason);
    let mut next = state.clone();
    next.live = Some(to.clone());
    next.phase = Phase::Held { reason: reason.clone(), ends_when_well: true, way_back: None };
    let note = Note {
        event: HistoryEvent::Held,
        deployment: Some(to.deployment.clone()),
        reason: Some(reason),
        cause: Some(second.cause),
        services: vec![service.to_owned()],
        attempt: None,
        evidence: id,
    };
    Decision::Move(Box::new(next), Some(Box::new(note)))
}

/// A container could not be started, three times: in a rollout that is the end of it. None where nothing is rolling.
pub fn start_failed(state: &AppState, service: &str, id: &str, reason: &str) -> Option<(AppState, Note)> {
    let why = Fault { cause: Cause::CannotStart, reason: reason.to_owned() };
    let decision = match &state.phase {
        Phase::Rolling { target, from, attempt } | Phase::Monitoring { target, from, attempt, .. } => {
            fail(state, target, from.as_ref(), attempt, service, Some(id.to_owned()), &why)
        }
        Phase::RollingBack { to: Some(to), reason: first, .. } => {
            hold_after_failed_return(state, to, service, Some(id.to_owned()), first, &why)
        }
        Phase::RollingBack { to: None, .. }
        | Phase::Idle
        | Phase::Preparing { .. }
        | Phase::Probation(_)
        | Phase::Held { .. }
        | Phase::Ending { .. } => return None,
    };
    match decision {
        Decision::Move(state, Some(note)) => Some((*state, *note)),
        Decision::Move(_, None)
        | Decision::Do(_)
        | Decision::Prepare
        | Decision::RemoveNetwork(_)
        | Decision::Forget
        | Decision::Examine(_)
        | Decision::Repair(_)
        | Decision::Wait { .. } => None,
    }
}
