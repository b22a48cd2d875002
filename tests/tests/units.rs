//! What the shipped units close, tried from inside each of them. It runs on a machine that is made for it, as root under systemd
//! with the units installed and dockerd running: `make test-units`. Each refusal is first shown to be no mistake of the probe.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::secrets::{NeededFile, SecretNeed};
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;
use landfall_tests::{fetcher, unit};

const AGENT: &str = "landfall-agent";
const WATCHER: &str = "landfall-image-watcher";
const FETCHER: &str = "landfall-secrets-fetcher";
const DAEMONS: [&str; 3] = [AGENT, WATCHER, FETCHER];

/// The most that `systemd-analyze security` may say of a daemon, in tenths.
const EXPOSURE: u32 = 11;

/// A script that ends well where it may, and who may.
struct Rule {
    what: &'static str,
    script: String,
    allowed: &'static [&'static str],
}

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn each_unit_reaches_what_it_is_for_and_nothing_else() -> Result<()> {
    let shipped = unit::shipped().context("`LANDFALL_UNITS` is not set; next: `make test-units`")?;
    prepare()?;
    // It answers nobody; a connection is enough.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    for rule in rules(listener.local_addr()?.port()) {
        let control = Command::new("/bin/sh").args(["-c", &rule.script]).output()?;
        ensure!(control.status.success(), "{}: the probe itself fails: {control:?}", rule.what);
        for daemon in DAEMONS {
            let probed = unit::probe(&shipped, daemon, &rule.script)?;
            let may = rule.allowed.contains(&daemon);
            let said = String::from_utf8_lossy(&probed.stdout).into_owned();
            ensure!(probed.status.success() == may, "{daemon}: {}: allowed is {may}, and it said: {said}", rule.what);
        }
    }
    Ok(())
}

/// The directories that a boot makes, and something to steal.
fn prepare() -> Result<()> {
    let script = "systemd-tmpfiles --create /usr/lib/tmpfiles.d/landfall.conf && \
        install -d -o landfall-secrets -m 700 /run/landfall/secrets && \
        install -o landfall-secrets -m 444 /dev/null /run/landfall/secrets/probe && \
        install -o landfall-secrets -g landfall -m 440 /dev/null /run/landfall/credentials/probe && \
        echo x >/run/landfall/secrets/probe && echo x >/run/landfall/credentials/probe && \
        echo x >/root/probe && echo x >/var/lib/docker/probe";
    run(script).map(drop)
}

fn rules(port: u16) -> Vec<Rule> {
    let rule = |what, script: &str, allowed| Rule { what, script: script.to_owned(), allowed };
    let write = |path: &str| format!("set -e; echo x >{path}/probe; rm {path}/probe");
    let ping =
        |socket: &str| format!("test \"$(curl -s --max-time 10 --unix-socket {socket} http://docker/_ping)\" = OK");
    vec![
        rule("the Docker socket", &ping("/run/docker.sock"), &[AGENT]),
        rule("the network", &format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"), &[WATCHER, FETCHER]),
        rule("a secret", "test -n \"$(cat /run/landfall/secrets/probe)\"", &[FETCHER]),
        rule("a registry's credential", "test -n \"$(cat /run/landfall/credentials/probe)\"", &DAEMONS),
        rule("the agent's state", &write("/var/lib/landfall/agent"), &[AGENT]),
        rule("the watcher's state", &write("/var/lib/landfall/watcher"), &[WATCHER]),
        rule("the fetcher's state", &write("/var/lib/landfall/secrets"), &[FETCHER]),
        rule("writing secrets", &write("/run/landfall/secrets"), &[FETCHER]),
        rule("the settings", "test -r /etc/landfall/landfall.yaml", &DAEMONS),
        rule("writing settings", &write("/etc/landfall"), &[]),
        rule("writing programs", &write("/usr/libexec/landfall"), &[]),
        rule("root's home", "test -n \"$(cat /root/probe)\"", &[]),
        rule("Docker's own files", "test -n \"$(cat /var/lib/docker/probe)\"", &[]),
        rule("another user's process", "kill -0 1", &[]),
        rule("a mount", "mount -t tmpfs tmpfs /mnt && umount /mnt", &[]),
        rule("a namespace of its own", "unshare --user true", &[]),
        rule("the clock", "date -s \"$(date)\"", &[]),
        rule("the journal's socket", "test -S /run/systemd/journal/socket", &DAEMONS),
    ]
}

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn no_daemon_is_more_exposed_than_it_must_be() -> Result<()> {
    let shipped = unit::shipped().context("`LANDFALL_UNITS` is not set; next: `make test-units`")?;
    for daemon in DAEMONS {
        let file = shipped.join(Path::new("usr/lib/systemd/system")).join(format!("{daemon}.service"));
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--no-pager", "--offline=true", &format!("--threshold={EXPOSURE}")]).arg(&file);
        let judged = command.output().context("cannot run `systemd-analyze`")?;
        ensure!(judged.status.success(), "{daemon}: {}", String::from_utf8_lossy(&judged.stdout));
    }
    Ok(())
}

/// Only what a unit has from its own user, and what it must have to be what it is.
#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn no_daemon_has_a_capability_or_can_get_one() -> Result<()> {
    let shipped = unit::shipped().context("`LANDFALL_UNITS` is not set; next: `make test-units`")?;
    for daemon in DAEMONS {
        let probed = unit::probe(&shipped, daemon, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")?;
        let said = String::from_utf8_lossy(&probed.stdout).into_owned();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure!(said.contains(&format!("{set}:\t0000000000000000")), "{daemon}: {said}");
        }
        ensure!(said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"), "{daemon}: {said}");
    }
    Ok(())
}

/// What the units make of a machine together, at its own root: what root prepares, and a fetcher without a capability whose files belong to
/// others.
#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn what_root_prepares_is_there_and_a_secret_belongs_to_whom_it_is_for() -> Result<()> {
    run("install -d -o landfall-secrets -m 700 /etc/landfall/vault && echo value >/etc/landfall/vault/db && \
        chown landfall-secrets /etc/landfall/vault/db && \
        echo 'vaults: { default: { directory: /etc/landfall/vault } }' >/etc/landfall/landfall.yaml && \
        systemctl start landfall.target landfall-host landfall-host.timer landfall-secrets-owner.socket landfall-agent \
        landfall-image-watcher landfall-secrets-fetcher")?;
    ensure!(run("nft list table inet landfall_guard")?.contains("169.254.169.254"), "no guard");
    ensure!(run("systemctl show --value -p MemoryMax landfall.slice")?.trim().parse::<u64>().is_ok(), "no limit");
    ensure!(run("stat -c '%U %a' /run/landfall/secrets")? == "landfall-secrets 700\n", "whose memory?");

    let layout = Layout::new("/");
    let app: AppName = "owned".parse()?;
    let file = NeededFile { secret: "db".parse()?, uid: Some(1000), gid: Some(1001), mode: Some(0o440) };
    let need = SecretNeed { service: "api".to_owned(), files: [("DB".to_owned(), file)].into(), live: None };
    fetcher::want(&layout, &app, &[need], &[])?;
    // As the agent would have written it.
    run("chown landfall-agent /var/lib/landfall/agent/wanted /var/lib/landfall/agent/wanted/*")?;
    eventually(SOON, "the file belongs to whom it is for", || {
        let found = run("stat -c '%u %g %a' /run/landfall/secrets/owned/api/*/DB")?;
        ensure!(found == "1000 1001 440\n", "{found}");
        Ok(())
    })?;
    Ok(())
}

fn run(script: &str) -> Result<String> {
    let output = Command::new("/bin/sh").args(["-c", script]).output()?;
    ensure!(output.status.success(), "`{script}`: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
