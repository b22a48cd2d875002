//! Which disk is meant, by its names and by what the kernel says of it. Only a whole disk that nobody else has is taken. Reads only.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use landfall_core::config::DataDisk;
use landfall_core::layout::Layout;
use nix::sys::stat::{major, minor};

use crate::failure::{Exit, Failed};

/// How often somebody who waits for a disk looks.
const LOOK: Duration = Duration::from_millis(250);
const SYSFS: &str = "/sys/dev/block";
/// The kernel counts in these, whatever a disk's own are.
const SECTOR: u64 = 512;
/// A smaller one holds no database.
const LEAST: u64 = 64 << 20;

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node, with all links followed.
    pub path: PathBuf,
    /// Its number.
    pub number: (u64, u64),
    /// Its bytes.
    pub size: u64,
}

/// The names that udev gives it. `azure-vm-utils` names SCSI and `NVMe` disks alike; waagent's older rules know SCSI only.
pub fn names(layout: &Layout, disk: &DataDisk) -> Vec<PathBuf> {
    let below = |path: &str| layout.root().join(path.trim_start_matches('/'));
    match disk {
        DataDisk::Lun(lun) => {
            vec![
                below(&format!("/dev/disk/azure/data/by-lun/{lun}")),
                below(&format!("/dev/disk/azure/scsi1/lun{lun}")),
            ]
        }
        DataDisk::Path(path) => vec![below(path.as_str())],
    }
}

/// Its node, if it is there now. The error is that two names lead to two disks.
pub fn find(layout: &Layout, disk: &DataDisk) -> Result<Option<PathBuf>, Failed> {
    let nodes: BTreeSet<PathBuf> = names(layout, disk).iter().filter_map(|name| fs::canonicalize(name).ok()).collect();
    let mut nodes = nodes.into_iter();
    match (nodes.next(), nodes.next()) {
        (Some(one), Some(other)) => {
            let text = format!("data disk: {disk} is both `{}` and `{}`", one.display(), other.display());
            Err(refuse(text, "name the right one by its path (`host.data_disk: { path: … }`)"))
        }
        (node, _) => Ok(node),
    }
}

/// As [`find`], with patience: a disk may come up later than we do.
pub async fn wait_for(layout: &Layout, disk: &DataDisk, patience: Duration) -> Result<Option<PathBuf>, Failed> {
    let until = Instant::now() + patience;
    loop {
        let found = find(layout, disk)?;
        if found.is_some() || Instant::now() >= until {
            return Ok(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What the kernel says of it. The error is why it is not to be had.
pub fn examine(path: &Path) -> Result<Device, Failed> {
    let number = number(path)?;
    let shown = path.display();
    let sysfs = Path::new(SYSFS).join(format!("{}:{}", number.0, number.1));
    let read = |name: &str| {
        let file = sysfs.join(name);
        fs::read_to_string(&file).map_err(|error| unreadable(&file, &error)).map(|text| text.trim().to_owned())
    };
    if sysfs.join("partition").exists() {
        return Err(refuse(format!("data disk: `{shown}` is a partition"), "name the whole disk; it must have none"));
    }
    let parts = entries(&sysfs)?.into_iter().filter(|entry| entry.join("partition").exists()).count();
    if parts > 0 {
        let text = format!("data disk: `{shown}` has {parts} partitions, so it is somebody's, and stays as it is");
        return Err(refuse(text, "attach the right disk; one that is blank is formatted, and no other"));
    }
    if let Some(holder) = entries(&sysfs.join("holders"))?.first() {
        let holder = holder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(refuse(format!("data disk: `{shown}` is a part of `{holder}`"), "name a disk of its own"));
    }
    if read("ro")? != "0" {
        let text = format!("data disk: `{shown}` cannot be written to");
        return Err(refuse(text, "attach it for reading and writing"));
    }
    let size = read("size")?.parse::<u64>().map_or(0, |sectors| sectors.saturating_mul(SECTOR));
    if size < LEAST {
        let text = format!("data disk: `{shown}` has {size} bytes, too few for a disk of volumes");
        return Err(refuse(text, "attach one of 64 MiB or more"));
    }
    Ok(Device { path: path.to_owned(), number, size })
}

/// The number of a node, which must be a disk's.
pub fn number(path: &Path) -> Result<(u64, u64), Failed> {
    let data = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !data.file_type().is_block_device() {
        let text = format!("data disk: `{}` is no disk", path.display());
        return Err(refuse(text, "correct `host.data_disk`"));
    }
    Ok((major(data.rdev()), minor(data.rdev())))
}

/// Opens it for us alone. The kernel refuses that for whatever is mounted or in use anywhere, in other namespaces too.
pub fn open_alone(device: &Device) -> Result<File, Failed> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(nix::libc::O_EXCL | nix::libc::O_CLOEXEC);
    options.open(&device.path).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => {
            let text = format!("data disk: `{}` is in use already, and is not mounted twice", device.path.display());
            refuse(text, "see who has it with `lsblk` and `findmnt`, and end that")
        }
        _ => unreadable(&device.path, &error),
    })
}

/// A refusal, with what to do.
pub fn refuse(text: impl Into<String>, next: impl Into<String>) -> Failed {
    Failed::new(Exit::Failed, text).next(next)
}

/// What the kernel did not let us see.
pub fn unreadable(path: &Path, error: &io::Error) -> Failed {
    let text = format!("data disk: cannot look at `{}` ({error})", path.display());
    refuse(text, "run it as root, and see the kernel's log: `journalctl -k`")
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Failed> {
    let failed = |error: io::Error| unreadable(directory, &error);
    let read = fs::read_dir(directory).map_err(failed)?;
    read.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn disk(value: serde_json::Value) -> DataDisk {
        serde_json::from_value(value).unwrap()
    }

    /// Links of udev below a root, as pairs of name and where it leads.
    fn root(links: &[(&str, &str)]) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        for (name, to) in links {
            let name = root.path().join(name);
            fs::create_dir_all(name.parent().unwrap()).unwrap();
            let to = root.path().join("dev").join(to);
            if !to.ends_with("gone") {
                fs::write(&to, "").unwrap();
            }
            symlink(to, name).unwrap();
        }
        let layout = Layout::new(root.path());
        (root, layout)
    }

    #[test]
    fn a_lun_is_found_by_the_names_of_both_rules() {
        let (new, old) = ("dev/disk/azure/data/by-lun/7", "dev/disk/azure/scsi1/lun7");
        let lun = disk(serde_json::json!({ "lun": 7 }));
        for (links, found) in [
            (vec![(new, "nvme0n9")], Some("nvme0n9")),
            (vec![(old, "sdc")], Some("sdc")),
            (vec![(new, "sdc"), (old, "sdc")], Some("sdc")),
            (vec![(new, "gone"), (old, "sdc")], Some("sdc")),
            (vec![(new, "gone")], None),
            (vec![("dev/disk/azure/data/by-lun/70", "sdd"), ("dev/disk/azure/scsi0/lun7", "sda")], None),
            (vec![("dev/disk/azure/data/by-lun/7-part1", "sdd1")], None),
        ] {
            let (root, layout) = root(&links);
            let node = find(&layout, &lun).unwrap();
            let wanted = found.map(|name| fs::canonicalize(root.path().join("dev").join(name)).unwrap());
            assert_eq!(node, wanted, "{links:?}");
        }
        let (_root, layout) = root(&[(new, "sdc"), (old, "sdd")]);
        assert!(find(&layout, &lun).unwrap_err().message.contains("is both `"));
    }

    #[tokio::test]
    async fn a_disk_that_comes_late_is_waited_for_and_one_that_never_comes_is_not_for_ever() {
        let (root, layout) = root(&[]);
        let path = disk(serde_json::json!({ "path": "/dev/late" }));
        assert_eq!(wait_for(&layout, &path, Duration::ZERO).await.unwrap(), None);
        let node = root.path().join("dev/late");
        let comes = async {
            tokio::task::yield_now().await;
            fs::create_dir_all(root.path().join("dev")).unwrap();
            fs::write(&node, "").unwrap();
        };
        let (found, ()) = tokio::join!(wait_for(&layout, &path, Duration::from_mins(1)), comes);
        assert_eq!(found.unwrap(), Some(fs::canonicalize(node).unwrap()));
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(examine(file.path()).unwrap_err().message.contains("is no disk"));
        assert!(examine(Path::new("/dev/null")).unwrap_err().message.contains("is no disk"));
        assert!(examine(Path::new("/dev/nobody")).unwrap_err().message.contains("cannot look at"));
    }
}
