//! `landfall init` on the shipped binary: what it writes and prints, against goldens, and that it writes over nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn landfall(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.env_clear().arg("--root").arg(root).args(arguments).output().expect("landfall runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const PACKAGED: &str = include_str!("../../packaging/etc/landfall/landfall.yaml");

const ACME: &[&str] = &[
    "init",
    "--app",
    "web",
    "--channel",
    "ghcr.io/acme/deploy:prod",
    "--vault",
    "https://kv-acme.vault.azure.net",
    "--vault",
    "https://kv-two.vault.azure.net",
    "--vm",
    "vm-1",
    "--resource-group",
    "rg-acme",
];

#[test]
fn what_is_written_and_printed() {
    let table: &[(&[&str], &str, &str)] = &[
        (&["init"], include_str!("golden/init/empty.yaml"), include_str!("golden/init/empty.txt")),
        (ACME, include_str!("golden/init/acme.yaml"), include_str!("golden/init/acme.txt")),
    ];
    for (arguments, file, printed) in table {
        let root = tempfile::tempdir().expect("a directory");
        let output = landfall(root.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let written = fs::read_to_string(root.path().join("etc/landfall/landfall.yaml")).expect("written");
        assert_eq!(&written, file, "\n--- got ---\n{written}");
        assert_eq!(&text(&output.stdout), printed, "\n--- got ---\n{}", text(&output.stdout));
        let checked = landfall(root.path(), &["check"]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    }
}

/// So that a first `landfall init` after the installation finds a file that is nobody's.
#[test]
fn the_package_brings_what_init_writes_without_arguments() {
    assert_eq!(PACKAGED, include_str!("golden/init/empty.yaml"));
}

#[test]
fn what_is_there_stays() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("etc/landfall/landfall.yaml");
    let read = |path: &Path| fs::read_to_string(path).expect("read");
    let ends = |arguments: &[&str], code: i32, word: &str| {
        let output = landfall(root.path(), arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    };
    ends(&["init", "--vault", "http://x"], 2, "expected `https://NAME.vault.azure.net`");
    assert!(!path.exists());
    ends(&["init"], 0, "is written");
    ends(&["init"], 0, "is there already, and says this");
    // As the package brings it: nobody's.
    ends(ACME, 0, "nobody had edited");
    let copy = path.with_file_name("landfall.yaml.bak");
    assert!(read(&path).contains("kv-acme") && !copy.exists());
    ends(&["init"], 2, "--force");
    fs::write(&path, format!("{PACKAGED}\n")).expect("written");
    ends(ACME, 2, "--force");
    fs::write(&path, "apps: {}\n").expect("written");
    ends(ACME, 2, "--force");
    assert_eq!(read(&path), "apps: {}\n");
    let forced = [ACME, &["--force"]].concat();
    ends(&forced, 0, "landfall.yaml.bak");
    assert_eq!((read(&copy).as_str(), read(&path).contains("kv-acme")), ("apps: {}\n", true));
    // A second time the copy would be lost.
    ends(&["init", "--force"], 2, "a copy from before");
    assert_eq!((read(&copy).as_str(), read(&path).contains("kv-acme")), ("apps: {}\n", true));
}
