//! What the machine itself needs: credentials of registries, fetched before anything else, and credentials of systemd units.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::slice::from_ref;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_core::machine_secrets::MachineSecret;
use landfall_tests::fetcher::{Fetcher, need};
use landfall_tests::sandbox::fault::Service;
use landfall_tests::sandbox::log::{Entry, of};
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::unit_client::{load, load_as_nobody};
use landfall_tests::wait::{eventually, throughout, until};

use super::{ONE, SOON};

const HOST: &str = "r.example:5000";
const REGISTRY: &str = "registries: { 'r.example:5000': { username: bot, secret: pull } }\n";
const UNITS: &str = "units:\n  tunnel.service: { TOKEN: token }\n  ship@eu.service: { KEY: key, TOKEN: late }\n";

fn fetcher(more: &str) -> Result<Fetcher> {
    let fetcher = Fetcher::new(&["one"], &format!("{ONE}{more}"))?;
    fetcher.sandbox.grant("one", "system", Grant::GET)?;
    Ok(fetcher)
}

fn of_registry(fetcher: &Fetcher, is: impl Fn(&MachineSecret) -> bool) -> Result<MachineSecret> {
    eventually(SOON, "the index says so of the registry", || {
        let file = fetcher.machine()?;
        let found = file.registries.get(HOST).context("it is not in the index")?;
        ensure!(is(found), "{found:?}");
        Ok(found.clone())
    })
    .with_context(|| fetcher.log(15))
}

fn has(fetcher: &Fetcher, content: &str) -> Result<()> {
    let path = fetcher.layout().registry_credential(HOST);
    eventually(SOON, "the credential is in its file", || {
        let found = fs::read_to_string(&path)?;
        ensure!(found == content, "it has {found}");
        Ok(())
    })
    .with_context(|| fetcher.log(15))
}

#[test]
fn a_registrys_credential_is_fetched_before_anything_else() -> Result<()> {
    let mut fetcher = fetcher(REGISTRY)?;
    let all = need("api", &[("A", "a"), ("B", "b"), ("C", "c"), ("PULL", "pull"), ("Z", "z")])?;
    for name in ["a", "b", "c", "z"] {
        fetcher.sandbox.set_secret("one", name, name)?;
    }
    fetcher.sandbox.set_secret("one", "pull", "p-a_ss:word\n")?;
    fetcher.want("web", from_ref(&all))?;
    fetcher.start()?;
    fetcher.set("web", &all)?;
    has(&fetcher, "bot:p-a_ss:word")?;
    let log = of(&fetcher.sandbox.log()?, &Service::vault("one"));
    let given: Vec<&str> = log.iter().filter(|entry| entry.status == Some(200)).map(Entry::path).collect();
    assert_eq!(given.first(), Some(&"/secrets/pull/"), "{given:?}");
    let path = fetcher.layout().registry_credential(HOST);
    assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o440);
    assert_eq!(fs::metadata(fetcher.layout().registry_credentials())?.mode() & 0o7777, 0o750);
    assert!(!fetcher.log(10_000).contains("p-a_ss"));
    Ok(())
}

#[test]
fn a_credential_rotates_and_outlives_the_vault_but_not_its_setting() -> Result<()> {
    let mut fetcher = fetcher(REGISTRY)?;
    let first = fetcher.sandbox.set_secret("one", "pull", "first")?;
    fetcher.start()?;
    has(&fetcher, "bot:first")?;
    of_registry(&fetcher, |of| of.version.as_ref() == Some(&first) && of.fetched_at.is_some())?;
    let path = fetcher.layout().registry_credential(HOST);
    let inode = || anyhow::Ok(fs::metadata(&path)?.ino());
    let before = inode()?;
    fetcher.sandbox.forget_log()?;
    eventually(SOON, "it was asked for again", || {
        ensure!(fetcher.sandbox.log()?.len() > 1, "not yet");
        Ok(())
    })?;
    assert_eq!(inode()?, before, "who looks at it would take it for another");
    // Somebody removed it: the vault is not asked more often than that.
    fs::remove_file(&path)?;
    has(&fetcher, "bot:first")?;

    let second = fetcher.sandbox.set_secret("one", "pull", "second")?;
    has(&fetcher, "bot:second")?;
    of_registry(&fetcher, |of| of.version.as_ref() == Some(&second))?;
    // What is no password does not replace one that is.
    fetcher.sandbox.set_secret("one", "pull", "hun\nter2")?;
    let told = of_registry(&fetcher, |of| of.problem.is_some())?.problem.context("no problem")?;
    assert!(told.contains("no password or token of `bot`") && told.contains("several lines"), "{told}");
    fetcher.sandbox.set_secret("one", "pull", "third")?;
    of_registry(&fetcher, |of| of.problem.is_none())?;
    has(&fetcher, "bot:third")?;

    fetcher.sandbox.refuse(&Service::vault("one"))?;
    of_registry(&fetcher, |of| of.problem.is_some() && of.version.is_some())?;
    has(&fetcher, "bot:third")?;
    fetcher.kill()?;
    fetcher.start()?;
    throughout(Duration::from_secs(2), "the credential is there", || has(&fetcher, "bot:third"))?;
    fetcher.sandbox.listen(&Service::vault("one"))?;
    of_registry(&fetcher, |of| of.problem.is_none())?;
    assert!(!fetcher.log(10_000).contains("third") && !fetcher.log(10_000).contains("ter2"));

    fs::write(fetcher.layout().config_file(), ONE)?;
    eventually(SOON, "it is gone", || {
        ensure!(!path.exists() && fetcher.machine()?.registries.is_empty(), "it is there");
        Ok(())
    })?;
    // And one that was removed while nobody looked.
    fetcher.kill()?;
    fs::write(&path, "bot:left")?;
    fetcher.start()?;
    eventually(SOON, "it is gone", || {
        ensure!(!path.exists(), "it is there");
        Ok(())
    })
}

#[test]
fn a_credential_is_not_written_where_it_could_reach_a_disk() -> Result<()> {
    let mut fetcher = fetcher(REGISTRY)?;
    fetcher.sandbox.set_secret("one", "pull", "first")?;
    let disk = tempfile::tempdir_in(landfall_tests::programs::directory()?)?;
    let layout = landfall_core::layout::Layout::new(disk.path());
    super::copy(&fetcher.layout().config_file(), &layout.config_file())?;
    fetcher.start_at(disk.path())?;
    eventually(SOON, "the refusal", || {
        let text = fs::read_to_string(layout.machine_secrets_index())?;
        ensure!(text.contains("is not in memory") && text.contains("mode=0750"), "{text}");
        Ok(())
    })?;
    assert_eq!(fs::read_dir(layout.registry_credentials())?.count(), 0);
    assert!(fetcher.sandbox.log()?.is_empty(), "it was asked for");
    Ok(())
}

#[test]
fn a_unit_gets_its_credentials_and_no_other() -> Result<()> {
    let mut fetcher = fetcher(UNITS)?;
    for (name, value) in [("token", "t0ken"), ("key", "k3y\n")] {
        fetcher.sandbox.set_secret("one", name, value)?;
    }
    fetcher.start()?;
    let socket = fetcher.layout().unit_socket();
    eventually(SOON, "it listens", || {
        ensure!(socket.exists(), "no socket");
        Ok(())
    })?;
    // Perhaps before the vault has answered: then it waits.
    assert_eq!(load(&socket, "tunnel.service", "TOKEN")?, "t0ken");
    assert_eq!(load(&socket, "ship@eu.service", "KEY")?, "k3y\n");
    for (unit, id, next) in [
        ("tunnel.service", "KEY", "add `KEY: NAME-IN-THE-VAULT` to `units.tunnel.service`"),
        ("other.service", "TOKEN", "add `TOKEN: NAME-IN-THE-VAULT` to `units.other.service`"),
    ] {
        assert_eq!(load(&socket, unit, id)?, "");
        let what = format!("credential `{id}` of unit `{unit}` was asked for, and is none");
        told(&fetcher, &[&what, next])?;
    }
    // Its mode keeps others away; were it not so, they got nothing.
    assert!(load_as_nobody(&socket, "tunnel.service", "TOKEN").is_err());
    fs::set_permissions(fetcher.layout().root(), Permissions::from_mode(0o755))?;
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    assert_eq!(load_as_nobody(&socket, "tunnel.service", "TOKEN")?, "");
    told(&fetcher, &["user 65534 asked for credential `TOKEN` of unit `tunnel.service`"])?;

    // One that the vault does not have yet.
    let begun = Instant::now();
    let (asking, late) = (socket.clone(), Duration::from_secs(3));
    let asked = std::thread::spawn(move || load(&asking, "ship@eu.service", "TOKEN"));
    until(begun + late);
    fetcher.sandbox.set_secret("one", "late", "l4te")?;
    assert_eq!(asked.join().map_err(|_| anyhow::anyhow!("it panicked"))??, "l4te");
    assert!(begun.elapsed() > late);

    // The vault is away, and the fetcher begins anew.
    let serves = |value: &str| {
        let found = load(&socket, "tunnel.service", "TOKEN")?;
        ensure!(found == value, "it serves {found}");
        Ok(())
    };
    fetcher.sandbox.refuse(&Service::vault("one"))?;
    fetcher.kill()?;
    fetcher.start()?;
    eventually(SOON, "it serves again", || serves("t0ken"))?;
    fetcher.sandbox.listen(&Service::vault("one"))?;
    fetcher.sandbox.set_secret("one", "token", "r0tated")?;
    eventually(SOON, "the new one", || serves("r0tated"))?;
    let file = fetcher.layout().unit_secret("tunnel.service", "TOKEN");
    assert!(file.starts_with(fetcher.layout().secrets()), "in the memory");
    for directory in file.ancestors().skip(1).take(3) {
        assert_eq!(fs::metadata(directory)?.mode() & 0o7777, 0o700, "{}", directory.display());
    }
    let log = fetcher.log(10_000);
    assert!(!["t0ken", "k3y", "l4te", "r0tated"].iter().any(|value| log.contains(value)), "{log}");

    // Another secret under the same name, and a unit that is gone.
    let settings = format!("{ONE}units: {{ tunnel.service: {{ TOKEN: absent }} }}\n");
    fs::write(fetcher.layout().config_file(), settings)?;
    eventually(SOON, "what is not named any more is removed", || {
        let (named, other) = (file.exists(), fetcher.layout().unit_secret("ship@eu.service", "KEY").exists());
        ensure!(!named && !other, "{named} {other}");
        Ok(())
    })?;
    fs::write(fetcher.layout().config_file(), ONE)?;
    eventually(SOON, "nobody listens", || {
        ensure!(!socket.exists(), "the socket is there");
        Ok(())
    })
}

fn told(fetcher: &Fetcher, words: &[&str]) -> Result<()> {
    eventually(SOON, "the journal says so", || {
        let log = fetcher.log(200);
        let missing = words.iter().find(|word| !log.contains(**word));
        missing.map_or(Ok(()), |word| Err(anyhow::anyhow!("no `{word}`: {log}")))
    })
}
