//! What the tests of the data disk stand on: a root of a machine, and a loop device.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::super::content::Content;
use super::super::*;

/// Of a disk, in bytes.
pub const SIZE: u64 = 256 << 20;

/// A machine, and a disk at its LUN 0. Dropping it takes the disk off.
pub struct Bench {
    pub root: tempfile::TempDir,
    pub file: PathBuf,
    pub device: String,
}

pub fn said(program: &str, arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own child")]
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Bench {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("landfall-disk-").tempdir_in("/var/tmp").unwrap();
        let file = root.path().join("file");
        File::create(&file).unwrap().set_len(SIZE).unwrap();
        let device = said("/usr/sbin/losetup", &["--find", "--show", file.to_str().unwrap()]);
        let bench = Self { root, file, device };
        bench.attach();
        bench
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.root.path())
    }

    pub fn name(&self) -> PathBuf {
        self.root.path().join("dev/disk/azure/data/by-lun/0")
    }

    pub fn attach(&self) {
        fs::create_dir_all(self.name().parent().unwrap()).unwrap();
        symlink(&self.device, self.name()).unwrap();
    }

    pub fn detach(&self) {
        fs::remove_file(self.name()).unwrap();
    }

    pub fn grows_to(&self, size: u64) {
        File::options().write(true).open(&self.file).unwrap().set_len(size).unwrap();
        said("/usr/sbin/losetup", &["--set-capacity", &self.device]);
    }

    /// A boot, or a second run in this one.
    pub async fn bring(&self) -> Result<Mounted, NotMounted> {
        self.bring_with(&Tools::default()).await
    }

    pub async fn bring_with(&self, tools: &Tools) -> Result<Mounted, NotMounted> {
        bring(&self.layout(), tools, &lun(), Duration::ZERO).await
    }

    /// What is left of a mount after a power cut, but for what was not yet written: nothing.
    pub fn off(&self) {
        said("/usr/bin/umount", &[self.volumes().to_str().unwrap()]);
    }

    /// Another machine, without a memory, with this disk.
    pub fn replaced(&self) {
        record::forget(&self.layout()).unwrap();
    }

    pub fn volumes(&self) -> PathBuf {
        self.layout().docker_volumes()
    }

    pub fn is_mounted(&self) -> bool {
        let place = fs::canonicalize(self.volumes()).unwrap();
        mounts::at(&mounts::list().unwrap(), &place).is_some()
    }

    pub fn bytes(&self) -> Vec<u8> {
        said("/usr/sbin/blockdev", &["--flushbufs", &self.device]);
        fs::read(&self.file).unwrap()
    }

    pub async fn content(&self) -> Content {
        let device = device::examine(Path::new(&self.device)).unwrap();
        content::look(&Tools::default(), &device, &File::open(&self.device).unwrap()).await.unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let volumes = self.volumes();
        if volumes.exists() && self.is_mounted() {
            said("/usr/bin/umount", &[volumes.to_str().unwrap()]);
        }
        said("/usr/sbin/losetup", &["--detach", &self.device]);
    }
}

pub fn lun() -> DataDisk {
    serde_json::from_value(serde_json::json!({ "lun": 0 })).unwrap()
}
