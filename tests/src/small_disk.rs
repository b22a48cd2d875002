//! A file system of 64 MiB, in a file, that a test may fill without anybody else's harm.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::ran::Ran;

/// A small file system. Dropping it unmounts and removes it.
#[derive(Debug)]
pub struct SmallDisk {
    mounted: PathBuf,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    const FILLING: &str = "filling";

    /// Makes and mounts it.
    pub fn create() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("landfall-disk-").tempdir_in("/var/tmp")?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let (file, mounted) = (at("file"), at("mounted"));
        std::fs::create_dir(&mounted)?;
        for words in [
            ["truncate", "-s", "64M", &file].as_slice(),
            &["mkfs.ext4", "-q", "-m", "0", &file],
            &["mount", "-o", "loop", &file, &mounted],
        ] {
            let ran = Ran::of(Command::new(words[0]).args(&words[1..]))?;
            ensure!(ran.code == 0, "{words:?}: {}", ran.stderr);
        }
        Ok(Self { mounted: mounted.into(), _directory: directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Not a byte is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.mounted.join(Self::FILLING))?;
        loop {
            match file.write_all(&[7; 4096]) {
                Ok(()) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Takes that back.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.mounted.join(Self::FILLING))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = Ran::of(Command::new("umount").arg("--lazy").arg(&self.mounted)) {
            eprintln!("left behind: {error:#}");
        }
    }
}
