//! How a container stands: well, on its way, or ill, and what that means in each mode. Pure.

use landfall_core::protocol::Cause;

use crate::converge::{Fault, Look, Mode, Next, Step, View};
use crate::observed::{Container, Health, Millis, RunState};
use crate::spec::{RestartCondition, ServiceSpec};

/// The verdict on a container that is up.
pub(crate) enum Judged {
    Well,
    /// Not healthy yet, and it may take until then.
    Starting(Millis),
    Ill(Fault),
}

pub(crate) fn judge(view: &View<'_>, container: &Container) -> Judged {
    let Some(check) = &container.check else { return Judged::Well };
    if container.state == RunState::Paused {
        // Whoever paused it knows: it is left alone.
        return Judged::Well;
    }
    if container.health == Health::Unhealthy {
        return Judged::Ill(Fault { cause: Cause::Unhealthy, reason: "its health check fails".to_owned() });
    }
    if container.health == Health::Healthy || view.runtime.gate_open(container) {
        return Judged::Well;
    }
    let end = container.started_at + check.deadline();
    if view.now >= end {
        let reason = format!("it was not healthy {} s after its start", check.deadline() / 1000);
        return Judged::Ill(Fault { cause: Cause::Late, reason });
    }
    Judged::Starting(end)
}

/// Up, with a health check that has not passed yet.
pub(crate) fn on_its_way(view: &View<'_>, container: &Container) -> bool {
    container.runs()
        && container.check.is_some()
        && container.health != Health::Healthy
        && !view.runtime.gate_open(container)
}

/// Whether a container that is down may be started now.
pub(crate) fn may_start(view: &View<'_>, name: &str, spec: &ServiceSpec, container: &Container) -> Option<Look> {
    if let Some(refusal) = view.runtime.refusal(&container.id).filter(|r| r.until > view.now) {
        let why = format!("cannot be started, tried again later: {}", refusal.reason);
        return Some(Look::waits(Some(refusal.until), why));
    }
    let RunState::Exited { code, out_of_memory } = container.state else { return None };
    let exits = view.runtime.exits(&container.id);
    if exits == 0 {
        return None;
    }
    let (cause, what) = if out_of_memory {
        (Cause::OutOfMemory, format!("was killed for memory (exit code {code})"))
    } else {
        (Cause::Exited, format!("exited with code {code}"))
    };
    let fresh = !view.neighbours.contains(container.id.as_str());
    if view.mode == Mode::Forward && fresh {
        let reason = if code == 0 && cause == Cause::Exited && spec.restart.condition != RestartCondition::Any {
            format!("{what}; if it is meant to end, declare it a one-shot: `x-landfall: {{ run: when-changed }}`")
        } else {
            what
        };
        return Some(Look::Act(Next::Failed {
            service: name.to_owned(),
            id: Some(container.id.clone()),
            why: Fault { cause, reason },
        }));
    }
    let never = match spec.restart.condition {
        RestartCondition::Any => false,
        RestartCondition::OnFailure => code == 0,
        RestartCondition::None => true,
    };
    if never || spec.restart.max_attempts.is_some_and(|most| exits > most) {
        return Some(Look::waits(None, format!("{what} and is not restarted")));
    }
    let due = view.runtime.due(container, &spec.restart);
    (due > view.now).then(|| Look::waits(Some(due), format!("{what}, restart number {exits} is due")))
}

/// A container that is ill: the end of a rollout for a new one, a restart for any other.
pub(crate) fn ill(view: &View<'_>, name: &str, spec: &ServiceSpec, container: &Container, why: Fault) -> Look {
    let fresh = !view.neighbours.contains(container.id.as_str());
    if view.mode != Mode::Supervise && fresh {
        return Look::Act(Next::Failed { service: name.to_owned(), id: Some(container.id.clone()), why });
    }
    if spec.restart.condition == RestartCondition::None {
        return Look::waits(None, format!("{} and is not restarted", why.reason));
    }
    Look::Act(Next::Do(restart(container, spec)))
}

/// The restart of a container that ran on while what it depends on was started anew under it: always where it shares a
/// namespace (the old one is dead); for `restart: true` only where the release replaced it, not where it crashed.
pub(crate) fn after_dependency(view: &View<'_>, spec: &ServiceSpec, container: &Container) -> Option<Step> {
    let newer =
        |id: &String| view.seen.containers.get(id).is_some_and(|c| c.runs() && c.started_at > container.started_at);
    let replaced = |id: &String| match view.mode {
        Mode::Forward => !view.neighbours.contains(id.as_str()),
        Mode::Back => true,
        Mode::Supervise => false,
    };
    let due = spec.depends_on.iter().any(|edge| {
        let ids = view.target.ids(&edge.service);
        if spec.namespace_of.as_ref() == Some(&edge.service) {
            return ids.first().is_some_and(newer);
        }
        edge.restart && ids.iter().any(|id| replaced(id) && newer(id))
    });
    due.then(|| restart(container, spec))
}

fn restart(container: &Container, spec: &ServiceSpec) -> Step {
    let grace = i64::try_from(spec.stop_grace.as_secs()).unwrap_or(i64::MAX);
    if spec.unclean.is_some() {
        // Its lock file is looked at in between.
        return Step::Stop { id: container.id.clone(), grace };
    }
    Step::Restart { id: container.id.clone(), grace }
}
