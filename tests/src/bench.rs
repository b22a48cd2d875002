//! `make bench`: numbers about the shipped programs, each with its target, measured from outside on the real Engine
//! and registry. What each number is and how it is taken is in docs/bench.md; every run's raw value is kept.
//! Nothing here may be kinder to one side than to the other: same file, same engine, same judge, runs that alternate.
//!
//! | module | what |
//! |---|---|
//! | [`rollouts`] | publish, detect, gap: [`ours`] against [`floor`] and [`shell`] |
//! | [`release`] | what a client sees of one release |
//! | [`stack`] | the same project without us, brought up by Compose |
//! | [`start_first`] | failed requests while two versions overlap |
//! | [`cold_start`] | 20 services from stopped containers |
//! | [`idle`] | what waiting costs |
//! | [`wire`] | bytes of a poll and of a change |
//! | [`many_apps`] | 50 apps in one watcher |
//! | [`staged`] | from a publication to the staged release |
//! | [`secrets`] | rotations, and what the fetcher costs |
//! | [`cost`] | requests, processor time and memory of a process |
//! | [`fleet`] | 10,000 watchers and a registry that fails, simulated |
//! | [`report`] | the table, bench.json, bench-raw.json |

pub mod cold_start;
pub mod cost;
pub mod fleet;
pub mod floor;
pub mod idle;
pub mod many_apps;
pub mod ours;
pub mod release;
pub mod report;
pub mod rollouts;
pub mod secrets;
pub mod shell;
pub mod stack;
pub mod staged;
pub mod start_first;
pub mod wire;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::clean;
use crate::engine::Engine;
use crate::process::Lifetime;
use crate::vm::Vm;
use report::Report;

/// One of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// [`rollouts`].
    Rollouts,
    /// [`start_first`].
    StartFirst,
    /// [`cold_start`].
    ColdStart,
    /// [`idle`].
    Idle,
    /// [`fleet`].
    Fleet,
    /// [`wire`].
    Wire,
    /// [`many_apps`].
    ManyApps,
    /// [`staged`].
    Staged,
    /// [`secrets`].
    Secrets,
}

impl Subject {
    /// All of them, in the order in which they are measured.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Fleet, "fleet"),
        (Self::Idle, "idle"),
        (Self::Wire, "wire"),
        (Self::ManyApps, "many-apps"),
        (Self::Staged, "staged"),
        (Self::Rollouts, "rollouts"),
        (Self::StartFirst, "start-first"),
        (Self::ColdStart, "cold-start"),
        (Self::Secrets, "secrets"),
    ];

    /// Measures it.
    pub fn measure(self, runs: usize, report: &mut Report) -> Result<()> {
        match self {
            Self::Rollouts => rollouts::measure(runs, report),
            Self::StartFirst => start_first::measure(report),
            Self::ColdStart => cold_start::measure(runs, report),
            Self::Idle => idle::measure(runs, report),
            Self::Fleet => fleet::measure(report),
            Self::Wire => wire::measure(runs, report),
            Self::ManyApps => many_apps::measure(runs, report),
            Self::Staged => staged::measure(report),
            Self::Secrets => secrets::measure(runs, report),
        }
    }
}

/// A VM for a measurement; its directory goes with the second value.
fn vm(fixture: &str, name: &str) -> Result<(Vm, TempDir)> {
    clean::leftovers(&Engine::of_this_machine())?;
    let prefix = format!("{}{}-", clean::DIRECTORY, std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
    let app = format!("{}{}-{name}", clean::PREFIX, std::process::id());
    let vm = Vm::of_fixture(fixture, directory.path(), &app, None, Lifetime::Test)?;
    Ok((vm, directory))
}

/// Starts the daemons, with a short probation: what the last release left is removed before the next, as it is on a VM
/// that is released to once a day.
fn start(vm: &mut Vm) -> Result<()> {
    vm.start()?;
    vm.restart_agent_with_probation(Duration::from_millis(500))
}

/// Where `make bench` leaves its files: the repository's root.
pub fn root() -> &'static Path {
    let tests = crate::programs::tests_directory();
    tests.parent().unwrap_or(tests)
}
