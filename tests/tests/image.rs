//! The VM image on a disk, from firmware to an answer, under qemu: `make image-test`. Without KVM it takes minutes, and is no part of CI;
//! `whole_vm.rs` tells more in a container, which has no clock of its own and no firmware.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_tests::life::{Guest as _, Life, drop_in, user_data};
use landfall_tests::qemu::{Clock, DATA_DISK, Qemu};
use landfall_tests::world::{VAULT, World};
use serde_json::json;

const PATIENCE: Duration = Duration::from_mins(20);
/// What the image says of dockerd.
const DOCKER: &str = include_str!("../../packaging/image/root/etc/docker/daemon.json");
const YEAR: i64 = 365;
const GIB: u64 = 1 << 30;
/// In the volume of the sample's store.
const KEPT: &str = "/var/lib/docker/volumes/web_data/_data/kept";

/// What all machines of a test have.
struct Place {
    directory: tempfile::TempDir,
    image: PathBuf,
    /// What its role has beside.
    role: serde_json::Value,
}

impl Place {
    fn new() -> Result<Self> {
        let image = std::env::var_os("LANDFALL_IMAGE_FILE")
            .context("`LANDFALL_IMAGE_FILE` is not set; next: `make image-test`")?;
        let directory = tempfile::Builder::new().prefix("landfall-world-").tempdir_in("/var/tmp")?;
        Ok(Self { directory, image: image.into(), role: json!({}) })
    }

    /// A blank machine, switched off, in a world.
    fn life(&self, cache: &str) -> Result<Life<Qemu>> {
        let life = Life::begin(self.path(), PATIENCE, |world| self.machine("first", world, cache))?;
        // A check starts a process, and this processor is slow.
        for (quick, slow) in [("interval: 1s", "interval: 5s"), ("timeout: 1s", "timeout: 30s")] {
            life.project.edit("compose.yaml", quick, slow)?;
        }
        Ok(life)
    }

    fn machine(&self, name: &str, world: &World, cache: &str) -> Result<Qemu> {
        let key = self.path().join(format!("{name}-key"));
        let public = Qemu::key(&key)?;
        let seed = [
            ("user-data", user_data(world, self.path(), &public, &self.role)?),
            ("vendor-data", vendor_data(world, cache)?),
            ("meta-data", format!("instance-id: {name}\n")),
        ];
        Qemu::create(&self.path().join(name), &self.image, &seed, &key)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

#[test]
#[ignore = "needs the image and a network of its own: `make image-test`"]
fn an_image_boots_serves_and_does_so_again_after_a_power_cut() -> Result<()> {
    Place::new()?.life("off")?.tell(|story| {
        story.publish("v1")?;
        timed("from power to the first answer of a blank machine", || {
            story.guest.power_on()?;
            story.serves("v1")
        })?;
        story.cloud_init_is_done()?;
        let before = story.started()?;
        timed("from power to the first answer after a power cut", || {
            story.cut_power_and_boot()?;
            story.serves("v1")
        })?;
        story.runs_as_before(&before)?;
        timed("from publishing to its answer", || {
            story.publish("v2")?;
            story.serves("v2")
        })
    })
}

/// The second machine is as blank as the first one was; what it has of it is the disk.
#[test]
#[ignore = "needs the image and a network of its own: `make image-test`"]
fn a_machine_that_is_replaced_finds_its_data_on_the_old_disk() -> Result<()> {
    let place = Place { role: json!({ "data_disk": { "path": DATA_DISK } }), ..Place::new()? };
    let disk = place.path().join("volumes");
    File::create(&disk)?.set_len(GIB)?;
    place.life("off")?.tell(|story| {
        story.publish("v1")?;
        story.guest.attach(&disk);
        timed("from power to the first answer of a blank machine with a blank data disk", || {
            story.guest.power_on()?;
            story.serves("v1")
        })?;
        the_disk_was(story, "was blank and is formatted")?;
        story.told(&["sh", "-c", &format!("'echo kept >{KEPT} && sync -f {KEPT}'")])?;
        story.guest.cut_power()?;
        story.guest = place.machine("second", &story.world, "off")?;
        story.guest.attach(&disk);
        timed("from power to the first answer of the machine in its place", || {
            story.guest.power_on()?;
            story.serves("v1")
        })?;
        the_disk_was(story, "mounted at")?;
        let kept = story.told(&["cat", KEPT])?;
        ensure!(kept == "kept\n", "{kept}");
        Ok(())
    })
}

/// By its unit, in this boot.
fn the_disk_was(story: &Life<Qemu>, how: &str) -> Result<()> {
    let said = story.told(&["journalctl", "-b", "--output", "cat", "--unit", "landfall-data-disk"])?;
    let formatted = "formatted";
    ensure!(said.contains(how) && said.contains(formatted) == how.contains(formatted), "{said}");
    Ok(())
}

/// The system takes it for no earlier than it was built, which is too early for what the world shows.
#[test]
#[ignore = "needs the image and a network of its own: `make image-test`"]
fn a_clock_that_is_a_year_behind_is_told_and_once_right_all_goes_on() -> Result<()> {
    Place::new()?.life("on")?.tell(|story| {
        story.publish("v1")?;
        story.guest.set_clock(Clock::Days(-YEAR));
        story.guest.power_on()?;
        the_clock_is_told(story, "certificate not valid yet")?;
        set_right(story)?;
        story.serves("v1")?;
        // What is sealed is a year too old, and the vault is not believed.
        story.guest.set_clock(Clock::Days(YEAR));
        story.cut_power_and_boot()?;
        the_clock_is_told(story, "certificate expired")?;
        set_right(story)?;
        story.serves("v1")
    })
}

/// What needs no secret is there, and people hear why the rest is not.
fn the_clock_is_told(story: &Life<Qemu>, why: &str) -> Result<()> {
    story.says(why)?;
    story.says("whether the clock of this machine is right")?;
    let verified = story.guest.run(&["landfall", "verify"])?;
    ensure!(verified.stdout.contains("not synchronised"), "`landfall verify` says no word of it: {}", verified.stdout);
    Ok(())
}

/// As the network's time does when it is there again.
fn set_right(story: &Life<Qemu>) -> Result<()> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    story.told(&["date", "--set", &now]).map(drop)
}

fn timed(what: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    body()?;
    println!("{what}: {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// What makes a machine of the image one of the tests, beside the user-data that ships: the world's authority, names and registry.
fn vendor_data(world: &World, cache: &str) -> Result<String> {
    let mut docker: serde_json::Value = serde_json::from_str(DOCKER)?;
    docker["insecure-registries"] = json!([world.registry.address()]);
    let authority = std::fs::read_to_string(world.sandbox.ca_file())?;
    let mut script =
        "#cloud-boothook\n#!/bin/sh\nset -eu\n[ ! -e /etc/landfall/landfall.d/50-test.yaml ] || exit 0\n".to_owned();
    for (sign, path, text) in [
        (">", "/etc/docker/daemon.json", docker.to_string()),
        (">>", "/etc/hosts", format!("{VAULT} kv.vault.azure.net")),
        (">>", "/etc/ssl/certs/ca-certificates.crt", authority),
        (">", "/etc/landfall/landfall.d/50-test.yaml", drop_in(world, cache).to_string()),
    ] {
        script += &format!("mkdir -p \"$(dirname {path})\"\ncat {sign}{path} <<'END'\n{text}\nEND\n");
    }
    Ok(script)
}
