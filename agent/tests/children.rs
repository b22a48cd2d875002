//! The agent's short-lived children, as the agent runs them: a question on stdin, an answer on stdout, and what the fence around
//! them lets through.

use std::fs;
use std::path::Path;

use landfall_agent::children::Job;
use landfall_core::command::{Command, Output};
use landfall_core::config::Settings;
use landfall_core::layout::Layout;
use serde_json::{Value, json};

const AGENT: &str = env!("CARGO_BIN_EXE_landfall-agent");
const RELEASE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const DIGEST: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

async fn child(job: Job, question: &Value) -> Output {
    Command::new(AGENT).arg(job.word()).stdin(serde_json::to_vec(question).unwrap()).run().await.unwrap()
}

async fn answer(job: Job, question: &Value) -> Value {
    let output = child(job, question).await;
    assert_eq!(output.code, 0, "{}: {}", job.word(), output.stderr);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A root with a release of one service that binds a file beside its compose file.
fn root(compose: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path());
    fs::create_dir_all(layout.agent()).unwrap();
    put(&layout.config_file(), "apps: {shop: {channel: 'registry.example/shop:prod'}}\n");
    let release = layout.release(&"shop".parse().unwrap(), &RELEASE.parse().unwrap());
    put(&release.join("compose/0.yaml"), compose);
    fs::create_dir_all(release.join("project")).unwrap();
    let source = json!({"kind": "bundle", "compose": ["0.yaml"], "files": []});
    let staged = json!({"format": 1, "app": "shop", "release": RELEASE, "source": source, "provenance": {}});
    put(&release.join("release.json"), &staged.to_string());
    root
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn question(root: &Path) -> Value {
    let settings = Settings::load(&Layout::new(root)).unwrap();
    let app = settings.apps.values().next().unwrap();
    json!({"layout": root, "app": "shop", "release": RELEASE, "settings": app, "host": settings.host})
}

fn plugin() -> Value {
    let directories =
        ["/usr/local/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins"];
    let installed = directories.iter().map(|d| format!("{d}/docker-compose")).find(|path| Path::new(path).is_file());
    let binary = std::env::var("LANDFALL_COMPOSE").ok().or(installed).unwrap();
    json!({"binary": binary, "version": "2.26.1", "fence": "/proc/self/exe"})
}

#[tokio::test]
async fn settings_are_read_and_a_mistake_is_told_with_its_place_and_a_hint() {
    let root = root("services: {}\n");
    let read = answer(Job::Settings, &json!(root.path())).await;
    assert_eq!(read["Ok"]["apps"]["shop"]["poll"], 5000, "{read}");
    let file = Layout::new(root.path()).config_file();
    put(&file, "apps:\n  shop:\n    chanel: x\n");
    let read = answer(Job::Settings, &json!(root.path())).await;
    let said = read["Err"].as_str().unwrap();
    assert_eq!(said, format!("{}:3:5: unknown key `chanel`; did you mean `channel`?", file.display()));
}

#[tokio::test]
async fn a_release_goes_through_all_children_and_its_files_are_laid_down_only_when_asked() {
    let root = root(&format!(
        "services: {{web: {{image: 'r.example/web@{DIGEST}', mem_limit: 32M, configs: [hello], command: '$NOWHERE'}}}}\n\
         configs: {{hello: {{content: hello}}}}\n"
    ));
    let image = format!("r.example/web@{DIGEST}");
    assert_eq!(answer(Job::Images, &question(root.path())).await, json!([image]));
    let translation = answer(Job::Translate, &json!({"question": question(root.path()), "plugin": plugin()})).await;
    let model = &translation["result"]["Ok"];
    assert_eq!(model["images"], json!([image]), "{translation}");
    assert!(translation["warnings"][0].as_str().unwrap().contains("NOWHERE"), "{translation}");

    let context = json!({
        "layout": root.path(), "host": question(root.path())["host"], "journald": false, "cgroup_parent": null,
        "memory_total": 0, "cpus": 0, "memory_of_other_apps": 0, "handed_volumes": {}, "live_networks": {}, "secret_sets": {},
    });
    let images = json!({image.clone(): {"pinned": image, "volumes": []}});
    let mut asked = json!({
        "question": question(root.path()), "text": model["text"], "images": images, "context": context,
        "live": null, "files": "Leave",
    });
    let agent = Layout::new(root.path()).agent();
    let planned = answer(Job::Finalise, &asked).await;
    assert_eq!(planned["Ok"]["services"]["web"]["image"], image, "{planned}");
    assert_eq!(fs::read_dir(&agent).unwrap().count(), 0);
    asked["files"] = json!("Write");
    assert_eq!(answer(Job::Finalise, &asked).await, planned);
    let id = planned["Ok"]["id"].as_str().unwrap();
    let written = fs::read_to_string(agent.join(format!("apps/shop/deployments/{id}/model.json"))).unwrap();
    assert!(written.contains(&image), "{written}");
    assert_eq!(fs::read_dir(agent.join("files")).unwrap().count(), 1);
}

#[tokio::test]
async fn what_speaks_against_a_release_is_told_as_the_library_tells_it() {
    let refused = root("services: {web: {image: x, mem_limit: 32M, privileged: true}}\n");
    let said = answer(Job::Translate, &json!({"question": question(refused.path()), "plugin": plugin()})).await;
    let text = said["result"]["Err"]["Refused"].as_str().unwrap();
    assert!(text.starts_with("refused by host policy: 1 problem\n- service `web`: `privileged`"), "{text}");
    let absent = root("services: {}\n");
    let mut asked = question(absent.path());
    asked["release"] = json!("3".repeat(64));
    let said = answer(Job::Translate, &json!({"question": asked, "plugin": plugin()})).await;
    assert!(said["result"]["Err"]["Later"].as_str().unwrap().contains("is not staged at"), "{said}");
}

#[tokio::test]
async fn a_question_that_is_none_ends_the_child_with_a_reason() {
    for job in Job::ALL {
        let output = child(*job, &json!({"what": 1})).await;
        assert_eq!((output.code, output.stdout.as_slice()), (1, &b""[..]), "{}", job.word());
        assert!(output.stderr.contains("the question does not parse"), "{}", output.stderr);
    }
}
