//! The VM's secrets: a vault beside it, the memory that they lie in, the fetcher.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result};
use landfall_core::layout::CACHE_KEY;
use landfall_core::publish;
use serde_json::json;

use super::Vm;
use crate::sandbox::Sandbox;
use crate::sandbox::vault::Grant;
use crate::{programs, secrets_memory, unit};

impl Vm {
    /// Writes landfall.yaml with these vaults.
    pub fn configure_vaults(&self, vaults: &serde_json::Value) -> Result<()> {
        let apps = json!({ self.app.as_str(): self.app_settings() });
        self.write_settings(&json!({ "apps": apps, "vaults": vaults }).to_string())
    }

    /// Writes landfall.yaml with a vault, and the registry's credential in it as this user's secret.
    pub fn configure_registry_secret(&self, vault_url: &str, username: &str, secret: &str) -> Result<()> {
        let apps = json!({ self.app.as_str(): self.app_settings() });
        let vaults = json!({ "default": { "url": vault_url, "refresh": "1s" } });
        let registries = json!({ self.registry.address(): { "username": username, "secret": secret } });
        self.write_settings(&json!({ "apps": apps, "vaults": vaults, "registries": registries }).to_string())
    }

    /// A vault beside it, with the memory for secrets mounted before, so that both sides see it.
    pub fn sandbox(&self, vault: &str) -> Result<Sandbox> {
        secrets_memory::mount(&self.layout().secrets())?;
        secrets_memory::mount_shared(&self.layout().registry_credentials())?;
        Sandbox::start_in_namespace_for(&self.directory, &[vault], self.lifetime)
    }

    /// A vault beside it with the secrets of the fixture `secrets`, which its identity may read; a release may name these.
    pub fn vault(&self, allow: &[&str]) -> Result<Sandbox> {
        let sandbox = self.sandbox("kv")?;
        sandbox.grant("kv", "system", Grant::GET)?;
        sandbox.set_secret("kv", "api-key", "first")?;
        sandbox.set_secret("kv", "store-key", "unchanged")?;
        let url = sandbox.vault_url("kv")?;
        self.configure_vaults(&json!({ "default": { "url": url, "refresh": "1s", "allow": allow } }))?;
        Ok(sandbox)
    }

    /// Starts the fetcher where [`Self::sandbox`] is.
    pub fn start_fetcher(&mut self, sandbox: &Sandbox) -> Result<()> {
        let name = "landfall-secrets-fetcher";
        let exec = self.layout().exec_program();
        std::fs::create_dir_all(exec.parent().context("no parent")?)?;
        std::fs::copy(programs::exec()?, &exec)?;
        let program = programs::find(name)?;
        let network = sandbox.network();
        let mut command = if unit::shipped().is_some() { Command::new(program) } else { sandbox.inside(&program)? };
        command.arg("--root").arg(self.root()).env("SSL_CERT_FILE", sandbox.ca_file());
        command.env("CREDENTIALS_DIRECTORY", self.directory.join("credentials"));
        self.fetcher = Some(self.daemon(name, command, Some(&network))?);
        Ok(())
    }

    /// The fetcher's process id.
    pub fn fetcher_id(&self) -> Result<u32> {
        self.fetcher.as_ref().context("no fetcher runs")?.id()
    }

    /// The next fetcher has a key for what it seals.
    pub fn give_cache_key(&self) -> Result<()> {
        publish::write(&self.layout().machine_id(), b"3d1219c7c4c5404aaa1f6d2a48adfda4\n", 0o444)?;
        Ok(publish::write(&self.directory.join("credentials").join(CACHE_KEY), &[7; 32], 0o400)?)
    }

    /// kill -9.
    pub fn kill_fetcher(&mut self) -> Result<()> {
        self.fetcher.take().context("no fetcher runs")?.kill()
    }

    /// A power cut of all but the watcher: agent, fetcher and containers die, and nothing is left of the secrets. By service, which
    /// containers served.
    pub fn cut_power(&mut self) -> Result<BTreeMap<String, String>> {
        let served = self.engine.serving_ids(self.app.as_str())?;
        self.kill_agent()?;
        self.kill_fetcher()?;
        served.values().try_for_each(|id| self.engine.kill(id))?;
        self.empty_secrets()?;
        Ok(served)
    }

    fn empty_secrets(&self) -> Result<()> {
        for directory in [self.layout().secrets(), self.layout().secrets_index_dir()] {
            for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
                let path = entry?.path();
                if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
            }
        }
        Ok(())
    }
}
