//! The memory that secrets lie in: on a VM it is mounted before Docker starts; a test mounts it below its own root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Whether something is mounted there.
pub fn is_mounted(path: &Path) -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let path = path.to_str().context("the path is no text")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1) == Some(path)))
}

/// Memory that is never swapped out.
pub fn mount(path: &Path) -> Result<()> {
    let options = "noswap,nosuid,nodev,noexec,mode=0700,size=16m";
    run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "landfall-secrets"]).arg(path))
}

/// All of it, where anything is mounted; what still holds it keeps its own view.
pub fn unmount(path: &Path) -> Result<()> {
    while is_mounted(path)? {
        run(Command::new("umount").arg("--lazy").arg(path))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
