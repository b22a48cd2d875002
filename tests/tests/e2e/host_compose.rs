//! Apps whose compose file lies on the VM: the channel has a pointer document, or CI moves nothing but image tags.

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::images::{self, Image};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::eventually;
use serde_json::json;

/// What cloud-init would have written. `cache` has a tag that nobody moves here.
const COMPOSE: &str = r#"services:
  api:
    image: REGISTRY/sample/api:staging
    ports: ["127.0.0.1:${PORT}:8080"]
    healthcheck: { test: ["CMD", "/landfall-sample", "probe", "http://127.0.0.1:8080/health"], interval: 1s }
    deploy: { resources: { limits: { memory: 32M } }, update_config: { monitor: 1s } }
  worker:
    image: REGISTRY/sample/worker:staging
    healthcheck: { test: ["CMD", "/landfall-sample", "probe", "http://127.0.0.1:8080/health"], interval: 1s }
    deploy: { resources: { limits: { memory: 32M } }, update_config: { monitor: 1s } }
  cache:
    image: REGISTRY/sample/base:1
    deploy: { resources: { limits: { memory: 32M } }, update_config: { monitor: 1s } }
"#;

#[test]
fn ci_moves_image_tags_and_nothing_else() {
    on_a_vm("tags", |vm| {
        let channel = format!("{}/sample/api:staging", vm.registry.address());
        vm.configure(&json!({ "source": "tags", "channel": channel }))?;
        reason_has(vm, "there is no `")?;
        write_compose(vm, "32M")?;
        push(vm, "sample/worker", "w1", None)?;
        eventually(SOON, "the watcher misses the other image", || {
            let problem = vm.channel_file()?.problem.context("no problem")?;
            ensure!(problem.contains("/sample/api:staging"), "{problem}");
            Ok(())
        })?;
        push(vm, "sample/api", "v1", None)?;
        rolled(vm, "v1", &["api", "cache", "worker"])?;
        let tags = vm.channel_file()?.tags;
        ensure!(tags.keys().map(String::as_str).eq(["api", "worker"]), "{tags:?}");

        // One image alone, when it has been quiet for a while; the others keep their containers.
        push(vm, "sample/api", "v2", None)?;
        rolled(vm, "v2", &["api"])?;

        // Two of one revision are one release.
        let before = vm.last_seq()?;
        push(vm, "sample/worker", "w3", Some("c0ffee"))?;
        push(vm, "sample/api", "v3", Some("c0ffee"))?;
        rolled(vm, "v3", &["api", "worker"])?;
        let started = vm.history()?.into_iter().filter(|e| e.seq > before && e.event == HistoryEvent::RolloutStarted);
        ensure!(started.count() == 1, "more than one rollout");

        // A tag set back is a release as any other.
        push(vm, "sample/api", "v2", None)?;
        rolled(vm, "v2", &["api"])?;

        // The file on the VM is the release's other half.
        write_compose(vm, "48M")?;
        let entry = vm.recorded(vm.last_seq()?, HistoryEvent::Live, None)?;
        ensure!(entry.services == ["api", "cache", "worker"], "{entry:?}");
        let containers = vm.engine.containers(vm.app.as_str())?;
        ensure!(containers.len() >= 3, "{containers:?}");

        // A mistake in it stops releases and nothing else, and is said.
        std::fs::write(vm.layout().host_compose(&vm.app), "services: {api: {imgae: x}}")?;
        reason_has(vm, "imgae")?;
        ensure!(vm.ask()?.version == "v2", "the stack is not served any more");
        Ok(())
    });
}

#[test]
fn a_pointer_document_moves_the_images_of_a_file_on_the_vm() {
    on_a_vm("pointer", |vm| {
        write_compose(vm, "32M")?;
        vm.configure(&json!({ "source": "pointer" }))?;
        for version in ["v1", "v2"] {
            let api = push(vm, "sample/api", version, None)?;
            let worker = push(vm, "sample/worker", "w1", None)?;
            let (api, worker) = (format!("api={api}"), format!("worker={worker}"));
            let channel = vm.channel();
            let ran = vm.landfall(&["publish", &channel, "--pointer", "--image", &api, "--image", &worker])?;
            ensure!(ran.code == 0, "{ran:?}");
            rolled(vm, version, if version == "v1" { &["api", "cache", "worker"] } else { &["api"] })?;
        }
        Ok(())
    });
}

fn reason_has(vm: &Vm, words: &str) -> Result<()> {
    eventually(SOON, "status says why", || {
        let reason = vm.status()?.reason.context("no reason")?;
        ensure!(reason.contains(words), "{reason}");
        Ok(())
    })
}

fn write_compose(vm: &Vm, memory: &str) -> Result<()> {
    let path = vm.layout().host_compose(&vm.app);
    std::fs::create_dir_all(path.parent().context("no parent")?)?;
    let text = COMPOSE.replace("REGISTRY", vm.registry.address()).replace("32M", memory);
    Ok(std::fs::write(path, text)?)
}

/// Pushes an image to its tag `staging`, and says its name by digest.
fn push(vm: &Vm, repository: &str, version: &str, revision: Option<&str>) -> Result<String> {
    let image = Image {
        repository,
        tag: "staging",
        command: if repository == "sample/api" { &["api"] } else { &["store"] },
        environment: &[("VERSION", version)],
        revision,
        owner: vm.app.as_str(),
        ..Image::default()
    };
    Ok(format!("{}/{repository}@{}", vm.registry.address(), images::push(&vm.registry, &image)?))
}

/// Waits until that version is served and live, by a rollout that replaced just these services.
fn rolled(vm: &Vm, version: &str, services: &[&str]) -> Result<()> {
    eventually(ROLLOUT, &format!("{version} is served and live"), || {
        let served = vm.ask()?;
        ensure!(served.version == version, "{} is", served.version);
        let last = vm.history()?.pop().context("no history")?;
        ensure!(last.event == HistoryEvent::Live, "{last:?}");
        ensure!(last.services == services, "{last:?}");
        Ok(())
    })
}
