//! A stack that was down, told as one story: it is down, what was started, it is well again after so long. And how often
//! each container was started again, for `status`. Pure; it decides nothing, the plan does.
//!
//! The rule: an outage begins when containers of `live` are seen down after the Engine was out of sight (a reboot, a
//! restart of dockerd or of the agent), or when all of several are down at one look. The first start of each container in
//! it belongs to it; every other start is a `restarted` of its own. It ends when all is well, or with the next rollout.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::{Container, Health, Millis, Observed, RunState};
use crate::runtime::Runtime;
use crate::state::{AppState, Phase};

/// What there is to tell after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// These services are down and are started, in order.
    Down(Vec<String>),
    /// All is well again.
    Recovered {
        /// What was started.
        services: Vec<String>,
        /// Milliseconds since they were seen down.
        took: Millis,
    },
    /// A container of this service exited, or its health check fails.
    Failed {
        /// Which.
        service: String,
        /// How.
        what: String,
    },
}

#[derive(Debug, Default)]
struct Outage {
    began: Millis,
    started: BTreeSet<String>,
    services: BTreeSet<String>,
}

/// The memory of one app, as long as the agent lives.
#[derive(Debug, Default)]
pub struct Outages {
    outage: Option<Outage>,
    starts: BTreeMap<String, u32>,
    /// `finished_at` of the last exit that was told, by container.
    exits: BTreeMap<String, Millis>,
    ill: BTreeSet<String>,
}

impl Outages {
    /// Takes in a look; `gap` says that the Engine was out of sight before it. Call after [`Runtime::note`].
    pub fn look(&mut self, state: &AppState, seen: &Observed, runtime: &Runtime, gap: bool, now: Millis) -> Vec<News> {
        self.starts.retain(|id, _| seen.containers.contains_key(id));
        self.exits.retain(|id, _| seen.containers.contains_key(id));
        self.ill.retain(|id| seen.containers.contains_key(id));
        let mut news = self.failures(state, seen, runtime);
        if !at_rest(state) {
            self.outage = None;
            return news;
        }
        let should_run = should_run(state, seen);
        let down: BTreeSet<String> =
            should_run.iter().filter(|c| !c.runs()).map(|container| container.service.clone()).collect();
        if self.outage.is_none() && !down.is_empty() {
            let whole = should_run.len() > 1 && should_run.iter().all(|c| !c.runs());
            if gap || whole {
                self.outage = Some(Outage { began: now, ..Outage::default() });
                news.push(News::Down(down.into_iter().collect()));
            }
        } else if self.outage.is_some() && should_run.iter().all(|container| well(container, runtime)) {
            let outage = self.outage.take().unwrap_or_default();
            if !outage.services.is_empty() {
                let services = outage.services.into_iter().collect();
                news.push(News::Recovered { services, took: now - outage.began });
            }
        }
        news
    }

    /// A container that had run before was started by the agent. True where that is a restart of its own.
    pub fn started(&mut self, id: &str, service: &str) -> bool {
        *self.starts.entry(id.to_owned()).or_default() += 1;
        let Some(outage) = &mut self.outage else { return true };
        outage.services.insert(service.to_owned());
        !outage.started.insert(id.to_owned())
    }

    /// How often the agent started this container again.
    pub fn restarts(&self, id: &str) -> u32 {
        self.starts.get(id).copied().unwrap_or(0)
    }

    /// Exits that count, and health that is gone: each told once.
    fn failures(&mut self, state: &AppState, seen: &Observed, runtime: &Runtime) -> Vec<News> {
        let mut news = Vec::new();
        let one_shots = state.current().map(|g| &g.deployment.services);
        for container in seen.containers.values().filter(|c| !c.repairs()) {
            let mut tell = |what: String| news.push(News::Failed { service: container.service.clone(), what });
            if container.runs() && container.health == Health::Unhealthy {
                if self.ill.insert(container.id.clone()) {
                    tell("its health check fails".to_owned());
                }
                continue;
            }
            self.ill.remove(&container.id);
            let RunState::Exited { code, out_of_memory } = container.state else { continue };
            let known = self.exits.insert(container.id.clone(), container.finished_at) == Some(container.finished_at);
            let done = code == 0
                && one_shots.and_then(|all| all.get(&container.service)).is_some_and(|service| service.one_shot);
            if !known && !done && runtime.exits(&container.id) > 0 {
                tell(if out_of_memory {
                    format!("it was killed for memory (exit code {code})")
                } else {
                    format!("it exited with code {code}")
                });
            }
        }
        news
    }
}

/// Nothing is rolling: what is started is started again.
pub fn at_rest(state: &AppState) -> bool {
    match state.phase {
        Phase::Idle | Phase::Probation { .. } | Phase::Held { .. } => true,
        Phase::Preparing { .. }
        | Phase::Rolling { .. }
        | Phase::Monitoring { .. }
        | Phase::RollingBack { .. }
        | Phase::Ending { .. } => false,
    }
}

/// Containers of `live` that run all the time; one-shots do not.
fn should_run<'a>(state: &'a AppState, seen: &'a Observed) -> Vec<&'a Container> {
    let Some(live) = &state.live else { return Vec::new() };
    let steady = live
        .containers
        .iter()
        .filter(|(service, _)| live.deployment.services.get(*service).is_some_and(|spec| !spec.one_shot));
    steady.flat_map(|(_, ids)| ids).filter_map(|id| seen.containers.get(id)).collect()
}

fn well(container: &Container, runtime: &Runtime) -> bool {
    let known = container.check.is_none() || container.health == Health::Healthy || runtime.gate_open(container);
    let judged = known || container.state == RunState::Paused;
    container.runs() && judged && container.health != Health::Unhealthy
}

#[cfg(test)]
mod tests;
