//! How a container takes its place: what must stop before it, which name it gets, and when it is its turn. Pure.

use std::collections::BTreeSet;

use crate::converge::{Look, Mode, Next, Step, View};
use crate::judge::{self, Judged};
use crate::observed::{Container, Millis, RunState};
use crate::repairs;
use crate::spec::{Order, ServiceSpec};

/// The grace period of a container whose service is no longer known, seconds: Docker's own.
pub(crate) const STRANGERS_GRACE: i64 = 10;

/// With start-first: how long the old container serves on beside the new one that is well, milliseconds. Whoever was sent to the new
/// address before it answered (Docker's name server names a container some 40 ms before its network is up, measured on Engine
/// 26.1) turns to the old one when that attempt has timed out.
const DRAIN: Millis = 2000;

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub name: &'a str,
    pub spec: &'a ServiceSpec,
    /// Which replica, from 0.
    pub index: usize,
    /// The service that it waits for.
    pub blocked: Option<&'a str>,
    /// What others that are starting ask of the machine.
    pub load: Millis,
    /// All that have a longer chain behind them are well: the whole start waits for this one.
    pub urgent: bool,
    /// Until when a start of the Engine's is kept free for the one after that for which the whole start waits.
    pub reserved: Option<Millis>,
    /// Replicas before it that are not well.
    pub unwell: u32,
}

/// Brings one replica up in its place: the old one stopped, the names exchanged, the new one started.
pub(crate) fn take_over(view: &View<'_>, turn: Turn<'_>, container: &Container) -> Option<Look> {
    let Turn { name, spec, index, .. } = turn;
    let place = place_of(view, name, index);
    let start_first = spec.order == Order::StartFirst && view.mode != Mode::Supervise;
    let up = container.runs();
    if !up {
        if let Some(by) = turn.blocked {
            return Some(Look::waits(None, format!("waits for `{by}`")));
        }
        if let Some(secrets) = &spec.secrets
            && !view.runtime.has_secrets(secrets.mounted())
        {
            return Some(Look::waits(None, "waits for its secrets"));
        }
        if view.runtime.is_starting(&container.id) {
            return Some(Look::waits(None, "is being started"));
        }
        if let Some(look) = judge::may_start(view, name, spec, container) {
            return Some(look);
        }
        if let Some(look) = not_yet(view, turn, container) {
            return Some(look);
        }
        if !start_first && let Some(old) = in_the_way(view, name, spec, index, &place) {
            return Some(Look::Act(Next::Do(stop(old, spec))));
        }
        if let Some(other) = holds_a_port(view, spec) {
            let grace = view.target.deployment.services.get(&other.service).map_or(STRANGERS_GRACE, grace_of);
            return Some(Look::Act(Next::Do(Step::Stop { id: other.id.clone(), grace })));
        }
    }
    // Names are exchanged before a stop-first start, and only after the new one is healthy with start-first.
    if container.name != place && (!start_first || (up && matches!(judge::judge(view, container), Judged::Well))) {
        if let Some(holder) = view.seen.named(&place) {
            return Some(Look::Act(Next::Do(Step::Rename {
                id: holder.id.clone(),
                to: spare_name(view, &place, holder),
            })));
        }
        return Some(Look::Act(Next::Do(Step::Rename { id: container.id.clone(), to: place })));
    }
    if up {
        return None;
    }
    // After all that may hold its lock has stopped.
    let first = repairs::before_start(view, name, spec, container);
    Some(first.unwrap_or_else(|| Look::Act(Next::Do(Step::Start { id: container.id.clone() }))))
}

fn place_of(view: &View<'_>, name: &str, index: usize) -> String {
    format!("{}-{name}-{}", view.app, index + 1)
}

/// Why a replica that could start waits for the others: the machine's cores in a cold start, `parallelism` and `delay` in a rollout.
fn not_yet(view: &View<'_>, turn: Turn<'_>, container: &Container) -> Option<Look> {
    let Turn { name, spec, index, unwell, .. } = turn;
    match view.mode {
        Mode::Back => None,
        Mode::Supervise => no_core_left(view, turn),
        // Nobody has served: a first release is a cold start too.
        Mode::Forward if others(view, name).next().is_none() => no_core_left(view, turn),
        Mode::Forward => {
            // Where no old one serves any more there is nothing to keep serving, and no time to lose.
            if spec.parallelism == 0 || container.state != RunState::Created || others(view, name).all(|c| !c.runs()) {
                return None;
            }
            if unwell >= spec.parallelism {
                return Some(Look::waits(None, "replaces its replicas one group after the other"));
            }
            let first_of_group = index > 0 && u32::try_from(index).unwrap_or(0) % spec.parallelism == 0;
            let before = view.target.ids(name).iter().take(index).filter_map(|id| view.seen.containers.get(id));
            let last_well = before.filter_map(|c| view.runtime.well_since(c)).max()?;
            let due = last_well + Millis::try_from(spec.delay.as_millis()).unwrap_or(Millis::MAX / 4);
            let early = first_of_group && due > view.now;
            early.then(|| Look::waits(Some(due), "waits between replicas (`update_config.delay`)"))
        }
    }
}

/// Whether those that are starting leave too little of the machine for one more.
fn no_core_left(view: &View<'_>, turn: Turn<'_>) -> Option<Look> {
    let Turn { name, load, urgent, reserved, .. } = turn;
    let room = load == 0 || load + view.startups.demand(name) <= view.budget;
    let calls = view.runtime.starting() + usize::from(reserved.is_some());
    let fits = urgent || (room && calls < view.calls_at_once);
    (!fits).then(|| Look::waits(reserved, "waits for its turn"))
}

/// Containers of the service that are not the target's and that ran: the other generation.
fn others<'a>(view: &'a View<'_>, name: &'a str) -> impl Iterator<Item = &'a Container> {
    view.seen.of_service(name).filter(move |c| !view.target.ids(name).contains(&c.id) && c.state != RunState::Created)
}

/// The old container that a replica replaces: the one that has its place; for the first replica also each that has none. With
/// `parallelism: 0`, and on the way back, all of them.
fn in_the_way<'a>(
    view: &'a View<'_>,
    name: &'a str,
    spec: &ServiceSpec,
    index: usize,
    place: &str,
) -> Option<&'a Container> {
    let all = spec.parallelism == 0 || view.mode != Mode::Forward;
    let places: BTreeSet<String> = (0..view.target.ids(name).len()).map(|i| place_of(view, name, i)).collect();
    others(view, name)
        .filter(|c| c.runs())
        .find(|c| all || c.name == place || (index == 0 && !places.contains(&c.name)))
}

/// A container of no use to the target that binds a host port of this service: it cannot start before that one stops. What
/// no release made and no service of this one replaces is not ours to stop: the start fails, and says who has the port.
fn holds_a_port<'a>(view: &'a View<'_>, spec: &ServiceSpec) -> Option<&'a Container> {
    if spec.host_ports.is_empty() || view.mode == Mode::Supervise {
        return None;
    }
    let kept = view.target.all_ids();
    let ours = |c: &&Container| c.spec.is_some() || view.target.deployment.services.contains_key(&c.service);
    let in_use = view.seen.containers.values().filter(|c| c.runs() && !kept.contains(c.id.as_str()) && ours(c));
    in_use.into_iter().find(|c| c.ports.iter().any(|theirs| spec.host_ports.iter().any(|ours| same_port(ours, theirs))))
}

/// `ip:port/proto` against the same; an address that means all of them meets every other.
fn same_port(one: &str, other: &str) -> bool {
    let split = |text: &str| text.rsplit_once(':').map(|(ip, port)| (ip.to_owned(), port.to_owned()));
    let (Some((ip, port)), Some((other_ip, other_port))) = (split(one), split(other)) else { return false };
    let any = |ip: &str| matches!(ip, "0.0.0.0" | "[::]" | "");
    port == other_port && (ip == other_ip || any(&ip) || any(&other_ip))
}

fn spare_name(view: &View<'_>, place: &str, holder: &Container) -> String {
    let plain = format!("{place}-prev");
    if view.seen.named(&plain).is_none() { plain } else { format!("{plain}-{}", &holder.id[..holder.id.len().min(8)]) }
}

fn stop(container: &Container, spec: &ServiceSpec) -> Step {
    Step::Stop { id: container.id.clone(), grace: grace_of(spec) }
}

fn grace_of(spec: &ServiceSpec) -> i64 {
    i64::try_from(spec.stop_grace.as_secs()).unwrap_or(i64::MAX)
}

/// The old container whose place this replica, now well, took with start-first: stopped when it had time to drain.
pub(crate) fn retire_replaced(view: &View<'_>, turn: Turn<'_>, new: &Container) -> Option<Look> {
    let spare = format!("{}-prev", place_of(view, turn.name, turn.index));
    let old = others(view, turn.name).find(|c| c.runs() && c.name.starts_with(&spare))?;
    let due = view.runtime.well_since(new).unwrap_or(view.now) + DRAIN;
    if view.mode == Mode::Forward && due > view.now {
        return Some(Look::waits(Some(due), "lets the old container end what it was asked"));
    }
    Some(Look::Act(Next::Do(stop(old, turn.spec))))
}

/// Old ones that had no place among the new: surplus replicas, in any order.
pub(crate) fn retire_old(view: &View<'_>, name: &str, spec: &ServiceSpec) -> Option<Look> {
    others(view, name).find(|c| c.runs()).map(|old| Look::Act(Next::Do(stop(old, spec))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_all_addresses_meets_every_other() {
        for (one, other, same) in [
            ("0.0.0.0:80/tcp", "127.0.0.1:80/tcp", true),
            ("127.0.0.1:80/tcp", "127.0.0.1:80/tcp", true),
            ("127.0.0.1:80/tcp", "127.0.0.2:80/tcp", false),
            ("0.0.0.0:80/tcp", "0.0.0.0:80/udp", false),
            ("[::]:80/tcp", "127.0.0.1:80/tcp", true),
            ("0.0.0.0:80/tcp", "0.0.0.0:8080/tcp", false),
        ] {
            assert_eq!(same_port(one, other), same, "{one} {other}");
        }
    }
}
