//! The sandbox as a process: its doors, its world, its socket. `bin/sandbox.rs` is its main.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};

use super::certificates::{Authority, Certificate};
use super::control::{self, Command, Reply};
use super::door::{Door, lock, now_ms};
use super::fault::Service;
use super::world::World;

/// What clients are to trust, in the sandbox's directory.
pub const CA: &str = "ca.pem";

/// Serves until it is killed: IMDS and each vault at its address, the socket last, so that all is there once it answers.
pub fn run(directory: &Path, imds: SocketAddr, vaults: &[(String, SocketAddr)]) -> Result<()> {
    let authority = Authority::new()?;
    std::fs::write(directory.join(CA), authority.pem())?;
    let names: Vec<String> = vaults.iter().map(|(name, _)| name.clone()).collect();
    let world = Arc::new(Mutex::new(World::new(&names)));
    let mut doors = vec![Door::new(Service::Imds, imds, &world)];
    for (name, address) in vaults {
        let door = Door::new(Service::vault(name), *address, &world);
        door.set_tls(authority.server(name, Certificate::Right)?);
        doors.push(door);
    }
    for door in &doors {
        door.open()?;
    }
    let find = |service: &Service| {
        doors.iter().find(|door| door.service() == service).with_context(|| format!("there is no {service:?}"))
    };
    control::serve(directory, |command| match command {
        Command::Refuse { service } => find(&service)?.close().map(|()| Reply::Done),
        Command::Listen { service } => find(&service)?.open().map(|()| Reply::Done),
        Command::SetCertificate { vault, certificate } => {
            find(&Service::vault(&vault))?.set_tls(authority.server(&vault, certificate)?);
            Ok(Reply::Done)
        }
        other => lock(&world).obey(other, now_ms()),
    })
}
