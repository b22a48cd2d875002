//! The VM image on a disk, from firmware to an answer, under qemu: `make image-test`. Without KVM it takes minutes, and is no part of CI;
//! `whole_vm.rs` tells the same story in a container.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use landfall_tests::life::{Guest as _, Life, settings};
use landfall_tests::qemu::{OPERATOR, Qemu};
use landfall_tests::world::{VAULT, World};
use serde_json::json;

const PATIENCE: Duration = Duration::from_mins(20);

#[test]
#[ignore = "needs the image and a network of its own: `make image-test`"]
fn an_image_boots_serves_and_does_so_again_after_a_power_cut() -> Result<()> {
    let image = PathBuf::from(
        std::env::var_os("LANDFALL_IMAGE_FILE").context("`LANDFALL_IMAGE_FILE` is not set; next: `make image-test`")?,
    );
    let directory = tempfile::Builder::new().prefix("landfall-world-").tempdir_in("/var/tmp")?;
    let key = directory.path().join("key");
    let public = Qemu::key(&key)?;
    let life = Life::begin(directory.path(), PATIENCE, |world| {
        let seed = [("user-data", user_data(world, &public)?), ("meta-data", "instance-id: image-test\n".to_owned())];
        Qemu::create(&directory.path().join("qemu"), &image, &seed, &key)
    })?;
    life.tell(|story| {
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

fn timed(what: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    body()?;
    println!("{what}: {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn user_data(world: &World, key: &str) -> Result<String> {
    let file = |path: &str, content: String| json!({ "path": path, "content": content });
    let docker = json!({ "live-restore": true, "insecure-registries": [world.registry.address()] });
    let data = json!({
        "users": [{ "name": OPERATOR, "ssh_authorized_keys": [key], "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash" }],
        "bootcmd": [format!("grep -q vault.azure.net /etc/hosts || echo {VAULT} kv.vault.azure.net >>/etc/hosts")],
        "ca_certs": { "trusted": [std::fs::read_to_string(world.sandbox.ca_file())?] },
        "write_files": [
            file("/etc/landfall/landfall.yaml", settings(world, "off").to_string()),
            file("/etc/docker/daemon.json", docker.to_string()),
        ],
    });
    Ok(format!("#cloud-config\n{data}"))
}
