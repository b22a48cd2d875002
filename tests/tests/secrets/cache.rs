//! A boot while the vault is out of reach: what was sealed stands in, says so, and gives way to the vault when that answers. A machine
//! that was shut out gets nothing of it, and each other reason not to use it is told.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command as Run;
use std::slice::from_ref;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use landfall_core::secrets::{NeedAnswer, SecretNeed};
use landfall_tests::fetcher::{Fetcher, need};
use landfall_tests::programs;
use landfall_tests::sandbox::Sandbox;
use landfall_tests::sandbox::fault::{Fault, Service, Trouble};
use landfall_tests::sandbox::secret::Attributes;
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::wait::{closely, eventually};

use super::{SOON, pinned};

fn settings(more: &str) -> String {
    format!("vaults:\n  default: {{ url: 'https://one.vault.azure.net', refresh: 1s{more} }}\n")
}

/// A fetcher with a key and these settings; `a` is `first` in the vault that it may read.
fn with_cache(more: &str) -> Result<(Fetcher, SecretNeed, String)> {
    let mut fetcher = Fetcher::new(&["one"], &settings(more))?;
    fetcher.give_key(7)?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    let version = fetcher.sandbox.set_secret("one", "a", "the-first-value")?;
    fetcher.start()?;
    Ok((fetcher, need("api", &[("A", "a")])?, version))
}

/// As above, with its set laid down and sealed.
fn sealed() -> Result<(Fetcher, SecretNeed, String, String)> {
    let (mut fetcher, newest, version) = with_cache(", cache: on")?;
    fetcher.want("web", from_ref(&newest))?;
    // Sealed before it is laid down.
    let set = fetcher.set("web", &newest)?;
    Ok((fetcher, newest, version, set))
}

fn vault() -> Service {
    Service::vault("one")
}

/// kill -9, and the memory is empty.
fn cut_power(fetcher: &mut Fetcher) -> Result<()> {
    fetcher.kill()?;
    fetcher.boot()
}

fn is_from_cache(answer: &NeedAnswer) -> bool {
    answer.set.is_some() && answer.from_cache_at.is_some()
}

/// It has none, for this reason.
fn waits(fetcher: &mut Fetcher, need: &SecretNeed, words: &str) -> Result<String> {
    let says = |answer: &NeedAnswer| answer.problem.as_ref().is_some_and(|problem| problem.contains(words));
    let answer = fetcher.answer("web", need, says)?;
    ensure!(answer.set.is_none() && answer.from_cache_at.is_none(), "it has a set: {answer:?}");
    answer.problem.context("no problem")
}

#[test]
fn after_a_boot_without_the_vault_the_same_set_is_there_and_gives_way_to_it() -> Result<()> {
    let (mut fetcher, newest, version, set) = sealed()?;
    ensure!(fetcher.sealed()?.len() == 2, "{:?}", fetcher.sealed()?);
    let exact = pinned(&newest, &version)?;
    cut_power(&mut fetcher)?;
    fetcher.sandbox.refuse(&vault())?;
    fetcher.start()?;
    let answer = fetcher.answer("web", &newest, is_from_cache)?;
    assert_eq!((answer.set.as_ref(), &answer.files["A"].version), (Some(&set), &version));
    assert!(answer.problem.is_some_and(|problem| problem.contains("Connection refused")));
    assert_eq!(fetcher.read("web", "api", &set, "A")?, "the-first-value");
    assert!(fetcher.log(50).contains("the service has its secrets as they were sealed at "), "{}", fetcher.log(50));
    // What comes later and names its version, while nobody is asked.
    fetcher.want("web", &[newest.clone(), exact.clone()])?;
    assert_eq!(fetcher.answer("web", &exact, is_from_cache)?.set.as_ref(), Some(&set));
    fetcher.kill()?;
    fetcher.start()?;
    let laid = fs::metadata(fetcher.file("web", "api", &set, "A"))?;
    for need in [&newest, &exact] {
        assert_eq!(fetcher.answer("web", need, is_from_cache)?.set.as_ref(), Some(&set));
    }
    fetcher.sandbox.listen(&vault())?;
    for need in [&newest, &exact] {
        let answer = fetcher.answer("web", need, |answer| answer.problem.is_none())?;
        assert_eq!((answer.set.as_ref(), answer.from_cache_at), (Some(&set), None));
    }
    let now = fs::metadata(fetcher.file("web", "api", &set, "A"))?;
    assert_eq!((laid.ino(), laid.mtime_nsec()), (now.ino(), now.mtime_nsec()), "nothing was laid down again");
    let asked = fetcher.sandbox.log()?;
    assert!(asked.iter().any(|entry| entry.path().ends_with(&version)), "the exact version was never asked for");
    assert!(!fetcher.log(1000).contains("the-first-value"));
    Ok(())
}

#[test]
fn the_newest_is_what_it_was_and_the_way_back_too() -> Result<()> {
    let (mut fetcher, newest, first, old) = sealed()?;
    fetcher.sandbox.set_secret("one", "a", "second")?;
    let answer = fetcher.answer("web", &newest, |answer| answer.set.as_ref() != Some(&old))?;
    let exact = pinned(&newest, &first)?;
    fetcher.want("web", &[newest.clone(), exact.clone()])?;
    fetcher.set("web", &exact)?;
    cut_power(&mut fetcher)?;
    fetcher.sandbox.fault(Fault::of_vault("one", 503, None).at_the_door())?;
    fetcher.start()?;
    assert_eq!(fetcher.answer("web", &newest, is_from_cache)?.set, answer.set);
    assert_eq!(fetcher.answer("web", &exact, is_from_cache)?.set.as_ref(), Some(&old));
    assert_eq!(fetcher.read("web", "api", &old, "A")?, "the-first-value");
    Ok(())
}

/// By whom it is shut out, and how it reads.
struct Shut {
    name: &'static str,
    by: fn(&Sandbox) -> Result<()>,
    says: &'static str,
}

const SHUT: [Shut; 6] = [
    Shut { name: "a role", by: |s| s.grant("one", "system", Grant::NOTHING), says: "may not read `a`" },
    Shut { name: "its deletion", by: |s| s.delete("one", "a"), says: "`a` " },
    Shut {
        name: "disabling",
        by: |s| s.describe("one", "a", Attributes { enabled: false, ..Attributes::default() }),
        says: "is disabled",
    },
    Shut {
        name: "the identity taken away",
        by: |s| s.fault(Fault::of_imds(400, None)),
        says: "this machine has not the identity `system`",
    },
    Shut { name: "the tenant", by: |s| answers(s, 401, "Unauthorized"), says: "does not take the token" },
    Shut {
        name: "a firewall",
        by: |s| answers(s, 403, "ForbiddenByFirewall"),
        says: "lets nobody in from this network",
    },
];

fn answers(sandbox: &Sandbox, status: u16, code: &str) -> Result<()> {
    let body = format!(r#"{{"error":{{"code":"Forbidden","message":"no","innererror":{{"code":"{code}"}}}}}}"#);
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    sandbox.fault(Fault::new(vault(), Trouble::Answer { status, headers, body }))
}

#[test]
fn a_machine_that_was_shut_out_gets_nothing_of_it_also_when_nobody_answers_later() -> Result<()> {
    SHUT.iter().try_for_each(|Shut { name, by, says }| shut(*by, says).context(*name))
}

fn shut(by: fn(&Sandbox) -> Result<()>, says: &str) -> Result<()> {
    let (mut fetcher, newest, version, _) = sealed()?;
    let exact = pinned(&newest, &version)?;
    fetcher.want("web", &[newest.clone(), exact.clone()])?;
    fetcher.set("web", &exact)?;
    cut_power(&mut fetcher)?;
    by(&fetcher.sandbox)?;
    fetcher.start()?;
    for need in [&newest, &exact] {
        waits(&mut fetcher, need, says)?;
    }
    ensure!(fetcher.sealed()?.is_empty(), "it is still there: {:?}", fetcher.sealed()?);
    fetcher.kill()?;
    fetcher.sandbox.refuse(&vault())?;
    fetcher.sandbox.clear_faults()?;
    fetcher.start()?;
    for need in [&newest, &exact] {
        let problem = waits(&mut fetcher, need, "Connection refused")?;
        ensure!(!problem.contains("sealed"), "{problem}");
    }
    Ok(())
}

#[test]
fn without_a_boot_a_refusal_takes_away_what_is_sealed_and_no_set() -> Result<()> {
    let (mut fetcher, newest, version, set) = sealed()?;
    fetcher.want("web", &[newest.clone(), pinned(&newest, &version)?])?;
    fetcher.set("web", &pinned(&newest, &version)?)?;
    fetcher.sandbox.grant("one", "system", Grant::NOTHING)?;
    assert_eq!(fetcher.answer("web", &newest, |answer| answer.problem.is_some())?.set.as_ref(), Some(&set));
    assert_eq!(fetcher.sealed()?.len(), 0);
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.set("web", &newest)?;
    assert_eq!(fetcher.sealed()?.len(), 2);
    Ok(())
}

type Spoil = fn(&Fetcher) -> Result<()>;

#[test]
fn each_reason_not_to_use_it_is_told_and_the_vault_ends_it() -> Result<()> {
    let (mut fetcher, newest, _, set) = sealed()?;
    let spoils: [(Spoil, &str); 6] = [
        (|f| f.give_key(8), "it was sealed with another key than `landfall-cache-key` is now"),
        (|f| Ok(fs::remove_dir_all(f.credentials())?), "the fetcher was given no `landfall-cache-key`"),
        (
            |f| Ok(fs::write(f.layout().machine_id(), "4d1219c7c4c5404aaa1f6d2a48adfda4\n")?),
            "it was sealed on another machine",
        ),
        (
            |f| {
                let file = f.sealed()?.into_iter().map(|path| Ok((fs::read(&path)?, path)));
                for (mut bytes, path) in file.collect::<Result<Vec<_>>>()? {
                    *bytes.last_mut().context("it is empty")? ^= 1;
                    fs::write(path, bytes)?;
                }
                Ok(())
            },
            "it was changed since it was sealed",
        ),
        (
            |f| f.sealed()?.into_iter().try_for_each(|path| Ok(fs::write(path, "{\"format\":1")?)),
            "it is cut off or no sealed file",
        ),
        (
            |f| {
                fs::write(f.layout().config_file(), settings(", cache: on, cache_age: 1s"))?;
                let sealed = f.sealed()?.into_iter().map(|path| Ok(fs::metadata(path)?.modified()?));
                let newest = sealed.collect::<Result<Vec<_>>>()?.into_iter().max().context("nothing is sealed")?;
                eventually(SOON, "it is too old", || {
                    ensure!(newest.elapsed()? > Duration::from_millis(1100));
                    Ok(())
                })
            },
            "longer ago than `cache_age` allows",
        ),
    ];
    for (spoil, words) in spoils {
        cut_power(&mut fetcher)?;
        fetcher.sandbox.refuse(&vault())?;
        spoil(&fetcher)?;
        fetcher.start()?;
        let problem = waits(&mut fetcher, &newest, words).context(words)?;
        eprintln!("{problem}");
        ensure!(problem.contains("Connection refused"), "{problem}");
        fetcher.sandbox.listen(&vault())?;
        assert_eq!(fetcher.set("web", &newest)?, set);
        fetcher.kill()?;
        fetcher.give_key(7)?;
        fs::write(fetcher.layout().config_file(), settings(", cache: on"))?;
        let before = written(&fetcher)?;
        fetcher.start()?;
        eventually(SOON, "all of it is sealed anew", || {
            let now = written(&fetcher)?;
            ensure!(now.len() == 2 && now.iter().all(|file| !before.contains(file)), "{now:?}, before {before:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What is sealed, and when it was written.
fn written(fetcher: &Fetcher) -> Result<Vec<(PathBuf, SystemTime)>> {
    fetcher.sealed()?.into_iter().map(|path| Ok((path.clone(), fs::metadata(path)?.modified()?))).collect()
}

#[test]
fn off_is_off_at_once_and_auto_is_on_where_there_is_a_tpm2() -> Result<()> {
    let (mut fetcher, newest, _) = with_cache("")?;
    fetcher.want("web", from_ref(&newest))?;
    fetcher.set("web", &newest)?;
    assert_eq!(fetcher.sealed()?.len(), 0, "without a TPM2");
    fetcher.kill()?;
    fs::create_dir_all(fetcher.layout().tpm2())?;
    fetcher.start()?;
    eventually(SOON, "it is sealed", || {
        ensure!(fetcher.sealed()?.len() == 2, "{:?}", fetcher.sealed()?);
        Ok(())
    })?;
    fs::write(fetcher.layout().config_file(), settings(", cache: off"))?;
    eventually(SOON, "it goes", || {
        ensure!(fetcher.sealed()?.is_empty(), "{:?}", fetcher.sealed()?);
        Ok(())
    })?;
    fetcher.set("web", &newest)?;
    cut_power(&mut fetcher)?;
    fetcher.sandbox.refuse(&vault())?;
    fetcher.start()?;
    let problem = waits(&mut fetcher, &newest, "Connection refused")?;
    ensure!(!problem.contains("sealed"), "{problem}");
    Ok(())
}

#[test]
fn what_is_in_no_vault_of_the_settings_any_more_is_not_used() -> Result<()> {
    let (mut fetcher, newest, _, _) = sealed()?;
    for (change, words) in [
        (settings(", cache: on, allow: ['b-*']"), "this machine may not read `a`"),
        (
            settings(", cache: on").replace("one.vault", "elsewhere.vault"),
            "`vaults.default` in landfall.yaml is another place than the one that `a` was sealed from",
        ),
    ] {
        cut_power(&mut fetcher)?;
        fetcher.sandbox.refuse(&vault())?;
        fs::write(fetcher.layout().config_file(), change)?;
        fetcher.start()?;
        waits(&mut fetcher, &newest, words)?;
    }
    fs::write(fetcher.layout().config_file(), settings(", cache: on"))?;
    fetcher.answer("web", &newest, is_from_cache)?;
    Ok(())
}

/// kill -9 while it seals: what is there is whole.
#[test]
fn a_kill_leaves_no_half_of_it() -> Result<()> {
    let (mut fetcher, _, _) = with_cache(", cache: on")?;
    let needs: Vec<SecretNeed> =
        (0..60).map(|number| need(&format!("s{number}"), &[("A", "a")])).collect::<Result<_>>()?;
    fetcher.kill()?;
    fetcher.want("web", &needs)?;
    let cache = fetcher.layout().secrets_cache().join("web");
    let mut met = 0;
    for round in 0..8 {
        fetcher.start()?;
        closely(SOON, "it begins to seal", || {
            let count = fs::read_dir(&cache)?.count();
            ensure!(count > 3 + round * 5, "{count} files");
            Ok(())
        })?;
        fetcher.kill()?;
        met += usize::from(fetcher.sealed()?.len() < 2 * needs.len());
        fetcher.boot()?;
        fetcher.sandbox.refuse(&vault())?;
        fetcher.start()?;
        let mut stood_in = 0;
        for need in &needs {
            let answer = fetcher.answer("web", need, |answer| answer.problem.is_some())?;
            ensure!(!answer.problem.is_some_and(|problem| problem.contains("sealed")), "a half of it");
            if let Some(set) = answer.set {
                ensure!(fetcher.read("web", &need.service, &set, "A")? == "the-first-value");
                stood_in += 1;
            }
        }
        let hidden = |path: &std::path::PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        ensure!(stood_in > 0 && !fetcher.sealed()?.iter().any(hidden), "{stood_in} stood in");
        fetcher.sandbox.listen(&vault())?;
        if met > 2 {
            break;
        }
        cut_power(&mut fetcher)?;
        fs::remove_dir_all(&cache)?;
    }
    ensure!(met > 0, "no kill met it while it sealed");
    Ok(())
}

/// The real program of systemd, with a secret of its own in place of the machine's.
#[test]
fn the_key_is_made_by_landfall_host_and_handed_over_by_systemd() -> Result<()> {
    let (mut fetcher, newest, _) = with_cache(", cache: on")?;
    fetcher.kill()?;
    fs::remove_dir_all(fetcher.credentials())?;
    fs::create_dir(fetcher.credentials())?;
    let machine = tempfile::tempdir()?;
    let steps = r#"mount --bind "$0" /var/lib/systemd &&
        "$1" --root "$2" host --with-key host && "$1" --root "$2" host --with-key host &&
        systemd-creds decrypt --name=landfall-cache-key "$2/etc/credstore.encrypted/landfall-cache-key" "$3""#;
    let output = Run::new("unshare")
        .args(["--mount", "--", "sh", "-c", steps])
        .arg(machine.path())
        .arg(programs::find("landfall")?)
        .arg(fetcher.layout().root())
        .arg(fetcher.credentials().join("landfall-cache-key"))
        .output()?;
    let (said, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.success(), "{said}{errors}");
    ensure!(said.matches("memory for secrets: mounted at").count() == 2 && said.contains("already"), "{said}");
    ensure!(said.contains("key of the cache: made") && said.contains("is there, and opens\n"), "{said}");
    ensure!(fs::metadata(fetcher.layout().cache_key())?.mode() & 0o7777 == 0o600);
    let key = fs::read(fetcher.credentials().join("landfall-cache-key"))?;
    ensure!(key.len() == 32 && !fs::read(fetcher.layout().cache_key())?.windows(32).any(|part| part == key));
    fetcher.want("web", from_ref(&newest))?;
    fetcher.start()?;
    let set = fetcher.set("web", &newest)?;
    cut_power(&mut fetcher)?;
    fetcher.sandbox.refuse(&vault())?;
    fetcher.start()?;
    assert_eq!(fetcher.answer("web", &newest, is_from_cache)?.set, Some(set));
    Ok(())
}

#[test]
fn on_without_a_key_is_told_and_harms_nothing() -> Result<()> {
    let mut fetcher = Fetcher::new(&["one"], &settings(", cache: on"))?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.sandbox.set_secret("one", "a", "v")?;
    fetcher.start()?;
    let need = need("api", &[("A", "a")])?;
    fetcher.want("web", from_ref(&need))?;
    fetcher.set("web", &need)?;
    ensure!(fetcher.sealed()?.is_empty());
    let told = "secrets are not sealed for a boot without the vault: the fetcher was given no `landfall-cache-key`";
    eventually(Duration::from_secs(5), "it is told", || {
        ensure!(fetcher.log(100).matches(told).count() == 1, "{}", fetcher.log(100));
        Ok(())
    })
}
