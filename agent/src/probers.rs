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

/// Between two probes, milliseconds.
const SHORTEST_PAUSE: Millis = 50;
const LONGEST_PAUSE: Millis = 1000;

/// A health check that passed by our own hand.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Which container.
    pub id: String,
    /// Of which start: a later one is not judged by it.
    pub started_at: Millis,
    /// CPU time of the container since then, milliseconds, where the Engine says it.
    pub cpu: Option<Millis>,
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

    /// Probes these containers and no others. `startups` says when each is expected to be well.
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
                    expected: startups.expected(&container.service),
                };
                let work = probe(Rc::clone(&self.shared), subject, self.sender.clone());
                self.tasks.insert(id.clone(), tokio::task::spawn_local(work));
            }
        }
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
    expected: Option<Millis>,
}

/// Runs a health check's own command until it passes: at once, then after the pauses of [`pause`].
async fn probe(shared: Rc<Shared>, subject: Subject, passed: mpsc::UnboundedSender<Passed>) {
    let Subject { id, check, started_at, expected } = subject;
    loop {
        // An error is a container that just went away: the loop sees that by itself.
        if let Ok(true) = shared.engine.probe(&id, &check).await {
            // First the word, then its price: nobody waits for the statistics.
            let _ = passed.send(Passed { id: id.clone(), started_at, cpu: None });
            let cpu = shared.engine.cpu(&id).await;
            let _ = passed.send(Passed { id, started_at, cpu });
            return;
        }
        let pause = pause(now() - started_at, expected);
        tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap_or(0))).await;
    }
}

/// How long to wait after a probe that failed: a tenth of the time waited so far, and half of what the start is still
/// expected to take, for each probe costs CPU that the start needs. Milliseconds.
fn pause(waited: Millis, expected: Option<Millis>) -> Millis {
    let left = expected.map_or(0, |expected| (expected - waited) / 2);
    (waited / 10).max(left).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_closer_as_the_expected_moment_does() {
        assert_eq!([0, 200, 2000, 60_000].map(|waited| pause(waited, None)), [50, 50, 200, 1000]);
        assert_eq!([0, 800, 1200, 1500, 1600].map(|waited| pause(waited, Some(1600))), [800, 400, 200, 150, 160]);
    }
}
