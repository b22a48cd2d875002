//! The Debian package on a machine: what `apt` and `dpkg` do with it, and what the machine is like after. It runs inside a machine that is
//! made for it, as root under systemd, with packages of two versions in the directory that `LANDFALL_DEBS` names: `make test-deb`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::journal::event;
use landfall_core::protocol::HistoryEvent;
use landfall_tests::clean;
use landfall_tests::events::Recorder;
use landfall_tests::vm::{Published, ROLLOUT, SOON, Vm};
use landfall_tests::wait::{eventually, throughout};
use serde_json::{Value, json};

const DAEMONS: [&str; 3] = ["landfall-agent", "landfall-image-watcher", "landfall-secrets-fetcher"];
/// What else is up.
const OTHERS: [&str; 4] =
    ["landfall.target", "landfall-host.service", "landfall-host.timer", "landfall-secrets-owner.socket"];
/// The most that may be between two polls when the daemons are restarted.
const POLL_GAP: Duration = Duration::from_secs(30);
/// How long a stack is watched that nobody may touch.
const WATCH: Duration = Duration::from_secs(6);

#[test]
#[ignore = "needs a machine of its own: `make test-deb`"]
fn a_package_comes_is_replaced_in_the_middle_of_a_rollout_and_goes() -> Result<()> {
    install("old")?;
    // In /srv: the daemons have a /tmp of their own.
    let directory = tempfile::tempdir_in("/srv")?;
    let app = format!("{}{}-0-package", clean::PREFIX, std::process::id());
    let vm = Vm::of_this_machine(directory.path(), &app)?;
    let told = story(&vm);
    if told.is_err() {
        eprintln!("{}\n{}", vm.report(), run("journalctl", &["-u", "landfall*", "-n", "80", "--no-pager"])?);
    }
    told
}

fn story(vm: &Vm) -> Result<()> {
    // After one edited file a first app follows its channel.
    vm.configure(&json!({}))?;
    let v1 = vm.publish_version("v1", &[])?;
    vm.live(&v1)?;

    upgrade_at_rest(vm, &v1)?;
    replace_in_a_rollout(vm, "v2", "old")?;
    replace_in_a_rollout(vm, "v3", "new")?;
    killed_daemons_come_back(vm)?;
    the_journal_tells_the_story(vm, &v1)?;
    nobody_forges_the_journal(vm)?;

    let before = vm.engine.serving_ids(vm.app.as_str())?;
    run("apt-get", &["remove", "-y", "landfall"])?;
    ensure!(!unit_is_there("landfall-agent")?, "the agent's unit is there");
    ensure!(vm.ask()?.version == "v3" && vm.layout().ledger(&vm.app).is_file(), "removing took more than programs");
    ensure!(vm.engine.serving_ids(vm.app.as_str())? == before, "other containers serve");

    // Whoever comes back finds all as it was.
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str()])?;
    install("new")?;
    eventually(SOON, "the agent answers", || vm.status().map(drop))?;
    untouched(&recorder)?;

    run("apt-get", &["purge", "-y", "landfall"])?;
    nothing_is_left()?;
    ensure!(vm.engine.serving_ids(vm.app.as_str())? == before, "purging took containers");
    Ok(())
}

fn upgrade_at_rest(vm: &Vm, v1: &Published) -> Result<()> {
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str()])?;
    let polled = || {
        let at = vm.channel_file()?.last_good_poll.context("no poll yet")?;
        Ok::<jiff::Timestamp, anyhow::Error>(at.parse()?)
    };
    let before = polled()?;
    install("new")?;
    let after = eventually(SOON, "the watcher polls again", || {
        let now = polled()?;
        ensure!(now > before, "{now}");
        Ok(now)
    })?;
    let gap = Duration::try_from(after.duration_since(before))?;
    ensure!(gap < POLL_GAP, "no poll for {gap:?}");
    untouched(&recorder)?;
    vm.serves(v1)
}

/// The rollout ends as it would have, with as many containers.
fn replace_in_a_rollout(vm: &Vm, version: &str, with: &str) -> Result<()> {
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str()])?;
    let seq = vm.last_seq()?;
    let published = vm.publish_version(version, &[("START_DELAY_MS", "4000")])?;
    vm.recorded(seq, HistoryEvent::RolloutStarted, Some(&published.release))?;
    install(with)?;
    vm.recorded(seq, HistoryEvent::Live, Some(&published.release))?;
    vm.serves(&published)?;
    let created = recorder.changes().iter().filter(|c| c.kind == "container" && c.action == "create").count();
    ensure!(created == 1, "{created} containers were created: {:?}", recorder.changes());
    Ok(())
}

fn killed_daemons_come_back(vm: &Vm) -> Result<()> {
    for daemon in DAEMONS {
        let before = show(daemon, "MainPID")?;
        run("systemctl", &["kill", "--kill-whom=main", "--signal=KILL", daemon])?;
        eventually(SOON, &format!("{daemon} is back"), || {
            ensure!(show(daemon, "MainPID")? != before && show(daemon, "ActiveState")? == "active", "not yet");
            Ok(())
        })?;
    }
    eventually(SOON, "the agent answers", || vm.status().map(drop))
}

fn the_journal_tells_the_story(vm: &Vm, v1: &Published) -> Result<()> {
    let app = format!("LANDFALL_APP={}", vm.app);
    let live = format!("MESSAGE_ID={}", event::ROLLOUT_LIVE);
    let lives = journal(&[&app, &live])?;
    // People's form of it: the first digits.
    let first = lives.iter().find(|entry| entry["LANDFALL_RELEASE"] == v1.release.short()).context("v1 is not live")?;
    let deployment = first["LANDFALL_DEPLOYMENT"].as_str().context("no deployment")?;
    let rollout = journal(&[&format!("LANDFALL_DEPLOYMENT={deployment}")])?;
    let has = |id: &str| rollout.iter().any(|entry| entry["MESSAGE_ID"] == id);
    ensure!(has(event::ROLLOUT_STARTED) && has(event::ROLLOUT_LIVE), "{rollout:?}");
    let own = journal(&["-t", &format!("landfall/{}/api", vm.app)])?;
    ensure!(own.iter().any(|entry| entry["MESSAGE"] == "listens on port 8080"), "the api's own log: {own:?}");
    let explained = run("journalctl", &["-x", "--no-pager", &app, &live])?;
    ensure!(explained.contains("operations.md"), "the catalog explains nothing: {explained}");
    Ok(())
}

/// A container that says what only we may say, and with that fails, so that we repeat its words.
fn nobody_forges_the_journal(vm: &Vm) -> Result<()> {
    let seq = vm.last_seq()?;
    let words = format!(
        "<0>forged \u{1b}[2J\u{1b}]0;x\u{7}\r<1>forged\nMESSAGE_ID={}\n\nLANDFALL_APP=forged\nPRIORITY=0\nMESSAGE=forged",
        event::ROLLOUT_LIVE
    );
    let bad = vm.publish_version("v4", &[("MODE", "crash"), ("SAY", &words)])?;
    vm.recorded(seq, HistoryEvent::RolledBack, Some(&bad.release))?;
    let all = journal(&["--since", "-10min"])?;
    let forged: Vec<&Value> = all.iter().filter(|entry| entry.to_string().contains("forged")).collect();
    let by = |unit: &str| forged.iter().any(|entry| entry["_SYSTEMD_UNIT"] == unit);
    ensure!(by("landfall-agent.service") && by("docker.service"), "the words are in nobody's log: {forged:?}");
    for entry in &all {
        let ours = entry["_SYSTEMD_UNIT"].as_str().is_some_and(|unit| unit.starts_with("landfall-"));
        ensure!(ours || entry["MESSAGE_ID"] != event::ROLLOUT_LIVE, "forged: {entry}");
        ensure!(entry["LANDFALL_APP"] != "forged", "forged: {entry}");
        if entry.to_string().contains("forged") {
            ensure!(!["0", "1", "2"].iter().any(|priority| entry["PRIORITY"] == *priority), "forged: {entry}");
        }
        // journald gives as bytes what has control characters.
        ensure!(!ours || entry["MESSAGE"].is_string(), "raw: {entry}");
    }
    Ok(())
}

fn journal(arguments: &[&str]) -> Result<Vec<Value>> {
    let text = run("journalctl", &[&["--output=json", "--no-pager"], arguments].concat())?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn untouched(recorder: &Recorder) -> Result<()> {
    throughout(WATCH, "nothing of the stack is touched", || {
        let changes = recorder.changes();
        ensure!(changes.is_empty(), "{changes:?}");
        Ok(())
    })
}

fn nothing_is_left() -> Result<()> {
    let script = "find /etc /usr /var /run -xdev -iname '*landfall*' -not -name 'landfall-trixie*' -not -path '/var/lib/docker/*' -not -path '/run/systemd/*' \
        -not -path '/var/lib/systemd/*' -not -path '/var/log/*' -not -path '/var/lib/dpkg/*'; getent passwd | grep landfall; \
        getent group | grep landfall; nft list tables | grep landfall; grep landfall /proc/self/mountinfo | grep run/landfall; true";
    let left = run("sh", &["-c", script])?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    Ok(())
}

/// Installs the package of that name with what it needs, and waits until its units are up.
fn install(which: &str) -> Result<()> {
    let debs = std::env::var_os("LANDFALL_DEBS").context("`LANDFALL_DEBS` is not set; next: `make test-deb`")?;
    let deb = PathBuf::from(debs).join(format!("{which}.deb"));
    let deb = deb.to_str().context("the path is no text")?;
    run("apt-get", &["install", "-y", "--no-install-recommends", "--allow-downgrades", deb])?;
    for unit in DAEMONS.iter().chain(&OTHERS) {
        eventually(ROLLOUT, &format!("{unit} is up"), || {
            let state = show(unit, "ActiveState")?;
            ensure!(state == "active", "it is {state}");
            Ok(())
        })?;
    }
    Ok(())
}

fn unit_is_there(unit: &str) -> Result<bool> {
    Ok(show(unit, "LoadState")? == "loaded")
}

fn show(unit: &str, property: &str) -> Result<String> {
    Ok(run("systemctl", &["show", "--value", "--property", property, unit])?.trim().to_owned())
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = || format!("{}{}", text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "`{program} {}` ended with {}: {}", arguments.join(" "), output.status, said());
    Ok(text(&output.stdout))
}
