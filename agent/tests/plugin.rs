//! The real Compose plugin in its fence: what it cannot read, how much it can use, and what `prepare` does to a real Engine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_agent::compose_plugin::{
    ComposeFailure, ComposePlugin, ConfigFailure, ConfigRequest, PluginError, Translated,
};
use landfall_agent::yaml;
use landfall_core::command::{Command, Output};
use landfall_core::ids::AppName;
use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};
use serde_json::json;
use tokio::sync::oneshot;

const AGENT: &str = env!("CARGO_BIN_EXE_landfall-agent");
const MIB_512: &str = "536870912";

async fn plugin() -> ComposePlugin {
    ComposePlugin::find(Some(Path::new(AGENT))).await.unwrap()
}

async fn fenced(read: &Path, cpu: &str, program: &[&str]) -> Output {
    let fence = ["fence", "--read", read.to_str().unwrap(), "--cpu", cpu, "--memory", MIB_512, "--"];
    Command::new(AGENT).args(fence).args(program).run().await.unwrap()
}

fn kernel_has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

#[tokio::test]
async fn the_fence_lets_a_program_read_what_is_named_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("inside"), "inside").unwrap();
    let inside = directory.path().join("inside");
    let read = fenced(directory.path(), "5", &["/bin/cat", inside.to_str().unwrap()]).await;
    assert_eq!((read.code, read.stdout.as_slice()), (0, &b"inside"[..]), "{}", read.stderr);
    if !kernel_has_landlock() {
        return;
    }
    let outside = fenced(directory.path(), "5", &["/bin/cat", "/etc/passwd"]).await;
    assert_ne!(outside.code, 0);
    assert!(outside.stderr.contains("Permission denied"), "{}", outside.stderr);
    let write = fenced(directory.path(), "5", &["/bin/cp", inside.to_str().unwrap(), "/tmp/landfall-fence-test"]).await;
    assert_ne!(write.code, 0);
}

#[tokio::test]
async fn the_fence_ends_what_uses_too_much_cpu() {
    const SIGXCPU: i32 = 128 + 24;
    let output = fenced(Path::new("/"), "1", &["/bin/sh", "-c", "while :; do :; done"]).await;
    assert_eq!(output.code, SIGXCPU, "{}", output.stderr);
}

#[tokio::test]
async fn a_fence_without_a_program_says_so() {
    let output = Command::new(AGENT).args(["fence", "--cpu", "1"]).run().await.unwrap();
    assert_eq!(output.code, 125);
    assert!(output.stderr.contains("required"), "{}", output.stderr);
}

async fn config(compose: &str) -> Result<Translated, ConfigFailure> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("compose.yaml");
    fs::write(&file, compose).unwrap();
    let (app, vars): (AppName, _) = ("shop".parse().unwrap(), BTreeMap::new());
    let request = ConfigRequest { compose: &[file], project: directory.path(), app: &app, profiles: &[], vars: &vars };
    plugin().await.config(request).await
}

/// Of what a busy machine does not finish in time.
const TRIES: u32 = 5;

/// Past our own budget (`raw_policy` refuses it first), so that the fence is seen to hold alone.
#[tokio::test]
async fn a_bomb_in_the_plugin_itself_is_ended_and_named() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(",")));
    }
    bomb.push_str("services: {a: {image: x}}\n");
    let mut failure = config(&bomb).await.unwrap_err();
    // As the agent does: where others want the cores too, the deadline may come before the CPU is used up.
    for _ in 0..TRIES {
        if !matches!(failure, ConfigFailure::Later(_)) {
            break;
        }
        failure = config(&bomb).await.unwrap_err();
    }
    // The newest versions refuse excessive aliasing themselves.
    let ended = matches!(&failure, ConfigFailure::Exhausted);
    assert!(ended || failure.to_string().contains("alias"), "{failure:?}");
}

#[tokio::test]
async fn nothing_of_our_environment_reaches_a_release() {
    let text = config("services: {a: {image: 'x:${PATH:-none}', environment: [HOME, USER]}}").await.unwrap().text;
    assert!(text.contains("x:none") && text.contains("HOME: null"), "{text}");
}

#[tokio::test]
async fn a_file_outside_the_project_cannot_be_read() {
    if !kernel_has_landlock() {
        return;
    }
    let failure = config("services: {a: {image: x, env_file: /etc/passwd}}").await.unwrap_err();
    assert!(failure.to_string().contains("permission denied"), "{failure}");
}

#[tokio::test]
async fn what_compose_warns_of_is_passed_on_with_a_model_and_with_a_refusal() {
    let read = config("services: {a: {image: 'x:${MISSING}'}}").await.unwrap();
    assert!(read.warnings.len() == 1 && read.warnings[0].contains("MISSING"), "{:?}", read.warnings);
    let failure = config("services: {a: {image: 'x:${MISSING}', ports: ['${MISSING}:x']}}").await.unwrap_err();
    let ConfigFailure::Refused { said, warnings } = failure else { panic!("{failure:?}") };
    assert!(warnings.iter().any(|warning| warning.contains("MISSING")), "{warnings:?}");
    assert!(!said.contains("MISSING\\\" variable"), "{said}");
}

fn script(directory: &Path, body: &str) -> PathBuf {
    let path = directory.join("docker-compose");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn an_old_or_strange_plugin_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let old = ComposePlugin::at(&script(directory.path(), "echo 2.25.0"), None).await.unwrap_err();
    assert!(matches!(&old, PluginError::TooOld { version, .. } if version == "2.25.0"), "{old:?}");
    assert!(old.to_string().contains("2.26 or newer"), "{old}");
    let strange = ComposePlugin::at(&script(directory.path(), "echo hello"), None).await.unwrap_err();
    assert!(matches!(strange, PluginError::Strange { .. }), "{strange:?}");
}

async fn docker(arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/docker").args(arguments).deadline(Duration::from_mins(1)).run().await.unwrap();
    assert!(output.success(), "docker {arguments:?}: {}", output.stderr);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn prepare(document: &str) -> Result<(), ComposeFailure> {
    let (give, given) = oneshot::channel();
    give.send(document.as_bytes().to_vec()).unwrap();
    plugin().await.prepare(&"landfall-plugin-test".parse().unwrap(), Path::new("/nowhere"), given).await
}

fn prepared(image: &str, command: &str, count: u32) -> String {
    let service = json!({"image": image, "command": [command], "restart": "no", "deploy": {"replicas": count}});
    yaml::compose_line(&json!({"services": {"a": service}}))
}

#[tokio::test]
async fn prepare_creates_beside_what_exists_and_repeats_as_a_no_op() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("empty.tar");
    // Two blocks of zeros: the end of an archive without members.
    fs::write(&archive, [0; 1024]).unwrap();
    let image = "landfall-plugin-test:empty";
    docker(&["import", archive.to_str().unwrap(), image]).await;
    let list = ["ps", "-aq", "--filter", "label=com.docker.compose.project=landfall-plugin-test"];

    // The agent is killed before it gave the document, or while it did: its end of the pipe is closed.
    let whole = prepared(image, "/nothing", 1);
    for part in ["", &whole[..whole.len() / 2], whole.trim_end().trim_end_matches('}')] {
        let failure = prepare(part).await.unwrap_err();
        assert!(matches!(failure, ComposeFailure::Failed { .. }), "{part}: {failure}");
        assert_eq!(docker(&list).await, "", "{part}");
    }
    prepare(&whole).await.unwrap();
    let first = docker(&list).await;
    prepare(&whole).await.unwrap();
    assert_eq!(docker(&list).await, first);
    prepare(&prepared(image, "/other", 2)).await.unwrap();
    let both = docker(&list).await;
    assert!(both.lines().count() == 2 && both.contains(&first), "{both}");

    let failure = prepare(&prepared("landfall-plugin-test:missing", "/nothing", 3)).await.unwrap_err();
    assert!(matches!(&failure, ComposeFailure::Failed { stderr, .. } if stderr.contains("missing")), "{failure}");

    for id in both.lines() {
        docker(&["rm", "-f", id]).await;
    }
    docker(&["network", "rm", "landfall-plugin-test_default"]).await;
    docker(&["rmi", image]).await;
}
