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

/// The probers of one app; they end with this value.
#[derive(Debug)]
pub struct Probers {
    shared: Rc<Shared>,
    tasks: BTreeMap<String, JoinHandle<()>>,
    sender: mpsc::UnboundedSender<String>,
    passed: mpsc::UnboundedReceiver<String>,
}

impl Probers {
    /// None yet.
    pub fn new(shared: Rc<Shared>) -> Self {
        let (sender, passed) = mpsc::unbounded_channel();
        Self { shared, tasks: BTreeMap::new(), sender, passed }
    }

    /// Probes these containers and no others.
    pub fn keep(&mut self, wanted: &[String], seen: &Observed) {
        self.retain(|id| wanted.iter().any(|w| w == id));
        for id in wanted {
            let Some(container) = seen.containers.get(id) else { continue };
            let Some(check) = container.check.clone() else { continue };
            if !self.tasks.contains_key(id) {
                let work = probe(Rc::clone(&self.shared), id.clone(), check, container.started_at, self.sender.clone());
                self.tasks.insert(id.clone(), tokio::task::spawn_local(work));
            }
        }
    }

    /// Probes nothing.
    pub fn stop(&mut self) {
        self.retain(|_| false);
    }

    /// The next container whose check passes.
    pub async fn passed(&mut self) -> String {
        match self.passed.recv().await {
            Some(id) => id,
            // Not reached: this value holds a sender.
            None => std::future::pending().await,
        }
    }

    /// A container whose check passed and that was not asked for yet.
    pub fn passed_already(&mut self) -> Option<String> {
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
        self.stop();
    }
}

/// Runs a health check's own command until it passes: at once, then after a tenth of the time waited so far.
async fn probe(
    shared: Rc<Shared>,
    id: String,
    check: Check,
    started_at: Millis,
    passed: mpsc::UnboundedSender<String>,
) {
    loop {
        // An error is a container that just went away: the loop sees that by itself.
        if let Ok(true) = shared.engine.probe(&id, &check).await {
            let _ = passed.send(id);
            return;
        }
        let waited = u64::try_from(now() - started_at).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis((waited / 10).clamp(50, 1000))).await;
    }
}
