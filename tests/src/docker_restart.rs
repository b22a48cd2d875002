//! Restarts dockerd, where that harms nobody: a machine on which other containers run is not ours to try things on.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::engine::{Engine, PROJECT};
use crate::process::lives;
use crate::programs;
use crate::tour::Say;
use crate::wait::eventually;

/// dockerd stops every container before it ends.
const STOP: Duration = Duration::from_mins(1);
const PID_FILE: &str = "/var/run/docker.pid";

/// Whether dockerd may be restarted for the sake of `app`; else why not.
pub fn allowed(engine: &Engine, app: &str) -> Result<(), String> {
    let said = |error: anyhow::Error| format!("{error:#}");
    let running = engine.running().map_err(said)?;
    let foreign = running.iter().filter(|container| container.labels.get(PROJECT).is_none_or(|owner| owner != app));
    let foreign: Vec<String> = foreign.flat_map(|container| container.names.clone()).collect();
    if !foreign.is_empty() {
        return Err(format!("other containers run here: {}", foreign.join(" ")));
    }
    if engine.call("GET", "/info", None).map_err(said)?["LiveRestoreEnabled"] == true {
        return Err("it has live-restore, with which a restart touches no container".to_owned());
    }
    if !Uid::effective().is_root() {
        return Err("only root can".to_owned());
    }
    if !under_systemd() && dockerd().is_err() {
        return Err(format!("`{PID_FILE}` names no dockerd of this machine"));
    }
    Ok(())
}

/// Stops dockerd and starts it again, and waits until it answers.
pub fn restart(engine: &Engine, say: Say<'_>) -> Result<()> {
    if under_systemd() {
        run(Command::new("systemctl").args(["restart", "docker"]))?;
    } else {
        let id = dockerd()?;
        kill(Pid::from_raw(id), Signal::SIGTERM)?;
        eventually(STOP, "dockerd ends", || {
            ensure!(!lives(id), "process {id} is there");
            Ok(())
        })?;
        say("dockerd has ended; starts it again");
        let script = programs::tests_directory().parent().context("no repository")?.join("tools/start-docker.sh");
        run(&mut Command::new(script))?;
    }
    eventually(STOP, "dockerd answers", || engine.call("GET", "/version", None).map(drop))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn under_systemd() -> bool {
    std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd")
}

fn dockerd() -> Result<i32> {
    let id: i32 = std::fs::read_to_string(PID_FILE)?.trim().parse()?;
    let name = std::fs::read_to_string(format!("/proc/{id}/comm"))?;
    ensure!(name.trim() == "dockerd", "process {id} is `{}`", name.trim());
    Ok(id)
}
