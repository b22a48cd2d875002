//! Rotations that containers see while they run (`on_rotate: signal` and `none`): which set they shall see, whether they were told, and
//! whether it did them good. Pure: from what is remembered and seen to what is to be done and remembered next.
//!
//! A switch is `Asked` of the fetcher (through `wanted`), and when the index says that containers see it they are told, then `Watched`
//! for the service's monitor window. Who is told and dies before it is remembered tells again: at least once for each set. A service
//! that turns ill in that window goes back to the set before, which is told in the same way, and that set is not tried again.

use std::collections::BTreeMap;

use landfall_core::secrets::{SecretNeed, SecretsFile};
use serde::{Deserialize, Serialize};

use crate::decide::PROBATION;
use crate::observed::{Container, Health, Millis, Observed, RunState};
use crate::on_rotate::OnRotate;
use crate::runtime::Runtime;
use crate::spec::{Deployment, ServiceSecrets, ServiceSpec};
use crate::state::{AppState, Generation, Phase};

/// What containers see in one live directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSecrets {
    /// What they shall see.
    pub shown: ServiceSecrets,
    /// How far it is.
    #[serde(default)]
    pub switch: Switch,
    /// The set that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// How far a switch is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Switch {
    /// Nothing is under way.
    #[default]
    Done,
    /// The fetcher is to switch, then containers are told.
    Asked {
        /// What they saw before.
        from: ServiceSecrets,
        /// The service was ill before: nothing is proved by its being ill after.
        was_ill: bool,
    },
    /// They see it and were told; they must stay well.
    Watched {
        /// What they saw before.
        from: ServiceSecrets,
        /// When they were told.
        since: Millis,
        /// The end of the window.
        until: Millis,
    },
    /// They turned ill: the fetcher is to switch back, then they are told.
    TakenBack {
        /// What made them ill.
        from: ServiceSecrets,
    },
}

/// A set that made a service ill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub set: String,
    /// How it showed.
    pub reason: String,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    /// The signal, and the containers that get it, before anything is remembered.
    pub tell: Option<(String, Vec<String>)>,
    /// To be remembered.
    pub state: AppState,
    /// For the journal.
    pub line: Option<Line>,
}

/// What the journal is told: names and versions.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Containers see another set.
    Switched {
        /// Of which service.
        service: String,
        /// `api-key 1 -> 2`.
        versions: String,
        /// What was done about it.
        done: String,
    },
    /// It did them no good.
    TakenBack {
        /// Of which service.
        service: String,
        /// What is undone.
        versions: String,
        /// How it showed.
        reason: String,
    },
}

/// What is seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What the fetcher says.
    pub index: Option<&'a SecretsFile>,
    /// The containers.
    pub containers: &'a Observed,
    /// Their exits.
    pub runtime: &'a Runtime,
    /// Now.
    pub now: Millis,
}

/// What containers of this service shall see, where they see rotations: what its deployment began with, or what came after.
pub fn shown<'a>(state: &'a AppState, secrets: &'a ServiceSecrets) -> &'a ServiceSecrets {
    let live = secrets.need.live.as_ref().and_then(|directory| state.live_secrets.get(directory));
    live.map_or(secrets, |live| &live.shown)
}

/// Remembers what the containers of a deployment that begins shall see; what no deployment in use has any more is forgotten.
pub fn adopt(state: &mut AppState, target: &Deployment, in_use: &[&Deployment]) {
    let all =
        || in_use.iter().copied().chain([target]).flat_map(|d| d.services.values()).filter_map(|s| s.secrets.as_ref());
    let directories: Vec<&String> = all().filter_map(|secrets| secrets.need.live.as_ref()).collect();
    state.live_secrets.retain(|directory, _| directories.contains(&directory));
    for secrets in all() {
        let Some(directory) = &secrets.need.live else { continue };
        let begin = || LiveSecrets { shown: secrets.clone(), switch: Switch::Done, refused: None };
        state.live_secrets.entry(directory.clone()).or_insert_with(begin);
    }
}

/// What the fetcher must keep for switches that are under way.
pub fn kept(state: &AppState) -> impl Iterator<Item = &SecretNeed> {
    state.live_secrets.values().filter_map(|live| match &live.switch {
        Switch::Done => None,
        Switch::Asked { from, .. } | Switch::Watched { from, .. } | Switch::TakenBack { from } => Some(&from.need),
    })
}

/// When to look again at the latest.
pub fn wakes_at(state: &AppState) -> Option<Millis> {
    let until = |live: &LiveSecrets| match live.switch {
        Switch::Watched { until, .. } => Some(until),
        Switch::Done | Switch::Asked { .. } | Switch::TakenBack { .. } => None,
    };
    state.live_secrets.values().filter_map(until).min()
}

/// The one thing to do next.
pub fn next(state: &AppState, seen: Seen<'_>) -> Option<Turn> {
    if state.hands_off.is_some() || matches!(state.phase, Phase::Ending { .. }) {
        return None;
    }
    let generation = state.current()?;
    generation.deployment.services.iter().find_map(|(name, spec)| {
        let directory = spec.secrets.as_ref()?.need.live.as_ref()?;
        let live = state.live_secrets.get(directory)?;
        let service = Service { name, spec, directory, generation, live };
        let (next, tell, said) = service.next(state, seen)?;
        let mut state = state.clone();
        state.live_secrets.insert(directory.clone(), next);
        Some(Turn { tell, state, line: said })
    })
}

#[derive(Clone, Copy)]
struct Service<'a> {
    name: &'a str,
    spec: &'a ServiceSpec,
    directory: &'a String,
    generation: &'a Generation,
    live: &'a LiveSecrets,
}

type Next = (LiveSecrets, Option<(String, Vec<String>)>, Option<Line>);

impl Service<'_> {
    fn next(self, state: &AppState, seen: Seen<'_>) -> Option<Next> {
        let live = self.live;
        // In a rollout, and while one can be taken back, an illness is the release's.
        let at_rest = matches!(state.phase, Phase::Idle | Phase::Held { .. });
        match &live.switch {
            Switch::Done if at_rest && state.hold.is_none() => {
                let newest = self.newest(seen.index?)?;
                let from = live.shown.clone();
                let switch = Switch::Asked { from, was_ill: self.ill(seen, 0).is_some() };
                Some((LiveSecrets { shown: newest, switch, refused: None }, None, None))
            }
            Switch::Asked { from, was_ill } if self.is_seen(seen.index) => {
                let (tell, done) = self.tell(seen.containers);
                let switch = if *was_ill {
                    Switch::Done
                } else {
                    Switch::Watched {
                        from: from.clone(),
                        since: seen.now,
                        until: seen.now + self.window(seen.containers),
                    }
                };
                let said =
                    Line::Switched { service: self.name.to_owned(), versions: versions(from, &live.shown), done };
                Some((LiveSecrets { switch, ..live.clone() }, tell, Some(said)))
            }
            Switch::Watched { until, .. } if seen.now >= *until => {
                Some((LiveSecrets { switch: Switch::Done, ..live.clone() }, None, None))
            }
            Switch::Watched { from, since, .. } if at_rest => {
                let reason = self.ill(seen, *since)?;
                let said = Line::TakenBack {
                    service: self.name.to_owned(),
                    versions: versions(&live.shown, from),
                    reason: reason.clone(),
                };
                let refused = Some(Refused { set: live.shown.set.clone(), reason });
                let switch = Switch::TakenBack { from: live.shown.clone() };
                Some((LiveSecrets { shown: from.clone(), switch, refused }, None, Some(said)))
            }
            Switch::TakenBack { from } if self.is_seen(seen.index) => {
                let (tell, done) = self.tell(seen.containers);
                let said =
                    Line::Switched { service: self.name.to_owned(), versions: versions(from, &live.shown), done };
                Some((LiveSecrets { switch: Switch::Done, ..live.clone() }, tell, Some(said)))
            }
            Switch::Done | Switch::Asked { .. } | Switch::Watched { .. } | Switch::TakenBack { .. } => None,
        }
    }

    /// The newest set, if it is another one and was not taken back.
    fn newest(self, index: &SecretsFile) -> Option<ServiceSecrets> {
        let open = self.spec.secrets.as_ref()?.open.as_ref()?;
        let newest = answered(open, index)?;
        let is_refused = self.live.refused.as_ref().is_some_and(|refused| refused.set == newest.set);
        (newest.set != self.live.shown.set && !is_refused).then_some(newest)
    }

    fn is_seen(self, index: Option<&SecretsFile>) -> bool {
        index.and_then(|index| index.live.get(self.directory)) == Some(&self.live.shown.set)
    }

    fn containers<'a>(&self, seen: &'a Observed) -> impl Iterator<Item = &'a Container> + use<'a> {
        let ids = self.generation.ids(self.name).to_vec();
        ids.into_iter().filter_map(|id| seen.containers.get(&id))
    }

    /// Who is to be told, and the words for what is done. One that does not run reads its files when it starts.
    fn tell(self, seen: &Observed) -> (Option<(String, Vec<String>)>, String) {
        let running: Vec<String> = self.containers(seen).filter(|c| c.runs()).map(|c| c.id.clone()).collect();
        match &self.spec.on_rotate {
            OnRotate::Signal(_) if running.is_empty() => (None, "none of its containers runs".to_owned()),
            OnRotate::Signal(signal) => {
                let count = running.len();
                let done = format!("sent {signal} to {count} container{}", if count == 1 { "" } else { "s" });
                (Some((signal.clone(), running)), done)
            }
            OnRotate::Nothing | OnRotate::Restart => (None, "nobody is told (`on_rotate: none`)".to_owned()),
        }
    }

    /// The monitor window, or longer where Docker's own check needs longer to call a container unhealthy.
    fn window(self, seen: &Observed) -> Millis {
        let monitor = Millis::try_from(self.spec.monitor.as_millis()).unwrap_or(PROBATION);
        let verdict = |c: &Container| c.check.as_ref().map(|k| (k.retries.max(1) + 1) * (k.interval + k.timeout));
        self.containers(seen).filter_map(verdict).fold(monitor, Millis::max).min(PROBATION)
    }

    /// How one of its containers is ill, or was since then. An exit while the Engine was out of sight is nobody's fault.
    fn ill(self, seen: Seen<'_>, since: Millis) -> Option<String> {
        self.containers(seen.containers).find_map(|container| match container.state {
            RunState::Running if container.health == Health::Unhealthy => Some("its health check fails".to_owned()),
            RunState::Exited { code, .. }
                if container.finished_at >= since && seen.runtime.exits(&container.id) > 0 =>
            {
                Some(format!("it exited with code {code}"))
            }
            RunState::Created | RunState::Running | RunState::Paused | RunState::Exited { .. } => None,
        })
    }
}

/// The newest set of a need, where there is one.
pub fn answered(need: &SecretNeed, index: &SecretsFile) -> Option<ServiceSecrets> {
    let answer = index.needs.get(&need.id())?;
    let versions: BTreeMap<_, _> =
        answer.files.iter().map(|(name, file)| (name.clone(), file.version.clone())).collect();
    let open = need.live.is_some().then(|| need.clone());
    Some(ServiceSecrets { set: answer.set.clone()?, need: need.pinned(&versions)?, open })
}

/// `api-key 1 -> 2, db 7 -> 8`.
fn versions(from: &ServiceSecrets, to: &ServiceSecrets) -> String {
    let version = |secrets: &ServiceSecrets, name: &str| {
        secrets.need.files.get(name).and_then(|file| file.secret.version.clone()).unwrap_or_else(|| "-".to_owned())
    };
    let changed = to.need.files.iter().filter_map(|(name, file)| {
        let (old, new) = (version(from, name), version(to, name));
        (old != new).then(|| format!("{} {old} -> {new}", file.secret.name))
    });
    changed.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
