//! Health checks run by our own hand: while the plan waits for containers, one task each runs the check's own command
//! through exec until it passes. What that means is not decided here.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::now;
use crate::observed::{Check, Millis, Observed};
use crate::shared::Shared;
use crate::startups::Startups;

/// The first probe of a start of known length comes after this share of it, in percent: a probe costs 60 ms of CPU, which a
/// machine full of starting containers has not got to spare (measured on Engine 26.1). Under 100, so that a service that has
/// become faster is found out, a little more at each start.
const FIRST_AT: Millis = 97;
/// Between two probes, milliseconds.
const SHORTEST_PAUSE: Millis = 50;
const LONGEST_PAUSE: Millis = 1000;

/// Something learned of a container that starts.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Which container.
    pub id: String,
    /// Of which start: a later one is not judged by it.
    pub started_at: Millis,
    /// When the passing probe was begun; when the CPU was asked for.
    pub at: Millis,
    /// What is known by now.
    pub what: What,
}

/// What came of looking at a container that starts.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// Its health check passed.
    Well {
        /// At which probe: the first is 1.
        probes: u32,
    },
    /// What [`Probers::weigh`] found, milliseconds of CPU.
    Cpu(Millis),
}

/// The probers of one app; they end with this value.
#[derive(Debug)]
pub struct Probers {
    shared: Rc<Shared>,
    tasks: BTreeMap<String, JoinHandle<()>>,
    sender: mpsc::UnboundedSender<Passed>,
    passed: mpsc::UnboundedReceiver<Passed>,
}

impl Probers {
    /// None yet.
    pub fn new(shared: Rc<Shared>) -> Self {
        let (sender, passed) = mpsc::unbounded_channel();
        Self { shared, tasks: BTreeMap::new(), sender, passed }
    }

    /// Probes these containers and no others. `startups` says when each can be well.
    pub fn keep(&mut self, wanted: &[String], seen: &Observed, startups: &Startups) {
        self.retain(|id| wanted.iter().any(|w| w == id));
        for id in wanted {
            let Some(container) = seen.containers.get(id) else { continue };
            let Some(check) = container.check.clone() else { continue };
            if !self.tasks.contains_key(id) {
                let subject = Subject {
                    id: id.clone(),
                    check,
                    started_at: container.started_at,
                    earliest: startups.earliest(&container.service),
                    needs: startups.needs(&container.service),
                    took: startups.took(&container.service),
                };
                let work = probe(Rc::clone(&self.shared), subject, self.sender.clone());
                self.tasks.insert(id.clone(), tokio::task::spawn_local(work));
            }
        }
    }

    /// Asks the Engine how much CPU a container has used since its start; the answer comes from [`Self::passed`].
    pub fn weigh(&self, id: String, started_at: Millis) {
        let (engine, sender) = (self.shared.engine.clone(), self.sender.clone());
        tokio::task::spawn_local(async move {
            let at = now();
            if let Some(cpu) = engine.cpu(&id).await {
                // A loop that is gone needs no answer.
                let _ = sender.send(Passed { id, started_at, at, what: What::Cpu(cpu) });
            }
        });
    }

    /// Something is about to be done to this container: it is not probed meanwhile.
    pub fn stop(&mut self, id: &str) {
        self.retain(|other| other != id);
    }

    /// The next container whose check passes.
    pub async fn passed(&mut self) -> Passed {
        match self.passed.recv().await {
            Some(passed) => passed,
            // Not reached: this value holds a sender.
            None => std::future::pending().await,
        }
    }

    /// A container whose check passed and that was not asked for yet.
    pub fn passed_already(&mut self) -> Option<Passed> {
        self.passed.try_recv().ok()
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tasks.retain(|id, task| {
            let stays = keep(id) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
    }
}

impl Drop for Probers {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

/// What is probed.
struct Subject {
    id: String,
    check: Check,
    started_at: Millis,
    earliest: Option<Millis>,
    /// CPU time, where its start is mostly that.
    needs: Option<Millis>,
    took: Millis,
}

impl Subject {
    /// Waits for the moment of the first probe: at once, or where it is known how long a start takes when that is nearly over.
    /// Asking for CPU time costs a thirtieth of a probe (measured on Engine 26.1); it is waited for no longer than the start took
    /// the last time, for it may need less now.
    async fn first(&self, shared: &Shared) {
        let elapsed = || now() - self.started_at;
        sleep(self.earliest.map_or(0, |earliest| earliest * FIRST_AT / 100 - elapsed())).await;
        let Some(needs) = self.needs else { return };
        while elapsed() < self.took {
            let Some(used) = shared.engine.cpu(&self.id).await else { return };
            let missing = needs * FIRST_AT / 100 - used;
            if missing <= 0 {
                return;
            }
            sleep(missing.clamp(SHORTEST_PAUSE / 2, LONGEST_PAUSE)).await;
        }
    }
}

/// Runs a health check's own command until it passes, with the pauses of [`pause`].
async fn probe(shared: Rc<Shared>, subject: Subject, passed: mpsc::UnboundedSender<Passed>) {
    subject.first(&shared).await;
    let Subject { id, check, started_at, .. } = subject;
    let mut probes = 0;
    loop {
        let at = now();
        probes += 1;
        // An error is a container that just went away: the loop sees that by itself.
        if let Ok(true) = shared.engine.probe(&id, &check).await {
            let _ = passed.send(Passed { id, started_at, at, what: What::Well { probes } });
            return;
        }
        sleep(pause(probes, now() - started_at)).await;
    }
}

async fn sleep(millis: Millis) {
    tokio::time::sleep(Duration::from_millis(u64::try_from(millis).unwrap_or(0))).await;
}

/// How long to wait after so many probes that failed, milliseconds: doubling, for the first came when the start was nearly over, up
/// to a tenth of the time waited so far.
fn pause(probes: u32, waited: Millis) -> Millis {
    let doubled = SHORTEST_PAUSE << probes.saturating_sub(1).min(10);
    doubled.min((waited / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_time_waited() {
        assert_eq!([0, 200, 2000, 60_000].map(|waited| pause(20, waited)), [50, 50, 200, 1000]);
        assert_eq!([1, 2, 3, 4].map(|probes| pause(probes, 3000)), [50, 100, 200, 300]);
    }
}
