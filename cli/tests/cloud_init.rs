//! `landfall init --cloud-init ROLE` on the shipped binary: user-data of every role against goldens, judged by cloud-init itself, by the
//! YAML reader that cloud-init has, by apt, and by a scanner for secrets. `LANDFALL_BLESS=1` writes the goldens down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use landfall_core::config::{Config, Settings};
use landfall_tests::programs;
use serde_json::{Value, json};

#[path = "cloud_init/mistakes.rs"]
mod mistakes;

const ROLES: [&str; 7] = ["staging", "production", "dev", "pr-preview", "edge", "control", "data"];
/// What clouds take at most.
const LIMIT: usize = 16 * 1024;
const LANDFALL_YAML: &str = "/etc/landfall/landfall.yaml";
/// What a role may differ in from `staging`.
const DIFFERENT: [(&str, &[&str]); 6] = [
    (
        "production",
        &[
            "apps.web.channel",
            "apps.web.profiles",
            "apps.web.vars.DATABASE_SECRET",
            "apps.web.vars.PUBLIC_HOST",
            "units",
            "vaults.default.url",
            // The place that Alloy sends to.
            "write_files",
        ],
    ),
    ("dev", &["apps.web.channel", "apps.web.vars.LOG_LEVEL", "apps.web.vars.PUBLIC_HOST"]),
    ("pr-preview", &["apps", "previews"]),
    (
        "edge",
        &[
            "apps.web.channel",
            "apps.web.profiles",
            "apps.web.vars.DATABASE_SECRET",
            "apps.web.vars.PUBLIC_HOST",
            "vaults.default.allow",
            "vaults.default.url",
        ],
    ),
    (
        "control",
        &[
            "apps.web.channel",
            "apps.web.profiles",
            "apps.web.vars.DATABASE_SECRET",
            "apps.web.vars.PUBLIC_HOST",
            "vaults.default.url",
        ],
    ),
    (
        "data",
        &[
            "apps.web.channel",
            "apps.web.profiles",
            "apps.web.vars.PUBLIC_HOST",
            "host.data_disk.lun",
            "vaults.default.allow",
            "vaults.default.url",
        ],
    ),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cloud-init")
}

fn golden(role: &str) -> PathBuf {
    directory().join("golden").join(format!("{role}.yaml"))
}

fn landfall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall")).env_clear().args(arguments).output().expect("landfall runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The user-data that these values make.
fn made(values: &Path, role: &str) -> String {
    let output = landfall(&["init", "--cloud-init", role, "--values", values.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{role}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn of_values(values: &Value, role: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("values.yaml");
    fs::write(&path, values.to_string()).expect("written");
    made(&path, role)
}

fn file<'a>(user_data: &'a Value, path: &str) -> &'a str {
    let files = user_data["write_files"].as_array().expect("files");
    let file = files.iter().find(|file| file["path"] == path).expect(path);
    assert_eq!((&file["owner"], &file["permissions"]), (&json!("root:root"), &json!("0644")));
    file["content"].as_str().expect("content")
}

fn read(user_data: &str) -> Value {
    serde_saphyr::from_str(user_data).expect("YAML")
}

fn settings(user_data: &Value) -> Settings {
    let config = Config::parse(Path::new("landfall.yaml"), file(user_data, LANDFALL_YAML)).expect("valid");
    config.settle().expect("complete")
}

#[test]
fn every_role_is_its_golden_and_every_golden_a_role() {
    let values = directory().join("values.yaml");
    let written: Value = serde_saphyr::from_str(&fs::read_to_string(&values).unwrap()).unwrap();
    let known: BTreeSet<&str> = written["roles"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(known, BTreeSet::from(ROLES));
    for role in ROLES {
        let text = made(&values, role);
        if std::env::var_os("LANDFALL_BLESS").is_some() {
            fs::write(golden(role), &text).unwrap();
        }
        let golden = fs::read_to_string(golden(role)).unwrap_or_default();
        assert_eq!(text, golden, "{role}: look at the difference, then run with LANDFALL_BLESS=1\n--- got ---\n{text}");
        assert!(text.starts_with("#cloud-config\n") && text.len() < LIMIT, "{role}: {} bytes", text.len());
    }
    assert_eq!(fs::read_dir(directory().join("golden")).unwrap().count(), ROLES.len());
}

/// Leaves by path; those of landfall.yaml without a name before them. Lists are leaves.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        _ => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

fn all_leaves(role: &str) -> BTreeMap<String, Value> {
    let mut user_data = read(&fs::read_to_string(golden(role)).unwrap());
    let mut found = BTreeMap::new();
    leaves(&read(file(&user_data, LANDFALL_YAML)), "", &mut found);
    let files = user_data["write_files"].as_array_mut().unwrap();
    files.iter_mut().filter(|file| file["path"] == LANDFALL_YAML).for_each(|file| file["content"] = Value::Null);
    leaves(&user_data, "", &mut found);
    found
}

#[test]
fn roles_differ_only_where_they_should() {
    let staging = all_leaves("staging");
    assert_eq!(DIFFERENT.map(|(role, _)| role), ROLES[1..]);
    for (role, wanted) in DIFFERENT {
        let other = all_leaves(role);
        let paths: BTreeSet<&String> = staging.keys().chain(other.keys()).collect();
        let differ = paths.into_iter().filter(|path| staging.get(*path) != other.get(*path));
        // `apps` stands for all that is below it.
        let group = |path: &String| {
            wanted.iter().find(|group| path == *group || path.starts_with(&format!("{group}."))).copied()
        };
        let differ: BTreeSet<Result<&str, String>> = differ.map(|path| group(path).ok_or(path.clone())).collect();
        let wanted: BTreeSet<Result<&str, String>> = wanted.iter().copied().map(Ok).collect();
        assert_eq!(differ, wanted, "{role}");
    }
    // What a comment says counts too.
    let common = |role: &str| {
        let text = fs::read_to_string(golden(role)).unwrap();
        text.split_once(LANDFALL_YAML).expect("landfall.yaml").0.to_owned()
    };
    assert!(ROLES.iter().all(|role| common(role) == common("staging")));
}

#[test]
fn nobody_has_a_password_or_the_docker_group() {
    for role in ROLES {
        let user_data = read(&fs::read_to_string(golden(role)).unwrap());
        assert_eq!((&user_data["ssh_pwauth"], &user_data["disable_root"]), (&json!(false), &json!(true)), "{role}");
        assert_eq!(user_data["swap"], json!({ "size": 0 }), "{role}");
        let users = user_data["users"].as_array().unwrap();
        // No `default`: the image's own user is not made.
        let names: Vec<_> = users.iter().map(|user| user["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["root", "ops"], "{role}");
        assert!(users.iter().all(|user| user["lock_passwd"] == true), "{role}");
        assert_eq!(users[1]["groups"], json!(["adm", "landfall-operators"]), "{role}");
        assert_eq!(users[1]["ssh_authorized_keys"].as_array().unwrap().len(), 1, "{role}");
        assert!(users[0].get("ssh_authorized_keys").is_none(), "{role}");
    }
}

#[test]
fn the_database_is_one_word() {
    let with = |database: &str| {
        let role = json!({ "channel": "ghcr.io/a/b:c", "vault": "https://kv.vault.azure.net", "database": database });
        settings(&read(&of_values(&values(&role), "x"))).apps.into_values().next().unwrap()
    };
    let (container, external) = (with("container"), with("external"));
    assert_eq!((container.profiles.as_slice(), external.profiles.as_slice()), (&["database".to_owned()][..], &[][..]));
    assert_eq!(container.vars["DATABASE_SECRET"], "database-url-container");
    assert_eq!(external.vars["DATABASE_SECRET"], "database-url-external");
}

fn cloud_init(path: &Path) -> (bool, String) {
    let program = programs::cloud_init().unwrap();
    let output = Command::new(program).args(["schema", "--annotate", "--config-file"]).arg(path).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.success() && !said.to_lowercase().contains("deprecat"), said)
}

#[test]
fn cloud_init_takes_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    for role in ROLES {
        let (valid, said) = cloud_init(&golden(role));
        assert!(valid && said.contains("Valid schema"), "{role}: {said}");
        let golden = fs::read_to_string(golden(role)).unwrap();
        for (good, bad) in [("lock_passwd: true", "lock_passwd: 1"), ("swap:", "swaps:"), ("#cloud-config", "#")] {
            let path = directory.path().join("bad.yaml");
            fs::write(&path, golden.replace(good, bad)).unwrap();
            assert!(!golden.contains(good) || !cloud_init(&path).0, "{role}: it takes `{bad}`");
        }
    }
}

/// As cloud-init reads YAML.
fn python(user_data: &str) -> Value {
    let code = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin.buffer), sys.stdout)";
    let mut command = Command::new("/usr/bin/python3");
    let mut child = command.args(["-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(user_data.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{user_data}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE";

fn values(role: &Value) -> Value {
    json!({ "app": "web", "admins": { "ops": [KEY] }, "roles": { "x": role } })
}

#[test]
fn no_value_leaves_its_place() {
    let odd = [
        "yes",
        "null",
        "~",
        "1e3",
        "0x1f",
        "12:30",
        "2026-11-22",
        " space ",
        "",
        "# no comment",
        "a: b",
        "- a",
        "{a: b}",
        "[a",
        "'",
        "\"",
        "\\n",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a`",
        "|",
        ">",
        "---",
        "...",
        "a #b",
        "ü – 😀",
        "${X}",
        "$(reboot)",
        "=",
        "<<",
        "a long text that goes on behind the eightieth letter of its line, so that somebody could want to fold it there: no",
    ];
    let vars: BTreeMap<String, &str> = odd.iter().enumerate().map(|(index, odd)| (format!("V{index}"), *odd)).collect();
    let keys: Vec<String> = odd.iter().map(|odd| format!("{KEY} {odd}")).collect();
    let admins = json!({ "yes": keys, "null": [KEY], "on": [KEY], "_1": [KEY] });
    let mut values = values(&json!({ "channel": "ghcr.io/a/b:c", "vars": vars, "profiles": ["yes", "1"] }));
    values["admins"] = admins;
    let user_data = of_values(&values, "x");
    for read in [python(&user_data), read(&user_data)] {
        let app = settings(&read).apps.into_values().next().unwrap();
        for (name, odd) in &vars {
            assert_eq!(app.vars[name], **odd);
        }
        assert_eq!(app.profiles, ["yes", "1"]);
        let users: BTreeMap<_, _> =
            read["users"].as_array().unwrap().iter().map(|user| (user["name"].as_str().unwrap(), user)).collect();
        assert_eq!(users.keys().copied().collect::<Vec<_>>(), ["_1", "null", "on", "root", "yes"]);
        assert_eq!(users["yes"]["ssh_authorized_keys"], json!(keys));
    }
}

#[test]
fn apt_reads_its_part() {
    let user_data = read(&fs::read_to_string(golden("staging")).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("apt.conf");
    fs::write(&path, file(&user_data, "/etc/apt/apt.conf.d/60landfall")).unwrap();
    let output = Command::new("apt-config").arg("--config-file").arg(&path).arg("dump").output().unwrap();
    let dump = text(&output.stdout);
    for line in [
        "APT::Periodic::Unattended-Upgrade \"1\";",
        "Unattended-Upgrade::Automatic-Reboot \"false\";",
        "Unattended-Upgrade::Package-Blacklist:: \"docker\";",
        "Unattended-Upgrade::Package-Blacklist:: \"containerd\";",
    ] {
        assert!(dump.contains(line), "`{line}` is not in\n{dump}");
    }
}

fn gitleaks(directory: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(programs::gitleaks().unwrap());
    command.args(["dir", "--no-banner", "--no-color", "--redact", "--verbose", "--exit-code", "7"]).arg(directory);
    let output = command.output().unwrap();
    (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn a_scanner_finds_no_secret() {
    let (code, said) = gitleaks(&directory());
    assert_eq!(code, Some(0), "{said}");
    // It would: in each golden, one such as a careless hand would leave there. Put together here, so that it finds none in this file.
    let token = ["ghp", "_h7Kq2vXw9Zr4TnB6yLc8Mf1sJd3GpA5uReWi"].concat();
    let password = ["hV8", "sQ2xK9wLz4Tn7Rb"].concat();
    for role in ROLES {
        let planted = tempfile::tempdir().unwrap();
        for (good, bad) in
            [("ghcr-read-token", token.clone()), ("LOG_LEVEL: ", format!("DATABASE_PASSWORD: {password} # "))]
        {
            let golden = fs::read_to_string(golden(role)).unwrap();
            assert!(golden.contains(good), "{role} has no `{good}`");
            fs::write(planted.path().join("user-data.yaml"), golden.replace(good, &bad)).unwrap();
            let (code, said) = gitleaks(planted.path());
            assert_eq!(code, Some(7), "{role}: it does not find what stands for `{good}`: {said}");
        }
    }
}

#[test]
fn a_file_is_written_in_one_piece_and_over_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (values, output) = (self::directory().join("values.yaml"), directory.path().join("user-data.yaml"));
    let run = |more: &[&str], code: i32| {
        let arguments =
            ["init", "--cloud-init", "dev", "--values", values.to_str().unwrap(), "--output", output.to_str().unwrap()];
        let ran = landfall(&[&arguments[..], more].concat());
        assert_eq!((ran.status.code(), ran.stdout.is_empty()), (Some(code), true), "{}", text(&ran.stderr));
        fs::read_to_string(&output).unwrap()
    };
    let golden = fs::read_to_string(golden("dev")).unwrap();
    assert_eq!(run(&[], 0), golden);
    fs::write(&output, "mine\n").unwrap();
    assert_eq!(run(&[], 2), "mine\n");
    assert_eq!(run(&["--force"], 0), golden);
    assert_eq!(fs::read_to_string(directory.path().join("user-data.yaml.bak")).unwrap(), "mine\n");
}
