//! What `make try` shows: the whole loop once, for a person to watch, and the stack left running. The six lines at its
//! end come from `landfall history --json`; each was checked from outside before it was believed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use landfall_core::layout::Layout;
use landfall_core::protocol::{HistoryEntry, HistoryEvent};
use landfall_sample::http;
use serde_json::json;

use crate::clean;
use crate::docker_restart;
use crate::engine::Engine;
use crate::process::{Lifetime, kill_recorded};
use crate::sandbox::Sandbox;
use crate::sandbox::vault::Grant;
use crate::secrets_memory;
use crate::vm::{Published, ROLLOUT, SOON, Vm};
use crate::wait::eventually;

/// How a person is told; called at least every few seconds.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// The vault's name.
const VAULT: &str = "landfall-try";

/// Where and how the tour runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything on disk is below this.
    pub directory: PathBuf,
    /// The app and Compose project.
    pub app: String,
    /// Where the proxy answers on the loopback.
    pub port: u16,
    /// Whether dockerd may be restarted; else the containers are killed in its place.
    pub restart_docker: Result<(), String>,
    /// Whether a network namespace with a vault can be made; else the sample has no secret.
    pub secrets: Result<(), String>,
}

/// How the tour ended.
#[derive(Debug)]
pub struct Outcome {
    /// Six lines; five where there is no vault.
    pub timeline: Vec<Line>,
    /// What is served now.
    pub serving: Published,
    /// Where.
    pub url: String,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Seconds since the first publication.
    pub at: f64,
    /// What happened.
    pub what: String,
}

/// Removes what an earlier tour left: processes, containers, networks, volumes, images, files. Says what there was.
pub fn clean(directory: &Path, app: &str) -> Result<Vec<String>> {
    let mut removed = kill_recorded(directory)?;
    let engine = Engine::of_this_machine();
    removed.extend(engine.containers(app)?.into_iter().flat_map(|container| container.names));
    let left = clean::app(&engine, app);
    // After the containers and the fetcher: they hold it.
    secrets_memory::unmount(&Layout::new(directory.join("root")))?;
    ensure!(left.is_empty(), "not removed: {}", left.join("; "));
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
        removed.push(directory.display().to_string());
    }
    Ok(removed)
}

/// Runs it all. On an error everything is left as it is, to be looked at.
pub fn run(options: &Options, say: Say<'_>) -> Result<Outcome> {
    std::fs::create_dir_all(&options.directory)?;
    say("starts a registry, landfall-image-watcher and landfall-agent");
    let fixture = if options.secrets.is_ok() { "secrets" } else { "sample" };
    let mut vm = Vm::of_fixture(fixture, &options.directory, &options.app, Some(options.port), Lifetime::Detached)?;
    let vault = match &options.secrets {
        Ok(()) => Some(vault(&mut vm, say)?),
        Err(why) => {
            say(&format!("shows no secrets ({why})"));
            None
        }
    };
    vm.start()?;
    let began = Timestamp::now();
    let mut timeline = Vec::new();
    let mut add = |entry: &HistoryEntry, what: String, say: Say<'_>| -> Result<()> {
        let at = entry.at.parse::<Timestamp>()?.duration_since(began).as_secs_f64();
        say(&format!("=> {what}"));
        timeline.push(Line { at, what });
        Ok(())
    };

    let (v1, entry) = release(&vm, "v1", say)?;
    add(&entry, format!("v1 rolled out{}", took(&entry)), say)?;
    let (v2, entry) = release(&vm, "v2", say)?;
    ensure!(v1.release != v2.release, "v1 and v2 are the same release");
    add(&entry, format!("v2 rolled out{}", took(&entry)), say)?;

    if let Some(vault) = vault {
        let seq = vm.last_seq()?;
        say("puts a new version of the secret `api-key` into the vault");
        vault.set_secret(VAULT, "api-key", "second")?;
        let before = vm.engine.serving_ids(&options.app)?;
        let entry =
            follow(&vm, say, ROLLOUT, "the new secret is live", |entries| after(entries, seq, HistoryEvent::Live))?;
        reads(&vm, "second")?;
        let now = vm.engine.serving_ids(&options.app)?;
        let others = |ids: &BTreeMap<String, String>| ids.iter().filter(|(name, _)| *name != "api").count();
        let kept = before.iter().filter(|(name, id)| *name != "api" && now.get(*name) == Some(id)).count();
        ensure!(kept == others(&before) && now["api"] != before["api"], "replaced was {before:?} by {now:?}");
        add(&entry, format!("secret rotated, api and nothing else replaced{}", took(&entry)), say)?;
    }

    let before = vm.engine.serving_ids(&options.app)?;
    let seq = vm.last_seq()?;
    say("publishes v3, which never gets healthy");
    vm.publish_version("v3", &[("MODE", "never-healthy")])?;
    let entry = follow(&vm, say, ROLLOUT, "v3 is taken back", |entries| after(entries, seq, HistoryEvent::RolledBack))?;
    vm.serves(&v2)?;
    ensure!(vm.engine.serving_ids(&options.app)? == before, "other containers serve than before v3");
    add(&entry, format!("v3 rolled back to v2{}", took(&entry)), say)?;

    let seq = vm.last_seq()?;
    say("kills the api's container");
    vm.engine.kill(&before["api"])?;
    let entry = follow(&vm, say, SOON, "the api is restarted", |entries| after(entries, seq, HistoryEvent::Restarted))?;
    vm.serves(&v2)?;
    add(&entry, "api killed and restarted".to_owned(), say)?;

    let seq = vm.last_seq()?;
    let what = match &options.restart_docker {
        Ok(()) => {
            say("restarts dockerd");
            docker_restart::restart(&vm.engine, say)?;
            "dockerd restarted"
        }
        Err(why) => {
            say(&format!("does not restart dockerd ({why}); kills all containers of the sample in its place"));
            for id in before.values() {
                vm.engine.kill(id)?;
            }
            "all containers killed"
        }
    };
    let entry = follow(&vm, say, ROLLOUT, "the stack is back", |entries| recovered(entries, seq, &before))?;
    vm.serves(&v2)?;
    in_order(&vm, &before)?;
    add(&entry, format!("{what}, back in order: store, api, proxy"), say)?;

    let status = vm.status()?;
    ensure!(status.release.as_ref() == Some(&v2.release), "`landfall status` says release {:?}", status.release);
    Ok(Outcome { timeline, serving: v2, url: vm.url() })
}

/// A vault that behaves as Azure's, in a network namespace of its own, and the fetcher beside it.
fn vault(vm: &mut Vm, say: Say<'_>) -> Result<Sandbox> {
    say("starts a stand-in for Azure Key Vault and IMDS in a network namespace, and landfall-secrets-fetcher in it");
    let sandbox = vm.sandbox(VAULT)?;
    sandbox.grant(VAULT, "system", Grant::GET)?;
    sandbox.set_secret(VAULT, "api-key", "first")?;
    sandbox.set_secret(VAULT, "store-key", "unchanged")?;
    let url = sandbox.vault_url(VAULT)?;
    vm.configure_vaults(&json!({ "default": { "url": url, "refresh": "1s" } }))?;
    vm.start_fetcher(&sandbox)?;
    Ok(sandbox)
}

/// Waits until the api says that its secret is this.
pub fn reads(vm: &Vm, wanted: &str) -> Result<()> {
    eventually(SOON * 2, &format!("the api has `{wanted}`"), || {
        let answer = http::get(&format!("{}secret", vm.url()))?;
        ensure!(answer.text() == wanted, "it answers {} `{}`", answer.status, answer.text());
        Ok(())
    })
}

fn release(vm: &Vm, version: &str, say: Say<'_>) -> Result<(Published, HistoryEntry)> {
    say(&format!("publishes {version}"));
    let published = vm.publish_version(version, &[])?;
    let entry = follow(vm, say, ROLLOUT, &format!("{version} is live"), |entries| {
        let ours = |e: &&HistoryEntry| e.event == HistoryEvent::Live && e.release.as_ref() == Some(&published.release);
        entries.iter().find(ours).cloned()
    })?;
    vm.serves(&published)?;
    Ok((published, entry))
}

/// Waits for something in the history, and says each change of the app's state while it waits.
fn follow(
    vm: &Vm,
    say: Say<'_>,
    deadline: Duration,
    what: &str,
    find: impl Fn(&[HistoryEntry]) -> Option<HistoryEntry>,
) -> Result<HistoryEntry> {
    let mut last = (String::new(), std::time::Instant::now());
    eventually(deadline, what, || {
        // The agent does not answer in the instant in which it starts.
        if let Ok(status) = vm.status() {
            let services = status.services.iter().map(|s| format!("{} {}", s.service, s.state));
            let line = format!("   {}: {}", status.state, services.collect::<Vec<_>>().join(", "));
            if last.0 != line || last.1.elapsed() > Duration::from_secs(4) {
                say(&line);
                last = (line, std::time::Instant::now());
            }
        }
        let entries = vm.history()?;
        let seen = || format!("the history ends with {:?}", entries.last().map(|entry| (entry.event, &entry.reason)));
        find(&entries).with_context(seen)
    })
}

fn after(entries: &[HistoryEntry], seq: u64, event: HistoryEvent) -> Option<HistoryEntry> {
    entries.iter().find(|entry| entry.seq > seq && entry.event == event).cloned()
}

/// The entry with which all that was down is back: its own, or the last of one restart for each service.
fn recovered(entries: &[HistoryEntry], seq: u64, services: &BTreeMap<String, String>) -> Option<HistoryEntry> {
    let whole = after(entries, seq, HistoryEvent::Recovered);
    let restarted = |service: &String| {
        entries.iter().find(|e| e.seq > seq && e.event == HistoryEvent::Restarted && e.services.contains(service))
    };
    let each: Option<Vec<_>> = services.keys().map(restarted).collect();
    whole.or_else(|| each?.into_iter().max_by_key(|entry| entry.seq).cloned())
}

fn in_order(vm: &Vm, containers: &BTreeMap<String, String>) -> Result<()> {
    let mut times = Vec::new();
    for service in ["store", "api", "proxy"] {
        let container = containers.get(service).with_context(|| format!("no container of `{service}`"))?;
        let started = vm.engine.inspect(container)?["State"]["StartedAt"].as_str().context("no start")?.to_owned();
        times.push(started.parse::<Timestamp>()?);
    }
    ensure!(times.is_sorted(), "not started in the order store, api, proxy: {times:?}");
    Ok(())
}

fn took(entry: &HistoryEntry) -> String {
    let Some(millis) = entry.took_ms else { return String::new() };
    format!(" in {:.1} s", Duration::from_millis(millis).as_secs_f64())
}
