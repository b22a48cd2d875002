//! The disks that images and our own state lie on, as the kernel tells it. Only looks: what is too full is for [`crate::room`] to say.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::room::Filesystem;
use crate::shared::Shared;

/// What was looked at, and what could not be.
#[derive(Debug, Default)]
pub struct Disks {
    /// Each with a directory on it; two directories on one disk are two of these.
    pub found: Vec<Filesystem>,
    /// Where there is nothing to be seen from here, and why.
    pub unseen: Vec<String>,
}

/// The disks of the Engine, once it has said which, and of our own state.
pub fn look(shared: &Shared) -> Disks {
    let machine = shared.machine.borrow();
    let state = shared.layout.agent();
    let state = state.parent().unwrap_or(&state);
    let containerd = machine.snapshots.as_deref();
    let of_docker = Some(machine.data.as_str()).filter(|path| !path.is_empty());
    let all =
        [(containerd.map(Path::new), true), (of_docker.map(Path::new), containerd.is_none()), (Some(state), false)];
    let mut disks = Disks::default();
    for (path, holds_images) in all {
        let Some(path) = path else { continue };
        match filesystem(path, holds_images) {
            Ok(disk) => disks.found.push(disk),
            Err(why) => disks.unseen.push(format!("`{}`: {why}", path.display())),
        }
    }
    disks
}

#[expect(clippy::useless_conversion, reason = "their width is the C library's")]
fn filesystem(path: &Path, holds_images: bool) -> nix::Result<Filesystem> {
    let stat = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(u64::from(stat.fragment_size()));
    let (all, free) = (u64::from(stat.blocks()), u64::from(stat.blocks_free()));
    Ok(Filesystem {
        path: path.display().to_string(),
        holds_images,
        used: bytes(all.saturating_sub(free)),
        available: bytes(u64::from(stat.blocks_available())),
        inodes: (u64::from(stat.files()), u64::from(stat.files_free())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Ratio;

    #[test]
    fn a_real_disk_has_some_of_each() {
        let disk = filesystem(Path::new("/"), true).unwrap();
        assert!(disk.used > 0 && disk.used_ratio() < Some(Ratio::per_cent(100)), "{disk:?}");
        assert!(filesystem(Path::new("/nobody/was/here"), true).is_err());
    }
}
