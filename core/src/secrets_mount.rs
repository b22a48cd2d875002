//! The memory that secrets lie in in plain text: mounted so that nothing of it reaches a disk, and looked at before anything is
//! written to it. Nothing here falls back to a disk: memory that may be swapped out is refused, and says what to do.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use crate::publish;

/// The kernel's `RAMFS_MAGIC`: what lies there is never swapped out.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// The mode of memory that nobody but its owner looks into.
const OWN: &str = "0700";
/// The mode of memory that a group reads: credentials of registries.
pub const SHARED: &str = "0750";

/// Why secrets must not be written to a directory.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be looked at.
    #[error(
        "`{path}` cannot be used ({source}); next: mount it with `mount -t tmpfs -o noswap,nosuid,nodev,noexec,mode={mode} tmpfs {path}`"
    )]
    Absent {
        /// Which.
        path: PathBuf,
        /// Who may look into it.
        mode: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is no file system in memory.
    #[error(
        "`{path}` is not in memory, so that secrets would be written to a disk; next: `mount -t tmpfs -o noswap,nosuid,nodev,noexec,mode={mode} tmpfs {path}`"
    )]
    OnDisk {
        /// Which.
        path: PathBuf,
        /// Who may look into it.
        mode: &'static str,
    },
    /// The kernel may write it to swap.
    #[error(
        "`{0}` is a tmpfs without `noswap` and this machine has swap, so that secrets could be written to a disk; next: mount it anew with `noswap` (Linux 6.4) or as `ramfs`, or turn swap off"
    )]
    Swap(PathBuf),
}

/// Whether plain text may be written below `path`: nothing there can reach a disk.
pub fn check(path: &Path) -> Result<(), Unfit> {
    check_for(path, OWN)
}

/// As [`check()`]; `mode` is what the directory should have, for the error.
pub fn check_for(path: &Path, mode: &'static str) -> Result<(), Unfit> {
    let absent = |source: io::Error| Unfit::Absent { path: path.to_owned(), mode, source };
    let kind = statfs(path).map_err(|error| absent(error.into()))?.filesystem_type();
    if kind == RAMFS_MAGIC {
        return Ok(());
    }
    if kind != TMPFS_MAGIC {
        return Err(Unfit::OnDisk { path: path.to_owned(), mode });
    }
    if !has_swap().map_err(absent)? {
        return Ok(());
    }
    let device = std::fs::metadata(path).map_err(absent)?.dev();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(absent)?;
    if is_noswap(&mounts, (major(device), minor(device))) { Ok(()) } else { Err(Unfit::Swap(path.to_owned())) }
}

/// Mounts memory for secrets at `path`, which is made if it is not there: a tmpfs with `noswap`; where the kernel does not know
/// that (before 6.4) and there is swap, a ramfs. Needs root.
pub fn mount(path: &Path) -> io::Result<()> {
    mount_for(path, OWN)
}

/// As [`mount()`], with a mode.
pub fn mount_for(path: &Path, mode: &'static str) -> io::Result<()> {
    publish::make_directories(path)?;
    let mode = format!("mode={mode}");
    match mount_as("tmpfs", &format!("noswap,{mode}"), path) {
        Err(Errno::EINVAL) if has_swap()? => Ok(mount_as("ramfs", &mode, path)?),
        Err(Errno::EINVAL) => Ok(mount_as("tmpfs", &mode, path)?),
        other => Ok(other?),
    }
}

/// What became of [`ensure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// It was there and is fit.
    Already,
    /// It is there now.
    Now,
}

/// Why there is no memory for secrets.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel refused.
    #[error("cannot mount memory for secrets at `{path}` ({source}); next: run it as root")]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is mounted there must not be used, and is somebody's: it stays.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Mounts memory for secrets, once: what is mounted there stays, and must be fit.
pub fn ensure(path: &Path) -> Result<Mounted, MountError> {
    let failed = |source| MountError::Mount { path: path.to_owned(), source };
    let mounted = if is_mounted(path).map_err(failed)? {
        Mounted::Already
    } else {
        mount(path).map_err(failed)?;
        Mounted::Now
    };
    check(path)?;
    Ok(mounted)
}

/// Sees to a directory for what a group reads. It is mounted where memory above it is not fit: `/run` is, on a machine without swap.
pub fn ensure_shared(path: &Path) -> Result<Mounted, MountError> {
    let failed = |source| MountError::Mount { path: path.to_owned(), source };
    publish::make_directories(path).map_err(failed)?;
    match check_for(path, SHARED) {
        Ok(()) => Ok(Mounted::Already),
        Err(Unfit::OnDisk { .. } | Unfit::Swap(_)) if !is_mounted(path).map_err(failed)? => {
            mount_for(path, SHARED).map_err(failed)?;
            check_for(path, SHARED)?;
            Ok(Mounted::Now)
        }
        Err(unfit @ (Unfit::Absent { .. } | Unfit::OnDisk { .. } | Unfit::Swap(_))) => Err(unfit.into()),
    }
}

/// Whether a file system of its own is there: `/run` is in memory too, and is not ours.
fn is_mounted(path: &Path) -> io::Result<bool> {
    match (std::fs::metadata(path), path.parent()) {
        (Ok(data), Some(parent)) => Ok(data.dev() != std::fs::metadata(parent)?.dev()),
        (Ok(_), None) => Ok(true),
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        (Err(error), _) => Err(error),
    }
}

fn mount_as(kind: &str, options: &str, path: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some(kind), path, Some(kind), flags, Some(options))
}

fn has_swap() -> io::Result<bool> {
    Ok(nix::sys::sysinfo::sysinfo()?.swap_total() > 0)
}

/// Whether the file system with this device number has `noswap`. Its options stand last, after the `-` and two more words.
fn is_noswap(mountinfo: &str, (major, minor): (u64, u64)) -> bool {
    let device = format!("{major}:{minor}");
    mountinfo.lines().filter(|line| line.split(' ').nth(2) == Some(device.as_str())).any(|line| {
        let options = line.split_once(" - ").and_then(|(_, end)| end.split(' ').nth(2));
        options.is_some_and(|options| options.split(',').any(|option| option == "noswap"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noswap_is_read_from_the_line_of_the_file_system() {
        let mountinfo = "\
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
40 28 0:35 / /run/landfall/secrets rw,nosuid,nodev,noexec shared:9 - tmpfs tmpfs rw,mode=700,noswap\n\
41 28 0:36 / /tmp/with\\040space rw - tmpfs noswap rw,mode=700\n\
42 28 0:37 / /cut rw - tmpfs\n";
        assert!(is_noswap(mountinfo, (0, 35)));
        for other in [(0, 20), (0, 36), (0, 37), (0, 3), (1, 35)] {
            assert!(!is_noswap(mountinfo, other), "{other:?}");
        }
    }

    #[test]
    fn a_directory_is_no_mount_and_what_is_mounted_stays() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_mounted(root.path()).unwrap() && !is_mounted(&root.path().join("absent/x")).unwrap());
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(matches!(ensure(Path::new("/proc")), Err(MountError::Unfit(Unfit::OnDisk { .. }))));
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let refused = check(&root.path().join("absent")).unwrap_err().to_string();
        assert!(refused.contains("noswap"), "{refused}");
        assert!(matches!(check(Path::new("/proc")), Err(Unfit::OnDisk { .. })));
    }
}
