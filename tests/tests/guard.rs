//! The guard of the machine's identity, tried from where an app could try: in a network namespace of the test's own, with a dockerd of its
//! own and both of Azure's addresses outside (`cloud`). What must not get through is first shown to get through without the guard, so
//! that a probe that never worked proves nothing.
//!
//! macvlan, ipvlan and the host's network go past any rule here: policy refuses them (`agent/tests/golden/refused-network-*`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::journal::event::GUARD_RESTORED;
use landfall_tests::cloud::{self, ANSWER, IMDS, IMDS_BY_NAT64, IMDS_MAPPED, NAME_SERVER, WIRESERVER, busybox, run};
use landfall_tests::programs;
use landfall_tests::ran::Ran;
use landfall_tests::suite::with_own_engine;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;

/// On the host, and named by number; named by name; not named.
const NUMBERED: u32 = 4711;
const NAMED: u32 = 4712;
const STRANGER: u32 = 4713;
const FETCHER: u32 = 4714;
const READERS: u32 = 4715;
const SETTINGS: &str = "host: { imds_users: [4711, telemetry, nobody-of-that-name] }\n";

#[test]
fn no_container_takes_the_machines_identity() {
    with_own_engine("no_container_takes_the_machines_identity", "guard", |vm, dockerd| {
        cloud::start()?;
        image(vm.directory())?;
        containers(vm.directory())?;

        // Without the guard all is open. A network that Docker keeps inside is, once somebody flushes Docker's own rules.
        vm.write_settings("host: { guard: off }\n")?;
        said(&host(vm)?, 0, &["guard: off by `host.guard`"])?;
        for name in CONTAINERS.iter().filter(|name| **name != "inside") {
            reaches_all(name)?;
        }
        flush()?;
        CONTAINERS.iter().try_for_each(|name| reaches_all(name))?;
        for user in [0, NUMBERED, NAMED, FETCHER, STRANGER] {
            ensure!(user_reaches(user)?, "user {user} does not reach it without the guard");
        }

        // Before the package has made its users.
        vm.write_settings(SETTINGS)?;
        let first = host(vm)?;
        said(
            &first,
            0,
            &["guard: in force now", "`telemetry` is no user of this machine", "stays root's: there is no user"],
        )?;
        CONTAINERS.iter().try_for_each(|name| reaches_names_only(name))?;
        ensure!(user_reaches(NUMBERED)? && !user_reaches(NAMED)?, "{first:?}");
        accounts(vm.directory())?;
        let then = host(vm)?;
        said(
            &then,
            0,
            &[
                "in force now with the settings' users; reach the metadata service: root, landfall-secrets, 4711, telemetry;",
            ],
        )?;
        said(&then, 0, &["`nobody-of-that-name` is no user of this machine and left out"])?;
        memory_is_the_fetchers(vm)?;
        for (user, passes) in [(0, true), (NUMBERED, true), (NAMED, true), (FETCHER, true), (STRANGER, false)] {
            ensure!(user_reaches(user)? == passes, "user {user}: {passes}");
        }
        let again = host(vm)?;
        said(&again, 0, &["guard: in force; reach", "mounted at", "already"])?;
        ensure!(!again.stderr.contains("guard"), "{again:?}");

        // Somebody's firewall starts anew.
        flush()?;
        CONTAINERS.iter().try_for_each(|name| reaches_all(name))?;
        let restored = host(vm)?;
        said(&restored, 0, &["guard: had been removed, and is in force again"])?;
        ensure!(restored.stderr.contains("the guard of the machine's identity had been removed"), "{restored:?}");
        CONTAINERS.iter().try_for_each(|name| reaches_names_only(name))?;

        one_rule_less(vm)?;

        // Docker starts anew, and lays down all of its own.
        dockerd.stop()?;
        dockerd.resume()?;
        for name in CONTAINERS {
            run("docker", &["start", name])?;
        }
        prepare_inside()?;
        CONTAINERS.iter().filter(|name| **name != "inside").try_for_each(|name| reaches_names_only(name))?;
        ensure!(reached("inside")?.is_empty(), "through Docker's own rules and ours");
        said(&host(vm)?, 0, &["guard: in force; reach"])?;

        // Settings that nobody can read let nobody through, and leave the guard where it is.
        vm.write_settings("host: { imds_users: [4711\n")?;
        let broken = host(vm)?;
        said(
            &broken,
            1,
            &["guard: in force now with the settings' users; reach the metadata service: root, landfall-secrets"],
        )?;
        ensure!(
            broken.stderr.contains("settings not read: ") && broken.stdout.contains("memory for secrets"),
            "{broken:?}"
        );
        ensure!(!user_reaches(NUMBERED)? && user_reaches(FETCHER)?, "with broken settings");
        reaches_names_only("bridge")?;

        vm.write_settings("host: { guard: off }\n")?;
        said(&host(vm)?, 0, &["guard: off by `host.guard`", "its rules are removed"])?;
        reaches_all("bridge")
    });
}

/// The event, as the journal gets it.
fn one_rule_less(vm: &Vm) -> Result<()> {
    let rules = run("nft", &["--handle", "list", "chain", "inet", "landfall_guard", "closed"])?;
    let rule = rules.lines().find(|line| line.contains("ip daddr 169.254.169.254 drop")).context("no such rule")?;
    let handle = rule.rsplit(' ').next().context("no handle")?;
    run("nft", &["delete", "rule", "inet", "landfall_guard", "closed", "handle", handle])?;
    ensure!(reached("bridge")?.contains(IMDS), "a guard with a hole");

    let directory = Path::new("/run/systemd/journal");
    fs::create_dir_all("/run/systemd")?;
    // Seen in here only.
    run("mount", &["-t", "tmpfs", "tmpfs", "/run/systemd"])?;
    fs::create_dir(directory)?;
    let journal = UnixDatagram::bind(directory.join("socket"))?;
    journal.set_nonblocking(true)?;
    let ran = Ran::of(command(vm)?.env("JOURNAL_STREAM", "1:1").arg("host"))?;
    let mut entries = String::new();
    let mut entry = [0; 8192];
    while let Ok(length) = journal.recv(&mut entry) {
        entries += &String::from_utf8_lossy(&entry[..length]);
    }
    drop(journal);
    run("umount", &["/run/systemd"])?;
    ensure!(ran.code == 0 && ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
    for words in [GUARD_RESTORED, "landfall-host", "had been changed and is in force again"] {
        ensure!(entries.contains(words), "no {words} in {entries}");
    }
    ensure!(!entries.contains("memory for secrets"), "what is as it was is no news: {entries}");
    reaches_names_only("bridge")
}

fn memory_is_the_fetchers(vm: &Vm) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let layout = vm.layout();
    for (path, group, mode) in [(layout.secrets(), 0, 0o700), (layout.registry_credentials(), READERS, 0o2750)] {
        let data = fs::metadata(&path)?;
        let found = (data.uid(), data.gid(), data.mode() & 0o7777);
        ensure!(found == (FETCHER, group, mode), "{}: {found:?}", path.display());
        landfall_core::secrets_mount::check(&path)?;
    }
    Ok(())
}

/// A network of each kind, and rights in it: the default one, one of Compose, one inside, one with IPv6; and more rights than policy gives.
const CONTAINERS: [&str; 6] = ["bridge", "compose", "inside", "privileged", "net-admin", "six"];

fn image(directory: &Path) -> Result<()> {
    let root = directory.join("image");
    fs::create_dir_all(root.join("bin"))?;
    fs::copy(busybox()?, root.join("bin/busybox"))?;
    for tool in ["sh", "wget", "nslookup", "ip", "sleep", "timeout", "grep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(tool))?;
    }
    let (archive, root) = (text(&directory.join("image.tar"))?, text(&root)?);
    run("tar", &["-C", &root, "-cf", &archive, "."])?;
    run("docker", &["import", &archive, "probe"]).map(drop)
}

fn containers(directory: &Path) -> Result<()> {
    run("docker", &["network", "create", "--internal", "--subnet", "172.30.0.0/24", "inside"])?;
    run("docker", &["network", "create", "--ipv6", "--subnet", "fd00:2::/64", "six"])?;
    for (name, more) in [
        ("bridge", ""),
        ("inside", "--network inside --cap-add NET_ADMIN"),
        ("privileged", "--privileged"),
        ("net-admin", "--cap-add NET_ADMIN --cap-add NET_RAW"),
        ("six", "--network six"),
    ] {
        let more = more.split_whitespace();
        let line: Vec<&str> =
            ["run", "--detach", "--name", name].into_iter().chain(more).chain(["probe", "sleep", "99999"]).collect();
        run("docker", &line)?;
    }
    let file = directory.join("compose.yaml");
    fs::write(&file, "services: { probe: { image: probe, container_name: compose, command: [sleep, \"99999\"] } }\n")?;
    run("docker", &["compose", "--project-name", "guard", "--file", &text(&file)?, "up", "--detach"])?;
    prepare_inside()
}

/// It has no way out by itself, and takes one.
fn prepare_inside() -> Result<()> {
    in_container("inside", "ip route add default via 172.30.0.1").map(drop)
}

fn in_container(name: &str, script: &str) -> Result<String> {
    run("docker", &["exec", name, "sh", "-c", script])
}

/// What a container gets an answer from.
fn reached(name: &str) -> Result<BTreeSet<String>> {
    let mut script = format!("(timeout 3 nslookup a.test {NAME_SERVER} | grep -q 10.9.8.7 && echo {NAME_SERVER}) &\n");
    for url in everything(name).iter().filter(|url| *url != NAME_SERVER) {
        script += &format!("(timeout 3 wget -q -O - '{url}' | grep -q '{ANSWER}' && echo '{url}') &\n");
    }
    Ok(in_container(name, &(script + "wait; true"))?.lines().map(str::to_owned).collect())
}

fn everything(name: &str) -> BTreeSet<String> {
    let six = if name == "six" { &[IMDS_BY_NAT64][..] } else { &[] };
    let all = [IMDS, IMDS_MAPPED, NAME_SERVER].iter().chain(&WIRESERVER).chain(six);
    all.map(|url| (*url).to_owned()).collect()
}

fn reaches_all(name: &str) -> Result<()> {
    eventually(SOON, &format!("`{name}` reaches all without the guard"), || {
        let reached = reached(name)?;
        ensure!(reached == everything(name), "{reached:?}");
        Ok(())
    })
}

fn reaches_names_only(name: &str) -> Result<()> {
    let reached = reached(name)?;
    ensure!(reached.iter().eq([NAME_SERVER]), "`{name}` reaches {reached:?}");
    Ok(())
}

/// Whether a user of the machine itself gets an answer.
fn user_reaches(user: u32) -> Result<bool> {
    let mut command = Command::new(busybox()?);
    command.args(["timeout", "3", "/bin/busybox", "wget", "-q", "-O", "-", IMDS]).uid(user).gid(user);
    let ran = Ran::of(&mut command)?;
    ensure!((ran.code == 0) == ran.stdout.contains(ANSWER), "{ran:?}");
    Ok(ran.code == 0)
}

/// A package and an administrator make users; only this test sees these.
fn accounts(directory: &Path) -> Result<()> {
    let users =
        format!("landfall-secrets:x:{FETCHER}:{READERS}::/:/bin/false\ntelemetry:x:{NAMED}:{NAMED}::/:/bin/false\n");
    for (file, more) in [("/etc/passwd", users), ("/etc/group", format!("landfall:x:{READERS}:\n"))] {
        let own = directory.join(file.trim_start_matches("/etc/"));
        fs::write(&own, fs::read_to_string(file)? + &more)?;
        run("mount", &["--bind", &text(&own)?, file])?;
    }
    Ok(())
}

/// What a firewall's start does to everybody's tables.
fn flush() -> Result<()> {
    run("nft", &["flush", "ruleset"]).map(drop)
}

fn command(vm: &Vm) -> Result<Command> {
    let mut command = Command::new(programs::find("landfall")?);
    command.arg("--root").arg(vm.root()).env_remove("JOURNAL_STREAM");
    Ok(command)
}

fn host(vm: &Vm) -> Result<Ran> {
    Ran::of(command(vm)?.arg("host"))
}

fn said(ran: &Ran, code: i32, words: &[&str]) -> Result<()> {
    if ran.code != code || !words.iter().all(|words| ran.stdout.contains(words)) {
        bail!("expected {code} and {words:?}: {ran:?}");
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the path is no text")?.to_owned())
}
