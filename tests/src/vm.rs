//! A VM in a directory: a root for the configuration and the state, the shipped daemons as processes, the shipped CLI,
//! a registry, and the sample project that is published there.

mod host;
mod secrets;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::contract::{self, ChannelFile, Read};
use landfall_core::ids::{AppName, Digest, ReleaseId};
use landfall_core::layout::Layout;
use landfall_core::protocol::{AppStatus, HistoryEntry, HistoryEvent, Status};
use serde_json::json;

use crate::daemon::Daemon;
use crate::engine::Engine;
use crate::prober::{self, Served};
use crate::process::{Lifetime, tail};
use crate::project::Project;
use crate::ran::Ran;
use crate::registry::Registry;
use crate::unit::Network;
use crate::wait::eventually;
use crate::{clean, ports, programs, secrets_memory};

/// How long a rollout of the sample may take, a return included: its health gate alone may take 34 s.
pub const ROLLOUT: Duration = Duration::from_mins(2);
/// How long anything else may take that a person would call immediate.
pub const SOON: Duration = Duration::from_secs(30);

/// The VM. With [`Lifetime::Test`] dropping it removes all that it made.
#[derive(Debug)]
pub struct Vm {
    /// The app, which is the Compose project.
    pub app: AppName,
    /// The Engine that it runs on.
    pub engine: Engine,
    /// Where its channel is.
    pub registry: Registry,
    /// What is published to the channel.
    pub project: Project,
    directory: PathBuf,
    root: PathBuf,
    port: u16,
    lifetime: Lifetime,
    probation: Option<Duration>,
    watcher: Option<Daemon>,
    agent: Option<Daemon>,
    fetcher: Option<Daemon>,
}

impl Vm {
    /// Makes the directory, the configuration, the registry and the sample project. Starts no daemon.
    pub fn create(directory: &Path, app: &str, port: Option<u16>, lifetime: Lifetime) -> Result<Self> {
        Self::of_fixture("sample", directory, app, port, lifetime)
    }

    /// As [`Self::create`], with the project of another fixture.
    pub fn of_fixture(
        fixture: &str,
        directory: &Path,
        app: &str,
        port: Option<u16>,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let vm = Self::at(directory.join("root"), fixture, directory, app, port, lifetime)?;
        vm.configure(&json!({}))?;
        Ok(vm)
    }

    /// This machine itself, which a package has installed: its daemons are the manager's, its settings are written by who calls.
    pub fn of_this_machine(directory: &Path, app: &str) -> Result<Self> {
        Self::of_this_machine_with("sample", directory, app)
    }

    /// As [`Self::of_this_machine`], with the project of another fixture.
    pub fn of_this_machine_with(fixture: &str, directory: &Path, app: &str) -> Result<Self> {
        Self::at("/".into(), fixture, directory, app, None, Lifetime::Test)
    }

    fn at(
        root: PathBuf,
        fixture: &str,
        directory: &Path,
        app: &str,
        port: Option<u16>,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let registry = Registry::start(directory, lifetime)?;
        let project = Project::create(&directory.join("project"), fixture, app, &registry)?;
        let port = port.map_or_else(ports::free, Ok)?;
        Ok(Self {
            app: app.parse()?,
            engine: Engine::of_this_machine(),
            registry,
            project,
            directory: directory.to_owned(),
            root,
            port,
            lifetime,
            probation: None,
            watcher: None,
            agent: None,
            fetcher: None,
        })
    }

    /// Writes landfall.yaml; `more` is merged into the app.
    pub fn configure(&self, more: &serde_json::Value) -> Result<()> {
        let mut app = self.app_settings();
        for (key, value) in more.as_object().context("`more` is no map")? {
            app[key] = value.clone();
        }
        // JSON is YAML; a number of this map never needs YAML's own notation.
        self.write_settings(&json!({ "apps": { self.app.as_str(): app } }).to_string())
    }

    /// Writes landfall.yaml with the path of the registry's credential; that file is the caller's.
    pub fn configure_credential(&self, file: &Path) -> Result<()> {
        let registries = json!({ self.registry.address(): { "credential": file } });
        let apps = json!({ self.app.as_str(): self.app_settings() });
        self.write_settings(&json!({ "apps": apps, "registries": registries }).to_string())
    }

    fn app_settings(&self) -> serde_json::Value {
        json!({ "channel": self.channel(), "poll": "250ms", "vars": { "PORT": self.port.to_string() } })
    }

    /// Writes any text as landfall.yaml.
    pub fn write_settings(&self, text: &str) -> Result<()> {
        let path = self.layout().config_file();
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// The tree of paths.
    pub fn layout(&self) -> Layout {
        Layout::new(self.root())
    }

    /// The root directory.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// The reference that is followed.
    pub fn channel(&self) -> String {
        format!("{}/deploy/{}:prod", self.registry.address(), self.app)
    }

    /// The proxy's port on the loopback, `PORT` in the compose file.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the proxy answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The directory of all that belongs to it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the watcher and the agent.
    pub fn start(&mut self) -> Result<()> {
        self.start_watcher()?;
        self.start_agent()
    }

    /// Starts the watcher.
    pub fn start_watcher(&mut self) -> Result<()> {
        let name = "landfall-image-watcher";
        self.watcher = Some(self.daemon(name, self.command(name)?, Network::own().as_ref())?);
        Ok(())
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) -> Result<()> {
        self.start_agent_with(&[])
    }

    /// Starts the agent with more variables than this process has: another Compose, a service manager.
    pub fn start_agent_with(&mut self, environment: &[(&str, &Path)]) -> Result<()> {
        let mut command = self.command("landfall-agent")?;
        command.envs(environment.iter().copied());
        self.agent = Some(self.daemon("landfall-agent", command, None)?);
        Ok(())
    }

    fn daemon(&self, name: &str, command: Command, network: Option<&Network>) -> Result<Daemon> {
        Daemon::start(name, &self.directory, &self.root(), command, network, self.lifetime)
    }

    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(programs::find(name)?);
        command.arg("--root").arg(self.root());
        if let Some(probation) = self.probation {
            command.env("LANDFALL_PROBATION_MS", probation.as_millis().to_string());
        }
        Ok(command)
    }

    /// kill -9.
    pub fn kill_watcher(&mut self) -> Result<()> {
        self.watcher.take().context("no watcher runs")?.kill()
    }

    /// kill -9.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.kill()
    }

    /// Starts the agent again with another length of probation.
    pub fn restart_agent_with_probation(&mut self, probation: Duration) -> Result<()> {
        self.probation = Some(probation);
        self.kill_agent()?;
        self.start_agent()
    }

    /// The watcher's process id.
    pub fn watcher_id(&self) -> Result<u32> {
        self.watcher.as_ref().context("no watcher runs")?.id()
    }

    /// The agent's process id.
    pub fn agent_id(&self) -> Result<u32> {
        self.agent.as_ref().context("no agent runs")?.id()
    }

    /// SIGTERM, and waits.
    pub fn stop_agent(&mut self) -> Result<std::process::ExitStatus> {
        self.agent.take().context("no agent runs")?.stop()
    }

    /// Runs the CLI on this VM; for CI's part it has the registry's credential.
    pub fn landfall(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = self.command("landfall")?;
        if let Some(credential) = self.registry.credential() {
            command.env("LANDFALL_REGISTRY_USERNAME", &credential.username);
            command.env("LANDFALL_REGISTRY_PASSWORD", &credential.password);
        }
        Ran::of(command.args(arguments))
    }

    fn landfall_ok(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.landfall(arguments)?;
        ensure!(ran.code == 0, "`landfall {}` ended with {}: {}", arguments.join(" "), ran.code, ran.stderr.trim());
        Ok(ran.stdout)
    }

    /// Makes the image of that version, lets the project name it, and publishes the project as CI does.
    pub fn publish_version(&self, version: &str, environment: &[(&str, &str)]) -> Result<Published> {
        let image = self.project.set_version(&self.registry, version, environment)?;
        Ok(Published { release: self.publish()?, version: version.to_owned(), image })
    }

    /// Publishes the project as it lies there.
    pub fn publish(&self) -> Result<ReleaseId> {
        let file = self.project.compose_file();
        let file = file.to_str().context("the path is no text")?;
        let said = self.landfall_ok(&["publish", &self.channel(), "--file", file])?;
        let id = said.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').find_map(|word| word.parse().ok());
        id.with_context(|| format!("`landfall publish` named no release id: {said}"))
    }

    /// The app, and those that the agent made of tags.
    fn apps(&self) -> Vec<AppName> {
        let ledger = self.layout().ledger(&self.app);
        let files =
            ledger.parent().and_then(|directory| std::fs::read_dir(directory).ok()).into_iter().flatten().flatten();
        let mut apps: Vec<AppName> =
            files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok()).collect();
        apps.retain(|app| *app != self.app);
        apps.push(self.app.clone());
        apps
    }

    /// What `landfall status --json` says of the app.
    pub fn status(&self) -> Result<AppStatus> {
        self.status_of(&self.app)
    }

    /// What it says of another app.
    pub fn status_of(&self, app: &AppName) -> Result<AppStatus> {
        // 10 is an answer too: something is not healthy.
        let ran = self.landfall(&["status", "--json"])?;
        ensure!(ran.code == 0 || ran.code == 10, "`landfall status` ended with {}: {}", ran.code, ran.stderr.trim());
        let status: Status = serde_json::from_str(&ran.stdout).with_context(|| ran.stdout.clone())?;
        status.apps.into_iter().find(|one| one.app == *app).context("`landfall status` does not know the app")
    }

    /// What `landfall history --json` says of the app, oldest first.
    pub fn history(&self) -> Result<Vec<HistoryEntry>> {
        let text = self.landfall_ok(&["history", self.app.as_str(), "--json", "--last", "1000"])?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// What the watcher wrote of the channel.
    pub fn channel_file(&self) -> Result<ChannelFile> {
        match contract::read(&self.layout().channel(&self.app)) {
            Read::Found(file) => Ok(file),
            other => bail!("the channel file is {other:?}"),
        }
    }

    /// Waits for an entry in the history; `after` is the last `seq` that does not count.
    pub fn recorded(&self, after: u64, event: HistoryEvent, release: Option<&ReleaseId>) -> Result<HistoryEntry> {
        let what = format!("{event:?} of {} in the history", release.map_or("any release", ReleaseId::short));
        eventually(ROLLOUT, &what, || {
            let entries = self.history()?;
            let found = entries.iter().find(|entry| {
                entry.seq > after && entry.event == event && (release.is_none() || entry.release.as_ref() == release)
            });
            let seen = || entries.iter().map(|entry| format!("{} {:?}", entry.seq, entry.event)).collect::<Vec<_>>();
            found.cloned().with_context(|| format!("{:?}", seen()))
        })
    }

    /// The last `seq` of the history.
    pub fn last_seq(&self) -> Result<u64> {
        Ok(self.history()?.last().map_or(0, |entry| entry.seq))
    }

    /// One request to the sample, as a client outside sends it.
    pub fn ask(&self) -> Result<Served> {
        prober::ask(&self.url()).map_err(anyhow::Error::msg)
    }

    /// Waits until it is live, is what is served, and by a container of exactly that image.
    pub fn live(&self, published: &Published) -> Result<HistoryEntry> {
        let entry = self.recorded(0, HistoryEvent::Live, Some(&published.release))?;
        self.serves(published)?;
        Ok(entry)
    }

    /// Checks from outside that this version is what is served, by a container of exactly that image.
    pub fn serves(&self, published: &Published) -> Result<()> {
        let served = eventually(SOON, &format!("{} is served", published.version), || {
            let served = self.ask()?;
            ensure!(served.version == published.version, "{} is served", served.version);
            Ok(served)
        })?;
        let digests = self.engine.image_digests(&served.container)?;
        let wanted = published.image.to_string();
        ensure!(digests.contains(&wanted), "the container that answers has image {digests:?}, not {wanted}");
        Ok(())
    }

    /// For people, when something went wrong: containers, history, the ends of the logs.
    pub fn report(&self) -> String {
        let mut lines = vec![format!("--- {} in {}", self.app, self.directory.display())];
        for container in self.apps().iter().flat_map(|app| self.engine.containers(app.as_str()).unwrap_or_default()) {
            lines.push(format!("{} {} {}", container.names.join(" "), &container.id[..12], container.status));
        }
        lines.push(format!("--- history\n{}", tail(&self.layout().history(&self.app), 20)));
        for name in ["landfall-image-watcher", "landfall-agent", "landfall-secrets-fetcher"] {
            lines.push(format!("--- {name}\n{}", tail(&self.directory.join(format!("{name}.log")), 40)));
        }
        lines.join("\n")
    }
}

/// A published version.
#[derive(Debug, Clone)]
pub struct Published {
    /// The release's id, as `landfall publish` printed it.
    pub release: ReleaseId,
    /// What the api answers.
    pub version: String,
    /// The manifest digest of the api's image.
    pub image: Digest,
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Test {
            // First the agent: it would heal what is removed.
            drop(self.agent.take());
            drop(self.watcher.take());
            drop(self.fetcher.take());
            for left in self.apps().iter().flat_map(|app| clean::app(&self.engine, app.as_str())) {
                eprintln!("left behind: {left}");
            }
            // After the containers: they hold it.
            if let Err(error) = secrets_memory::unmount(&self.layout()) {
                eprintln!("left behind: {error:#}");
            }
        }
    }
}
