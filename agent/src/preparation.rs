//! Which containers are to be created: those of a new release's changed services, and those of the current one that somebody
//! removed. Pure: Compose is called elsewhere, and what it made is taken in here.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::protocol::{Cause, HistoryEvent};

use crate::converge::Fault;
use crate::decide::{Candidate, Decision, Note};
use crate::final_model::Joined;
use crate::observed::{Container, Millis, Observed};
use crate::outcome;
use crate::runtime::Runtime;
use crate::spec::Deployment;
use crate::state::{AppState, Creation, Generation, Phase};
use crate::{live_files, live_secrets};

/// The spec of a container that was there before us.
pub const ADOPTED: &str = "adopted";

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

/// The candidate's new containers are to be created.
pub(crate) fn begin(state: &AppState, seen: &Observed, candidate: &Candidate) -> Decision {
    let target = &candidate.deployment;
    let changed = |service: &str| unchanged(state, seen, target, service).is_none();
    let mut creation = Creation::default();
    for (service, spec) in &target.services {
        // A container cannot leave the namespace of one that goes away.
        if changed(service) || spec.namespace_of.as_deref().is_some_and(changed) {
            add(&mut creation, seen, service, spec.replicas);
        }
    }
    let probation = match &state.phase {
        Phase::Probation(armed) => Some(armed.clone()),
        Phase::Idle
        | Phase::Preparing { .. }
        | Phase::Rolling { .. }
        | Phase::Monitoring { .. }
        | Phase::RollingBack { .. }
        | Phase::Held { .. }
        | Phase::Ending { .. } => None,
    };
    let phase = Phase::Preparing { target: target.clone(), creation, attempt: candidate.attempt.clone(), probation };
    let mut next = AppState { phase, ..state.clone() };
    next.quarantine.remove(&target.id);
    live_secrets::adopt(&mut next, target, &live_files::deployments_in_use(state));
    Decision::Move(Box::new(next), None)
}

fn add(creation: &mut Creation, seen: &Observed, service: &str, more: u32) {
    let ids: Vec<String> = seen.of_service(service).map(|c| c.id.clone()).collect();
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX).saturating_add(more);
    creation.existing.insert(service.to_owned(), ids);
    creation.scale.insert(service.to_owned(), count);
}

/// What Compose is to create now, and of which deployment.
pub fn wanted(state: &AppState) -> Option<(&Deployment, &Creation)> {
    if let Some(creation) = &state.recreation {
        return Some((&state.current()?.deployment, creation));
    }
    match &state.phase {
        Phase::Preparing { target, creation, .. } => Some((target, creation)),
        Phase::Idle
        | Phase::Rolling { .. }
        | Phase::Monitoring { .. }
        | Phase::Probation(_)
        | Phase::RollingBack { .. }
        | Phase::Held { .. }
        | Phase::Ending { .. } => None,
    }
}

/// The services whose containers can be created at once, and those that need the id of one of them for a namespace.
pub fn stages(deployment: &Deployment, creation: &Creation) -> [BTreeMap<String, u32>; 2] {
    let joins = |service: &String| deployment.services.get(service).is_some_and(|spec| spec.namespace_of.is_some());
    let (second, first) = creation.scale.clone().into_iter().partition(|(service, _)| joins(service));
    [first, second]
}

/// Whose container's namespaces the services of the second stage join. For the new container of a changed service; else for the
/// one that is there.
pub fn namespaces(
    deployment: &Deployment,
    creation: &Creation,
    current: Option<&Generation>,
    seen: &Observed,
) -> Result<Joined, String> {
    let mut joined = Joined::new();
    for service in stages(deployment, creation)[1].keys() {
        let Some(spec) = deployment.services.get(service) else { continue };
        let Some(owner) = &spec.namespace_of else { continue };
        let id = match creation.existing.get(owner) {
            Some(old) => created(seen, owner, old).first().map(|c| c.id.clone()),
            None => current.and_then(|g| g.ids(owner).first().cloned()),
        };
        let id = id.ok_or_else(|| format!("`{service}` shares a namespace with `{owner}`, which has no container"))?;
        joined.insert(service.clone(), (spec.shared_namespaces.clone(), id));
    }
    Ok(joined)
}

/// The containers of a service that are not among the old, in replica order.
fn created<'a>(seen: &'a Observed, service: &'a str, old: &'a [String]) -> Vec<&'a Container> {
    let mut new: Vec<_> = seen.of_service(service).filter(|c| !old.contains(&c.id)).collect();
    new.sort_by(|a, b| a.name.len().cmp(&b.name.len()).then(a.name.cmp(&b.name)));
    new
}

/// After Compose created the new containers: which they are. The error says what is missing.
pub fn prepared(state: &AppState, seen: &Observed) -> Result<(AppState, Note), String> {
    if let Some(creation) = &state.recreation {
        return recreated(state, creation, seen);
    }
    let Phase::Preparing { target, creation, attempt, probation } = &state.phase else {
        return Err("nothing is being prepared".to_owned());
    };
    let existing = &creation.existing;
    let mut containers = BTreeMap::new();
    for (service, spec) in &target.services {
        let ids = if let Some(old) = existing.get(service) {
            let new = created(seen, service, old);
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
        cause: None,
        services,
        attempt: Some(attempt.clone()),
        evidence: None,
    };
    let mut next = state.clone();
    if let Some(armed) = probation {
        outcome::let_go(&mut next, &armed.from, &[from.as_ref(), Some(&target)]);
    }
    next.phase = Phase::Rolling { target, from, attempt: attempt.clone() };
    Ok((next, note))
}

/// Containers of the current generation that somebody removed: taken from what stands there with the same spec (a plain
/// `docker compose up -d` made it), else made again. One-shots that completed are not missed.
pub(crate) fn replace_missing(state: &AppState, seen: &Observed, runtime: &Runtime, now: Millis) -> Option<Decision> {
    let current = state.current()?;
    let back = matches!(state.phase, Phase::RollingBack { .. });
    let mut found = BTreeMap::new();
    let mut creation = Creation::default();
    for (service, spec) in &current.deployment.services {
        let gone: Vec<&String> = current.ids(service).iter().filter(|id| !seen.containers.contains_key(*id)).collect();
        let needed = !spec.one_shot || !back && !state.ever_completed(service, &spec.spec);
        // What was made by hand has no file of ours to make it from.
        if gone.is_empty() || !needed || spec.spec == ADOPTED {
            continue;
        }
        let known = known_ids(state);
        let spare: Vec<String> = seen
            .of_service(service)
            .filter(|c| c.spec.as_ref() == Some(&spec.spec) && !known.contains(c.id.as_str()))
            .map(|c| c.id.clone())
            .collect();
        if spare.len() >= gone.len() {
            found.insert(service.clone(), spare);
        } else {
            add(&mut creation, seen, service, u32::try_from(gone.len()).unwrap_or(u32::MAX));
        }
    }
    let mut next = state.clone();
    if !found.is_empty() {
        fill(&mut next, seen, &found);
    } else if !creation.scale.is_empty() && runtime.may_recreate(now) {
        next.recreation = Some(creation);
    } else {
        return None;
    }
    Some(Decision::Move(Box::new(next), None))
}

/// Every container that a generation of this state names.
fn known_ids(state: &AppState) -> BTreeSet<&str> {
    let mut ids: BTreeSet<&str> = state.to_remove.iter().map(String::as_str).collect();
    let mut generations: Vec<&Generation> = state.live.iter().chain(state.current()).collect();
    match &state.phase {
        Phase::Probation(armed) => generations.push(&armed.from),
        Phase::RollingBack { failed, .. } => generations.push(failed),
        Phase::Held { way_back, .. } => generations.extend(way_back),
        Phase::Idle
        | Phase::Preparing { .. }
        | Phase::Rolling { .. }
        | Phase::Monitoring { .. }
        | Phase::Ending { .. } => {}
    }
    ids.extend(generations.into_iter().flat_map(Generation::all_ids));
    ids
}

/// Puts containers where others are gone.
fn fill(state: &mut AppState, seen: &Observed, new: &BTreeMap<String, Vec<String>>) {
    let Some(current) = state.current_mut() else { return };
    for (service, ids) in new {
        let mut ids = ids.iter();
        for place in current.containers.entry(service.clone()).or_default() {
            if !seen.containers.contains_key(place)
                && let Some(id) = ids.next()
            {
                place.clone_from(id);
            }
        }
    }
}

fn recreated(state: &AppState, creation: &Creation, seen: &Observed) -> Result<(AppState, Note), String> {
    let current = state.current().ok_or("nothing runs yet")?;
    let mut new = BTreeMap::new();
    for (service, old) in &creation.existing {
        let ids: Vec<String> = created(seen, service, old).into_iter().map(|c| c.id.clone()).collect();
        let gone = current.ids(service).iter().filter(|id| !seen.containers.contains_key(*id)).count();
        if ids.len() < gone {
            return Err(format!("`{service}` has {} new containers, {gone} were asked for", ids.len()));
        }
        new.insert(service.clone(), ids);
    }
    let note = Note {
        event: HistoryEvent::Restarted,
        deployment: Some(current.deployment.clone()),
        reason: Some("its container was removed and has been made again".to_owned()),
        cause: None,
        services: creation.existing.keys().cloned().collect(),
        attempt: None,
        evidence: None,
    };
    let mut next = AppState { recreation: None, ..state.clone() };
    fill(&mut next, seen, &new);
    Ok((next, note))
}

/// Compose could not create what was wanted: back to where things stood. In a way back that is its end.
pub fn could_not_prepare(state: &AppState, why: &str) -> (AppState, Option<Note>) {
    let mut next = AppState { recreation: None, ..state.clone() };
    match &state.phase {
        Phase::Preparing { probation, .. } => {
            next.phase = probation.clone().map_or(Phase::Idle, Phase::Probation);
            (next, None)
        }
        Phase::RollingBack { to: Some(to), reason, .. } => {
            let service = state.recreation.iter().flat_map(|c| c.scale.keys()).next().cloned().unwrap_or_default();
            let second = Fault { cause: Cause::Unavailable, reason: why.to_owned() };
            match outcome::hold_after_failed_return(&next, to, &service, None, reason, &second) {
                Decision::Move(held, note) => (*held, note.map(|note| *note)),
                Decision::Do(_)
                | Decision::Prepare
                | Decision::RemoveNetwork(_)
                | Decision::Forget
                | Decision::Examine(_)
                | Decision::Repair(_)
                | Decision::Wait { .. } => (next, None),
            }
        }
        Phase::RollingBack { to: None, .. }
        | Phase::Idle
        | Phase::Rolling { .. }
        | Phase::Monitoring { .. }
        | Phase::Probation(_)
        | Phase::Held { .. }
        | Phase::Ending { .. } => (next, None),
    }
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
        ADOPTED.clone_into(&mut spec.spec);
        spec.replicas = found.get(service).map_or(1, |ids| u32::try_from(ids.len()).unwrap_or(1));
    }
    let names: BTreeSet<String> = deployment.services.keys().cloned().collect();
    for spec in deployment.services.values_mut() {
        spec.depends_on.retain(|edge| names.contains(&edge.service));
    }
    deployment.id = landfall_core::ids::deployment_id(&deployment.release, vec!["adopted".to_owned()]);
    Some(Generation { deployment, containers: found })
}
