//! What the starts of an app teach: collects it, and keeps it in a file that may be lost.

use std::collections::BTreeSet;
use std::path::PathBuf;

use landfall_core::ids::AppName;

use crate::observed::{Container, Millis};
use crate::startups::{self, StartUp, Startups};

/// What the starts of one app have taught.
#[derive(Debug)]
pub struct Learning {
    path: PathBuf,
    startups: Startups,
    /// Containers whose check failed before it passed: when they were well is known.
    seen_before: BTreeSet<String>,
    unsaved: bool,
}

impl Learning {
    /// What is known from earlier; nothing where the file is missing or garbled.
    pub fn open(path: PathBuf) -> Self {
        Self { startups: startups::load(&path), path, seen_before: BTreeSet::new(), unsaved: false }
    }

    /// What is known.
    pub fn startups(&self) -> &Startups {
        &self.startups
    }

    /// The health check of a container passed by our own hand; `at_once` without having failed before.
    pub fn passed(&mut self, id: &str, at_once: bool) {
        if !at_once {
            self.seen_before.insert(id.to_owned());
        }
    }

    /// The start of a container is over: since when it is well, and what it took of CPU.
    pub fn started(&mut self, container: &Container, well: Millis, cpu: Millis) {
        let at_most = !self.seen_before.remove(&container.id);
        self.startups.learn(&container.service, StartUp { took: well - container.started_at, cpu, at_most });
        self.unsaved = true;
    }

    /// Saves what is new.
    pub fn keep(&mut self, app: &AppName) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        if let Err(error) = startups::save(&self.path, &self.startups) {
            tracing::warn!(LANDFALL_APP = %app, "cannot keep what starts took: {error}");
        }
    }
}
