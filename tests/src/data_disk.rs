//! A disk for volumes, as machines of the tests have it: a loop device over a file, which outlives them. It is plugged into a machine that
//! runs, at a LUN, by the link that udev would make there; a machine in a container has no udev of its own.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::life::Guest;
use crate::ran::Ran;

/// Large enough for a file system with a journal.
const SIZE: u64 = 512 << 20;
/// Where `azure-vm-utils` shows the disk at LUN 0.
const NAME: &str = "/dev/disk/azure/data/by-lun/0";

/// A disk. Dropping it removes it.
#[derive(Debug)]
pub struct DataDisk {
    file: PathBuf,
    device: String,
    _directory: tempfile::TempDir,
}

impl DataDisk {
    /// A blank one.
    pub fn blank() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("landfall-disk-").tempdir_in("/var/tmp")?;
        let file = directory.path().join("file");
        File::create(&file)?.set_len(SIZE)?;
        let device = said(Command::new("losetup").args(["--find", "--show"]).arg(&file))?;
        Ok(Self { file, device, _directory: directory })
    }

    /// One that has somebody's photos.
    pub fn of_somebody() -> Result<Self> {
        let disk = Self::blank()?;
        said(Command::new("mkfs.ext4").args(["-q", "-L", "photos", &disk.device]))?;
        Ok(disk)
    }

    /// Its node.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// All that is on it.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        said(Command::new("blockdev").args(["--flushbufs", &self.device]))?;
        Ok(std::fs::read(&self.file)?)
    }

    /// Makes it twice as large.
    pub fn grow(&self) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.file)?;
        file.set_len(file.metadata()?.len() * 2)?;
        said(Command::new("losetup").args(["--set-capacity", &self.device])).map(drop)
    }

    /// Shows it to a machine that runs.
    pub fn plug_in(&self, machine: &impl Guest) -> Result<()> {
        let script = format!("mkdir -p $(dirname {NAME}) && ln -sfn {} {NAME}", self.device);
        let ran = machine.run(&["sh", "-c", &script])?;
        ensure!(ran.code == 0, "{}", ran.stderr);
        Ok(())
    }
}

impl Drop for DataDisk {
    fn drop(&mut self) {
        if let Err(error) = said(Command::new("losetup").args(["--detach", &self.device])) {
            eprintln!("left behind: {error:#}");
        }
    }
}

fn said(command: &mut Command) -> Result<String> {
    let ran = Ran::of(command)?;
    ensure!(ran.code == 0, "{command:?} ended with {}: {}", ran.code, ran.stderr.trim());
    Ok(ran.stdout.trim().to_owned())
}
