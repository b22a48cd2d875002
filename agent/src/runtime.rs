//! What the agent learns while it runs and may forget when it dies: gates that opened, restarts and their back-off.
//! Pure: it is told what was seen and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landfall_core::backoff::Backoff;

use crate::observed::{Container, Health, Millis, Observed, RunState};
use crate::repairs::{FRESH, Verdict};
use crate::spec::{Deployment, RestartPolicy};

/// Between attempts to start a container that the Engine cannot start.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };
/// No delay between restarts is longer.
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// A container of a service that is in no deployment and was up this long starts again at the first delay.
const WELL_AFTER: Millis = 600_000;

/// Memory of one app's containers, by id.
#[derive(Debug, Default)]
pub struct Runtime {
    gates: BTreeMap<String, Millis>,
    exits: BTreeMap<String, Exits>,
    /// Containers whose swap or start this agent asked for and that count as crashes when they exit.
    watched: BTreeSet<String>,
    no_recreation_until: Millis,
    /// The Engine has been asked to start them and has not answered.
    starting: BTreeSet<String>,
    refusals: BTreeMap<String, StartRefusal>,
    /// Started by this agent, and not known to be well yet.
    own_starts: BTreeSet<String>,
    opened: Vec<String>,
    /// Sets of secrets that are there.
    secrets: BTreeSet<String>,
    /// What the lock files of containers that are down were like, and when.
    examined: BTreeMap<String, (Verdict, Millis)>,
}

/// The Engine could not start a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRefusal {
    /// How often in a row.
    pub count: u32,
    /// Not again before.
    pub until: Millis,
    /// Its words.
    pub reason: String,
}

/// The exits of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exits {
    /// In a row, without a good run (`restart_policy.window`, ten minutes) between.
    pub count: u32,
    /// `finished_at` of the last one counted.
    pub last: Millis,
}

impl Runtime {
    /// Takes in what was seen. `gap` says that the Engine was out of sight since the last call (a daemon restart, a
    /// reboot, our own start): an exit in a gap is nobody's fault and is not counted. `running` has the restart policies.
    pub fn note(&mut self, seen: &Observed, gap: bool, running: Option<&Deployment>, now: Millis) {
        self.gates.retain(|id, _| seen.containers.contains_key(id));
        self.exits.retain(|id, _| seen.containers.contains_key(id));
        self.watched.retain(|id| seen.containers.contains_key(id));
        self.refusals.retain(|id, _| seen.containers.contains_key(id));
        self.own_starts.retain(|id| seen.containers.contains_key(id));
        self.examined.retain(|id, _| seen.containers.get(id).is_some_and(|container| !container.runs()));
        for container in seen.containers.values() {
            if container.runs() {
                self.watched.insert(container.id.clone());
                if container.health == Health::Healthy && !self.gate_open(container) {
                    self.open_gate(&container.id, now);
                }
            } else if matches!(container.state, RunState::Exited { .. }) {
                let exits = self.exits.entry(container.id.clone()).or_default();
                if exits.last == container.finished_at {
                    continue;
                }
                exits.last = container.finished_at;
                let policy = running.and_then(|d| d.services.get(&container.service)).map(|spec| &spec.restart);
                let window = policy.map_or(0, |p| Millis::try_from(p.window.as_millis()).unwrap_or(0));
                let window = if window == 0 { WELL_AFTER } else { window };
                let long_run = container.finished_at - container.started_at >= window;
                if gap || !self.watched.contains(&container.id) {
                    exits.count = 0;
                } else if long_run {
                    exits.count = 1;
                } else {
                    exits.count += 1;
                }
            }
        }
    }

    /// The sets of secrets that are there now, and the live directories in which the right one is seen.
    pub fn secrets_seen(&mut self, sets: BTreeSet<String>) {
        self.secrets = sets;
    }

    /// Whether a container with this set or live directory can be started: its files would be missing, and Docker starts none without.
    pub fn has_secrets(&self, set: &str) -> bool {
        self.secrets.contains(set)
    }

    /// Containers that are gone could not be made again: not before `until`.
    pub fn recreation_failed(&mut self, until: Millis) {
        self.no_recreation_until = until;
    }

    /// Whether containers that are gone may be made again now.
    pub fn may_recreate(&self, now: Millis) -> bool {
        now >= self.no_recreation_until
    }

    /// The agent started it: an exit from now on counts, however fast it comes.
    pub fn started(&mut self, id: &str) {
        self.watched.insert(id.to_owned());
        self.own_starts.insert(id.to_owned());
        self.gates.remove(id);
        self.examined.remove(id);
    }

    /// The lock file of a container that is down was looked at.
    pub fn note_examined(&mut self, id: &str, verdict: Verdict, now: Millis) {
        self.examined.insert(id.to_owned(), (verdict, now));
    }

    /// What was seen of its lock file, and when, where that is no longer ago than it is true.
    pub fn examined(&self, id: &str, now: Millis) -> Option<(&Verdict, Millis)> {
        let (verdict, at) = self.examined.get(id)?;
        (0..FRESH).contains(&(now - at)).then_some((verdict, *at))
    }

    /// The Engine is asked to start it, and the answer is not waited for; beside [`Self::started`].
    pub fn start_asked(&mut self, id: &str) {
        self.starting.insert(id.to_owned());
    }

    /// The Engine's answer to that.
    pub fn start_answered(&mut self, id: &str, refused: Option<String>, now: Millis) {
        self.starting.remove(id);
        match refused {
            None => {
                self.refusals.remove(id);
            }
            Some(reason) => {
                let count = self.refusals.get(id).map_or(0, |r| r.count) + 1;
                let pause = Millis::try_from(AGAIN.after(count).as_millis()).unwrap_or(Millis::MAX / 2);
                self.refusals.insert(id.to_owned(), StartRefusal { count, until: now + pause, reason });
            }
        }
    }

    /// Whether the Engine is starting it.
    pub fn is_starting(&self, id: &str) -> bool {
        self.starting.contains(id)
    }

    /// How many the Engine is starting.
    pub fn starting(&self) -> usize {
        self.starting.len()
    }

    /// Why the Engine could not start it the last time.
    pub fn refusal(&self, id: &str) -> Option<&StartRefusal> {
        self.refusals.get(id)
    }

    /// The agent stopped it on purpose: its exit does not count.
    pub fn stopped_on_purpose(&mut self, id: &str) {
        self.watched.remove(id);
        self.own_starts.remove(id);
        self.exits.remove(id);
        self.gates.remove(id);
    }

    /// A probe of this container passed at `at`.
    pub fn probe_passed(&mut self, id: &str, at: Millis) {
        self.open_gate(id, at);
    }

    fn open_gate(&mut self, id: &str, at: Millis) {
        self.gates.insert(id.to_owned(), at);
        if self.own_starts.remove(id) {
            self.opened.push(id.to_owned());
        }
    }

    /// Containers that this agent started and that turned out well since the last call: their start is over.
    pub fn take_opened(&mut self) -> Vec<String> {
        std::mem::take(&mut self.opened)
    }

    /// Whether its health check passed since it was started.
    pub fn gate_open(&self, container: &Container) -> bool {
        self.gates.get(&container.id).is_some_and(|at| *at >= container.started_at)
    }

    /// Since when it is known to be well: its health check passed, or it runs and has none.
    pub fn well_since(&self, container: &Container) -> Option<Millis> {
        if container.check.is_none() {
            return container.runs().then_some(container.started_at);
        }
        self.gates.get(&container.id).copied().filter(|at| *at >= container.started_at)
    }

    /// How often it exited in a row.
    pub fn exits(&self, id: &str) -> u32 {
        self.exits.get(id).map_or(0, |e| e.count)
    }

    /// When it may be started again.
    pub fn due(&self, container: &Container, policy: &RestartPolicy) -> Millis {
        let backoff = Backoff { first: policy.delay.max(Duration::from_millis(100)), most: LONGEST_DELAY };
        match self.exits.get(&container.id) {
            None => 0,
            Some(exits) => {
                exits.last + Millis::try_from(backoff.after(exits.count).as_millis()).unwrap_or(Millis::MAX / 2)
            }
        }
    }
}
