//! `landfall support-bundle` on the shipped binary and the real Engine: no canary of a variable, a label, a command or a secret is in the
//! unpacked archive, and what helps is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::stand_in::{Containers, agent, landfall, program, write};
use flate2::read::GzDecoder;
use landfall_core::protocol::Command as Asked;
use serde_json::{Value, json};

const ENGINE: &str = "unix:///var/run/docker.sock";

/// Members without the directory, and their texts.
fn unpack(archive: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(archive).expect("opened")));
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let (directory, name) = path.split_once('/').expect("a directory");
        assert!(directory.starts_with("landfall-support-"), "{directory}");
        assert_eq!(entry.header().mode().expect("a mode"), 0o600);
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        found.insert(name.to_owned(), text);
    }
    found
}

fn status(reason: &str) -> Value {
    json!({ "version": "0.1.0", "at": "2026-01-31T12:00:05.000Z", "problems": [], "apps": [
        { "app": "web", "channel": "c", "release": null, "deployment": null, "state": "idle", "reason": reason, "next": "",
          "last_good_poll": null, "hold": null, "quarantined": {}, "services": [] }] })
}

#[test]
fn values_are_not_in_it_and_names_are() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let canary = |word: &str| format!("canary-{word}-{}-\"&", std::process::id());
    let (secret, variable, label, word) = (canary("secret"), canary("variable"), canary("label"), canary("command"));
    let (setting, plain, user) = (canary("setting"), canary("plain"), canary("user"));
    let key = format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", canary("line"));

    write(root, "run/landfall/secrets/web/api/0123/DB", &format!("{secret}\n"));
    write(root, "run/landfall/secrets/web/api/0123/KEY", &key);
    write(
        root,
        "etc/landfall/landfall.yaml",
        &format!(
            "apps:\n  web:\n    channel: ghcr.io/acme/deploy:prod\n    vars:\n      HOST: example.com\n      DB_PASSWORD: '{setting}'\n"
        ),
    );
    write(root, "etc/landfall/landfall.d/10-x.yaml", "host: { require_caps: true }\n");
    write(root, "etc/os-release", "ID=debian\n");
    // A journal with what an app should not have logged.
    let journal = format!(
        "said {secret}\n{}\nGET https://ann:{user}@example.com/ said {variable}\n{key}",
        json!({ "x": secret })
    );
    write(root, "journal", &journal);
    program(root, "usr/bin/journalctl", &format!("cat '{}/journal'", root.display()));
    let reason = format!("its last words: {secret}");
    agent(root, move |asked| match asked {
        Asked::Status {} => vec![status(&reason)],
        Asked::History { .. } => vec![json!({ "event": "live" })],
        Asked::Plan { .. } => vec![json!({ "steps": [] })],
        Asked::Secrets { .. } => Vec::new(),
        other => panic!("{other:?}"),
    });
    let mut containers = Containers::new("support");
    let name = format!("landfall-test-support-{}", std::process::id());
    let (environment, other) = (format!("DB_TOKEN={variable}"), format!("GREETING={plain}"));
    let note = format!("note={label}");
    containers.make(
        &[
            "create",
            "--name",
            &name,
            "--label",
            "io.landfall.app=web",
            "--label",
            &note,
            "--env",
            &environment,
            "--env",
            &other,
        ],
        &["/landfall-exec", "probe", &word],
    );

    let output = landfall(root, ENGINE, &["support-bundle", "--output", "bundle.tar.gz"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let path = root.join("bundle.tar.gz");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777, 0o600);
    let found = unpack(&path);

    let whole: String = found.values().map(String::as_str).collect();
    assert!(
        !whole.contains("canary-"),
        "{}",
        whole.lines().filter(|line| line.contains("canary-")).collect::<String>()
    );
    for (member, words) in [
        ("status.json", "its last words: [masked]"),
        ("history-web.json", "\"live\""),
        ("plan-web.json", "steps"),
        ("journal.txt", "said [masked]\n{\"x\":\"[masked]\"}\nGET https://[masked]@example.com/ said [masked]\n"),
        ("etc/landfall.yaml", "      HOST: example.com\n      DB_PASSWORD: [masked]\n"),
        ("etc/landfall.d/10-x.yaml", "require_caps"),
        ("versions.txt", "ID=debian"),
        ("versions.txt", "engine: "),
        ("verify.json", "\"check\":\"settings\""),
        ("MANIFEST.txt", "have  containers.json: "),
        ("MANIFEST.txt", "none  disk.txt: there is no `"),
    ] {
        let text = found.get(member).unwrap_or_else(|| panic!("{member}: {:?}", found.keys()));
        assert!(text.contains(words), "{member}: no `{words}` in {text}");
    }
    let ours = found["containers.json"].lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let ours = ours.into_iter().find(|one| one["name"] == name.as_str()).expect("our container");
    let names = ours["environment_names"].as_array().expect("names");
    assert!(names.contains(&json!("DB_TOKEN")) && names.contains(&json!("GREETING")), "{ours}");
    assert_eq!(ours["labels"], json!({ "io.landfall.app": "web" }));
    assert_eq!(ours["command"], json!({ "program": "/landfall-exec", "more_words": 2 }));

    // It is not written over.
    let again = landfall(root, ENGINE, &["support-bundle", "--output", "bundle.tar.gz"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
}

#[test]
fn what_cannot_be_had_is_a_line_and_no_failure() {
    let root = tempfile::tempdir().expect("a directory");
    let output = landfall(root.path(), "unix:///nobody/listens", &["support-bundle"]);
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found = unpack(&root.path().join(printed.trim()));
    let manifest = &found["MANIFEST.txt"];
    for member in ["status.json", "journal.txt", "containers.json", "etc/landfall.yaml", "memory.txt"] {
        assert!(manifest.contains(&format!("none  {member}: ")) && !found.contains_key(member), "{manifest}");
    }
    assert!(manifest.contains("have  verify.json: "), "{manifest}");

    // A journal of a bad day: its end goes along.
    let script = "case \"$*\" in *200000*) yes longer | head -c 30000000;; *'--unit=landfall*'*--since=-24h*) echo the end;; esac";
    program(root.path(), "usr/bin/journalctl", script);
    let output = landfall(root.path(), "unix:///nobody/listens", &["support-bundle", "--output", "second"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(unpack(&root.path().join("second"))["journal.txt"], "the end\n");
}
