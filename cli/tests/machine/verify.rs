//! `landfall verify` on the shipped binary with a stand-in root, and its looks at containers on the real Engine. Instance metadata is not
//! asked here: the probe tries an address of this machine's own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use crate::stand_in::{Containers, agent, docker, landfall, listener, program, write};
use landfall::docker::Engine;
use landfall::verify::finding::Grade;
use landfall::verify::machine::Machine;
use landfall::verify::{caps, guard, plain_text};
use landfall_core::layout::Layout;
use landfall_core::protocol::Command as Asked;
use serde_json::{Value, json};

const NOBODY: &str = "unix:///nobody/listens";
const UNIT: &str = "echo LoadState=loaded; echo ActiveState=active; echo SubState=running; echo Result=success";
const EXPOSURE: &str = r#"echo "→ Overall exposure level for $3: 1.1 OK""#;
const RULES: &str = "echo 'ip daddr 169.254.169.254 drop'; echo 'ip daddr 168.63.129.16 tcp dport 80 drop'";

/// A machine that is well, but that it has no Docker.
fn well(root: &Path) {
    write(root, "etc/landfall/landfall.yaml", "apps: { web: { channel: ghcr.io/acme/deploy:prod } }\n");
    write(root, "etc/group", "docker:x:999:landfall-agent\n");
    write(root, "etc/passwd", "root:x:0:0::/:/bin/sh\n");
    write(root, "run/systemd/system/x", "");
    write(root, "var/lib/landfall/x", "");
    program(root, "usr/bin/systemctl", UNIT);
    program(root, "usr/bin/systemd-analyze", EXPOSURE);
    program(root, "usr/bin/timedatectl", "echo NTPSynchronized=yes");
    program(root, "usr/sbin/nft", RULES);
}

fn answering(root: &Path) {
    agent(root, |asked| match asked {
        Asked::Status {} => {
            vec![json!({ "version": "0.1.0", "at": "2026-01-31T12:00:05.000Z", "problems": ["ok"], "apps": [
            { "app": "web", "channel": "c", "release": null, "deployment": null, "state": "idle", "reason": null, "next": "",
              "last_good_poll": "2026-01-31T12:00:02.000Z", "hold": null, "quarantined": {}, "services": [] }] })]
        }
        Asked::Secrets { .. } => Vec::new(),
        other => panic!("{other:?}"),
    });
}

/// What `verify --json` found, by check and what it is about; the exit code.
fn found(root: &Path) -> (BTreeMap<String, Value>, Option<i32>) {
    let output = landfall(root, NOBODY, &["verify", "--json"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("an object a line");
        (format!("{}: {}", value["check"].as_str().expect("a word"), value["what"].as_str().expect("words")), value)
    };
    (text.lines().map(line).collect(), output.status.code())
}

fn grade<'a>(found: &'a BTreeMap<String, Value>, words: &str) -> &'a str {
    let (_, value) = found.iter().find(|(key, _)| key.contains(words)).unwrap_or_else(|| panic!("{words}: {found:#?}"));
    value["result"].as_str().expect("a word")
}

#[test]
fn each_part_of_the_machine_has_its_line() {
    let root = tempfile::tempdir().expect("a directory");
    well(root.path());
    answering(root.path());
    let (found_here, code) = found(root.path());
    for (words, expected) in [
        ("settings:", "pass"),
        ("engine:", "fail"),
        ("unit-active: `landfall-agent.service`", "pass"),
        ("unit-active: `landfall-host.service`", "pass"),
        ("unit-exposure: the exposure of `landfall-secrets-fetcher.service`", "pass"),
        ("agent:", "pass"),
        ("poll: the channel of `web`", "pass"),
        ("live-restore:", "skip"),
        ("caps:", "skip"),
        ("guard:", "pass"),
        ("guard-probe:", "skip"),
        ("identity:", "skip"),
        ("plain-text:", "skip"),
        ("clock:", "pass"),
        ("docker-group:", "pass"),
    ] {
        assert_eq!(grade(&found_here, words), expected, "{words}: {found_here:#?}");
    }
    assert_eq!(code, Some(10), "there is no Engine");
    // What is wrong is told with what to do.
    let ill = found_here.values().filter(|value| value["result"] == "fail");
    assert!(ill.clone().count() > 0 && ill.clone().all(|value| value["next"].is_string()), "{found_here:#?}");
}

#[test]
fn what_is_ill_fails_and_what_is_not_there_is_skipped() {
    type Change = fn(&Path);
    let table: &[(&str, &str, Change)] = &[
        ("settings:", "fail", |root| write(root, "etc/landfall/landfall.yaml", "apps: [")),
        ("unit-active: `landfall-agent", "fail", |root| {
            program(root, "usr/bin/systemctl", "echo LoadState=loaded; echo ActiveState=failed");
        }),
        ("unit-active: `landfall-agent", "skip", |root| {
            std::fs::remove_dir_all(root.join("run/systemd")).expect("removed");
        }),
        ("unit-exposure:", "fail", |root| program(root, "usr/bin/systemd-analyze", &EXPOSURE.replace("1.1", "9.6"))),
        ("unit-exposure:", "skip", |root| program(root, "usr/bin/systemd-analyze", "echo no bus >&2; exit 1")),
        ("guard:", "fail", |root| program(root, "usr/sbin/nft", "echo no such table >&2; exit 1")),
        ("guard:", "skip", |root| {
            std::fs::remove_file(root.join("usr/sbin/nft")).expect("removed");
        }),
        ("clock:", "warn", |root| program(root, "usr/bin/timedatectl", "echo NTPSynchronized=no")),
        ("docker-group:", "fail", |root| write(root, "etc/group", "docker:x:999:ann\n")),
        ("agent:", "fail", |_| {}),
        ("poll:", "skip", |_| {}),
    ];
    for (words, expected, change) in table {
        let root = tempfile::tempdir().expect("a directory");
        well(root.path());
        change(root.path());
        let (found, _) = found(root.path());
        assert_eq!(grade(&found, words), *expected, "{words}: {found:#?}");
    }
}

#[test]
fn an_empty_root_is_skipped_and_never_passes() {
    let root = tempfile::tempdir().expect("a directory");
    let (found, code) = found(root.path());
    // Of the machine itself are Compose and the disk of the root.
    let passed: Vec<&String> =
        found.iter().filter(|(_, value)| value["result"] == "pass").map(|(key, _)| key).collect();
    assert!(passed.iter().all(|key| key.starts_with("compose:") || key.starts_with("disk:")), "{passed:?}");
    assert_eq!(code, Some(10));
    let text = landfall(root.path(), NOBODY, &["verify"]);
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    assert!(text.contains("skip  the clock is kept right  (systemd does not run here)\n"), "{text}");
    assert!(
        text.contains("fail  the settings are valid  (") && text.contains("\n      next: `sudo landfall init`\n"),
        "{text}"
    );
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn a_container_that_gets_through_is_seen_and_nothing_of_the_probe_is_left() {
    let root = tempfile::tempdir().expect("a directory");
    let layout = Layout::new(root.path());
    let exec = layout.exec_program();
    std::fs::create_dir_all(exec.parent().expect("a parent")).expect("created");
    std::fs::copy(landfall_tests::programs::exec().expect("`make build` was run"), &exec).expect("copied");
    let (gateway, open) = listener();
    let closed = TcpListener::bind((gateway, 0)).expect("bound").local_addr().expect("an address").to_string();
    let open_address = open.local_addr().expect("an address").to_string();
    let engine = Engine::of_this_machine().expect("an Engine");
    let probe = |addresses: &[&str]| block(guard::probe(&layout, Ok(&engine), true, addresses));
    let refused = probe(&[&closed]);
    assert_eq!(refused.grade, Grade::Pass, "{refused:?}");
    let reached = probe(&[&closed, &open_address]);
    assert_eq!(reached.grade, Grade::Fail, "{reached:?}");
    assert!(reached.seen.contains(&open_address) && !reached.seen.contains(&closed), "{reached:?}");
    let untried = block(guard::probe(&layout, Ok(&engine), false, &[&open_address]));
    assert_eq!(untried.grade, Grade::Skip, "{untried:?}");
    let pid = std::process::id().to_string();
    let name = format!("name=landfall-verify-{pid}");
    assert_eq!(docker(&["ps", "--all", "--quiet", "--filter", &name]), "");
    assert_eq!(docker(&["image", "ls", "--quiet", &format!("landfall.local/verify:{pid}")]), "");
}

#[test]
fn caps_are_those_of_the_kernel() {
    let root = tempfile::tempdir().expect("a directory");
    for path in ["proc", "sys"] {
        std::os::unix::fs::symlink(format!("/{path}"), root.path().join(path)).expect("linked");
    }
    let here = Machine::new(Layout::new(root.path()));
    let (_, open) = listener();
    let address = format!("http://{}", open.local_addr().expect("an address"));
    let mut containers = Containers::new("caps");
    let name = format!("landfall-test-caps-{}", std::process::id());
    let app = format!("io.landfall.app=caps-{}", std::process::id());
    let caps_of = ["--memory", "48m", "--memory-swap", "48m", "--cpus", "0.5", "--pids-limit", "33"];
    let begin = ["run", "--detach", "--name", &name, "--label", &app, "--entrypoint", "/landfall-exec"];
    // It waits for an answer that nobody gives.
    containers.make(&[&begin[..], &caps_of[..]].concat(), &["probe", &address, "--timeout", "300s"]);
    let engine = Engine::of_this_machine().expect("an Engine");
    let mut ours = block(engine.containers()).expect("a list");
    ours.retain(|one| landfall::docker::name_of(one) == name);
    assert_eq!(ours.len(), 1);
    let good = caps::containers(&here, Ok(&ours));
    assert_eq!((good.grade, good.seen.as_str()), (Grade::Pass, "1 running"), "{good:?}");
    for (change, word) in [(Some(49 << 20), "memory: 49M was told, 48M is there"), (None, "")] {
        let host = ours[0].host_config.as_mut().expect("it has one");
        host.memory = change;
        let found = caps::containers(&here, Ok(&ours));
        assert_eq!(found.grade, if word.is_empty() { Grade::Pass } else { Grade::Fail }, "{found:?}");
        assert!(found.seen.contains(word), "{found:?}");
    }
    // A root without the kernel's files knows nothing.
    let nowhere = Machine::new(Layout::new(root.path().join("nowhere")));
    assert_eq!(caps::containers(&nowhere, Ok(&ours)).grade, Grade::Skip);
}

#[test]
fn a_secret_in_dockers_metadata_is_named_and_not_shown() {
    let root = tempfile::tempdir().expect("a directory");
    let here = Machine::new(Layout::new(root.path()));
    let value = format!("canary-<{}>&\"", std::process::id());
    write(root.path(), "run/landfall/secrets/web/api/0123/DB", &format!("{value}\n"));
    let engine = Engine::of_this_machine().expect("an Engine");
    let directory = block(engine.facts()).expect("facts").root_directory;
    let clean = plain_text::check(&here, Some(&directory));
    assert_eq!(clean.grade, Grade::Pass, "{clean:?}");
    let mut containers = Containers::new("plain");
    let id = containers.make(&["create", "--env", &format!("DB={value}")], &["/landfall-exec"]);
    let found = plain_text::check(&here, Some(&directory));
    assert_eq!(found.grade, Grade::Fail, "{found:?}");
    assert!(found.seen.contains("`web/api/0123/DB`") && found.seen.contains(&id[..12]), "{found:?}");
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
}
