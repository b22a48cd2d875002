//! What reaches a resting loop: events of the Engine, passed probes, answers to starts, operators' words.

use std::time::Duration;

use landfall_core::protocol::Failure;

use super::AppLoop;
use crate::clock::now;
use crate::ending;
use crate::intents;
use crate::probers::{Passed, What};
use crate::shared::{Intent, Mail};
use crate::state::Phase;

impl AppLoop {
    /// Sleeps until then or until something happens.
    pub(super) async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            mail = self.mail.recv() => match mail {
                Some(mail) => self.take(mail).await,
                // The agent is going down: the task is about to be dropped.
                None => std::future::pending().await,
            },
            // A prober that said yes: the gate is open from now on.
            passed = self.probers.passed() => self.probe_passed(&passed),
            () = tokio::time::sleep(pause) => {}
        }
        self.drain_mail();
    }

    pub(super) fn drain_mail(&mut self) {
        while let Ok(mail) = self.mail.try_recv() {
            // Intents write the ledger; they are taken where there is time to wait for it.
            if let Some(later) = self.take_quick(mail) {
                let _ = self.shared.mailboxes.borrow().get(&self.app).map(|m| m.send(later));
                break;
            }
        }
        while let Some(passed) = self.probers.passed_already() {
            self.probe_passed(&passed);
        }
    }

    /// Opens the gate; learns from the start where its price is known.
    fn probe_passed(&mut self, passed: &Passed) {
        let Some(container) = self.look.last().containers.get(&passed.id) else { return };
        if container.started_at != passed.started_at {
            return;
        }
        match passed.what {
            What::Well { probes } => {
                self.learning.passed(&passed.id, probes);
                self.runtime.probe_passed(&passed.id, passed.at);
            }
            What::Cpu(cpu) => {
                if let Some(well) = self.runtime.well_since(container) {
                    self.learning.started(&container.id, &container.service, well - container.started_at, cpu);
                }
            }
        }
    }

    fn take_quick(&mut self, mail: Mail) -> Option<Mail> {
        match mail {
            Mail::Touched(id) => self.look.touch(id),
            Mail::Started(start, refused) => self.start_answered(&start, refused),
            Mail::Gap => {
                self.gap = true;
                self.look.forget();
            }
            Mail::Look => self.newest.read_channel(),
            Mail::Want => {
                if let Err(error) = self.write_wanted() {
                    tracing::warn!(LANDFALL_APP = %self.app, "cannot write what is wanted: {error:#}");
                }
            }
            Mail::Again => self.newest.again(),
            Mail::Intent(..) | Mail::End(_) => return Some(mail),
        }
        None
    }

    async fn take(&mut self, mail: Mail) {
        match self.take_quick(mail) {
            Some(Mail::Intent(intent, answer)) => {
                // A client that went away needs no answer.
                let _ = answer.send(self.obey(intent).await);
            }
            Some(Mail::End(reason)) => self.end(&reason).await,
            Some(_) | None => {}
        }
    }

    async fn end(&mut self, reason: &str) {
        let Some(ending) = ending::begin(&self.state, reason) else { return };
        if let Err(error) = self.move_to(ending, None).await {
            // It is told again at the next beat.
            tracing::warn!(LANDFALL_APP = %self.app, "cannot remember that the preview ends: {error:#}");
        }
        self.damage = None;
    }

    async fn obey(&mut self, intent: Intent) -> Result<String, Failure> {
        let obeyed = intents::obey(&self.app, &self.state, &intent, now())?;
        if obeyed.again {
            self.newest.retry();
        }
        self.move_to(obeyed.state, Some(obeyed.note)).await.map_err(|error| Failure {
            code: "internal".to_owned(),
            message: format!("cannot remember it: {error:#}"),
            next: "look at `journalctl -u landfall-agent` and the disk's free space".to_owned(),
        })?;
        if !matches!(self.state.phase, Phase::Held { .. }) {
            // A person has decided what the damage means.
            self.damage = None;
        }
        Ok(obeyed.done.to_owned())
    }
}
