//! What it costs to wait: requests as the registry logged them, processor time and memory as the kernel counts them.
//! An app is live and nothing changes; the poll is the watcher's default, so that all it does between two polls counts.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::cost::{cpu, pss, requests};
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
