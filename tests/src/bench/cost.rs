//! What a process costs, read from outside: its requests in the registry's access log, its processor time and memory as the
//! kernel counts them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

/// How the watcher calls itself in its requests.
pub const WATCHER: &str = "landfall-image-watcher/";

/// The watcher's requests, as lines of the registry's access log.
pub fn requests(log: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    Ok(text.lines().filter(|line| line.contains(WATCHER) && line.contains(" HTTP/1.1\" ")).map(str::to_owned).collect())
}

/// All processor time of a process since its start in milliseconds, with that of its ended threads.
pub fn cpu(process: u32) -> Result<f64> {
    // The kernel's clock of that process: to the nanosecond, where /proc/PID/stat counts hundredths of a second.
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(process)?))?;
    Ok(Duration::from(clock.now()?).as_secs_f64() * 1000.0)
}

/// Its share of memory in MiB: what it shares counts in part.
pub fn pss(process: u32) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no `Pss`")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
