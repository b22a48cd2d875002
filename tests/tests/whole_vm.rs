//! From a blank VM to a served stack with nobody near, and again after what happens to machines: a power cut, a registry or a vault that
//! is down, a full disk, a dockerd that does not come up. `make test-vm` makes what is booted.

#[path = "whole_vm/beside.rs"]
mod beside;
#[path = "whole_vm/data_disk.rs"]
mod data_disk;
#[path = "whole_vm/three.rs"]
mod three;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::life::{Guest as _, Life, NOBODYS_KEY, drop_in, user_data};
use landfall_tests::machine::{Blank, Machine};
use landfall_tests::sandbox::fault::Service;
use landfall_tests::small_disk::SmallDisk;
use landfall_tests::wait::eventually;
use landfall_tests::world::{VAULT, World};
use serde_json::json;

const PATIENCE: Duration = Duration::from_mins(3);
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const DOCKER: &str = "/etc/docker/daemon.json";

/// A blank machine in a world; its parts go after it.
struct Place {
    directory: tempfile::TempDir,
    name: &'static str,
    cache: &'static str,
    /// What its role has beside.
    role: serde_json::Value,
    address: Option<&'static str>,
}

impl Place {
    fn new(name: &'static str, cache: &'static str) -> Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new().prefix("landfall-world-").tempdir()?,
            name,
            cache,
            role: json!({}),
            address: None,
        })
    }

    /// A machine whose user-data asks for a data disk, as `data_disk` of the values makes it.
    fn with_data_disk(name: &'static str) -> Result<Self> {
        Ok(Self { role: json!({ "data_disk": { "lun": 0 } }), ..Self::new(name, "off")? })
    }

    /// One of several machines.
    fn at(name: &'static str, address: &'static str, role: serde_json::Value) -> Result<Self> {
        Ok(Self { role, address: Some(address), ..Self::new(name, "off")? })
    }

    /// `disks` as in [`Blank`].
    fn life(&self, disks: Vec<(&Path, &str)>) -> Result<Life<Machine>> {
        Life::begin(self.directory.path(), PATIENCE, |world| self.machine_with(world, disks))
    }

    /// One more machine of this kind in that world.
    fn machine(&self, world: &World) -> Result<Machine> {
        self.machine_with(world, Vec::new())
    }

    fn machine_with(&self, world: &World, disks: Vec<(&Path, &str)>) -> Result<Machine> {
        let directory = self.directory.path();
        let mut files = equipment();
        files.push(("/etc/landfall/landfall.d/50-test.yaml".to_owned(), drop_in(world, self.cache).to_string()));
        let user_data = user_data(world, directory, NOBODYS_KEY, &self.role)?;
        let seed = [("user-data", user_data), ("meta-data", format!("instance-id: {}\n", self.name))];
        files.extend(seed.map(|(file, text)| (format!("/var/lib/cloud/seed/nocloud/{file}"), text)));
        let blank = Blank { files, disks, address: self.address, hosts: vec![("kv.vault.azure.net", VAULT)] };
        let name = format!("landfall-machine-{}-{}", std::process::id(), self.name);
        let machine = Machine::create(&name, &blank, directory)?;
        self.trust(&machine, world)?;
        Ok(machine)
    }

    /// The machine takes the world's authority, and its registry without TLS.
    fn trust(&self, machine: &Machine, world: &World) -> Result<()> {
        let authorities = machine.read(self.directory.path(), AUTHORITIES)?;
        let ours = std::fs::read_to_string(world.sandbox.ca_file())?;
        self.lay_down(machine, AUTHORITIES, authorities + &ours)?;
        let mut docker: serde_json::Value = serde_json::from_str(&machine.read(self.directory.path(), DOCKER)?)?;
        docker["insecure-registries"] = json!([world.registry.address()]);
        self.lay_down(machine, DOCKER, docker.to_string())
    }

    fn lay_down(&self, machine: &Machine, path: &str, text: String) -> Result<()> {
        machine.lay_down(self.directory.path(), &[(path.to_owned(), text)])
    }
}

/// What makes the image's root file system a machine of the tests.
fn equipment() -> Vec<(String, String)> {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let never = "[Unit]\nConditionPathExists=/nowhere\n";
    vec![
        // The cable is configured from outside.
        file("/etc/cloud/cloud.cfg.d/99-test.cfg", "network: { config: disabled }\n"),
        file("/etc/systemd/system/systemd-networkd.service.d/test.conf", never),
        file("/etc/systemd/system/systemd-networkd-wait-online.service.d/test.conf", never),
    ]
}

#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn a_blank_vm_serves_and_does_so_again_after_what_happens_to_machines() -> Result<()> {
    let place = Place::new("story", "off")?;
    place.life(Vec::new())?.tell(|story| {
        story.publish("v1")?;
        let began = Instant::now();
        story.guest.power_on()?;
        story.serves("v1")?;
        println!("from power to the first answer of a blank machine: {:.1} s", began.elapsed().as_secs_f64());
        story.cloud_init_is_done()?;
        the_machine_is_as_its_seed_says(story)?;
        a_power_cut(story)?;
        let published = Instant::now();
        story.publish("v2")?;
        story.serves("v2")?;
        println!("from publishing to its answer: {:.1} s", published.elapsed().as_secs_f64());
        the_registry_is_down_at_boot(story)?;
        dockerd_does_not_come_up(&place, story)
    })
}

fn the_machine_is_as_its_seed_says(story: &Life<Machine>) -> Result<()> {
    for (words, said) in [
        ("id --name --groups ops", "landfall-operators"),
        ("passwd --status root", "root L"),
        ("sshd -T", "passwordauthentication no"),
        ("apt-config dump APT::Periodic::Unattended-Upgrade", "\"1\""),
        ("apt-config dump Unattended-Upgrade::Package-Blacklist", "\"docker\""),
        // Nothing newer is here.
        ("apt-get install --only-upgrade docker.io containerd runc docker-cli docker-compose", "0 upgraded"),
        ("readlink /etc/systemd/system/swap.target", "/dev/null"),
        ("sudo --user=ops landfall status --json", "\"app\":\"web\""),
    ] {
        let told = story.told(&words.split(' ').collect::<Vec<_>>())?;
        ensure!(told.contains(said), "`{words}` says no `{said}`: {told}");
    }
    let docker = story.told(&["getent", "group", "docker"])?;
    ensure!(docker.trim().ends_with(":landfall-agent"), "others are in group docker: {docker}");
    Ok(())
}

/// The same containers, each after what it depends on, without a registry's help.
fn a_power_cut(story: &mut Life<Machine>) -> Result<()> {
    eventually(PATIENCE, "the rollout has ended", || {
        ensure!(story.history()?.iter().any(|entry| entry.event == HistoryEvent::Live), "it has not");
        Ok(())
    })?;
    let before = story.started()?;
    let seq = story.history()?.last().map_or(0, |entry| entry.seq);
    let began = Instant::now();
    story.cut_power_and_boot()?;
    story.serves("v1")?;
    println!("from power to the first answer after a power cut: {:.1} s", began.elapsed().as_secs_f64());
    eventually(PATIENCE, "the history has the recovery", || {
        let recovered =
            story.history()?.into_iter().filter(|e| e.seq > seq && e.event == HistoryEvent::Recovered).count();
        ensure!(recovered == 1, "{recovered} recoveries");
        Ok(())
    })?;
    story.runs_as_before(&before)
}

fn the_registry_is_down_at_boot(story: &mut Life<Machine>) -> Result<()> {
    story.world.registry.kill()?;
    story.cut_power_and_boot()?;
    story.serves("v2")?;
    story.says("registry")?;
    story.world.registry.resume()
}

fn dockerd_does_not_come_up(place: &Place, story: &mut Life<Machine>) -> Result<()> {
    let good = story.guest.read(place.directory.path(), DOCKER)?;
    story.guest.cut_power()?;
    place.lay_down(&story.guest, DOCKER, "{ this is no JSON".to_owned())?;
    story.guest.power_on()?;
    story.says("Engine")?;
    place.lay_down(&story.guest, DOCKER, good)?;
    story.told(&["systemctl", "restart", "docker"])?;
    story.serves("v2")
}

/// Without what was sealed before, what needs secrets waits for the vault.
#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn a_vault_that_is_down_at_boot_is_waited_for() -> Result<()> {
    Place::new("vault", "off")?.life(Vec::new())?.tell(|story| {
        vault_down_at_boot(story)?;
        story.says("secrets")?;
        story.world.sandbox.listen(&Service::vault("kv"))?;
        story.serves("v1")
    })
}

#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn with_a_cache_nobody_waits_for_a_vault_at_boot() -> Result<()> {
    Place::new("cache", "on")?.life(Vec::new())?.tell(|story| {
        vault_down_at_boot(story)?;
        story.serves("v1")
    })
}

fn vault_down_at_boot(story: &mut Life<Machine>) -> Result<()> {
    story.publish("v1")?;
    story.guest.power_on()?;
    story.serves("v1")?;
    story.guest.cut_power()?;
    story.world.sandbox.refuse(&Service::vault("kv"))?;
    story.guest.power_on()
}

/// Our own state's disk: what runs needs no room there.
#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn a_disk_that_is_full_at_boot_keeps_nobody_from_serving() -> Result<()> {
    let disk = SmallDisk::create()?;
    let place = Place::new("disk", "off")?;
    place.life(vec![(disk.path(), "/var/lib/landfall")])?.tell(|story| {
        story.publish("v1")?;
        story.guest.power_on()?;
        story.serves("v1")?;
        story.guest.cut_power()?;
        disk.fill()?;
        story.guest.power_on()?;
        story.serves("v1")?;
        story.publish("v2")?;
        story.says("No space left")?;
        disk.make_room()?;
        story.serves("v2")
    })
}
