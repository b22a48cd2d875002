//! What a test tells a whole VM and the world around it, and how both are judged: users ask from outside, and the machine is asked
//! what an operator would ask.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEntry;
use serde_json::json;

use crate::project::Project;
use crate::ran::Ran;
use crate::sandbox::vault::Grant;
use crate::wait::eventually;
use crate::world::World;
use crate::{prober, programs};

/// The app, which is the Compose project.
pub const APP: &str = "web";
/// The person who may log in, and may become root.
pub const ADMIN: &str = "ops";
/// A public key whose other half nobody has.
pub const NOBODYS_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE ops@acme.example";
/// Where the app answers on the machine.
pub const PORT: u16 = 8080;

/// A machine that can be switched on, and its power cut.
pub trait Guest {
    /// Switches it on. Does not wait for anything to answer.
    fn power_on(&mut self) -> Result<()>;
    /// Nothing on it hears of that.
    fn cut_power(&mut self) -> Result<()>;
    /// Runs a program on it as root.
    fn run(&self, words: &[&str]) -> Result<Ran>;
    /// The end of what is on its console.
    fn console(&self) -> String;
    /// Where the app answers, from outside.
    fn url(&self) -> String;
}

/// A machine and all that it needs, in the order in which they may go.
#[derive(Debug)]
pub struct Life<G> {
    /// The machine.
    pub guest: G,
    /// What CI publishes: the fixture `secrets`.
    pub project: Project,
    /// What is outside.
    pub world: World,
    /// How long anything may take on this kind of machine, a boot and a first pull included.
    pub patience: Duration,
}

impl<G: Guest> Life<G> {
    /// The world with its secrets and the project, and in it the machine that `guest` makes.
    pub fn begin(directory: &Path, patience: Duration, guest: impl FnOnce(&World) -> Result<G>) -> Result<Self> {
        let world = World::create(directory)?;
        world.sandbox.grant("kv", "system", Grant::GET)?;
        world.sandbox.set_secret("kv", "api-key", "first")?;
        world.sandbox.set_secret("kv", "store-key", "unchanged")?;
        let project = Project::create(&directory.join("project"), "secrets", APP, &world.registry)?;
        // Users are outside.
        project.edit("compose.yaml", "127.0.0.1:${PORT}:80", "${PORT}:80")?;
        Ok(Self { guest: guest(&world)?, project, world, patience })
    }

    /// Publishes that version as CI does.
    pub fn publish(&self, version: &str) -> Result<()> {
        self.project.set_version(&self.world.registry, version, &[])?;
        let mut command = Command::new(programs::find("landfall")?);
        command.args(["publish", "--plain-http", &channel(&self.world), "--file"]);
        let ran = Ran::of(command.arg(self.project.compose_file()))?;
        ensure!(ran.code == 0, "`landfall publish` ended with {}: {}", ran.code, ran.stderr);
        Ok(())
    }

    /// Waits until users are answered by that version.
    pub fn serves(&self, version: &str) -> Result<()> {
        eventually(self.patience, &format!("{version} answers"), || {
            let served = prober::ask(&self.guest.url()).map_err(anyhow::Error::msg)?;
            ensure!(served.version == version, "{} answers", served.version);
            Ok(())
        })
    }

    /// A power cut, and power again.
    pub fn cut_power_and_boot(&mut self) -> Result<()> {
        self.guest.cut_power()?;
        self.guest.power_on()
    }

    /// Waits until the operator's screen has these words.
    pub fn says(&self, words: &str) -> Result<()> {
        eventually(self.patience, &format!("`landfall status` says `{words}`"), || {
            let ran = self.guest.run(&["landfall", "status"])?;
            ensure!(ran.stdout.contains(words), "{}{}", ran.stdout, ran.stderr);
            Ok(())
        })
    }

    /// The stdout of a program that is to end well.
    pub fn told(&self, words: &[&str]) -> Result<String> {
        let ran = self.guest.run(words)?;
        ensure!(ran.code == 0, "`{}` ended with {}: {}{}", words.join(" "), ran.code, ran.stdout, ran.stderr);
        Ok(ran.stdout)
    }

    /// What `landfall history` says, oldest first.
    pub fn history(&self) -> Result<Vec<HistoryEntry>> {
        let text = self.told(&["landfall", "history", APP, "--json", "--last", "1000"])?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// By service: the id of its container, and when it was started.
    pub fn started(&self) -> Result<BTreeMap<String, (String, jiff::Timestamp)>> {
        let ids = self.told(&["docker", "ps", "--quiet", "--no-trunc"])?;
        let words: Vec<&str> = ["docker", "inspect"].into_iter().chain(ids.lines()).collect();
        let containers: Vec<serde_json::Value> = serde_json::from_str(&self.told(&words)?)?;
        let of = |container: &serde_json::Value| {
            let text = |pointer: &str| container.pointer(pointer)?.as_str().map(str::to_owned);
            let service = text("/Config/Labels/com.docker.compose.service")?;
            Some((service, (text("/Id")?, text("/State/StartedAt")?.parse().ok()?)))
        };
        containers.iter().map(|container| of(container).with_context(|| container.to_string())).collect()
    }

    /// The containers of `before` run, started in the order of what they depend on.
    pub fn runs_as_before(&self, before: &BTreeMap<String, (String, jiff::Timestamp)>) -> Result<()> {
        let after = self.started()?;
        let ids = |of: &BTreeMap<String, (String, jiff::Timestamp)>| {
            of.values().map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        ensure!(ids(before) == ids(&after), "other containers: {before:?}, {after:?}");
        let at =
            |service: &str| after.get(service).map(|(_, at)| *at).with_context(|| format!("`{service}` does not run"));
        ensure!(at("store")? < at("api")? && at("api")? < at("proxy")?, "out of order: {after:?}");
        Ok(())
    }

    /// cloud-init has done all that its seed says.
    pub fn cloud_init_is_done(&self) -> Result<()> {
        let ran = self.guest.run(&["cloud-init", "status", "--wait", "--format", "json"])?;
        let status: serde_json::Value = serde_json::from_str(&ran.stdout).with_context(|| ran.stderr.clone())?;
        ensure!(status["status"] == "done" && status["errors"] == json!([]), "cloud-init: {status}");
        Ok(())
    }

    /// Runs `body`; where it fails, tells what the machine said.
    pub fn tell(mut self, body: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let done = body(&mut self);
        if done.is_err() {
            eprintln!("--- console\n{}", self.guest.console());
            for words in [
                "landfall status",
                "cloud-init status --long",
                "systemctl list-units --failed --no-pager",
                "journalctl -b --no-pager -n 80 -u landfall* -u docker -u cloud-init*",
            ] {
                let ran = self.guest.run(&words.split(' ').collect::<Vec<_>>());
                eprintln!(
                    "--- {words}\n{}",
                    ran.map_or_else(|error| error.to_string(), |ran| ran.stdout + &ran.stderr)
                );
            }
        }
        done
    }
}

/// The channel in that world's registry.
pub fn channel(world: &World) -> String {
    format!("{}/deploy/{APP}:staging", world.registry.address())
}

/// The user-data that `landfall init --cloud-init` makes for a machine in that world; `directory` is for the values, `key` is whose
/// owner may log in as [`ADMIN`], and `more` is what its role has beside, or otherwise: an object.
pub fn user_data(world: &World, directory: &Path, key: &str, more: &serde_json::Value) -> Result<String> {
    let mut values = json!({
        "app": APP,
        "admins": { ADMIN: [key] },
        "roles": { "staging": {
            "channel": channel(world),
            "vault": "https://kv.vault.azure.net",
            "allow": ["*"],
            "vars": { "PORT": PORT.to_string() },
        } },
    });
    for (key, value) in more.as_object().context("no object")? {
        values["roles"]["staging"][key] = value.clone();
    }
    let file = directory.join("values.yaml");
    std::fs::write(&file, values.to_string())?;
    let mut command = Command::new(programs::find("landfall")?);
    let ran = Ran::of(command.args(["init", "--cloud-init", "staging", "--values"]).arg(file))?;
    ensure!(ran.code == 0, "`landfall init --cloud-init` ended with {}: {}", ran.code, ran.stderr);
    Ok(ran.stdout)
}

/// What a test wants otherwise than such a machine: its registry has no TLS, and nobody waits for a poll; `cache` is the vault's.
pub fn drop_in(world: &World, cache: &str) -> serde_json::Value {
    json!({
        "vaults": { "default": { "refresh": "1s", "cache": cache } },
        "registries": { world.registry.address(): { "plain_http": true } },
        "apps": { APP: { "poll": "1s" } },
    })
}
