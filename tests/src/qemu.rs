//! A VM of the image on a disk, under qemu: firmware, loader, kernel, a clock and a network of its own. Without KVM a second there is
//! many here. It meets the world as [`crate::machine`] does, through qemu's own translation of addresses: who calls is in the
//! network namespace of [`crate::world`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::life::{ADMIN, Guest, PORT};
use crate::process::{Lifetime, Process, tail};
use crate::ran::Ran;

/// Emulated, for a `/dev/kvm` that is there need not work. Without the features that are left out the emulation of qemu 7.2 is wrong now and
/// then: a kernel that allocates by `cmpxchg16b` gets flags that are none, and panics.
const MACHINE: [&str; 4] = ["-machine", "q35,accel=tcg", "-cpu", "qemu64,-cx16,-svm"];
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// In MiB.
const MEMORY: &str = "2048";
const DISK: &str = "8G";
const SSH: &str = "2222";
/// In lines.
const CONSOLE: usize = 60;

/// A VM. Dropping it ends it; its disks are in its directory.
#[derive(Debug)]
pub struct Qemu {
    directory: PathBuf,
    key: PathBuf,
    clock: Clock,
    data_disk: Option<PathBuf>,
    process: Option<Process>,
}

/// Where a machine has the disk of [`Qemu::attach`].
pub const DATA_DISK: &str = "/dev/disk/by-id/virtio-volumes";

/// What a machine's clock says when it is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// What it is.
    Right,
    /// That, and so many days more or less.
    Days(i64),
}

impl Qemu {
    /// A blank one of the image, switched off; users reach the app at the loopback. `key` is the file of [`Self::key`].
    pub fn create(directory: &Path, image: &Path, seed: &[(&str, String)], key: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let at = |name: &str| directory.join(name);
        done(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(image)
                .arg(at("disk"))
                .arg(DISK),
        )?;
        std::fs::copy(VARIABLES, at("variables"))?;
        done(Command::new("mkfs.vfat").args(["-n", "CIDATA", "-C"]).arg(at("seed")).arg("1024"))?;
        for (name, text) in seed {
            std::fs::write(at(name), text)?;
            done(Command::new("mcopy").arg("-i").arg(at("seed")).arg(at(name)).arg("::"))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            key: key.to_owned(),
            clock: Clock::Right,
            data_disk: None,
            process: None,
        })
    }

    /// What its clock says the next time that it is switched on.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// A second disk, which is in that file, from the next time on that it is switched on.
    pub fn attach(&mut self, file: &Path) {
        self.data_disk = Some(file.to_owned());
    }

    /// Makes the pair of keys that an operator logs in with, in that file, and says the public one.
    pub fn key(file: &Path) -> Result<String> {
        done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file))?;
        Ok(std::fs::read_to_string(file.with_extension("pub"))?.trim().to_owned())
    }
}

impl Guest for Qemu {
    fn power_on(&mut self) -> Result<()> {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(MACHINE).args(["-smp", "1", "-m", MEMORY, "-display", "none"]);
        if let Clock::Days(days) = self.clock {
            let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
            command.args(["-rtc", &format!("base={}", time.strftime("%Y-%m-%dT%H:%M:%S"))]);
        }
        for drive in [
            format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"),
            format!("if=pflash,format=raw,file={}", at("variables")),
            format!("if=virtio,format=qcow2,cache=writeback,file={}", at("disk")),
            format!("if=virtio,format=raw,readonly=on,file={}", at("seed")),
        ] {
            command.arg("-drive").arg(drive);
        }
        if let Some(file) = &self.data_disk {
            command.arg("-drive").arg(format!("if=none,id=volumes,format=raw,cache=writeback,file={}", file.display()));
            command.args(["-device", "virtio-blk-pci,drive=volumes,serial=volumes"]);
        }
        let forward = format!("user,id=cable,hostfwd=tcp:127.0.0.1:{PORT}-:{PORT},hostfwd=tcp:127.0.0.1:{SSH}-:22");
        command.args(["-netdev", &forward, "-device", "virtio-net-pci,netdev=cable", "-device", "virtio-rng-pci"]);
        command.arg("-serial").arg(format!("file:{}", at("console")));
        self.process = Some(Process::start("qemu", &self.directory, command, Lifetime::Test)?);
        Ok(())
    }

    /// kill -9 of qemu.
    fn cut_power(&mut self) -> Result<()> {
        self.process.take().context("it is switched off")?.kill()
    }

    /// By ssh, with the key of [`Qemu::key`].
    fn run(&self, words: &[&str]) -> Result<Ran> {
        let mut command = Command::new("ssh");
        command.args([
            "-q",
            "-p",
            SSH,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ConnectTimeout=20",
        ]);
        command.arg("-i").arg(&self.key).arg(format!("{ADMIN}@127.0.0.1")).arg("sudo").args(words);
        Ran::of(&mut command)
    }

    fn console(&self) -> String {
        tail(&self.directory.join("console"), CONSOLE)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{PORT}/")
    }
}

fn done(command: &mut Command) -> Result<()> {
    let ran = Ran::of(command)?;
    ensure!(ran.code == 0, "{command:?} ended with {}: {}", ran.code, ran.stderr.trim());
    Ok(())
}
