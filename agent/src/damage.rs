//! What follows from a ledger that cannot be read whole: no release changes until a person has looked, and supervision
//! goes on for what most likely should run. Pure.
//!
//! The last readable line may be older than the truth, so it may name two generations. The one whose own containers run is
//! supervised, else the one whose containers are there, else the last good one: bringing up another would be a release
//! change. What it could go back to is kept as the way back; a generation that had failed is neither.

use landfall_core::protocol::HistoryEvent;

use crate::decide::Note;
use crate::observed::Observed;
use crate::state::{AppState, Generation, Phase};

/// The state to go on with: `Held`, with the reason and the next step for people.
pub fn held(state: &AppState, seen: &Observed, damage: &str) -> AppState {
    let mut known: Vec<&Generation> = Vec::new();
    for generation in state.live.iter().chain(named(&state.phase)) {
        if !known.iter().any(|other| other.containers == generation.containers) {
            known.push(generation);
        }
    }
    let mut live: Option<&Generation> = None;
    for generation in &known {
        // The first of equals: the last good one.
        if live.is_none_or(|best| standing(generation, seen) > standing(best, seen)) {
            live = Some(generation);
        }
    }
    let way_back = known.into_iter().find(|other| live.is_some_and(|live| live.containers != other.containers));
    let kept = match live {
        Some(live) => format!("release {} is kept running", live.deployment.release.short()),
        None => "it names nothing to keep running, and nothing is removed".to_owned(),
    };
    let reason = format!(
        "{damage}; {kept}, and no release changes; compare what runs with what should run, look at the disk, then \
         `landfall retry`"
    );
    let phase = Phase::Held { reason, ends_when_well: false, way_back: way_back.cloned() };
    AppState { live: live.cloned(), phase, ..state.clone() }
}

/// What is told of that state, and its reason; none where it is another.
pub fn note(held: &AppState) -> Option<(String, Note)> {
    let Phase::Held { reason, .. } = &held.phase else { return None };
    let note = Note {
        event: HistoryEvent::Held,
        deployment: held.live.as_ref().map(|g| g.deployment.clone()),
        reason: Some(reason.clone()),
        cause: None,
        services: Vec::new(),
        attempt: None,
        evidence: None,
    };
    Some((reason.clone(), note))
}

/// How many of its containers run, and how many are there.
fn standing(generation: &Generation, seen: &Observed) -> (usize, usize) {
    let there: Vec<_> = generation.all_ids().into_iter().filter_map(|id| seen.containers.get(id)).collect();
    (there.iter().filter(|container| container.runs()).count(), there.len())
}

/// The generations that a phase names, but those that failed.
fn named(phase: &Phase) -> Vec<&Generation> {
    match phase {
        Phase::Idle | Phase::Ending { .. } => Vec::new(),
        Phase::Preparing { probation, .. } => probation.iter().map(|armed| &armed.from).collect(),
        Phase::Rolling { target, from, .. } | Phase::Monitoring { target, from, .. } => {
            from.iter().chain(std::iter::once(target)).collect()
        }
        Phase::Probation(armed) => vec![&armed.from],
        Phase::RollingBack { to, .. } => to.iter().collect(),
        Phase::Held { way_back, .. } => way_back.iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use landfall_core::ids::{deployment_id, release_id_of_images};

    use super::*;
    use crate::observed::{Container, Health, RunState};
    use crate::spec::Deployment;
    use crate::state::Attempt;

    fn generation(id: &str) -> Generation {
        let release = release_id_of_images([]);
        Generation {
            deployment: Deployment {
                id: deployment_id(&release, vec![id.to_owned()]),
                release,
                services: BTreeMap::new(),
                networks: BTreeMap::new(),
                volumes: BTreeMap::new(),
            },
            containers: BTreeMap::from([("api".to_owned(), vec![id.to_owned()])]),
        }
    }

    fn seen(containers: &[(&str, RunState)]) -> Observed {
        let made = containers.iter().map(|(id, state)| {
            let container = Container {
                id: (*id).to_owned(),
                name: String::new(),
                project: "web".to_owned(),
                one_off: false,
                service: "api".to_owned(),
                spec: None,
                state: *state,
                started_at: 1,
                finished_at: 0,
                check: None,
                health: Health::Unknown,
                ports: Vec::new(),
                unnamed_volumes: BTreeMap::new(),
            };
            ((*id).to_owned(), container)
        });
        Observed { containers: made.collect() }
    }

    /// What is remembered, which containers there are; who is supervised then, and what is the way back.
    type Row<'a> = (&'a AppState, &'a [(&'a str, RunState)], Option<&'a str>, Option<&'a str>);

    const DOWN: RunState = RunState::Exited { code: 137, out_of_memory: false };

    #[test]
    fn what_runs_is_supervised_else_what_is_there_else_the_last_good_one() {
        let (old, new) = (generation("old"), generation("new"));
        let attempt = Attempt::default();
        let rolling = AppState {
            live: Some(old.clone()),
            phase: Phase::Rolling { target: new.clone(), from: Some(old.clone()), attempt: attempt.clone() },
            ..AppState::default()
        };
        let back = AppState {
            live: Some(old.clone()),
            phase: Phase::RollingBack { failed: new.clone(), to: Some(old.clone()), reason: "x".into(), attempt },
            ..AppState::default()
        };
        let idle = AppState { live: Some(old.clone()), ..AppState::default() };
        let (run, down) = (RunState::Running, DOWN);
        let table: [Row<'_>; 8] = [
            (&rolling, &[("old", run), ("new", down)], Some("old"), Some("new")),
            (&rolling, &[("old", down), ("new", run)], Some("new"), Some("old")),
            (&rolling, &[("old", down), ("new", down)], Some("old"), Some("new")),
            // It went live and the old one was removed: the lines that said so are those that cannot be read.
            (&rolling, &[("new", down)], Some("new"), Some("old")),
            (&rolling, &[], Some("old"), Some("new")),
            (&back, &[("new", run), ("old", down)], Some("old"), None),
            (&idle, &[("new", run)], Some("old"), None),
            (&AppState::default(), &[("new", run)], None, None),
        ];
        for (state, containers, live, way_back) in table {
            let held = held(state, &seen(containers), "line 1 is garbled");
            let name = |g: &Generation| g.ids("api")[0].clone();
            assert_eq!(held.live.as_ref().map(name).as_deref(), live, "{containers:?}");
            let Phase::Held { reason, ends_when_well: false, way_back: back } = &held.phase else {
                panic!("{:?}", held.phase)
            };
            assert_eq!(back.as_ref().map(name).as_deref(), way_back, "{containers:?}");
            assert!(reason.starts_with("line 1 is garbled; ") && reason.ends_with("`landfall retry`"), "{reason}");
        }
    }
}
