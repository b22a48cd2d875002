//! A fleet whose one registry fails for five minutes: how many requests a second come, at most, over what came while it was
//! well. The watcher's own [`Schedule`] and [`Pacer`] under a clock that jumps from event to event; nothing is sent, an answer
//! takes no time, and the same seed gives the same run. Here alone the code under test is called and not run as a program:
//! no machine carries 10,000 of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use landfall_core::retry_after::retry_after;
use landfall_image_watcher::registry::AskError;
use landfall_image_watcher::registry::pacer::Pacer;
use landfall_image_watcher::schedule::Schedule;
use tokio::time::{Instant, sleep};

use crate::bench::report::Report;
use crate::chance::Chance;

/// The registry is well, fails, and is well again. The last is longer than the longest pause after an error.
const WELL: Duration = Duration::from_secs(30);
const FAILS: Duration = Duration::from_mins(5);
const WELL_AGAIN: Duration = Duration::from_secs(90);
/// Requests are counted by the tenth of a second; a peak is the most in any ten tenths in a row.
const TENTH: Duration = Duration::from_millis(100);
/// How long the watcher waits for the answer to a HEAD.
const DEADLINE: Duration = Duration::from_secs(15);
/// By the clock of registry and machines when a run begins; any will do.
const BEGIN: Timestamp = Timestamp::UNIX_EPOCH;

/// A fleet. Its machines were not started in the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// Machines.
    pub watchers: u32,
    /// That each of them follows at the one registry; they share its pacer.
    pub channels: u32,
    /// Of each channel.
    pub poll: Duration,
    /// Of the chance in it.
    pub seed: u64,
}

/// How the registry fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nobody listens.
    Refused,
    /// It takes requests and never answers.
    Silent,
    /// 503 and not a word more.
    Unavailable,
    /// 429 or 503 with this `Retry-After`.
    Busy(&'static str),
    /// 429 or 503 with `Retry-After` as one date for everybody, so long after the failure began.
    OneDate(Duration),
}

impl Way {
    /// All that are simulated.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Refused, "refused"),
        (Self::Silent, "silent"),
        (Self::Unavailable, "503"),
        (Self::Busy("30"), "retry_after_30"),
        (Self::Busy("0"), "retry_after_0"),
        (Self::OneDate(FAILS), "date"),
        (Self::OneDate(Duration::from_mins(2)), "date_too_early"),
    ];

    /// What it does to a request at a time since the begin.
    async fn answer(self, at: Duration) -> AskError {
        let registry = String::new;
        let unreachable = || AskError::Unreachable { registry: registry(), why: String::new() };
        let busy = |header: &str| {
            let retry_after = retry_after(header, BEGIN + at);
            AskError::Busy { registry: registry(), status: 503, retry_after }
        };
        match self {
            Self::Refused => unreachable(),
            Self::Silent => {
                sleep(DEADLINE).await;
                unreachable()
            }
            Self::Unavailable => AskError::Busy { registry: registry(), status: 503, retry_after: None },
            Self::Busy(header) => busy(header),
            Self::OneDate(after) => busy(&(BEGIN + WELL + after).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        }
    }
}

/// What decides when a channel is asked: the watcher's, or a worse one that proves that this simulation tells them apart.
pub trait Polling: Clone + Send + 'static {
    /// The pause after an answer.
    fn answered(&mut self, chance: u64) -> Duration;
    /// The pause after none.
    fn failed(&mut self, retry_after: Option<Duration>, chance: u64) -> Duration;
}

impl Polling for Schedule {
    fn answered(&mut self, chance: u64) -> Duration {
        self.answered(chance)
    }

    fn failed(&mut self, retry_after: Option<Duration>, chance: u64) -> Duration {
        self.failed(retry_after, chance)
    }
}

/// What a registry saw, in requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// On average while it was well.
    pub steady: f64,
    /// In the worst second of all.
    pub peak: f64,
    /// In the worst second since the failure began.
    pub peak_since: f64,
}

impl Seen {
    /// The peak over the steady rate.
    pub fn ratio(self) -> f64 {
        self.peak / self.steady
    }
}

/// Measures the shipped schedule with 10,000 watchers.
pub fn measure(report: &mut Report) -> Result<()> {
    let poll = Duration::from_secs(5);
    let fleet = Fleet { watchers: 10_000, channels: 2, poll, seed: 1 };
    let mut worst: f64 = 0.0;
    for (way, name) in Way::ALL {
        let seen = simulate(fleet, way, &Schedule::new(poll))?;
        report.raw("fleet_steady_per_s", seen.steady);
        report.raw("fleet_peak_per_s", seen.peak);
        report.raw(&format!("fleet_peak_per_s_{name}"), seen.peak_since);
        let Seen { steady, peak, peak_since } = seen;
        report.progress(&format!(
            "fleet: {name}: {steady:.0} requests/s, {peak:.0} at most, {peak_since:.0} since it failed"
        ));
        worst = worst.max(seen.ratio());
    }
    report.value("fleet_peak_over_steady", 2.0, worst, "ratio")
}

/// Lets a fleet live through a failure.
pub fn simulate(fleet: Fleet, way: Way, polling: &impl Polling) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let registry = runtime.block_on(async {
        let registry = Arc::new(Registry { way, begin: Instant::now(), tenths: Mutex::default() });
        let mut chance = Chance::seeded(fleet.seed);
        for _ in 0..fleet.watchers {
            let pacer = Arc::new(Pacer::default());
            for _ in 0..fleet.channels {
                let first = fleet.poll.mul_f64(chance.share());
                let own = Chance::seeded(chance.draw());
                tokio::spawn(follow(polling.clone(), Arc::clone(&pacer), Arc::clone(&registry), first, own));
            }
        }
        sleep(WELL + FAILS + WELL_AGAIN).await;
        registry
    });
    registry.seen()
}

/// What a follower does, without what it polls for.
async fn follow(
    mut polling: impl Polling,
    pacer: Arc<Pacer>,
    registry: Arc<Registry>,
    first: Duration,
    mut chance: Chance,
) {
    let mut pause = first;
    loop {
        sleep(pause).await;
        pause = match pacer.ask(registry.ask()).await {
            Ok(()) => polling.answered(chance.draw()),
            Err(error) => polling.failed(error.retry_after(), chance.draw()),
        };
    }
}

struct Registry {
    way: Way,
    begin: Instant,
    /// Requests by the tenth of a second in which they came.
    tenths: Mutex<Vec<u32>>,
}

impl Registry {
    async fn ask(&self) -> Result<(), AskError> {
        let at = self.begin.elapsed();
        self.count(at);
        if (WELL..WELL + FAILS).contains(&at) { Err(self.way.answer(at).await) } else { Ok(()) }
    }

    fn count(&self, at: Duration) {
        let tenth = usize::try_from(at.as_millis() / TENTH.as_millis()).unwrap_or(0);
        let mut tenths = self.tenths.lock().unwrap_or_else(PoisonError::into_inner);
        if tenths.len() <= tenth {
            tenths.resize(tenth + 1, 0);
        }
        tenths[tenth] += 1;
    }

    fn seen(&self) -> Result<Seen> {
        let tenths = self.tenths.lock().unwrap_or_else(PoisonError::into_inner);
        let well = usize::try_from(WELL.as_millis() / TENTH.as_millis())?;
        let (before, since) = tenths.split_at_checked(well).context("the run was too short")?;
        let most = |tenths: &[u32]| tenths.windows(10).map(|second| second.iter().sum()).max().unwrap_or(0_u32);
        Ok(Seen {
            steady: f64::from(before.iter().sum::<u32>()) / WELL.as_secs_f64(),
            peak: f64::from(most(&tenths)),
            peak_since: f64::from(most(since)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Fleet = Fleet { watchers: 1000, channels: 2, poll: Duration::from_secs(5), seed: 7 };

    #[test]
    fn a_registry_in_trouble_is_never_asked_twice_as_much() {
        for poll in [1, 5, 60].map(Duration::from_secs) {
            // As many requests a second for each poll: with few of them chance alone makes a peak.
            let fleet = Fleet { watchers: 200 * u32::try_from(poll.as_secs()).unwrap(), poll, ..SMALL };
            for (way, name) in Way::ALL {
                let seen = simulate(fleet, way, &Schedule::new(poll)).unwrap();
                let expected = f64::from(fleet.watchers * fleet.channels) / poll.as_secs_f64();
                assert!((seen.steady / expected - 1.0).abs() < 0.1, "{name}: {seen:?}");
                assert!(seen.ratio() <= 2.0, "{name}, every {} s: {seen:?}", poll.as_secs());
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let run = |seed| simulate(Fleet { seed, ..SMALL }, Way::Refused, &Schedule::new(SMALL.poll)).unwrap();
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    /// Schedules as they are often written.
    #[derive(Clone, Copy)]
    enum Worse {
        /// Tries again after a second, whatever is wrong.
        Eager,
        /// Comes back exactly when it was told to.
        Obedient,
        /// Believes any `Retry-After`, however short.
        Gullible,
    }

    impl Polling for Worse {
        fn answered(&mut self, chance: u64) -> Duration {
            Schedule::new(SMALL.poll).answered(chance)
        }

        fn failed(&mut self, retry_after: Option<Duration>, chance: u64) -> Duration {
            match self {
                Self::Eager => Duration::from_secs(1),
                Self::Obedient => retry_after.unwrap_or(SMALL.poll),
                Self::Gullible => retry_after.unwrap_or_default() + Duration::from_millis(chance % 5000),
            }
        }
    }

    #[test]
    fn worse_schedules_are_found_out() {
        let date = Way::OneDate(FAILS);
        for (way, worse) in [
            (Way::Refused, Worse::Eager),
            (date, Worse::Eager),
            (date, Worse::Obedient),
            (Way::Busy("0"), Worse::Gullible),
        ] {
            let seen = simulate(SMALL, way, &worse).unwrap();
            assert!(seen.ratio() > 2.0, "{way:?}: {seen:?}");
        }
    }
}
