//! Where secrets come from: several vaults, each as its own identity and none in the way of another, and a directory in place of one.

use std::fs;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use landfall_tests::fetcher::{Fetcher, need};
use landfall_tests::sandbox::fault::{Fault, Service, Trouble};
use landfall_tests::sandbox::identity::Identity;
use landfall_tests::sandbox::vault::Grant;

#[test]
fn a_directory_is_a_vault_too() -> Result<()> {
    let files = tempfile::tempdir()?;
    let settings = format!("vaults:\n  default: {{ directory: '{}', refresh: 1s }}\n", files.path().display());
    fs::write(files.path().join("db"), "first")?;
    let mut fetcher = Fetcher::new(&[], &settings)?;
    fetcher.start()?;
    let newest = need("api", &[("DB", "db")])?;
    fetcher.want("web", from_ref(&newest))?;
    let answer = fetcher.answer("web", &newest, |answer| answer.set.is_some())?;
    let (old, version) = (answer.set.context("no set")?, answer.files["DB"].version.clone());
    fs::write(files.path().join("db"), "second")?;
    let answer = fetcher.answer("web", &newest, |answer| answer.set.as_ref().is_some_and(|set| *set != old))?;
    assert_eq!(fetcher.read("web", "api", &answer.set.context("no set")?, "DB")?, "second");
    // Another process finds the same versions.
    fetcher.kill()?;
    fs::write(files.path().join("db"), "first")?;
    fetcher.start()?;
    let answer = fetcher.answer("web", &newest, |answer| answer.set.as_ref() == Some(&old))?;
    assert_eq!(answer.files["DB"].version, version);
    fs::remove_file(files.path().join("db"))?;
    let told = fetcher.answer("web", &newest, |answer| answer.problem.is_some())?;
    assert_eq!(told.set, Some(old));
    assert!(told.problem.is_some_and(|problem| problem.contains("next: put it there")));
    Ok(())
}

#[test]
fn each_vault_is_asked_as_its_own_identity() -> Result<()> {
    let reader = Identity::user("reader");
    let settings = format!(
        "vaults:\n  default: {{ url: 'https://one.vault.azure.net', refresh: 1s }}\n  two: {{ url: 'https://two.vault.azure.net', refresh: 1s, identity: 'client-id:{}' }}\n",
        reader.client_id
    );
    let mut fetcher = Fetcher::new(&["one", "two"], &settings)?;
    fetcher.sandbox.assign(&reader)?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    fetcher.sandbox.grant("two", "reader", Grant::GET)?;
    fetcher.sandbox.set_secret("one", "a", "of one")?;
    fetcher.sandbox.set_secret("two", "a", "of two")?;
    fetcher.start()?;
    let need = need("api", &[("ONE", "a"), ("TWO", "two/a")])?;
    fetcher.want("web", from_ref(&need))?;
    let set = fetcher.set("web", &need)?;
    assert_eq!(fetcher.read("web", "api", &set, "ONE")?, "of one");
    assert_eq!(fetcher.read("web", "api", &set, "TWO")?, "of two");
    Ok(())
}

#[test]
fn a_vault_that_hangs_keeps_up_nobody_else() -> Result<()> {
    let settings = "vaults:\n  default: { url: 'https://one.vault.azure.net', refresh: 1s }\n  two: { url: 'https://two.vault.azure.net', refresh: 1s }\n";
    let mut fetcher = Fetcher::new(&["one", "two"], settings)?;
    for vault in ["one", "two"] {
        fetcher.sandbox.grant(vault, "system", Grant::GET)?;
        fetcher.sandbox.set_secret(vault, "a", vault)?;
    }
    fetcher.sandbox.fault(Fault::new(Service::vault("one"), Trouble::Hang))?;
    fetcher.start()?;
    let (hung, well) = (need("api", &[("A", "a")])?, need("worker", &[("A", "two/a")])?);
    let began = Instant::now();
    fetcher.want("web", &[hung.clone(), well.clone()])?;
    fetcher.set("web", &well)?;
    fetcher.sandbox.set_secret("two", "a", "new")?;
    let set = fetcher.set("web", &well)?;
    fetcher.answer("web", &well, |answer| answer.set.as_ref() != Some(&set))?;
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    let told = fetcher.answer("web", &hung, |answer| answer.problem.is_some())?.problem.context("no problem")?;
    assert!(told.contains("`one.vault.azure.net` did not answer within 8 s"), "{told}");
    Ok(())
}
