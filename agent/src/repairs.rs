//! A data directory that was not shut down cleanly: looked at right before its container starts, told, and then started all the
//! same, left for a person, or repaired ([`Then`]). Pure: part of the plan, and of the state where an incident must outlive us.
//!
//! An incident is one end of one container. The same incident is told once and repaired once. While a repair runs the service is
//! never started; nor is a second repair begun, because both would have the container of one name.

use landfall_core::protocol::HistoryEvent;
use serde::{Deserialize, Serialize};

use crate::converge::{Look, Next, Step, View};
use crate::decide::Note;
use crate::observed::{Container, Millis, RunState};
use crate::spec::ServiceSpec;
use crate::state::AppState;
use crate::unclean::{Then, Unclean, repair_container, repair_service};

/// A look at a lock file is true this long, milliseconds; one that waits for a person looks again then.
pub const FRESH: Millis = 5000;
/// A repair that the Engine could not start this often does not start.
const STARTS: u32 = 3;

/// What a look at a lock file is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The container that is about to be started.
    pub id: String,
    /// The lock file's path in it.
    pub file: String,
    /// The container in which somebody may be repairing.
    pub repair: String,
}

/// What a look at a lock file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is empty, or there is none.
    Clean,
    /// There is something in it.
    Left,
    /// Somebody repairs at this moment.
    Repairing,
    /// It cannot be looked at, and why.
    Unknown(String),
}

/// An incident, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Whose start it came before.
    pub container: String,
    /// When that had ended; 0 for one that never ran.
    pub ended: Millis,
    /// When it was seen.
    pub at: Millis,
    /// What is done about it.
    pub stage: Stage,
}

/// How far an incident is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// The service is started as it is.
    Starts,
    /// A person is waited for.
    Waits {
        /// Why, where it was tried to repair it.
        why: Option<String>,
    },
    /// It is being repaired.
    Repairs,
    /// It was repaired.
    Repaired,
}

/// What is to be remembered of a service, and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    service: String,
    incident: Option<Incident>,
    event: Option<HistoryEvent>,
    reason: String,
    evidence: Option<String>,
}

/// Why a service is not started yet, or what is done first. None where it is to be started.
pub(crate) fn before_start(view: &View<'_>, name: &str, spec: &ServiceSpec, container: &Container) -> Option<Look> {
    let wish = spec.unclean.as_ref()?;
    let known = view.incidents.get(name);
    let incident = known.filter(|i| i.container == container.id && i.ended == container.finished_at);
    let in_the_name_of = repair_service(name);
    let repair = view.seen.of_service(&in_the_name_of).find(|c| c.spec.is_none());
    match (incident, repair) {
        (Some(incident @ Incident { stage: Stage::Repairs, .. }), repair) => {
            return Some(repairing(view, name, wish, incident, repair));
        }
        // Of an incident that is over, or that a person ended.
        (_, Some(repair)) if repair.runs() => return Some(Look::waits(None, "waits for the end of its repair")),
        (_, Some(repair)) => {
            return Some(Look::Act(Next::Do(Step::Remove { id: repair.id.clone(), with_volumes: false })));
        }
        (_, None) => {}
    }
    let Some((verdict, at)) = view.runtime.examined(&container.id, view.now) else {
        let repair = repair_container(view.app, name);
        let examination = Examination { id: container.id.clone(), file: wish.file.clone(), repair };
        return Some(Look::Act(Next::Examine(examination)));
    };
    let goes_on = |stage: &Stage| matches!(stage, Stage::Starts | Stage::Repaired);
    let starts = wish.then == Then::Start || incident.is_some_and(|incident| goes_on(&incident.stage));
    let again = Some(at + FRESH);
    match verdict {
        Verdict::Clean if known.is_none() || incident.is_some_and(|i| i.stage == Stage::Repaired) => None,
        Verdict::Clean => Some(remember(name, None, None, String::new(), None)),
        Verdict::Repairing => Some(Look::waits(again, "is being repaired by somebody")),
        Verdict::Unknown(_) if starts => None,
        Verdict::Unknown(why) => Some(Look::waits(again, format!("is not started, its `{}` {why}", wish.file))),
        Verdict::Left => match incident.map(|incident| &incident.stage) {
            None => Some(found(view, name, spec, wish, container)),
            Some(Stage::Starts | Stage::Repaired) => None,
            Some(Stage::Waits { why }) => {
                let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                Some(Look::waits(again, format!("was not shut down cleanly and waits for a repair{why}")))
            }
            Some(Stage::Repairs) => Some(Look::waits(again, "is to be repaired")),
        },
    }
}

fn remember(
    name: &str,
    incident: Option<Incident>,
    event: Option<HistoryEvent>,
    reason: String,
    evidence: Option<String>,
) -> Look {
    let remembered = Remembered { service: name.to_owned(), incident, event, reason, evidence };
    Look::Act(Next::Remember(Box::new(remembered)))
}

/// A new incident: told, with what is done about it.
fn found(view: &View<'_>, name: &str, spec: &ServiceSpec, wish: &Unclean, container: &Container) -> Look {
    let window = Millis::try_from(spec.restart.window.as_millis()).unwrap_or(Millis::MAX);
    let repaired = view.incidents.get(name).is_some_and(|i| i.container == container.id && i.stage == Stage::Repaired);
    let soon = repaired && container.finished_at - container.started_at < window;
    let (stage, done) = match wish.then {
        Then::Start => (Stage::Starts, "it is started all the same".to_owned()),
        Then::Wait => (Stage::Waits { why: None }, "it is not started before it is repaired".to_owned()),
        // What a repair did not help is not repaired for ever.
        Then::Repair if soon => {
            let why = "it was repaired before its last start, and that ended soon".to_owned();
            let done = format!("it is not started: {why}");
            (Stage::Waits { why: Some(why) }, done)
        }
        Then::Repair => (Stage::Repairs, "it is being repaired".to_owned()),
    };
    let command = wish.command(view.app, name, &container.name, &spec.image);
    let reason = format!("`{}` is not empty; {done}; to repair by hand: {command}", wish.file);
    let incident = Incident { container: container.id.clone(), ended: container.finished_at, at: view.now, stage };
    remember(name, Some(incident), Some(HistoryEvent::Unclean), reason, None)
}

/// One step of a repair, by what is seen of its container.
fn repairing(view: &View<'_>, name: &str, wish: &Unclean, incident: &Incident, repair: Option<&Container>) -> Look {
    let Some(repair) = repair else { return Look::Act(Next::Repair(name.to_owned())) };
    match repair.state {
        RunState::Created => {
            if view.runtime.is_starting(&repair.id) {
                return Look::waits(None, "is to be repaired");
            }
            match view.runtime.refusal(&repair.id) {
                Some(refusal) if refusal.count >= STARTS => {
                    failed(name, incident, repair, format!("the repair cannot be started: {}", refusal.reason))
                }
                Some(refusal) if refusal.until > view.now => Look::waits(Some(refusal.until), "is to be repaired"),
                Some(_) | None => Look::Act(Next::Do(Step::Start { id: repair.id.clone() })),
            }
        }
        RunState::Running | RunState::Paused => {
            let end = repair.started_at + wish.within;
            if view.now < end {
                return Look::waits(Some(end), "is being repaired");
            }
            Look::Act(Next::Do(Step::Stop { id: repair.id.clone(), grace: 10 }))
        }
        RunState::Exited { .. } if repair.finished_at - repair.started_at >= wish.within => {
            failed(name, incident, repair, format!("the repair was stopped after {} s (`within`)", wish.within / 1000))
        }
        RunState::Exited { code: 0, .. } => {
            let took = (repair.finished_at - repair.started_at) / 1000;
            let incident = Incident { stage: Stage::Repaired, ..incident.clone() };
            let reason = format!("repaired in {took} s: {}", wish.repair.join(" "));
            remember(name, Some(incident), Some(HistoryEvent::Repaired), reason, None)
        }
        RunState::Exited { out_of_memory: true, .. } => {
            failed(name, incident, repair, "the repair was killed for memory".to_owned())
        }
        RunState::Exited { code, .. } => {
            failed(name, incident, repair, format!("the repair ended with exit code {code}"))
        }
    }
}

fn failed(name: &str, incident: &Incident, repair: &Container, why: String) -> Look {
    let stage = Stage::Waits { why: Some(why.clone()) };
    let incident = Incident { stage, ..incident.clone() };
    remember(name, Some(incident), Some(HistoryEvent::RepairFailed), why, Some(repair.id.clone()))
}

/// Compose could not create the container of a repair: a person is waited for.
pub fn cannot_repair(before: &AppState, service: &str, why: &str) -> Remembered {
    let why = format!("the container of the repair cannot be created: {why}");
    let waits = Stage::Waits { why: Some(why.clone()) };
    let incident = before.incidents.get(service).map(|incident| Incident { stage: waits, ..incident.clone() });
    Remembered {
        service: service.to_owned(),
        incident,
        event: Some(HistoryEvent::RepairFailed),
        reason: why,
        evidence: None,
    }
}

/// The state in which it is remembered, and what is told.
pub fn remembered(state: &AppState, what: Remembered) -> (AppState, Option<Note>) {
    let Remembered { service, incident, event, reason, evidence } = what;
    let mut next = state.clone();
    match incident {
        Some(incident) => drop(next.incidents.insert(service.clone(), incident)),
        None => drop(next.incidents.remove(&service)),
    }
    let note = event.map(|event| Note {
        event,
        deployment: state.current().map(|generation| generation.deployment.clone()),
        reason: Some(reason),
        cause: None,
        services: vec![service],
        attempt: None,
        evidence,
    });
    (next, note)
}

/// A person asks to try again: what waits for one is started as it is.
pub(crate) fn start_all(state: &mut AppState) {
    for incident in state.incidents.values_mut() {
        if matches!(incident.stage, Stage::Waits { .. }) {
            incident.stage = Stage::Starts;
        }
    }
}

/// What becomes of the container of a repair that does not run: it goes, unless somebody asks for it.
pub(crate) fn leftover(state: &AppState, container: &Container) -> Option<Step> {
    let asked = |(service, incident): (&String, &Incident)| {
        incident.stage == Stage::Repairs && repair_service(service) == container.service
    };
    (!state.incidents.iter().any(asked)).then(|| Step::Remove { id: container.id.clone(), with_volumes: false })
}
