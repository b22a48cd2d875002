//! The secrets-fetcher, the shipped binary, against the sandbox of Azure. The test plays the agent: it writes what is wanted and reads
//! the index and the files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_core::secrets::SecretNeed;
use landfall_tests::fetcher::{Fetcher, need};
use landfall_tests::sandbox::fault::Service;
use landfall_tests::sandbox::log::{of, statuses};
use landfall_tests::sandbox::secret::{Attributes, MAX_VALUE_BYTES};
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::wait::{closely, eventually, until};

#[path = "secrets/cache.rs"]
mod cache;
#[path = "secrets/faults.rs"]
mod faults;
#[path = "secrets/machine.rs"]
mod machine;
#[path = "secrets/vaults.rs"]
mod vaults;

const SOON: Duration = Duration::from_secs(20);
const ONE: &str = "vaults:\n  default: { url: 'https://one.vault.azure.net', refresh: 1s }\n";

/// A fetcher with the vault `one`, which the machine may read.
fn started() -> Result<Fetcher> {
    let mut fetcher = Fetcher::new(&["one"], ONE)?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.start()?;
    Ok(fetcher)
}

fn pinned(need: &SecretNeed, version: &str) -> Result<SecretNeed> {
    let versions = need.files.keys().map(|name| (name.clone(), version.to_owned())).collect();
    need.pinned(&versions).context("a version is missing")
}

#[test]
fn a_secret_becomes_a_file() -> Result<()> {
    let mut fetcher = Fetcher::new(&["one"], ONE)?;
    fetcher.level = "trace";
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.start()?;
    let version = fetcher.sandbox.set_secret("one", "db-password", "p-a_ss:wörd\n")?;
    let need = need("api", &[("DB_PASSWORD", "db-password")])?;
    let request = fetcher.want("web", from_ref(&need))?;
    let answer = fetcher.answer("web", &need, |answer| answer.set.is_some())?;
    let set = answer.set.clone().context("no set")?;
    assert_eq!(fetcher.read("web", "api", &set, "DB_PASSWORD")?, "p-a_ss:wörd\n");
    assert_eq!((answer.files["DB_PASSWORD"].version.as_str(), answer.problem), (version.as_str(), None));
    assert_eq!(fetcher.index("web")?.request, request);
    let file = fetcher.file("web", "api", &set, "DB_PASSWORD");
    assert_eq!(fs::metadata(&file)?.mode() & 0o7777, 0o444);
    for directory in file.ancestors().skip(1).take(4) {
        assert_eq!(fs::metadata(directory)?.mode() & 0o7777, 0o700, "{}", directory.display());
    }
    // Neither the value nor a token, however much is logged.
    let log = fetcher.log(100_000);
    assert!(log.contains("azure_core") || log.contains("reqwest") || log.lines().count() > 50, "it logs little: {log}");
    assert!(!log.contains("p-a_ss") && !log.contains("eyJ"), "{log}");
    // A challenge, the token once, the secret.
    let log = fetcher.sandbox.log()?;
    assert_eq!(statuses(&of(&log, &Service::Imds)), [200]);
    assert_eq!(statuses(&of(&log, &Service::vault("one")))[..2], [401, 200]);
    Ok(())
}

#[test]
fn a_rotation_is_another_set_and_the_old_one_stays() -> Result<()> {
    let mut fetcher = started()?;
    let first = fetcher.sandbox.set_secret("one", "db", "first")?;
    let key = fetcher.sandbox.set_secret("one", "key", &"k".repeat(MAX_VALUE_BYTES))?;
    let both = need("api", &[("DB", "db"), ("KEY", "key")])?;
    let mut owned = need("worker", &[("DB", "db")])?;
    owned.files.values_mut().for_each(|file| (file.uid, file.gid, file.mode) = (Some(1000), Some(1001), Some(0o440)));
    fetcher.want("web", &[both.clone(), owned.clone()])?;
    let old = fetcher.set("web", &both)?;
    let worker = fetcher.set("web", &owned)?;
    let data = fs::metadata(fetcher.file("web", "worker", &worker, "DB"))?;
    assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777), (1000, 1001, 0o440));

    let second = fetcher.sandbox.set_secret("one", "db", "second")?;
    let answer = fetcher.answer("web", &both, |answer| answer.set.as_ref().is_some_and(|set| *set != old))?;
    let new = answer.set.clone().context("no set")?;
    assert_eq!(fetcher.read("web", "api", &new, "DB")?, "second");
    assert_eq!(fetcher.read("web", "api", &new, "KEY")?.len(), MAX_VALUE_BYTES);
    assert_eq!(fetcher.read("web", "api", &old, "DB")?, "first");
    assert!(fetcher.log(100).contains(&format!("db {first} -> {second}")), "{}", fetcher.log(100));

    // Two versions of one need, as while a rollout runs: the old one is there and asks for nothing.
    let versions: BTreeMap<String, String> = [("DB".to_owned(), first), ("KEY".to_owned(), key)].into();
    let before = both.pinned(&versions).context("a version is missing")?;
    let request = fetcher.want("web", &[both.clone(), before.clone()])?;
    assert_eq!(fetcher.set("web", &before)?, old);
    let index = fetcher.index("web")?;
    assert_eq!((index.request, index.needs.len()), (request, 2));
    assert!(
        !fetcher.sandbox.log()?.iter().any(|entry| entry.path().ends_with(&versions["DB"])),
        "it was laid down already"
    );
    Ok(())
}

#[test]
fn one_refresh_asks_each_secret_once_and_a_new_wish_does_not_wait() -> Result<()> {
    let settings = ONE.replace("refresh: 1s", "refresh: 1h");
    let mut fetcher = Fetcher::new(&["one"], &settings)?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    for name in ["a", "b", "c", "d", "e", "f"] {
        fetcher.sandbox.set_secret("one", name, name)?;
    }
    let all = need("api", &[("A", "a"), ("B", "b"), ("C", "c"), ("D", "d"), ("E", "e"), ("F", "f")])?;
    let some = need("worker", &[("A", "a"), ("ALSO_A", "a"), ("F", "f")])?;
    fetcher.want("web", &[all.clone(), some.clone()])?;
    fetcher.want("other", from_ref(&some))?;
    fetcher.start()?;
    for (app, need) in [("web", &all), ("web", &some), ("other", &some)] {
        fetcher.set(app, need)?;
    }
    let log = fetcher.sandbox.log()?;
    let good = of(&log, &Service::vault("one")).into_iter().filter(|entry| entry.status == Some(200)).count();
    assert_eq!((good, statuses(&of(&log, &Service::Imds))), (6, vec![200]), "{log:?}");
    fetcher.sandbox.forget_log()?;
    // Its vault is due in an hour.
    let new = need("api", &[("B", "b")])?;
    fetcher.want("other", &[some, new.clone()])?;
    fetcher.set("other", &new)?;
    assert_eq!(statuses(&fetcher.sandbox.log()?), [200]);
    Ok(())
}

#[test]
fn after_a_boot_exactly_the_pinned_set_is_there_again() -> Result<()> {
    let mut fetcher = started()?;
    let first = fetcher.sandbox.set_secret("one", "db", "first")?;
    let newest = need("api", &[("DB", "db")])?;
    fetcher.want("web", from_ref(&newest))?;
    let set = fetcher.set("web", &newest)?;
    fetcher.kill()?;
    // Nothing is asked for what is there.
    let before = pinned(&newest, &first)?;
    fetcher.want("web", from_ref(&before))?;
    fetcher.sandbox.forget_log()?;
    fetcher.start()?;
    assert_eq!(fetcher.set("web", &before)?, set);
    assert!(fetcher.sandbox.log()?.is_empty());

    fetcher.kill()?;
    fetcher.boot()?;
    fetcher.sandbox.set_secret("one", "db", "second")?;
    fetcher.start()?;
    let answer = fetcher.answer("web", &before, |answer| answer.set.is_some())?;
    assert_eq!((answer.set.as_deref(), answer.files["DB"].version.as_str()), (Some(set.as_str()), first.as_str()));
    assert_eq!(fetcher.read("web", "api", &set, "DB")?, "first");
    assert_eq!(fs::read_dir(fetcher.layout().secret_set(&"web".parse()?, "api", "x").with_file_name(""))?.count(), 1);
    Ok(())
}

#[test]
fn a_kill_leaves_no_half_set() -> Result<()> {
    let mut fetcher = Fetcher::new(&["one"], ONE)?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.sandbox.set_secret("one", "db", &"x".repeat(MAX_VALUE_BYTES))?;
    let files: Vec<(String, &str)> = (0..200).map(|number| (format!("FILE_{number}"), "db")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, secret)| (name.as_str(), *secret)).collect();
    let need = need("api", &files)?;
    fetcher.want("web", from_ref(&need))?;
    let service = fetcher.layout().secrets().join("web/api");
    let mut unfinished = 0;
    for _ in 0..8 {
        fetcher.start()?;
        closely(SOON, "it begins to lay down", || fs::read_dir(&service).map(drop).context("nothing yet"))?;
        fetcher.kill()?;
        for entry in fs::read_dir(&service)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                unfinished += 1;
                continue;
            }
            assert_eq!(fs::read_dir(&path)?.count(), files.len(), "{}", path.display());
        }
        if let Ok(index) = fetcher.index("web") {
            let set = index.needs.values().find_map(|answer| answer.set.clone());
            ensure!(set.is_none_or(|set| service.join(set).is_dir()), "the index names a set that is not there");
        }
        if unfinished > 2 {
            break;
        }
        fetcher.boot()?;
    }
    fetcher.start()?;
    let set = fetcher.set("web", &need)?;
    assert_eq!(fetcher.read("web", "api", &set, "FILE_199")?.len(), MAX_VALUE_BYTES);
    let left = fs::read_dir(&service)?.filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name() != *set)).count();
    assert_eq!(left, 0, "what was unfinished is removed");
    eprintln!("{unfinished} kills met an unfinished set");
    Ok(())
}

#[test]
fn only_what_this_machine_may_read_is_asked_for() -> Result<()> {
    let settings = "vaults:\n  default: { url: 'https://one.vault.azure.net', refresh: 1s, allow: ['stage-*'] }\n";
    let mut fetcher = Fetcher::new(&["one"], settings)?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.sandbox.set_secret("one", "prod-db", "secret")?;
    fetcher.sandbox.set_secret("one", "stage-db", "secret")?;
    fetcher.start()?;
    let outside = need("api", &[("DB", "stage-db"), ("PROD", "prod-db")])?;
    let unknown = need("worker", &[("DB", "kv2/stage-db")])?;
    fetcher.want("web", &[outside.clone(), unknown.clone()])?;
    let told = fetcher.answer("web", &outside, |answer| answer.problem.is_some())?.problem.context("no problem")?;
    assert!(told.contains("`prod-db`") && told.contains("`vaults.default.allow` in landfall.yaml"), "{told}");
    let told = fetcher.answer("web", &unknown, |answer| answer.problem.is_some())?.problem.context("no problem")?;
    assert!(told.contains("add `vaults.kv2` to landfall.yaml"), "{told}");
    assert!(fetcher.sandbox.log()?.is_empty(), "nobody was asked");
    // The settings are read again by themselves.
    fs::write(fetcher.layout().config_file(), settings.replace("'stage-*'", "'*'"))?;
    fetcher.set("web", &outside)?;
    Ok(())
}

#[test]
fn nothing_is_written_where_it_could_reach_a_disk() -> Result<()> {
    let mut fetcher = started()?;
    fetcher.sandbox.set_secret("one", "db", "secret")?;
    let need = need("api", &[("DB", "db")])?;
    fetcher.kill()?;
    fetcher.want("web", from_ref(&need))?;
    // Beside the memory: another root, on the disk.
    let disk = tempfile::tempdir_in(landfall_tests::programs::directory()?)?;
    let layout = landfall_core::layout::Layout::new(disk.path());
    fs::create_dir_all(layout.secrets())?;
    copy(&fetcher.layout().config_file(), &layout.config_file())?;
    copy(&fetcher.layout().wanted(&"web".parse()?), &layout.wanted(&"web".parse()?))?;
    fetcher.start_at(disk.path())?;
    let index = layout.secrets_index(&"web".parse()?);
    eventually(SOON, "the refusal", || {
        let text = fs::read_to_string(&index)?;
        ensure!(text.contains("is not in memory"), "{text}");
        Ok(())
    })?;
    assert_eq!(fs::read_dir(layout.secrets())?.count(), 0);
    assert!(fetcher.sandbox.log()?.iter().all(|entry| entry.status != Some(200)), "nothing was fetched");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("no parent")?)?;
    Ok(fs::copy(from, to).map(drop)?)
}

#[test]
fn a_secret_is_used_in_its_time_only() -> Result<()> {
    let mut fetcher = started()?;
    fetcher.sandbox.set_secret("one", "a", "v")?;
    let need = need("api", &[("A", "a")])?;
    fetcher.want("web", from_ref(&need))?;
    let set = fetcher.set("web", &need)?;
    for (attributes, wanted) in [
        (Attributes { expires: Some(946_684_800), ..Attributes::default() }, "`a` expired at 2000-01-01T00:00:00Z"),
        (
            Attributes { not_before: Some(4_102_444_800), ..Attributes::default() },
            "`a` is not valid before 2100-01-01T00:00:00Z",
        ),
    ] {
        fetcher.sandbox.describe("one", "a", attributes)?;
        let told = fetcher.answer("web", &need, |a| a.problem.as_ref().is_some_and(|p| p.contains(wanted)))?;
        assert_eq!(told.set.as_ref(), Some(&set));
    }
    fetcher.sandbox.describe("one", "a", Attributes { expires: Some(4_102_444_800), ..Attributes::default() })?;
    let answer = fetcher.answer("web", &need, |answer| answer.problem.is_none())?;
    assert_eq!(answer.files["A"].expires.as_deref(), Some("2100-01-01T00:00:00.000Z"));
    Ok(())
}

#[test]
fn without_needs_it_is_idle_and_ends_when_it_is_told() -> Result<()> {
    let mut fetcher = Fetcher::new(&["one"], "apps: {}\n")?;
    fetcher.start()?;
    fetcher.want("web", &[])?;
    until(Instant::now() + Duration::from_millis(500));
    fetcher.check()?;
    assert!(fetcher.stop()?.success());
    assert!(fetcher.sandbox.log()?.is_empty());
    assert!(!fetcher.layout().secrets_index(&"web".parse()?).exists());
    Ok(())
}

/// What containers see live is what `wanted` says, whole; the newest is laid beside it and not shown.
#[test]
fn a_live_directory_shows_what_is_wanted_also_after_a_boot_and_a_kill() -> Result<()> {
    let mut fetcher = started()?;
    let first = fetcher.sandbox.set_secret("one", "db", "first")?;
    let app = "web".parse()?;
    let newest = need("api", &[("DB", "db"), ("ALSO", "db")])?.served_live();
    let directory = newest.live.clone().context("no directory")?;
    let live = fetcher.layout().live_secrets(&app, "api", &directory);
    let shows = |fetcher: &Fetcher, wanted: &str| {
        eventually(SOON, &format!("containers see `{wanted}`"), || {
            for name in ["DB", "ALSO"] {
                let found = fs::read_to_string(live.join(name))?;
                ensure!(found == wanted, "they see `{found}`");
            }
            let seen = fetcher.index("web")?.live.remove(&directory).context("the index does not say what")?;
            ensure!(fs::read_link(live.join("..data"))? == Path::new(&format!("..{seen}")), "the index says `{seen}`");
            Ok(())
        })
    };
    fetcher.want_live(&app, from_ref(&newest), &[])?;
    let old = fetcher.set("web", &newest)?;
    assert!(!live.join("DB").exists(), "nobody said which");
    let before = pinned(&newest, &first)?;
    fetcher.want_live(&app, &[newest.clone(), before.clone()], &[(&directory, &old)])?;
    shows(&fetcher, "first")?;
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.mode() & 0o7777);
    assert_eq!((mode(&live)?, mode(&live.join("..data"))?, mode(&live.join("DB"))?), (0o755, 0o755, 0o444));
    assert_eq!(mode(live.parent().context("no parent")?)?, 0o700);

    let second = fetcher.sandbox.set_secret("one", "db", "second")?;
    let answer = fetcher.answer("web", &newest, |answer| answer.set.as_ref().is_some_and(|set| *set != old))?;
    let new = answer.set.context("no set")?;
    shows(&fetcher, "first")?;
    fetcher.want_live(&app, &[newest.clone(), before.clone()], &[(&directory, &new)])?;
    shows(&fetcher, "second")?;
    // And back.
    let after = pinned(&newest, &second)?;
    fetcher.want_live(&app, &[newest.clone(), before.clone(), after], &[(&directory, &old)])?;
    shows(&fetcher, "first")?;

    fetcher.kill()?;
    fs::write(live.join(".tmp-1-1"), "left by a kill")?;
    fetcher.start()?;
    shows(&fetcher, "first")?;
    eventually(SOON, "nothing is left of the kill", || {
        ensure!(!live.join(".tmp-1-1").exists(), "it is there");
        Ok(())
    })?;
    fetcher.kill()?;
    fetcher.boot()?;
    fetcher.start()?;
    shows(&fetcher, "first")?;
    fetcher.stop()?;
    Ok(())
}
