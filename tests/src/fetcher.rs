//! A secrets-fetcher with a root, a memory and a sandbox of its own: the shipped binary, in a network in which IMDS and the vaults are
//! where they are in Azure. A test plays the agent: it writes what is wanted and reads the index.
//!
//! It needs root, as the sandbox's namespace does. The memory is mounted before the namespace is made, so that both sides see it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::contract::{self, FORMAT, Read, WantedFile};
use landfall_core::ids::{AppName, sha256_hex};
use landfall_core::layout::{CACHE_KEY, Layout};
use landfall_core::machine_secrets::MachineSecretsFile;
use landfall_core::secrets::{NeedAnswer, NeededFile, SecretNeed, SecretsFile};
use landfall_core::{publish, secrets_mount};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use crate::process::{Lifetime, Process};
use crate::programs;
use crate::sandbox::Sandbox;
use crate::wait::eventually;

/// A refresh is a second in the tests; a hang costs some.
const SOON: Duration = Duration::from_secs(20);

/// The fetcher and what is around it.
#[derive(Debug)]
pub struct Fetcher {
    process: Option<Process>,
    /// Key Vault and IMDS.
    pub sandbox: Sandbox,
    /// How much it logs.
    pub level: &'static str,
    memory: [Memory; 2],
    root: TempDir,
    layout: Layout,
}

/// A mount that ends with this.
#[derive(Debug)]
pub struct Memory(PathBuf);

impl Memory {
    /// Mounts memory for secrets there.
    pub fn mount(path: &Path) -> Result<Self> {
        secrets_mount::mount(path)
            .with_context(|| format!("cannot mount `{}`; next: run it as root", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// As [`Self::mount()`], for what a group may read.
    pub fn mount_shared(path: &Path) -> Result<Self> {
        secrets_mount::mount_for(path, secrets_mount::SHARED)
            .with_context(|| format!("cannot mount `{}`; next: run it as root", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A test that failed before may have ended it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Writes what an app wants, as the agent does, with sets that containers shall see: pairs of live directory and set.
pub fn want(layout: &Layout, app: &AppName, needs: &[SecretNeed], live: &[(&str, &str)]) -> Result<()> {
    let request = sha256_hex(format!("{needs:?}").as_bytes());
    let (releases, tags, secrets) = (Vec::new(), BTreeMap::new(), needs.to_vec());
    let live = live.iter().map(|(directory, set)| ((*directory).to_owned(), (*set).to_owned())).collect();
    let file = WantedFile { format: FORMAT, app: app.clone(), releases, poll: 0, tags, secrets, live, request };
    Ok(publish::write_json(&layout.wanted(app), &file)?)
}

impl Fetcher {
    /// With these vaults, all empty and closed to the machine, and these settings; it does not run yet.
    pub fn new(vaults: &[&str], settings: &str) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let layout = Layout::new(root.path());
        publish::write(&layout.config_file(), settings.as_bytes(), 0o644)?;
        let memory = [Memory::mount(&layout.secrets())?, Memory::mount_shared(&layout.registry_credentials())?];
        let directory = root.path().join("sandbox");
        fs::create_dir(&directory)?;
        let sandbox = Sandbox::start_in_namespace(&directory, vaults)?;
        Ok(Self { process: None, sandbox, level: "info", memory, root, layout })
    }

    /// Starts it. Its environment has what would lead Microsoft's client elsewhere: every test shows that it does not.
    pub fn start(&mut self) -> Result<()> {
        let root = self.layout.root().to_owned();
        self.start_at(&root)
    }

    /// As [`Self::start()`], with another root.
    pub fn start_at(&mut self, root: &Path) -> Result<()> {
        let mut command = self.sandbox.inside(&programs::find("landfall-secrets-fetcher")?)?;
        command.arg("--root").arg(root);
        let nowhere = "http://127.0.0.1:9/";
        for name in [
            "IDENTITY_ENDPOINT",
            "MSI_ENDPOINT",
            "IMDS_ENDPOINT",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
        ] {
            command.env(name, nowhere);
        }
        command.env("IDENTITY_HEADER", "x").env("AZURE_CLIENT_ID", "x").env("SSL_CERT_FILE", self.sandbox.ca_file());
        command.env(landfall_core::journal::LEVEL_VARIABLE, self.level);
        command.env("CREDENTIALS_DIRECTORY", self.credentials());
        self.process = Some(Process::start("secrets-fetcher", self.root.path(), command, Lifetime::Test)?);
        Ok(())
    }

    /// Where the service manager puts credentials: empty until there is one.
    pub fn credentials(&self) -> PathBuf {
        self.root.path().join("credentials")
    }

    /// The next start has this key for what it seals, on a machine of its own.
    pub fn give_key(&self, byte: u8) -> Result<()> {
        publish::write(&self.layout.machine_id(), b"3d1219c7c4c5404aaa1f6d2a48adfda4\n", 0o444)?;
        Ok(publish::write(&self.credentials().join(CACHE_KEY), &[byte; 32], 0o400)?)
    }

    /// What is sealed, of all apps.
    pub fn sealed(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for app in list(&self.layout.secrets_cache())? {
            files.extend(list(&app)?);
        }
        Ok(files)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    /// Ends it as the service manager does; says how it ended.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        self.process.take().context("it does not run")?.stop()
    }

    /// An error once it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.process.as_mut().context("it does not run")?.check()
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Empties the memory, as a boot does. It does not run meanwhile.
    pub fn boot(&self) -> Result<()> {
        ensure!(self.process.is_none(), "it runs; next: kill it");
        for memory in &self.memory {
            for entry in fs::read_dir(&memory.0)? {
                let path = entry?.path();
                if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
            }
        }
        match fs::remove_dir_all(self.layout.secrets_index_dir()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    /// Writes what an app wants, as the agent does; says the request.
    pub fn want(&self, app: &str, needs: &[SecretNeed]) -> Result<String> {
        let request = sha256_hex(format!("{needs:?}").as_bytes());
        let app: AppName = app.parse()?;
        self.want_live(&app, needs, &[])?;
        Ok(request)
    }

    /// The same, with sets that containers shall see: pairs of live directory and set.
    pub fn want_live(&self, app: &AppName, needs: &[SecretNeed], live: &[(&str, &str)]) -> Result<()> {
        want(&self.layout, app, needs, live)
    }

    /// The index file of an app.
    pub fn index(&self, app: &str) -> Result<SecretsFile> {
        match contract::read(&self.layout.secrets_index(&app.parse()?)) {
            Read::Found(file) => Ok(file),
            other => bail!("no index of `{app}`: {other:?}"),
        }
    }

    /// What it has of what the machine itself needs.
    pub fn machine(&self) -> Result<MachineSecretsFile> {
        match contract::read(&self.layout.machine_secrets_index()) {
            Read::Found(file) => Ok(file),
            other => bail!("no index of the machine: {other:?}"),
        }
    }

    /// What it says of a need, once that is so.
    pub fn answer(&mut self, app: &str, need: &SecretNeed, is: impl Fn(&NeedAnswer) -> bool) -> Result<NeedAnswer> {
        let (id, request) = (need.id(), "the fetcher answers as expected");
        let mut process = self.process.take();
        let found = eventually(SOON, request, || {
            if let Some(process) = &mut process {
                process.check()?;
            }
            let index = self.index(app)?;
            let answer = index.needs.get(&id).context("the need is not looked at yet")?;
            ensure!(is(answer), "it says {answer:?}");
            Ok(answer.clone())
        });
        self.process = process;
        found.with_context(|| format!("the end of its log: {}", self.log(15)))
    }

    /// The set of a need, once it is there without a problem.
    pub fn set(&mut self, app: &str, need: &SecretNeed) -> Result<String> {
        self.answer(app, need, |answer| answer.set.is_some() && answer.problem.is_none())?.set.context("no set")
    }

    /// A file of a set.
    pub fn file(&self, app: &str, service: &str, set: &str, name: &str) -> PathBuf {
        let app: AppName = app.parse().unwrap_or_else(|_| unreachable!("tests name their apps well"));
        self.layout.secret_set(&app, service, set).join(name)
    }

    /// What is in it.
    pub fn read(&self, app: &str, service: &str, set: &str, name: &str) -> Result<String> {
        let path = self.file(app, service, set, name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// The end of its log.
    pub fn log(&self, lines: usize) -> String {
        crate::process::tail(&self.root.path().join("secrets-fetcher.log"), lines)
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// A need of a service: pairs of a file name and a reference.
pub fn need(service: &str, files: &[(&str, &str)]) -> Result<SecretNeed> {
    let file = |(name, reference): &(&str, &str)| {
        let secret = reference.parse()?;
        anyhow::Ok(((*name).to_owned(), NeededFile { secret, uid: None, gid: None, mode: None }))
    };
    Ok(SecretNeed { service: service.to_owned(), files: files.iter().map(file).collect::<Result<_>>()?, live: None })
}
