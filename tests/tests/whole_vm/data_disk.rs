//! The disk that volumes lie on, over the lives of two machines: blank at the first boot, there after a power cut, grown, absent and back,
//! moved to a machine that has never seen it, and never mistaken for somebody else's.

use anyhow::{Context as _, Result, ensure};
use landfall_tests::data_disk::DataDisk;
use landfall_tests::life::{Guest as _, Life};
use landfall_tests::machine::Machine;
use landfall_tests::wait::eventually;

use super::{PATIENCE, Place};

const VOLUMES: &str = "/var/lib/docker/volumes";
/// The volume of the sample's store.
const VOLUME: &str = "/var/lib/docker/volumes/web_data/_data";

#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn volumes_outlive_power_cuts_and_the_machine() -> Result<()> {
    let disk = DataDisk::blank()?;
    let (place, second) = (Place::with_data_disk("data-1")?, Place::with_data_disk("data-2")?);
    place.life(Vec::new())?.tell(|story| {
        story.publish("v1")?;
        boot_with(story, &disk)?;
        story.serves("v1")?;
        is_mounted(story, &disk)?;
        ensure!(unit_said(story)?.contains("was blank and is formatted"), "{}", unit_said(story)?);
        // What the app wrote, and what a person adds.
        story.told(&["test", "-s", &format!("{VOLUME}/schema")])?;
        story.told(&["sh", "-c", &format!("echo kept >{VOLUME}/kept && sync -f {VOLUME}/kept")])?;
        let uuid = uuid(story)?;

        story.guest.cut_power()?;
        boot_with(story, &disk)?;
        story.serves("v1")?;
        has_the_data(story, &disk, &uuid)?;

        story.guest.cut_power()?;
        disk.grow()?;
        boot_with(story, &disk)?;
        story.serves("v1")?;
        is_grown(story)?;
        has_the_data(story, &disk, &uuid)?;

        story.guest.cut_power()?;
        absent_and_back(story, &disk)?;
        has_the_data(story, &disk, &uuid)?;

        story.guest.cut_power()?;
        story.guest = second.machine(&story.world)?;
        boot_with(story, &disk)?;
        story.serves("v1")?;
        ensure!(!unit_said(story)?.contains("formatted"), "{}", unit_said(story)?);
        has_the_data(story, &disk, &uuid)?;

        story.guest.cut_power()?;
        somebody_elses(story, &disk)?;
        has_the_data(story, &disk, &uuid)?;

        volumes_of_the_system_are_moved_over(story, &disk)?;
        has_the_data(story, &disk, &uuid)?;

        story.guest.cut_power()?;
        a_person_accepts_a_blank_one(story, &uuid)
    })
}

/// Its LUN is there soon after the power, as on a machine whose disks come up by and by.
fn boot_with(story: &mut Life<Machine>, disk: &DataDisk) -> Result<()> {
    story.guest.power_on()?;
    disk.plug_in(&story.guest)
}

fn is_mounted(story: &Life<Machine>, disk: &DataDisk) -> Result<()> {
    let mounts = story.told(&["findmnt", "--noheadings", "--output", "TARGET", "--source", disk.device()])?;
    ensure!(mounts.trim() == VOLUMES, "mounted at: {mounts}");
    let (grade, seen) = verified(story)?;
    ensure!(grade == "pass" || (!may_grow(story)? && grade == "warn"), "`landfall verify` says {grade}: {seen}");
    Ok(())
}

fn has_the_data(story: &Life<Machine>, disk: &DataDisk, before: &str) -> Result<()> {
    is_mounted(story, disk)?;
    ensure!(uuid(story)? == before, "another file system");
    let kept = story.told(&["cat", &format!("{VOLUME}/kept")])?;
    ensure!(kept == "kept\n", "{kept}");
    Ok(())
}

/// Whether a machine's kernel lets it grow what is mounted: `CAP_SYS_RESOURCE`, which a container may not have.
fn may_grow(story: &Life<Machine>) -> Result<bool> {
    let status = story.told(&["cat", "/proc/self/status"])?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no capabilities")?;
    Ok(u64::from_str_radix(set.trim(), 16)? >> 24 & 1 == 1)
}

fn is_grown(story: &Life<Machine>) -> Result<()> {
    let (said, (grade, seen)) = (unit_said(story)?, verified(story)?);
    if may_grow(story)? {
        ensure!(said.contains("grown by 51") && grade == "pass", "{said}; {grade}: {seen}");
    } else {
        ensure!(said.contains("does not grow") && said.contains("Permission denied"), "{said}");
        ensure!(grade == "warn" && seen.contains("of the disk are not used"), "{grade}: {seen}");
    }
    Ok(())
}

/// The machine is up and says what is missing; the containers come back with the disk, and nobody types anything.
fn absent_and_back(story: &mut Life<Machine>, disk: &DataDisk) -> Result<()> {
    story.guest.power_on()?;
    story.says("data disk: LUN 0 is not there")?;
    ensure!(verified(story)?.0 == "fail", "{:?}", verified(story)?);
    story.told(&["systemctl", "is-active", "ssh", "landfall-agent", "landfall-image-watcher"])?;
    let docker = story.guest.run(&["systemctl", "is-active", "docker"])?;
    ensure!(docker.stdout.trim() != "active", "Docker is {}", docker.stdout);
    let inside = story.told(&["ls", "-A", VOLUMES])?;
    ensure!(inside.is_empty(), "something began on the system's disk: {inside}");
    let event = "MESSAGE_ID=9e27b0c4d51f4a38b6c07d2e8f41a953";
    let entries = story.told(&["journalctl", "-b", "--quiet", "--output", "cat", event])?;
    ensure!(entries.lines().count() == 1, "the journal hears of it once: {entries}");
    disk.plug_in(&story.guest)?;
    story.serves("v1")
}

/// Untouched, byte for byte; with the right disk in its place Docker starts.
fn somebody_elses(story: &mut Life<Machine>, disk: &DataDisk) -> Result<()> {
    let photos = DataDisk::of_somebody()?;
    let before = photos.bytes()?;
    boot_with(story, &photos)?;
    story.says("stays as it is")?;
    let docker = story.guest.run(&["systemctl", "is-active", "docker"])?;
    ensure!(docker.stdout.trim() != "active", "Docker is {}", docker.stdout);
    ensure!(photos.bytes()? == before, "it was written to");
    disk.plug_in(&story.guest)?;
    story.told(&["landfall", "host", "disk"])?;
    docker_is_started(story)?;
    story.serves("v1")
}

/// As docs/operations.md has it.
fn volumes_of_the_system_are_moved_over(story: &Life<Machine>, disk: &DataDisk) -> Result<()> {
    typed(story, "systemctl mask --now landfall-agent")?;
    typed(story, "docker compose -p web down")?;
    typed(story, "systemctl stop docker.socket docker")?;
    typed(story, &format!("umount {VOLUMES}"))?;
    // Each start of Docker looks.
    typed(story, "systemctl start docker")?;
    is_mounted(story, disk)?;
    typed(story, "systemctl stop docker.socket docker")?;
    typed(story, &format!("umount {VOLUMES}"))?;
    typed(story, &format!("mkdir {VOLUMES}/older"))?;
    let hidden = story.guest.run(&["landfall", "host", "disk"])?;
    ensure!(hidden.code == 1 && hidden.stderr.contains("would hide"), "{}{}", hidden.stdout, hidden.stderr);
    typed(story, "mv /var/lib/docker/volumes /var/lib/docker/volumes.old")?;
    typed(story, "sudo landfall host disk")?;
    typed(story, "cp -a /var/lib/docker/volumes.old/. /var/lib/docker/volumes/")?;
    typed(story, "systemctl start docker")?;
    typed(story, "systemctl unmask landfall-agent")?;
    typed(story, "systemctl start landfall-agent")?;
    story.serves("v1")?;
    let mounted = story.told(&["findmnt", "--noheadings", "--output", "SOURCE", VOLUMES])?;
    ensure!(mounted.trim() == disk.device(), "{mounted}");
    story.told(&["test", "-d", &format!("{VOLUMES}/older")]).map(drop)
}

/// A machine that had a disk begins with an empty one only by a person's word.
fn a_person_accepts_a_blank_one(story: &mut Life<Machine>, before: &str) -> Result<()> {
    let blank = DataDisk::blank()?;
    boot_with(story, &blank)?;
    story.says("is blank, and this machine's has UUID")?;
    ensure!(blank.bytes()?.iter().all(|byte| *byte == 0), "it was written to");
    typed(story, "sudo landfall host disk --accept")?;
    typed(story, "journalctl -u landfall-data-disk -n 50")?;
    docker_is_started(story)?;
    is_mounted(story, &blank)?;
    ensure!(uuid(story)? != before, "the same file system");
    // It goes when this ends.
    story.guest.cut_power()
}

/// systemd refuses for some seconds what failed several times in a row.
fn docker_is_started(story: &Life<Machine>) -> Result<()> {
    eventually(PATIENCE, "Docker starts", || typed(story, "systemctl start docker"))
}

/// What a person types ends well.
fn typed(story: &Life<Machine>, command: &str) -> Result<()> {
    story.told(&command.split(' ').collect::<Vec<_>>()).map(drop)
}

fn uuid(story: &Life<Machine>) -> Result<String> {
    let record: serde_json::Value =
        serde_json::from_str(&story.told(&["cat", "/var/lib/landfall/host/data-disk.json"])?)?;
    Ok(record["uuid"].as_str().context("no UUID is remembered")?.to_owned())
}

fn unit_said(story: &Life<Machine>) -> Result<String> {
    story.told(&["journalctl", "-b", "--output", "cat", "--unit", "landfall-data-disk"])
}

/// The grade and the words of verify's line.
fn verified(story: &Life<Machine>) -> Result<(String, String)> {
    let ran = story.guest.run(&["landfall", "verify", "--json"])?;
    let line = ran.stdout.lines().find(|line| line.contains("\"check\":\"data-disk\"")).context(ran.stdout.clone())?;
    let line: serde_json::Value = serde_json::from_str(line)?;
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    Ok((text("result"), text("seen")))
}
