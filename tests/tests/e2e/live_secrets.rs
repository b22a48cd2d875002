//! Rotations that containers see while they run (`x-landfall.on_rotate`): the same containers, another value, and whoever asked for a
//! signal gets one, also where the agent dies in between. A value that makes the service ill is taken back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::protocol::HistoryEvent;
use landfall_sample::http;
use landfall_tests::sandbox::Sandbox;
use landfall_tests::suite::on_a_vm_of;
use landfall_tests::tour::reads;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::{eventually, throughout};

/// Longer than the window of a second that the tests ask for, shorter than a rollout would be quiet.
const WINDOW: Duration = Duration::from_secs(5);

/// A VM whose api runs as nobody in particular, and does this at a rotation.
fn with_live_secrets(name: &str, on_rotate: &str, body: impl FnOnce(&mut Vm, &Sandbox) -> Result<()>) {
    on_a_vm_of("secrets", name, |vm| {
        let sandbox = vm.vault(&["*"])?;
        let lines = format!(
            "    secrets: [{{ source: API_KEY, uid: \"1000\", mode: 0400 }}]\n    user: \"1000:1000\"\n    x-landfall: {{ on_rotate: \"{on_rotate}\" }}"
        );
        vm.project.edit("compose.yaml", "    secrets: [API_KEY]", &lines)?;
        vm.start_fetcher(&sandbox)?;
        vm.start()?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        reads(vm, "first")?;
        body(vm, &sandbox)
    });
}

fn said(vm: &Vm, path: &str) -> Result<String> {
    Ok(http::get(&format!("{}{path}", vm.url()))?.text())
}

/// What the program finds in its file now.
fn finds(vm: &Vm, wanted: &str) -> Result<()> {
    eventually(SOON * 2, &format!("the api's file has `{wanted}`"), || {
        let found = said(vm, "secret/now")?;
        ensure!(found == wanted, "it has `{found}`");
        Ok(())
    })
}

fn hangups(vm: &Vm) -> Result<u32> {
    Ok(said(vm, "hangups")?.parse()?)
}

/// The switch is over and remembered.
fn settled(vm: &Vm) -> Result<()> {
    eventually(SOON, "the rotation is over", || {
        let ledger = std::fs::read_to_string(vm.layout().ledger(&vm.app))?;
        let last = ledger.lines().last().context("an empty ledger")?;
        ensure!(last.contains("\"live_secrets\"") && last.contains("\"step\":\"done\""), "{last}");
        Ok(())
    })
}

fn row(vm: &Vm) -> Result<String> {
    let shown = vm.landfall(&["secrets"])?.stdout;
    shown.lines().find(|line| line.contains("API_KEY")).map(str::to_owned).context(shown.clone())
}

#[test]
fn with_none_the_file_changes_and_nothing_else() {
    with_live_secrets("live-none", "none", |vm, sandbox| {
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let seq = vm.last_seq()?;
        let version = sandbox.set_secret("kv", "api-key", "second")?;
        finds(vm, "second")?;
        settled(vm)?;
        throughout(WINDOW, "nothing is rolled out", || {
            assert_eq!(vm.engine.serving_ids(&app)?, before);
            ensure!(vm.last_seq()? == seq, "{:?}", vm.history()?.last());
            Ok(())
        })?;
        assert_eq!((said(vm, "secret")?.as_str(), hangups(vm)?), ("first", 0), "nobody was told");
        let plan = vm.landfall(&["plan"])?;
        ensure!(plan.code == 0 && plan.stdout.contains("nothing"), "{plan:?}");
        let row = row(vm)?;
        assert_eq!(row.matches(&version[..7]).count(), 2, "running and newest: {row}");
        Ok(())
    });
}

#[test]
fn with_a_signal_the_process_is_told_and_a_bad_one_is_taken_back() {
    with_live_secrets("live-signal", "signal:HUP", |vm, sandbox| {
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        sandbox.set_secret("kv", "api-key", "second")?;
        reads(vm, "second")?;
        settled(vm)?;
        assert_eq!(hangups(vm)?, 1);

        let bad = sandbox.set_secret("kv", "api-key", "broken for ever")?;
        eventually(SOON, "the api is ill", || {
            let status = http::get(&format!("{}secret", vm.url()))?.text();
            ensure!(status.starts_with("broken"), "it has {status}");
            Ok(())
        })?;
        reads(vm, "second")?;
        finds(vm, "second")?;
        settled(vm)?;
        throughout(WINDOW, "it is not tried again", || {
            // The agent may start it again, as whatever is ill.
            let now = http::get(&format!("{}secret/now", vm.url())).ok().filter(|answer| answer.status == 200);
            ensure!(now.as_ref().is_none_or(|answer| answer.text() == "second"), "{now:?}");
            Ok(())
        })?;
        reads(vm, "second")?;
        assert_eq!(vm.engine.serving_ids(&app)?, before, "the same containers serve");
        ensure!(!vm.history()?.iter().any(|entry| entry.event == HistoryEvent::RolledBack), "a release was blamed");
        let shown = vm.landfall(&["secrets"])?.stdout;
        ensure!(shown.contains("was taken back") && shown.contains(&bad[..7]), "{shown}");

        sandbox.set_secret("kv", "api-key", "third")?;
        reads(vm, "third")?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);
        Ok(())
    });
}

#[test]
fn an_agent_killed_between_the_switch_and_the_signal_signals() {
    with_live_secrets("live-kill", "signal:SIGHUP", |vm, sandbox| {
        vm.kill_agent()?;
        let version = sandbox.set_secret("kv", "api-key", "second")?;
        let index = vm.layout().secrets_index(&vm.app);
        eventually(SOON, "the fetcher has the new version", || {
            ensure!(std::fs::read_to_string(&index)?.contains(&version), "not yet");
            Ok(())
        })?;
        finds(vm, "first")?;
        vm.kill_fetcher()?;
        let asked = || match contract::read::<WantedFile>(&vm.layout().wanted(&vm.app)) {
            Read::Found(wanted) => Ok(wanted.live),
            other => anyhow::bail!("{other:?}"),
        };
        let before = asked()?;
        vm.start_agent()?;
        eventually(SOON, "the agent asks for the switch", || {
            let wanted = match contract::read::<WantedFile>(&vm.layout().wanted(&vm.app)) {
                Read::Found(wanted) => wanted.live,
                other => anyhow::bail!("{other:?}"),
            };
            ensure!(wanted != before && !wanted.is_empty(), "{wanted:?}");
            Ok(())
        })?;
        vm.kill_agent()?;
        vm.start_fetcher(sandbox)?;
        finds(vm, "second")?;
        assert_eq!((said(vm, "secret")?.as_str(), hangups(vm)?), ("first", 0));
        vm.start_agent()?;
        reads(vm, "second")?;
        settled(vm)?;
        ensure!(hangups(vm)? >= 1, "it was not told");
        Ok(())
    });
}

#[test]
fn after_a_power_cut_containers_see_what_they_saw_and_not_what_is_newest() {
    with_live_secrets("live-power", "signal:SIGHUP", |vm, sandbox| {
        sandbox.set_secret("kv", "api-key", "second")?;
        reads(vm, "second")?;
        settled(vm)?;
        // A person holds: what is newest must wait.
        ensure!(vm.landfall(&["hold", "--why", "a test"])?.code == 0, "no hold");
        let app = vm.app.to_string();
        let before = vm.cut_power()?;
        sandbox.set_secret("kv", "api-key", "third")?;
        vm.start_agent()?;
        eventually(SOON, "the api waits for its secrets", || {
            let reason = vm.status()?.reason.context("no reason")?;
            ensure!(reason.contains("waits for its secrets"), "{reason}");
            Ok(())
        })?;
        vm.start_fetcher(sandbox)?;
        reads(vm, "second")?;
        finds(vm, "second")?;
        assert_eq!(vm.engine.serving_ids(&app)?, before, "the same containers serve");
        ensure!(vm.landfall(&["resume"])?.code == 0, "no resume");
        reads(vm, "third")?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);
        Ok(())
    });
}
