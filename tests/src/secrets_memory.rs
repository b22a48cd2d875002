//! The memory that secrets lie in: on a VM it is mounted before Docker starts; a test has it below its own root.

use std::path::Path;

use anyhow::{Context as _, Result};
use landfall_core::layout::Layout;
use landfall_core::secrets_mount;
use nix::mount::{MntFlags, umount2};

/// Mounts it, where nothing is mounted yet.
pub fn mount(path: &Path) -> Result<()> {
    if is_mounted(path)? {
        return Ok(());
    }
    secrets_mount::mount(path).with_context(|| format!("cannot mount `{}`; next: run it as root", path.display()))
}

/// As [`mount()`], for credentials, which a group may read.
pub fn mount_shared(path: &Path) -> Result<()> {
    if is_mounted(path)? {
        return Ok(());
    }
    secrets_mount::mount_for(path, secrets_mount::SHARED)
        .with_context(|| format!("cannot mount `{}`; next: run it as root", path.display()))
}

/// All that is mounted for secrets below a root; what still holds it keeps its own view.
pub fn unmount(layout: &Layout) -> Result<()> {
    for path in [layout.secrets(), layout.registry_credentials()] {
        while is_mounted(&path)? {
            umount2(&path, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount `{}`", path.display()))?;
        }
    }
    Ok(())
}

fn is_mounted(path: &Path) -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let path = path.to_str().context("the path is no text")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1) == Some(path)))
}
