//! Secrets from the vault to the process: a rotation is a rollout of exactly its consumers, a bad one is taken back, a power cut
//! empties the memory that they lie in, and a release has only what this machine's settings let it have.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::Digest;
use landfall_core::protocol::HistoryEvent;
use landfall_tests::artifact::{self, BUNDLE, FILE, Layer};
use landfall_tests::prober::Prober;
use landfall_tests::sandbox::Sandbox;
use landfall_tests::sandbox::fault::Service;
use landfall_tests::suite::on_a_vm_of;
use landfall_tests::tour::reads;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;
use serde_json::json;

const PACE: Duration = Duration::from_millis(20);

/// A VM whose identity may read the vault, with both secrets in it.
fn with_secrets(name: &str, allow: &[&str], body: impl FnOnce(&mut Vm, &Sandbox) -> Result<()>) {
    on_a_vm_of("secrets", name, |vm| {
        let sandbox = vm.vault(allow)?;
        vm.start_fetcher(&sandbox)?;
        vm.start()?;
        body(vm, &sandbox)
    });
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    before.iter().filter(|(name, id)| after.get(*name) != Some(id)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn a_rotation_replaces_exactly_its_consumers_and_a_bad_one_is_taken_back() {
    with_secrets("rotation", &["*"], |vm, sandbox| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        reads(vm, "first")?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let seq = vm.last_seq()?;
        let prober = Prober::start(&vm.url(), PACE);
        let start = Instant::now();

        sandbox.set_secret("kv", "api-key", "second")?;
        reads(vm, "second")?;
        vm.recorded(seq, HistoryEvent::Live, Some(&v1.release))?;
        let after = vm.engine.serving_ids(&app)?;
        assert_eq!(changed(&before, &after), ["api"]);
        ensure!(prober.gap(start) < Duration::from_secs(3), "nothing answered for {:?}", prober.gap(start));

        let seq = vm.last_seq()?;
        sandbox.set_secret("kv", "api-key", "broken for ever")?;
        vm.recorded(seq, HistoryEvent::RolledBack, None)?;
        reads(vm, "second")?;
        assert_eq!(vm.engine.serving_ids(&app)?, after, "the old containers themselves are started again");

        sandbox.set_secret("kv", "api-key", "third")?;
        reads(vm, "third")?;
        assert_eq!(changed(&after, &vm.engine.serving_ids(&app)?), ["api"]);
        Ok(())
    });
}

#[test]
fn while_the_newest_release_is_in_quarantine_what_runs_follows_its_rotations() {
    with_secrets("behind", &["*"], |vm, sandbox| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let v2 = vm.publish_version("v2", &[("MODE", "crash")])?;
        vm.recorded(0, HistoryEvent::RolledBack, Some(&v2.release))?;
        reads(vm, "first")?;
        let seq = vm.last_seq()?;

        sandbox.set_secret("kv", "api-key", "second")?;
        vm.recorded(seq, HistoryEvent::RolledBack, Some(&v2.release))?;
        vm.recorded(seq, HistoryEvent::Live, Some(&v1.release))?;
        reads(vm, "second")?;
        let quarantined = vm.status()?.reason.context("no reason")?;
        ensure!(quarantined.contains(v2.release.short()), "{quarantined}");

        // The newest is examined first and is in quarantine still: what runs is not touched.
        let before = vm.engine.serving_ids(vm.app.as_str())?;
        let seq = vm.last_seq()?;
        vm.kill_agent()?;
        vm.start_agent()?;
        sandbox.set_secret("kv", "api-key", "third")?;
        reads(vm, "third")?;
        assert_eq!(changed(&before, &vm.engine.serving_ids(vm.app.as_str())?), ["api"]);
        vm.live(&vm.publish_version("v3", &[])?)?;
        ensure!(vm.last_seq()? > seq, "nothing was recorded");
        reads(vm, "third")
    });
}

/// Which secrets a release has is found out while it is examined: one that does not come so far is no news to itself.
#[test]
fn a_release_whose_image_is_out_of_reach_is_tried_again_with_pauses() {
    with_secrets("pauses", &["*"], |vm, _| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        reads(vm, "first")?;
        let closed = TcpListener::bind("127.0.0.1:0")?;
        let image = format!("{}/sample/api@{}", closed.local_addr()?, Digest::of(b"never pushed"));
        let text = artifact::compose_text(vm)?;
        let named = text.lines().find(|line| line.contains("/sample/api")).context("no image")?.trim();
        let text = text.replace(named, &format!("image: {image}"));
        let tries = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&tries);
        std::thread::spawn(move || {
            for connection in closed.incoming() {
                drop(connection);
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        });
        let conf = std::fs::read(vm.project.directory().join("proxy.conf"))?;
        artifact::push(vm, BUNDLE, &[Layer::compose(&text), Layer::new(FILE, "proxy.conf", conf)])?;
        eventually(SOON, "a pause of 3 s between two tries", || {
            let tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = tries.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
            ensure!(pause >= Duration::from_secs(3), "{} tries, no pause over {pause:?}", tries.len());
            Ok(())
        })?;
        let next = vm.status()?.next;
        ensure!(next.contains("is tried again by itself"), "`status` sends people elsewhere: {next}");
        Ok(())
    });
}

#[test]
fn after_a_power_cut_the_same_containers_start_when_their_secrets_are_there() {
    with_secrets("power", &["*"], |vm, sandbox| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        reads(vm, "first")?;
        let app = vm.app.to_string();
        let before = vm.cut_power()?;
        vm.start_agent()?;
        eventually(SOON, "the api waits for its secrets", || {
            let status = vm.status()?;
            let reason = status.reason.context("no reason")?;
            ensure!(reason.contains("waits for its secrets"), "{reason}");
            Ok(())
        })?;
        vm.start_fetcher(sandbox)?;
        reads(vm, "first")?;
        eventually(SOON, "the same containers serve", || {
            let after = vm.engine.serving_ids(&app)?;
            ensure!(after == before, "{after:?}, not {before:?}");
            Ok(())
        })
    });
}

#[test]
fn a_program_that_reads_only_its_environment_gets_its_secrets_there() {
    with_secrets("environment", &["*"], |vm, sandbox| {
        vm.project.edit("compose.yaml", ", SECRET_FILE: /run/secrets/API_KEY }", " }")?;
        vm.project.edit(
            "compose.yaml",
            "    secrets: [API_KEY]",
            "    secrets: [API_KEY]\n    x-landfall: { secrets_env: [API_KEY] }",
        )?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        reads(vm, "first")?;
        sandbox.set_secret("kv", "api-key", "second: \"quoted\", $HOME and $$")?;
        reads(vm, "second: \"quoted\", $HOME and $$")?;
        let api = vm.engine.serving_ids(vm.app.as_str())?["api"].clone();
        let known = vm.engine.inspect(&api)?.to_string();
        ensure!(known.contains("API_KEY=/run/secrets/API_KEY") && !known.contains("second"), "{known}");
        Ok(())
    });
}

/// The values of a life with a rotation, a return and a power cut are in memory and nowhere else.
#[test]
fn no_value_is_on_a_disk() {
    with_secrets("canary", &["*"], |vm, sandbox| {
        let canary = format!("canary-{}-", std::process::id());
        let began = vm.directory().join("began");
        std::fs::write(&began, "")?;
        let url = sandbox.vault_url("kv")?;
        vm.configure_vaults(&json!({ "default": { "url": url, "refresh": "1s", "cache": "on" } }))?;
        vm.kill_fetcher()?;
        vm.give_cache_key()?;
        vm.start_fetcher(sandbox)?;
        let value = |n: u32| format!("{canary}{n}");
        sandbox.set_secret("kv", "api-key", &value(1))?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        reads(vm, &value(1))?;
        let seq = vm.last_seq()?;
        sandbox.set_secret("kv", "api-key", &format!("broken {}", value(2)))?;
        vm.recorded(seq, HistoryEvent::RolledBack, None)?;
        sandbox.set_secret("kv", "api-key", &value(3))?;
        reads(vm, &value(3))?;
        vm.kill_fetcher()?;
        vm.kill_agent()?;
        vm.start_agent()?;
        vm.start_fetcher(sandbox)?;
        eventually(SOON, "the new agent knows the secrets", || {
            let seen = vm.landfall(&["secrets"])?;
            ensure!(seen.stdout.contains("API_KEY") && !seen.stdout.contains(&canary), "{seen:?}");
            Ok(())
        })?;

        // And once more as after a boot without the vault: from what is sealed.
        let app = vm.app.to_string();
        let before = vm.cut_power()?;
        sandbox.refuse(&Service::vault("kv"))?;
        vm.start_fetcher(sandbox)?;
        vm.start_agent()?;
        reads(vm, &value(3))?;
        assert_eq!(vm.engine.serving_ids(&app)?, before, "the same containers serve");
        let seen = vm.landfall(&["secrets"])?;
        ensure!(seen.code == 10 && seen.stdout.contains("from the cache: a vault gave it last at"), "{seen:?}");
        sandbox.listen(&Service::vault("kv"))?;
        eventually(SOON, "the vault has confirmed it", || {
            let seen = vm.landfall(&["secrets"])?;
            ensure!(seen.code == 0 && !seen.stdout.contains("from the cache"), "{seen:?}");
            Ok(())
        })?;
        assert_eq!(vm.engine.serving_ids(&app)?, before, "and nothing was replaced");

        let swap = std::fs::read_to_string("/proc/swaps")?;
        let swap: Vec<PathBuf> =
            swap.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        let places = [vm.root(), vm.project.directory().to_owned(), vm.engine.data_root()?];
        let system = ["/var", "/etc", "/tmp"].map(PathBuf::from);
        let places = places.into_iter().chain(system);
        let logs = ["landfall-agent.log", "landfall-secrets-fetcher.log", "landfall-image-watcher.log"];
        let places: Vec<_> = places.chain(logs.map(|log| vm.directory().join(log))).collect();
        let memory = vm.layout().secrets();
        let mut on_disk = found(&canary, &places, Some(&began))?;
        on_disk.retain(|path| !path.starts_with(&memory));
        on_disk.extend(found(&canary, &swap, None)?);
        ensure!(on_disk.is_empty(), "a value is in {on_disk:?}");
        ensure!(!found(&canary, &[memory], None)?.is_empty(), "it is not where it belongs");
        // And what would find it does find it.
        let cache = vm.layout().secrets_cache();
        ensure!(cache.join(vm.app.as_str()).read_dir()?.count() > 1, "nothing is sealed");
        for planted in [vm.root().join("var/lib/landfall/agent/planted"), cache.join("planted")] {
            std::fs::write(&planted, value(3))?;
            ensure!(
                found(&canary, &places, Some(&began))?.contains(&planted),
                "the search does not find `{}`",
                planted.display()
            );
        }
        Ok(())
    });
}

/// Files that have this text in them; with `after`, of those that were changed, whatever they say, after that one was.
fn found(text: &str, places: &[PathBuf], after: Option<&Path>) -> Result<Vec<PathBuf>> {
    // Without places it would look here.
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut find = Command::new("find");
    // Of links only those that are named here are followed.
    find.arg("-H").args(places).args(["-type", "f"]);
    if let Some(after) = after {
        find.arg("-cnewer").arg(after);
    }
    let output = find.args(["-exec", "grep", "-l", "-a", "-F", "-s", "-e", text, "--", "{}", "+"]).output();
    let lines = String::from_utf8(output.context("cannot run `find`")?.stdout)?;
    Ok(lines.lines().map(PathBuf::from).collect())
}

#[test]
fn a_release_cannot_name_a_secret_that_is_not_this_machines() {
    with_secrets("scope", &["api-*", "store-*"], |vm, sandbox| {
        sandbox.set_secret("kv", "prod-api-key", "production's own")?;
        vm.live(&vm.publish_version("v1", &[])?)?;
        vm.project.edit("compose.yaml", "name: api-key", "name: prod-api-key")?;
        vm.publish()?;
        let refused = vm.recorded(0, HistoryEvent::Refused, None)?;
        let reason = refused.reason.context("no reason")?;
        ensure!(
            reason.contains("`api` needs secret `prod-api-key`") && reason.contains("`vaults.default.allow`"),
            "{reason}"
        );
        reads(vm, "first")?;
        let asked = sandbox.log()?;
        ensure!(!format!("{asked:?}").contains("prod-api-key"), "the vault was asked for it");
        Ok(())
    });
}
