//! `landfall verify` on a machine that is well, then with one thing broken after the other: the line that is about it fails, no other does,
//! the exit code is 10; mended, all is as before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use landfall_tests::engine::Engine;
use landfall_tests::programs;
use landfall_tests::sandbox::fault::Service;
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;
use serde::Deserialize;
use serde_json::json;

use crate::stage::{API_KEY, Stage, VAULT, run};

/// How each check stands on this machine, and how many lines it has. Docker is as Debian installs it: without live-restore, with logs that
/// are not rotated. Nobody sets the clock of a container, and how full the disk is is the machine's under it.
const WELL: &[(&str, usize, &[&str])] = &[
    ("settings", 1, &["pass"]),
    ("engine", 1, &["pass"]),
    ("compose", 1, &["pass"]),
    ("unit-active", 4, &["pass"]),
    ("unit-exposure", 3, &["pass"]),
    ("agent", 1, &["pass"]),
    ("poll", 1, &["pass"]),
    ("live-restore", 1, &["warn"]),
    ("log-driver", 1, &["warn"]),
    ("slice", 1, &["pass", "warn"]),
    ("caps", 1, &["pass"]),
    ("guard", 1, &["pass"]),
    ("guard-probe", 1, &["pass"]),
    ("identity", 1, &["pass"]),
    ("scope", 1, &["pass"]),
    ("plain-text", 1, &["pass"]),
    ("secrets-memory", 1, &["pass"]),
    ("disk", 3, &["pass", "warn"]),
    ("clock", 1, &["pass", "warn"]),
    ("docker-group", 1, &["pass"]),
    ("break-glass", 1, &["pass"]),
];

/// One line of `landfall verify --json`.
#[derive(Debug, Deserialize)]
struct Line {
    check: String,
    what: String,
    result: String,
    seen: String,
    next: Option<String>,
}

/// What is broken, and the lines that fail: the check, with a word of what it is about or of what was seen.
struct Fault {
    what: &'static str,
    fails: &'static [(&'static str, &'static str)],
    breaks: fn(&Stage) -> Result<()>,
    mends: fn(&Stage) -> Result<()>,
}

/// First, and mended last: without it nothing is tried from a container, which takes 10 s.
const GUARD: Fault = Fault {
    what: "the guard's table is deleted",
    fails: &[("guard", "landfall_guard")],
    breaks: |_| run("nft delete table inet landfall_guard").map(drop),
    mends: |_| run("landfall host").map(drop),
};

const FAULTS: &[Fault] = &[
    Fault {
        what: "a user is in group docker",
        fails: &[("docker-group", "ann")],
        breaks: |_| run("useradd ann && usermod --append --groups docker ann").map(drop),
        mends: |_| run("userdel ann").map(drop),
    },
    Fault {
        what: "the watcher is stopped",
        fails: &[("unit-active", "landfall-image-watcher.service")],
        breaks: |_| run("systemctl stop landfall-image-watcher").map(drop),
        mends: |_| run("systemctl start landfall-image-watcher").map(drop),
    },
    Fault {
        what: "the agent is stopped",
        fails: &[("unit-active", "landfall-agent.service"), ("agent", "cannot reach")],
        breaks: |_| run("systemctl stop landfall-agent").map(drop),
        mends: |_| run("systemctl start landfall-agent").map(drop),
    },
    Fault {
        what: "a drop-in loosens a unit",
        fails: &[("unit-exposure", "landfall-image-watcher.service")],
        breaks: |_| {
            let place = Path::new(LOOSE);
            fs::create_dir_all(place)?;
            fs::write(place.join("loose.conf"), "[Service]\nProtectSystem=no\nPrivateUsers=no\nNoNewPrivileges=no\n")?;
            run("systemctl daemon-reload").map(drop)
        },
        mends: |_| {
            fs::remove_dir_all(LOOSE)?;
            run("systemctl daemon-reload").map(drop)
        },
    },
    Fault {
        what: "secrets would lie on the disk",
        // The fetcher refuses it too.
        fails: &[("identity", "not in memory"), ("secrets-memory", "not in memory")],
        breaks: |_| run("mkdir -p /srv/disk && mount --bind /srv/disk /run/landfall/secrets").map(drop),
        mends: |_| run("umount /run/landfall/secrets").map(drop),
    },
    Fault {
        what: "the settings have a mistake",
        fails: &[("settings", "landfall.yaml"), ("agent", "landfall.yaml")],
        breaks: |stage| stage.vm.write_settings("apps: ["),
        mends: |stage| stage.write_settings(&json!({})),
    },
    Fault {
        what: "the vault is away",
        fails: &[("identity", "api-key")],
        breaks: |stage| stage.vault.refuse(&Service::vault(VAULT)),
        mends: |stage| stage.vault.listen(&Service::vault(VAULT)),
    },
    Fault {
        what: "a secret is in a container's environment",
        fails: &[("plain-text", "config.v2.json")],
        breaks: |stage| {
            let image = stage.vm.engine.serving(stage.vm.app.as_str(), "api")?.image;
            run(&format!("docker create --name landfall-leak --env X={API_KEY} {image}")).map(drop)
        },
        mends: |_| run("docker rm landfall-leak").map(drop),
    },
    Fault {
        what: "the kernel has another cap than Docker was told",
        fails: &[("caps", "api")],
        breaks: |stage| fs::write(cap(stage)?, (24 << 20).to_string()).context("the cap"),
        mends: |stage| fs::write(cap(stage)?, (32 << 20).to_string()).context("the cap"),
    },
    Fault {
        what: "there is no Compose",
        fails: &[("compose", "")],
        breaks: |_| move_compose(&programs::compose_plugin()?, "/srv/docker-compose"),
        mends: |_| move_compose(Path::new("/srv/docker-compose"), "/usr/libexec/docker/cli-plugins/docker-compose"),
    },
];

const LOOSE: &str = "/run/systemd/system/landfall-image-watcher.service.d";

/// On a machine with an app that is live.
pub fn each_fault_is_seen(stage: &Stage) -> Result<()> {
    // It would mend what is broken here.
    run("systemctl stop landfall-host.timer")?;
    eventually(SOON, "all is well", || well(stage))?;
    (GUARD.breaks)(stage)?;
    eventually(SOON, GUARD.what, || seen(stage, &GUARD, GUARD.fails))?;
    let mut failed = BTreeSet::new();
    for fault in FAULTS {
        let mut fails = [GUARD.fails, fault.fails].concat();
        fails.sort_by_key(|(check, _)| WELL.iter().position(|(one, ..)| one == check));
        (fault.breaks)(stage).with_context(|| fault.what.to_owned())?;
        eventually(SOON, &format!("{}: it is seen", fault.what), || seen(stage, fault, &fails))?;
        (fault.mends)(stage).with_context(|| format!("mending: {}", fault.what))?;
        eventually(SOON, &format!("mended: {}", fault.what), || seen(stage, fault, GUARD.fails))?;
        failed.extend(fault.fails.iter().map(|(check, _)| *check));
    }
    (GUARD.mends)(stage)?;
    eventually(SOON, "all is well again", || well(stage))?;
    run("systemctl start landfall-host.timer")?;
    ensure!(failed.len() >= 10, "{failed:?}");
    Ok(())
}

/// Every line of the table, and none else.
fn well(stage: &Stage) -> Result<()> {
    let (code, lines) = look(stage)?;
    let engine = Engine::of_this_machine();
    // Where containerd has the images, its directory has a line too.
    let apart = usize::from(engine.image_root()? != engine.data_root()?);
    for (check, count, allowed) in WELL {
        let found: Vec<&Line> = lines.iter().filter(|line| line.check == *check).collect();
        let count = if *check == "disk" { count + apart } else { *count };
        ensure!(found.len() == count, "`{check}` has {} lines, not {count}: {found:?}", found.len());
        for line in found {
            ensure!(allowed.contains(&line.result.as_str()), "`{check}` should be one of {allowed:?}: {line:?}");
        }
    }
    ensure!(lines.len() == WELL.iter().map(|(_, count, _)| count).sum::<usize>() + apart, "{lines:?}");
    ensure!(code == 0, "it ends with {code}");
    Ok(())
}

/// These lines fail, in this order, and none else.
fn seen(stage: &Stage, fault: &Fault, fails: &[(&str, &str)]) -> Result<()> {
    let (code, lines) = look(stage)?;
    let failed: Vec<&Line> = lines.iter().filter(|line| line.result == "fail").collect();
    ensure!(failed.len() == fails.len(), "{}: {fails:?} should fail: {failed:#?}", fault.what);
    for (line, (check, word)) in failed.iter().zip(fails) {
        let is_meant = line.check == *check && (line.what.contains(word) || line.seen.contains(word));
        ensure!(is_meant, "not `{check}`: {line:?}");
        ensure!(line.next.as_ref().is_some_and(|next| !next.is_empty()), "it says not what to do: {line:?}");
    }
    ensure!(code == 10, "it ends with {code}");
    Ok(())
}

fn look(stage: &Stage) -> Result<(i32, Vec<Line>)> {
    let ran = stage.shell("landfall verify --json")?;
    let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    Ok((ran.code, lines.collect::<Result<_>>()?))
}

/// The file of the kernel that caps the api's memory.
fn cap(stage: &Stage) -> Result<PathBuf> {
    let api = stage.vm.engine.serving(stage.vm.app.as_str(), "api")?.id;
    let pid = stage.vm.engine.inspect(&api)?["State"]["Pid"].as_i64().context("no `Pid`")?;
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let of = |controller: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines.find(|(controllers, _)| controllers.split(',').any(|one| one == controller)).map(|(_, path)| path)
    };
    // Version 1, then 2.
    Ok(match of("memory") {
        Some(path) => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes").into(),
        None => format!("/sys/fs/cgroup{}/memory.max", of("").context("no cgroup")?).into(),
    })
}

fn move_compose(from: &Path, to: &str) -> Result<()> {
    run(&format!("mv {} {to}", from.display())).map(drop)
}
