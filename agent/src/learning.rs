//! What the starts of an app teach: collects it, and keeps it in a file that may be lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landfall_core::ids::AppName;

use crate::observed::Millis;
use crate::startups::{self, StartUp, Startups};

/// What a probe by exec uses of its container's CPU time, milliseconds (measured on Engine 26.1, 23: runc enters the container for
/// it, and works as much again outside): no part of the start, and taken for one it would have the next start probed too early,
/// which uses more.
const PROBE: Millis = 25;

/// What the starts of one app have taught.
#[derive(Debug)]
pub struct Learning {
    path: PathBuf,
    startups: Startups,
    /// How often a container was probed until its check passed. More than once: when it was well is known.
    probes: BTreeMap<String, u32>,
    unsaved: bool,
}

impl Learning {
    /// What is known from earlier; nothing where the file is missing or garbled.
    pub fn open(path: PathBuf) -> Self {
        Self { startups: startups::load(&path), path, probes: BTreeMap::new(), unsaved: false }
    }

    /// What is known.
    pub fn startups(&self) -> &Startups {
        &self.startups
    }

    /// The health check of a container passed by our own hand, at this probe.
    pub fn passed(&mut self, id: &str, probes: u32) {
        self.probes.insert(id.to_owned(), probes);
    }

    /// The start of a container is over: how long it took, and what the container has used of CPU, probes included.
    pub fn started(&mut self, id: &str, service: &str, took: Millis, cpu: Millis) {
        // Docker's own check is a probe too.
        let probes = self.probes.remove(id).unwrap_or(1);
        let probing = cpu.min(Millis::from(probes) * PROBE);
        let at_most = probes < 2;
        self.startups.learn(service, StartUp { took, cpu, probing, at_most });
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

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_price_of_probing_is_not_that_of_the_start() {
        for (probes, cpu, at_most, earliest) in
            [(None, 30, true, 500), (Some(1), 30, true, 500), (Some(3), 85, false, 990), (Some(2), 20, false, 1000)]
        {
            let directory = tempfile::tempdir().unwrap();
            let mut learning = Learning::open(directory.path().join("startups.json"));
            if let Some(probes) = probes {
                learning.passed("a", probes);
            }
            learning.started("a", "api", 1000, cpu);
            let found = learning.startups().earliest("api").unwrap();
            assert!((earliest - 10..=earliest).contains(&found), "{probes:?}: {found}");
            assert!(!at_most || found <= 500);
        }
    }
}
