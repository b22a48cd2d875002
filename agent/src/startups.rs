//! What starting each service took in the past: how long until it was healthy, and how much CPU. From it follow which service
//! goes first in a cold start (the one with the longest chain behind it), how many may start at once, and when a probe is worth its
//! cost. Pure but for [`load`] and [`save`]; to lose it costs a slower start, nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::observed::Millis;

/// Supposed of a service that was never seen starting: it takes a second, and a whole core.
const UNKNOWN: StartUp = StartUp { took: 1000, cpu: 1000, probing: 0, at_most: true };
/// A service is counted as starting at most this many times as long as its last starts took: what hangs holds up nobody.
const PATIENCE: Millis = 3;
/// And at least this long, milliseconds.
const LEAST_PATIENCE: Millis = 2000;
/// A slower start than the last moves what is remembered by one of so many parts.
const SLOWLY: Millis = 8;
/// What the Engine needs to start a container, milliseconds (measured on Engine 26.1).
pub const CALL: Millis = 250;
/// One core, in thousandths.
const CORE: Millis = 1000;

/// One start of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartUp {
    /// From the start to the first check of its health that passed, milliseconds.
    pub took: Millis,
    /// CPU time of its container until then, milliseconds, probes included.
    pub cpu: Millis,
    /// How much of it went into probes: a load on the machine, and no part of the start.
    #[serde(default)]
    pub probing: Millis,
    /// Nobody looked before: it may have been well long since.
    #[serde(default)]
    pub at_most: bool,
}

/// By service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Startups {
    services: BTreeMap<String, StartUp>,
}

impl Startups {
    /// Takes in a start. A fast one counts at once, for a busy machine only makes starts slower; a slower one moves what is
    /// remembered by an eighth, and not at all where nobody looked before.
    pub fn learn(&mut self, service: &str, new: StartUp) {
        let mixed = match self.services.get(service).copied() {
            None => new,
            Some(old) => StartUp {
                took: match (old.at_most, new.at_most) {
                    (true, false) => new.took,
                    (_, true) => new.took.min(old.took),
                    (false, false) => new.took.min(old.took + (new.took - old.took) / SLOWLY),
                },
                cpu: i64::midpoint(old.cpu, new.cpu),
                probing: i64::midpoint(old.probing, new.probing),
                at_most: old.at_most && new.at_most,
            },
        };
        self.services.insert(service.to_owned(), mixed);
    }

    /// How long it takes at the least, milliseconds; none where it was never seen. Other starts beside it may have doubled the
    /// time of its CPU, and nothing else of it; where nobody looked before it may be half.
    pub fn earliest(&self, service: &str) -> Option<Millis> {
        let StartUp { took, cpu, probing, at_most } = *self.services.get(service)?;
        let cpu = cpu - probing;
        let least = took - cpu.min(took - cpu).max(0);
        Some(if at_most { least / 2 } else { least })
    }

    /// The CPU time that it needs, milliseconds, where its start is mostly that: it cannot be well before it has had it, however
    /// long others keep it from a core.
    pub fn needs(&self, service: &str) -> Option<Millis> {
        let StartUp { took, cpu, probing, at_most } = *self.services.get(service)?;
        let own = cpu - probing;
        (!at_most && own * 2 >= took).then_some(own)
    }

    /// How long it is supposed to take at the least, milliseconds.
    pub fn least(&self, service: &str) -> Millis {
        self.earliest(service).unwrap_or(UNKNOWN.took).max(1)
    }

    /// How long it is supposed to take, milliseconds.
    pub fn took(&self, service: &str) -> Millis {
        self.services.get(service).unwrap_or(&UNKNOWN).took.max(1)
    }

    /// What it asks of the machine while it starts, in thousandths of a core.
    pub fn demand(&self, service: &str) -> Millis {
        let start = self.services.get(service).unwrap_or(&UNKNOWN);
        start.cpu.max(0).saturating_mul(CORE) / start.took.max(1)
    }

    /// How long after its start it counts as starting, milliseconds.
    pub fn patience(&self, service: &str) -> Millis {
        self.took(service).saturating_mul(PATIENCE).max(LEAST_PATIENCE)
    }
}

/// What simultaneous starts may ask of a machine, in thousandths of a core: its cores and a quarter, for what was measured is
/// never all at the same moment.
pub fn budget(cores: u32) -> Millis {
    (Millis::from(cores) * CORE * 5 / 4).max(CORE)
}

/// What was saved; nothing where there is none or it is garbled.
pub fn load(path: &Path) -> Startups {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Saves it.
pub fn save(path: &Path, startups: &Startups) -> std::io::Result<()> {
    landfall_core::publish::write_json(path, startups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unknown_asks_for_a_core_and_the_known_for_what_it_used() {
        let mut startups = Startups::default();
        assert_eq!((startups.took("api"), startups.demand("api")), (1000, 1000));
        startups.learn("api", StartUp { took: 2000, cpu: 100, probing: 0, at_most: false });
        assert_eq!((startups.took("api"), startups.demand("api")), (2000, 50));
        startups.learn("api", StartUp { took: 2100, cpu: 105, probing: 0, at_most: false });
        assert_eq!(startups.took("api"), 2012, "a slower start may be a busy machine");
        startups.learn("api", StartUp { took: 1000, cpu: 100, probing: 0, at_most: false });
        assert_eq!(startups.took("api"), 1000);
    }

    #[test]
    fn what_burned_cpu_may_be_faster_the_next_time() {
        let startups = Startups::default();
        assert_eq!(startups.earliest("api"), None);
        for (took, cpu, earliest) in [(2000, 20, 1980), (2000, 1300, 1300), (2000, 800, 1200), (2000, 3500, 2000)] {
            let mut startups = Startups::default();
            startups.learn("api", StartUp { took, cpu, probing: 0, at_most: false });
            assert_eq!(startups.earliest("api"), Some(earliest), "{took} {cpu}");
        }
    }

    #[test]
    fn what_burns_cpu_is_over_when_it_has_had_it() {
        let needs = |took, cpu, at_most| {
            let mut startups = Startups::default();
            startups.learn("api", StartUp { took, cpu, probing: 100, at_most });
            startups.needs("api")
        };
        assert_eq!(needs(2000, 1800, false), Some(1700));
        assert_eq!(needs(2000, 900, false), None, "it waits for something else");
        assert_eq!(needs(2000, 1800, true), None, "nobody saw when it was well");
        assert_eq!(Startups::default().needs("api"), None);
    }

    #[test]
    fn what_nobody_saw_before_is_looked_at_earlier_the_next_time() {
        let mut startups = Startups::default();
        let mut learn = |took, at_most| {
            startups.learn("api", StartUp { took, cpu: 0, probing: 0, at_most });
            startups.earliest("api").unwrap()
        };
        assert_eq!(learn(4000, true), 2000);
        assert_eq!(learn(2000, true), 1000, "it passed at once again");
        assert_eq!(learn(1300, false), 1300, "now it is known");
        assert_eq!(learn(2000, true), 1300, "and what nobody looked at teaches nothing");
        assert_eq!(learn(1261, true), 1261, "but where it was faster");
    }

    #[test]
    fn one_start_is_always_allowed() {
        assert_eq!([1, 2, 4, 8].map(budget), [1250, 2500, 5000, 10_000]);
    }
}
