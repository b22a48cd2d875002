//! Starts of containers: asked of the Engine beside the loop where nothing rolls, and what an answer means for history and ledger.

use anyhow::Result;

use super::AppLoop;
use crate::clock::now;
use crate::converge::Step;
use crate::shared::{AskedStart, Mail};
use crate::{outage, outcome, report};

impl AppLoop {
    /// Where nothing rolls, starts do not wait for each other: the answer comes as mail.
    pub(super) fn start_beside(&mut self, step: Step, start: AskedStart) {
        self.runtime.start_asked(&start.id);
        let engine = self.shared.engine.clone();
        let mailbox = self.shared.mailboxes.borrow().get(&self.app).cloned();
        tokio::task::spawn_local(async move {
            let refused = engine.execute(&step).await.err().map(|error| format!("{error:#}"));
            // A loop that is gone needs no mail.
            let _ = mailbox.map(|mailbox| mailbox.send(Mail::Started(start, refused)));
        });
    }

    pub(super) fn start_answered(&mut self, start: &AskedStart, refused: Option<String>) {
        let AskedStart { id, service, fresh } = start;
        self.look.touch(id.clone());
        if let Some(why) = &refused {
            tracing::warn!(LANDFALL_APP = %self.app, LANDFALL_SERVICE = %service, "`{service}` cannot be started, trying again: {why}");
        } else if let Err(error) = self.was_started(id, service, *fresh) {
            tracing::warn!(LANDFALL_APP = %self.app, "cannot write the history: {error:#}");
        }
        self.runtime.start_answered(id, refused, now());
    }

    pub(super) fn was_started(&mut self, id: &str, service: &str, fresh: bool) -> Result<()> {
        report::started(&self.app, service, id, fresh);
        let again = !fresh && outage::at_rest(&self.state);
        if again && self.outages.started(id, service) {
            self.chronicle.restarted(self.state.live.as_ref().map(|g| &g.deployment), service)?;
        }
        Ok(())
    }

    /// In a rollout a container that cannot be started ends it; else it is tried again with back-off.
    pub(super) async fn start_failed(&mut self, service: &str, id: &str, reason: &str) -> Result<()> {
        let next = outcome::start_failed(&self.state, service, id, reason);
        match next {
            Some((state, note)) => self.move_to(state, Some(note)).await,
            None => anyhow::bail!("`{service}` {reason}"),
        }
    }
}
