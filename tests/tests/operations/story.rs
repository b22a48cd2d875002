//! An on-call's year on one machine, in the order of the document: what is typed is what stands there.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::events::Recorder;
use landfall_tests::sandbox::fault::Service;
use landfall_tests::vm::{Published, ROLLOUT, SOON};
use landfall_tests::wait::{eventually, throughout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::stage::{self, Stage, VAULT, run};
use crate::{document, operations};

/// How long a stack is watched that nobody may touch.
const WATCH: Duration = Duration::from_secs(4);
const BY_HAND: &str = "docker compose -f /var/lib/landfall/agent/apps/APP/current/compose.yaml";

/// All of it; at the end nothing may be left untyped.
pub fn play(stage: &mut Stage) -> Result<()> {
    let v1 = installed(stage)?;
    looks(stage)?;
    disks(stage, &v1)?;
    // Before there is a probation, in which a second exit is a way back.
    registry_is_down(stage, &v1)?;
    vault_is_down(stage, &v1)?;
    agent_is_broken(stage, &v1)?;
    let v3 = orders(stage, &v1)?;
    a_unit_gets_a_secret(stage)?;
    guard(stage)?;
    machine_is_replaced(stage, &v3)?;
    stage.types("docker compose -p APP down", "Removed")?;
    stage.all_was_typed()
}

/// From the package's settings to a first app.
fn installed(stage: &Stage) -> Result<Published> {
    stage.types("systemctl status landfall-agent", "Active: active (running)")?;
    let init = "sudo landfall init --app web --channel ghcr.io/acme/deploy:prod --vault https://kv-acme.vault.azure.net --vm vm-1 --resource-group rg-acme";
    stage.types(init, "az vm identity assign --resource-group \"rg-acme\" --name \"vm-1\"")?;
    ensure!(!Path::new("/etc/landfall/landfall.yaml.bak").exists(), "a copy was kept of what nobody had written");
    stage.ends("landfall init", "", &[2], "--force")?;
    stage.types("landfall check", "")?;

    stage.write_settings(&json!({}))?;
    let wanted = fs::read_to_string("/etc/landfall/landfall.yaml")?;
    fs::write("/etc/landfall/landfall.yaml", "apps: {}\n")?;
    stage.edits_to(&wanted)?;
    stage.types("$EDITOR /etc/landfall/landfall.yaml", "")?;
    let v1 = stage.vm.publish_version("v1", &[])?;
    stage.vm.live(&v1)?;
    stage.soon_types("landfall status", "idle")?;
    Ok(v1)
}

/// What only looks.
fn looks(stage: &Stage) -> Result<()> {
    let app = stage.vm.app.as_str();
    for (command, says) in [
        ("landfall history", "live"),
        ("landfall history --json", "\"event\":\"live\""),
        ("landfall logs APP SERVICE", "listens on port 8080"),
        ("landfall logs APP SERVICE --lines 50", "listens on port 8080"),
        ("landfall plan", ""),
        ("landfall secrets", "API_KEY"),
        ("landfall secrets explain NAME", "is here since"),
        ("journalctl -x -u 'landfall-*'", "operations.md"),
        ("journalctl -x -u 'landfall-*' -e", "operations.md"),
        ("journalctl LANDFALL_APP=APP", "landfall-agent"),
        ("journalctl LANDFALL_APP=APP --since -1h", "landfall-agent"),
        ("journalctl -u landfall-agent -n 50", "is live after"),
        ("journalctl -u landfall-secrets-fetcher", "landfall-secrets-fetcher"),
        ("systemctl status docker", "active (running)"),
        ("systemctl status landfall-image-watcher", "active (running)"),
        ("systemctl show -p MemoryMax landfall.slice", "MemoryMax="),
        ("docker image ls 'landfall.local/*'", "landfall.local/"),
        ("docker compose version", "version"),
        ("sudo landfall host", "guard: in force"),
        ("sudo nft list table inet landfall_guard", "169.254.169.254"),
    ] {
        stage.types(command, says)?;
    }
    // Where nobody was ever held there is nothing to see, and some versions say so by their end.
    stage.ends("journalctl MESSAGE_ID=811593ed45d7478bbcd4d8f1b1b16d57", "", &[0, 1], "")?;
    // Oneshots that have ended are among them.
    let units = stage.ends("systemctl status 'landfall-*'", "", &[0, 3], "")?;
    for daemon in ["landfall-agent", "landfall-image-watcher", "landfall-secrets-fetcher"] {
        let said =
            units.split_once(&format!("{daemon}.service - ")).and_then(|(_, rest)| rest.split(".service - ").next());
        ensure!(said.is_some_and(|part| part.contains("Status: \"")), "{daemon} has no sentence: {units}");
    }
    stage.ends("systemd-analyze security", " landfall-agent.service", &[0], "Overall exposure level")?;
    let (channel, file) = (stage.vm.channel(), stage.vm.project.compose_file());
    stage.ends("landfall diff", &format!(" {channel} -f {}", file.display()), &[0], "")?;
    // What each line of it says is judged in verify.rs.
    stage.ends("sudo landfall verify", "", &[0, 10], "the settings are valid")?;

    stage.types("sudo landfall support-bundle", "landfall-support-")?;
    let mut modes = Vec::new();
    for entry in fs::read_dir(stage.place())?.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".tar.gz") {
            modes.push(entry.metadata()?.permissions().mode() & 0o777);
        }
    }
    ensure!(modes == [0o600], "{modes:?}");

    let collector = Path::new("/var/lib/prometheus/node-exporter");
    fs::create_dir_all(collector)?;
    stage
        .types("ln -s /run/landfall/agent/metrics/landfall.prom /var/lib/prometheus/node-exporter/landfall.prom", "")?;
    let metrics = fs::read_to_string(collector.join("landfall.prom"))?;
    ensure!(metrics.contains(&format!("landfall_release_info{{app=\"{app}\"")), "{metrics}");
    fs::remove_dir_all(collector)?;
    Ok(())
}

/// A disk that fills; what is kept by our tags survives it.
fn disks(stage: &Stage, serves: &Published) -> Result<()> {
    let volume = format!("{}_data", stage.vm.app);
    for (command, says) in [
        ("df -h", "Filesystem"),
        ("df -i", "IUse%"),
        ("df -h /var/lib/landfall", "Filesystem"),
        ("docker system df", "Images"),
        ("docker volume ls", volume.as_str()),
        ("du -xsh /var/lib/docker/volumes/*", volume.as_str()),
        ("journalctl --vacuum-size=500M", "acuuming done"),
    ] {
        stage.types(command, says)?;
    }
    stage.vm.serves(serves)?;
    // The fetcher seals anew what it lays down next.
    let cache = Path::new("/var/lib/landfall/secrets/cache");
    eventually(SOON, "secrets are sealed", || {
        ensure!(cache.join(stage.vm.app.as_str()).is_dir(), "`{}` has nothing of the app", cache.display());
        Ok(())
    })?;
    stage.types("rm -r /var/lib/landfall/secrets/cache", "")?;
    stage.types("landfall secrets", "API_KEY").map(drop)
}

/// What changes something; `v3` is live in the end.
fn orders(stage: &Stage, v1: &Published) -> Result<Published> {
    stage.types("landfall hold --why \"…\"", "")?;
    stage.soon_types("landfall status", "hold")?;
    stage.types("landfall resume", "")?;
    stage.types("landfall hands-off --for 1h --why \"…\"", "")?;
    stage.types("landfall resume", "")?;
    stage.types("landfall poll", "")?;
    stage.types("landfall retry", "")?;

    let api = format!(" {}-api-1", stage.vm.app);
    stage.ends("docker pause", &api, &[0], "")?;
    stage.soon_ends("landfall status", &[0, 10], "paused")?;
    stage.ends("docker unpause", &api, &[0], "")?;
    stage.soon_types("landfall status", "idle")?;

    let recorder = Recorder::start(&stage.vm.engine, &[stage.vm.app.as_str()])?;
    stage.types("systemctl restart landfall-agent", "")?;
    stage.soon_types("landfall status", "idle")?;
    ensure!(recorder.changes().is_empty(), "restarting the agent changed {:?}", recorder.changes());

    let v2 = watched(stage, "v2")?;
    let seq = stage.vm.last_seq()?;
    stage.types("landfall rollback --why \"…\"", "")?;
    stage.vm.recorded(seq, HistoryEvent::RolledBack, Some(&v2.release))?;
    stage.vm.serves(v1)?;
    // There is nothing that it could go back to now.
    stage.ends("landfall rollback", " --why 'a test'", &[3], "")?;
    let v3 = stage.vm.publish_version("v3", &[])?;
    stage.types("landfall resume", "")?;
    stage.vm.live(&v3)?;
    Ok(v3)
}

/// A rollout under somebody's eyes, who ends it with Ctrl-C.
fn watched(stage: &Stage, version: &str) -> Result<Published> {
    let line = stage.line_of("landfall watch")?;
    let mut watch = Command::new("bash")
        .args(["-c", &format!("exec timeout --signal=INT {} {line}", ROLLOUT.as_secs())])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
    // It is there before anything begins.
    let first = lines.next().context("it ended")??;
    let published = stage.vm.publish_version(version, &[])?;
    let wanted = format!("event: live of release {}", published.release.short());
    let is_seen = lines.map_while(Result::ok).any(|line| line.contains(&wanted));
    kill(Pid::from_raw(watch.id().try_into()?), Signal::SIGINT)?;
    watch.wait()?;
    ensure!(is_seen, "`landfall watch` began with `{first}` and does not say `{wanted}`");
    Ok(published)
}

/// The drop-in of the document, in a unit of that name.
fn a_unit_gets_a_secret(stage: &Stage) -> Result<()> {
    let token = Path::new("/run/token-of-the-tunnel");
    let program = Path::new("/usr/bin/cloudflared");
    fs::write(program, format!("#!/bin/sh\ncp \"$4\" {} && exec sleep infinity\n", token.display()))?;
    fs::set_permissions(program, Permissions::from_mode(0o755))?;
    fs::write("/etc/systemd/system/cloudflared.service", "[Service]\nExecStart=/usr/bin/cloudflared\n")?;
    stage.edits_to(&document::block_behind(&operations()?, "(`systemctl edit cloudflared`)").context("no drop-in")?)?;
    // It wants a terminal.
    let edit = stage.line_of("systemctl edit cloudflared")?;
    let ran = stage.shell(&format!("script --quiet --return --command '{edit}' /dev/null"))?;
    ensure!(ran.code == 0, "`{edit}`: {ran:?}");

    // First with another id than the unit asks for: systemd takes the "no" for an empty credential, and `test -s` does not.
    stage.write_settings(&json!({ "units": { "cloudflared.service": { "ANOTHER": "tunnel-token" } } }))?;
    eventually(SOON, "the socket is there", || {
        ensure!(Path::new("/run/landfall/secrets-socket/credentials.sock").exists(), "not yet");
        Ok(())
    })?;
    stage.ends("systemctl restart cloudflared", "", &[1], "")?;
    stage.soon_types("journalctl MESSAGE_ID=148bbb310f3149cf96da33efbf90365e", "cloudflared.service")?;
    stage.write_settings(&json!({ "units": { "cloudflared.service": { "TUNNEL_TOKEN": "tunnel-token" } } }))?;
    stage.soon_types("systemctl restart cloudflared", "")?;
    eventually(SOON, "the unit has its token", || {
        let found = fs::read_to_string(token)?;
        ensure!(found == "of-the-tunnel", "{found}");
        Ok(())
    })?;
    run("systemctl stop cloudflared").map(drop)
}

fn registry_is_down(stage: &mut Stage, serves: &Published) -> Result<()> {
    stage.vm.registry.kill()?;
    stage.soon_ends("landfall status", &[0, 10], "cannot be reached")?;
    stage.types("landfall poll", "")?;
    stage.soon_types("journalctl -u landfall-image-watcher -n 50", "cannot be reached")?;
    comes_back_by_itself(stage, serves)?;
    stage.vm.registry.resume()?;
    eventually(SOON, "status has no complaint", || {
        let reason = stage.vm.status()?.reason;
        ensure!(reason.is_none(), "{reason:?}");
        Ok(())
    })
}

fn vault_is_down(stage: &Stage, serves: &Published) -> Result<()> {
    let vault = Service::vault(VAULT);
    stage.vault.refuse(&vault)?;
    stage.soon_ends("landfall secrets", &[10], "API_KEY")?;
    stage.soon_ends("landfall secrets explain NAME", &[10], "the last look failed")?;
    stage.types("journalctl -u landfall-secrets-fetcher -n 50", "")?;
    stage.soon_ends("landfall status", &[0, 10], "stale:")?;
    comes_back_by_itself(stage, serves)?;
    stage.vault.listen(&vault)?;
    stage.soon_types("landfall secrets", "API_KEY").map(drop)
}

/// What is needed to run is on the machine.
fn comes_back_by_itself(stage: &Stage, serves: &Published) -> Result<()> {
    let (app, seq) = (stage.vm.app.as_str(), stage.vm.last_seq()?);
    let before = stage.vm.engine.serving_ids(app)?;
    stage.vm.engine.kill(&before["api"])?;
    stage.vm.recorded(seq, HistoryEvent::Restarted, None)?;
    stage.vm.serves(serves)?;
    ensure!(stage.vm.engine.serving_ids(app)? == before, "another container serves");
    Ok(())
}

/// All is down, and there is no agent.
fn agent_is_broken(stage: &Stage, serves: &Published) -> Result<()> {
    let (vm, app) = (&stage.vm, stage.vm.app.as_str());
    stage.types("systemctl mask --now landfall-agent", "")?;
    stage.ends("landfall status", "", &[5], "systemctl status landfall-agent")?;
    let before = vm.engine.serving_ids(app)?;
    before.values().try_for_each(|id| vm.engine.kill(id))?;
    // One is there no more.
    vm.engine.remove(&before["api"])?;
    let by_hand = Recorder::start(&vm.engine, &[app])?;
    stage.types(&format!("{BY_HAND} up -d"), "Started")?;
    stage.types(&format!("{BY_HAND} ps"), "api")?;
    vm.serves(serves)?;
    eventually(SOON, "the migration that was started again has ended", || {
        let changes = by_hand.changes();
        ensure!(changes.iter().any(|c| c.action == "die" && c.what.contains("-migrate-")), "{changes:?}");
        Ok(())
    })?;
    let after = vm.engine.serving_ids(app)?;
    let others = |mut ids: BTreeMap<String, String>| {
        ids.retain(|service, _| service != "api" && service != "migrate");
        ids
    };
    ensure!(
        others(after.clone()) == others(before.clone()),
        "containers that were there were replaced: {before:?} {after:?}"
    );
    ensure!(after["api"] != before["api"], "the container that was removed serves");

    let recorder = Recorder::start(&vm.engine, &[app])?;
    stage.types("systemctl unmask landfall-agent", "")?;
    stage.types("systemctl start landfall-agent", "")?;
    stage.soon_types("landfall status", "idle")?;
    throughout(WATCH, "the agent replaces nothing", || {
        let changes = recorder.changes();
        ensure!(changes.is_empty(), "{changes:?}");
        vm.serves(serves)
    })?;
    ensure!(vm.engine.serving_ids(app)? == after, "other containers serve");
    Ok(())
}

/// What flushes foreign tables, and what puts ours back.
fn guard(stage: &Stage) -> Result<()> {
    let is_there = || run("nft list table inet landfall_guard").is_ok();
    // Nobody else is to put it back.
    run("systemctl stop landfall-host.timer")?;
    stage.types("nft flush ruleset", "")?;
    ensure!(!is_there(), "the guard outlived `nft flush ruleset`");
    stage.types("sudo landfall host", "had been removed, and is in force again")?;
    ensure!(is_there(), "there is no guard");
    run("systemctl start nftables")?;
    stage.types("landfall host", "")?;
    stage.types("systemctl reload nftables", "")?;
    ensure!(!is_there(), "`systemctl reload nftables` leaves foreign tables: the document says that it does not");
    stage.types("landfall host", "had been removed, and is in force again")?;
    stage.types("apt install nftables", "nftables is already the newest version")?;
    // Those of Docker are gone too.
    run("systemctl stop nftables && systemctl restart docker && systemctl start landfall-host.timer").map(drop)
}

/// Another machine with the same settings and the disk of the volumes.
fn machine_is_replaced(stage: &Stage, serves: &Published) -> Result<()> {
    let (vm, app) = (&stage.vm, stage.vm.app.as_str());
    let marker = Path::new("/var/lib/docker/volumes").join(format!("{app}_data/_data/kept"));
    fs::write(&marker, "by the machine before")?;
    let settings = fs::read_to_string("/etc/landfall/landfall.yaml")?;
    run("systemctl stop landfall.target")?;
    run(&format!("docker rm --force $(docker ps --all --quiet --filter label=com.docker.compose.project={app})"))?;
    run("docker system prune --all --force")?;
    ensure!(vm.engine.containers(app)?.is_empty(), "containers are left");
    stage::as_installed()?;

    vm.write_settings(&settings)?;
    stage.types("docker volume ls", &format!("{app}_data"))?;
    stage::start()?;
    vm.live(serves)?;
    stage.soon_types("landfall status", serves.release.short())?;
    let kept = fs::read_to_string(&marker)?;
    ensure!(kept == "by the machine before", "{kept}");
    let mounts = vm.engine.inspect(&vm.engine.serving(app, "store")?.id)?["Mounts"].to_string();
    ensure!(mounts.contains(&format!("{app}_data")), "{mounts}");
    // At the end: it takes their names from images that are in use.
    stage.types("docker image prune -a", "Total reclaimed space")?;
    ensure!(vm.ask()?.version == serves.version, "`docker image prune -a` took what runs");
    // What comes next is typed after the package is gone.
    run("systemctl stop landfall.target").map(drop)
}
