//! What happened to an app, told twice: an entry of its history for whoever asks later, a line in the journal for people.

use std::path::Path;

use anyhow::Result;
use landfall_core::ids::AppName;
use landfall_core::protocol::{HistoryEntry, HistoryEvent};

use crate::history::{self, History};
use crate::outage::News;
use crate::report;
use crate::spec::Deployment;
use crate::totals::Totals;

/// The chronicle of one app.
#[derive(Debug)]
pub struct Chronicle {
    app: AppName,
    history: History,
}

impl Chronicle {
    /// Opens or begins the history in this file.
    pub fn open(app: AppName, path: &Path) -> Result<Self> {
        Ok(Self { app, history: History::open(path)? })
    }

    /// What all that was told adds up to.
    pub fn totals(&self) -> &Totals {
        self.history.totals()
    }

    /// Tells an entry, with the log that explains it.
    pub fn record(&mut self, entry: HistoryEntry, evidence: &[String]) -> Result<()> {
        let entry = self.history.append(entry)?;
        report::event(&self.app, &entry, evidence);
        Ok(())
    }

    /// A container of what is live was started again; the journal has its own line for each start.
    pub fn restarted(&mut self, live: Option<&Deployment>, service: &str) -> Result<()> {
        self.history.append(of_live(live, HistoryEvent::Restarted, vec![service.to_owned()]))?;
        Ok(())
    }

    /// Something failed, or is well again.
    pub fn news(&mut self, live: Option<&Deployment>, news: News) -> Result<()> {
        match news {
            News::Down(services) => report::down(&self.app, &services),
            News::Failed { service, what } => report::failed(&self.app, &service, &what),
            News::Recovered { services, took } => {
                let entry = of_live(live, HistoryEvent::Recovered, services);
                self.record(HistoryEntry { took_ms: u64::try_from(took).ok(), ..entry }, &[])?;
            }
        }
        Ok(())
    }
}

fn of_live(live: Option<&Deployment>, event: HistoryEvent, services: Vec<String>) -> HistoryEntry {
    HistoryEntry {
        release: live.map(|d| d.release.clone()),
        deployment: live.map(|d| d.id.clone()),
        services,
        ..history::entry(event)
    }
}
