//! `landfall check` on the shipped binary: tables of files in, exit code and words out. No daemon is asked.

use std::fs;
use std::path::Path;
use std::process::Command;

fn check(root: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_landfall"))
        .env_clear()
        .env("LANDFALL_DOCKER_HOST", "unix:///nobody/listens")
        .current_dir(root)
        .args(["--root", ".", "check"])
        .args(arguments)
        .output()
        .expect("landfall runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: no `{word}` in {text}");
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    fs::write(path, text).expect("written");
}

#[test]
fn a_configuration() {
    let table: &[(&str, i32, &[&str])] = &[
        (
            "apps: { web: { channel: ghcr.io/acme/deploy:prod } }",
            0,
            &["valid", "reserve 512M and 10% of disks", "web: bundle ghcr.io/acme/deploy:prod"],
        ),
        (
            "previews: { web: { channel: 'ghcr.io/acme/deploy:pr-*', ports: 8100-8109, ports_each: 2, caps: { memory: 64M } } }",
            0,
            &[
                "web: bundle ghcr.io/acme/deploy:pr-*, every 5s, ports 8100-8109 for 5 of them, cap 64M, gone after 168 h",
            ],
        ),
        ("apps:\n  web:\n    chanel: x", 2, &["landfall.yaml:3:5", "channel", "chanel: x\n"]),
        ("apps: [", 2, &["landfall.yaml"]),
    ];
    for (text, code, words) in table {
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), "etc/landfall/landfall.yaml", text);
        check(root.path(), &[], *code, words);
        check(Path::new("/"), &["--config", &root.path().display().to_string()], *code, words);
    }
    let root = tempfile::tempdir().expect("a directory");
    check(root.path(), &[], 2, &["landfall.yaml` is not there"]);
}

#[test]
fn compose_files() {
    let good = "services: { web: { image: nginx, mem_limit: 64M, volumes: ['./nginx.conf:/etc/nginx.conf:ro'] } }";
    let secret = "services: { web: { image: nginx, mem_limit: 64M, secrets: [DB] } }\nsecrets: { DB: { external: true, name: prod-db } }";
    let table: &[(&str, &str, i32, &[&str])] = &[
        (good, "", 0, &["web: 1 x memory 64M", "default policy"]),
        ("services: { web: { image: nginx } }", "", 3, &["refused by host policy", "web"]),
        ("services: { web: { image: nginx } }", "host: { require_caps: false }", 0, &["etc/landfall/landfall.yaml"]),
        ("services: { web: { image: nginx, mem_limit: 64M, privileged: true } }", "", 3, &["privileged", "next:"]),
        ("services: { web: { image: nginx, mem_limit: 64M, colour: red } }", "", 2, &["colour"]),
        ("services: [", "", 2, &["invalid"]),
        (
            "services: { web: { image: 'nginx:${TAG:?which}', mem_limit: 64M } }",
            "apps: { web: { channel: ghcr.io/a/b:c, vars: { TAG: v1 } } }",
            0,
            &["web: 1 x"],
        ),
        (
            "services: { web: { image: 'nginx:${LANDFALL_TAG:?which}', ports: ['${LANDFALL_PORT:?which}:80'] } }",
            "previews: { web: { channel: 'ghcr.io/a/b:pr-*', ports: 8100-8109, caps: { memory: 64M } } }",
            0,
            &["web: 1 x memory 64M"],
        ),
        (
            "services: { web: { image: nginx, ports: ['80:80'] } }",
            "previews: { web: { channel: 'ghcr.io/a/b:pr-*', ports: 8100-8109, caps: { memory: 64M } } }",
            3,
            &["port 80 is not of this preview, which has 8100-8100", "${LANDFALL_PORT:-8080}:80"],
        ),
        (
            "services: { web: { image: 'nginx:1${TAG}', mem_limit: 64M } }",
            "",
            0,
            &["web: 1 x", "Compose warns:", "TAG", "not set"],
        ),
        ("services: { web: { image: '${TAG}', mem_limit: 64M } }", "", 2, &["Compose warns:", "TAG", "image"]),
        (secret, "vaults: { default: { directory: /vault } }", 0, &["web: 1 x"]),
        (
            secret,
            "vaults: { default: { directory: /vault, allow: ['stage-*'] } }",
            3,
            &["`web` needs secret `prod-db`, which `vaults.default.allow` (stage-*)"],
        ),
        (secret, "apps: {}", 3, &["landfall.yaml has no vault `default`"]),
        (secret, "", 0, &["web: 1 x", "default policy"]),
    ];
    for (compose, config, code, words) in table {
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), "nginx.conf", "");
        write(root.path(), "compose.yaml", compose);
        if !config.is_empty() {
            write(root.path(), "etc/landfall/landfall.yaml", config);
        }
        check(root.path(), &["-f", "compose.yaml"], *code, words);
    }
    let root = tempfile::tempdir().expect("a directory");
    check(root.path(), &["-f", "absent.yaml"], 2, &["`absent.yaml` is not there"]);
}
