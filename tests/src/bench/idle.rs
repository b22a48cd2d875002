//! What it costs to wait: requests as the registry logged them, processor time and memory as the kernel counts them.
//! An app is live and nothing changes; the poll is the watcher's default, so that all it does between two polls counts.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde_json::json;

use crate::bench::ours;
use crate::bench::report::Report;
use crate::vm::Vm;
use crate::wait;

/// Between two polls: the default.
const POLL: Duration = Duration::from_secs(5);
/// Polls in a run.
const POLLS: u32 = 3;
/// After the rollout, before the first run: what was needed for it is let go.
const SETTLE: Duration = Duration::from_secs(30);
/// How the watcher calls itself.
const AGENT: &str = "landfall-image-watcher/";

/// Measures `runs` times three polls.
pub fn measure(runs: usize, report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("bench", "idle")?;
    vm.configure(&json!({ "poll": format!("{}s", POLL.as_secs()) }))?;
    super::start(&mut vm)?;
    // Two releases: the second leaves behind what any release does.
    for version in ["v1", "v2"] {
        ours::settled(&vm, &ours::publish(&vm, version)?.published)?;
    }
    let (watcher, agent) = (vm.watcher_id()?, vm.agent_id()?);
    wait::until(Instant::now() + SETTLE);
    for run in 0..runs {
        one(&vm, watcher, agent, report)?;
        report.progress(&format!("idle: run {} of {runs}", run + 1));
    }
    report.number("requests_per_idle_poll", 1.0, "requests_per_idle_poll", "requests")?;
    report.number("cpu_ms_per_idle_poll", 1.0, "watcher_cpu_ms_per_idle_poll", "ms")?;
    report.number("pss_mib_watcher", 3.0, "watcher_pss_mib", "MiB")?;
    report.number("pss_mib_agent", 3.0, "agent_pss_mib", "MiB")
}

fn one(vm: &Vm, watcher: u32, agent: u32, report: &mut Report) -> Result<()> {
    let log = vm.directory().join("registry.log");
    let before = (requests(&log)?.len(), cpu(watcher)?, cpu(agent)?);
    wait::until(Instant::now() + POLL * POLLS);
    let all = requests(&log)?;
    let new = &all[before.0..];
    let polls = new.iter().filter(|line| line.contains("\"HEAD ")).count();
    // Each poll begins with a HEAD; jitter of a tenth makes it one more or less.
    ensure!(polls.abs_diff(POLLS as usize) <= 1, "{polls} polls in {} s: {new:?}", (POLL * POLLS).as_secs());
    let polls = f64::from(u32::try_from(polls)?);
    report.raw("requests_per_idle_poll", f64::from(u32::try_from(new.len())?) / polls);
    report.raw("watcher_cpu_ms_per_idle_poll", (cpu(watcher)? - before.1) / polls);
    report.raw("agent_cpu_ms_per_idle_poll", (cpu(agent)? - before.2) / polls);
    report.raw("watcher_pss_mib", pss(watcher)?);
    report.raw("agent_pss_mib", pss(agent)?);
    Ok(())
}

/// The watcher's requests, as lines of the registry's access log.
fn requests(log: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    Ok(text.lines().filter(|line| line.contains(AGENT) && line.contains(" HTTP/1.1\" ")).map(str::to_owned).collect())
}

/// All processor time of a process since its start in milliseconds, with that of its ended threads.
fn cpu(process: u32) -> Result<f64> {
    // The kernel's clock of that process: to the nanosecond, where /proc/PID/stat counts hundredths of a second.
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(process)?))?;
    Ok(Duration::from(clock.now()?).as_secs_f64() * 1000.0)
}

/// Its share of memory: what it shares counts in part.
fn pss(process: u32) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no `Pss`")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
