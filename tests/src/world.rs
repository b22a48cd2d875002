//! The rest of the world, as a machine of the tests finds it at the other end of its cable: the registry, Azure's metadata service, vaults,
//! and the users who ask. It is the network namespace of this process, which must be its own (`tools/test-vm.sh` makes it): nothing here is
//! in reach of anybody else. Several machines hang at one switch.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::process::Lifetime;
use crate::ran::Ran;
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::wait::eventually;

/// Where the machine is; where there are several, the first.
pub const MACHINE: &str = "10.0.0.4";
/// What they take for their way out.
const GATEWAY: &str = "10.0.0.1";
const REGISTRY: &str = "10.0.1.1:5000";
/// Where a vault's name leads.
pub const VAULT: &str = "10.0.1.2";
const SWITCH: &str = "switch";
/// Before the last number of an address, of machines and of the switch: it would take another with each cable, and udev gives the same to
/// all machines that are made of one image.
const HARDWARE: &str = "02:00:0a:00:00:";
/// Before the last number of its machine's address.
const CABLE: &str = "cable-";
/// How long a machine without power keeps its end of the cable.
const GONE: Duration = Duration::from_secs(20);
const IMDS: &str = "169.254.169.254";

/// The services of the world.
#[derive(Debug)]
pub struct World {
    /// At an address that is nobody's loopback, so without TLS only where the settings say so.
    pub registry: Registry,
    /// One vault, `https://kv.vault.azure.net`.
    pub sandbox: Sandbox,
}

impl World {
    /// Starts them, with their data below `directory`.
    pub fn create(directory: &Path) -> Result<Self> {
        let others: Vec<String> = interfaces()?
            .into_iter()
            .filter(|name| name != "lo" && name != SWITCH && !name.starts_with(CABLE))
            .collect();
        ensure!(others.is_empty(), "this network has {others:?}: it is not this test's own; next: `make test-vm`");
        ip("link set lo up")?;
        for address in [REGISTRY.split(':').next().unwrap_or(REGISTRY), VAULT, IMDS] {
            ip(&format!("address replace {address}/32 dev lo"))?;
        }
        let registry = Registry::start_at(&directory.join("registry"), REGISTRY.to_owned(), Lifetime::Test)?;
        let sandbox = directory.join("sandbox");
        std::fs::create_dir_all(&sandbox)?;
        let vaults = [("kv", format!("{VAULT}:443"))];
        Ok(Self { registry, sandbox: Sandbox::start_at(&sandbox, &format!("{IMDS}:80"), &vaults)? })
    }
}

/// Connects the machine with this process in it, at that address. A cable goes with its machine's power.
pub fn plug_in(process: u32, address: &str) -> Result<()> {
    let number = address.rsplit('.').next().unwrap_or(address);
    let cable = format!("{CABLE}{number}");
    eventually(GONE, "the last machine's cable is gone", || {
        ensure!(!interfaces()?.contains(&cable), "it is there");
        Ok(())
    })?;
    if !interfaces()?.iter().any(|name| name == SWITCH) {
        ip(&format!("link add {SWITCH} address {HARDWARE}01 type bridge"))?;
        ip(&format!("address add {GATEWAY}/24 dev {SWITCH}"))?;
        ip(&format!("link set {SWITCH} up"))?;
    }
    ip(&format!("link add {cable} type veth peer name far address {HARDWARE}{number:0>2}"))?;
    ip(&format!("link set far netns {process}"))?;
    ip(&format!("link set {cable} master {SWITCH} up"))?;
    for line in [
        "link set far name eth0",
        &format!("address add {address}/24 dev eth0"),
        "link set eth0 up",
        &format!("route add default via {GATEWAY}"),
    ] {
        let mut command = Command::new("nsenter");
        run(command.args(["--target", &process.to_string(), "--net", "ip"]).args(line.split(' ')))?;
    }
    Ok(())
}

fn interfaces() -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
}

fn ip(line: &str) -> Result<()> {
    run(Command::new("ip").args(line.split(' ')))
}

fn run(command: &mut Command) -> Result<()> {
    let ran = Ran::of(command)?;
    ensure!(ran.code == 0, "{command:?} ended with {}: {}", ran.code, ran.stderr.trim());
    Ok(())
}
