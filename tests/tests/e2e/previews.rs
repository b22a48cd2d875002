//! Previews of pull requests: an app for each tag that matches, until its tag is gone.

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::contract::{self, PreviewsFile, Read};
use landfall_core::ids::AppName;
use landfall_tests::images::{self, Image};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::eventually;
use landfall_tests::{ports, prober};
use serde_json::{Value, json};

/// What a pull request publishes. Its cap is that of production.
const COMPOSE: &str = r#"services:
  api:
    image: REGISTRY/sample/api:VERSION
    ports: ["127.0.0.1:${LANDFALL_PORT:-8080}:8080"]
    volumes: [data:/data]
    healthcheck: { test: ["CMD", "/landfall-sample", "probe", "http://127.0.0.1:8080/health"], interval: 1s }
    deploy: { resources: { limits: { memory: 40G } }, update_config: { monitor: 1s } }
volumes:
  data: {}
"#;
/// What a preview may use.
const CAP: u64 = 32 << 20;
/// How long a tag must have been missing.
const MISSING_MS: u64 = 24 * 3_600_000;

#[test]
fn previews_come_and_go_with_their_tags() {
    on_a_vm("previews", |vm| {
        let first = ports::free_range(3)?;
        configure(vm, first, 3, &json!({}))?;
        publish(vm, "pr-1", "one")?;
        served(first, "one")?;
        publish(vm, "pr-2", "two")?;
        served(first + 1, "two")?;
        let [one, two] = [app(vm, "pr-1")?, app(vm, "pr-2")?];
        let api = vm.engine.serving(two.as_str(), "api")?.id;
        let cap = vm.engine.inspect(&api)?["HostConfig"]["Memory"].as_u64();
        ensure!(cap == Some(CAP), "the cap is {cap:?}");

        // Each follows its own tag.
        publish(vm, "pr-1", "one-again")?;
        served(first, "one-again")?;
        ensure!(vm.engine.serving(two.as_str(), "api")?.id == api, "the other preview was replaced");

        // A tag that is missing is not gone; a day later it is, with all that its preview had.
        vm.registry.delete(&repository(vm), "pr-1")?;
        eventually(SOON, "the tag is missed", || {
            let reason = vm.status_of(&one)?.reason.context("no reason")?;
            ensure!(reason.contains("has no `"), "{reason}");
            Ok(())
        })?;
        served(first, "one-again")?;
        a_day_later(vm, "pr-1")?;
        eventually(ROLLOUT, "nothing is left of it", || left_of(vm, &one))?;
        ensure!(vm.engine.serving(two.as_str(), "api")?.id == api, "the other preview was touched");
        ensure!(vm.status_of(&one).is_err(), "`status` still shows it");

        // Its port is free for the next, and it may come back itself.
        publish(vm, "pr-3", "three")?;
        served(first, "three")?;
        publish(vm, "pr-1", "one-back")?;
        served(first + 2, "one-back")
    });
}

#[test]
fn the_sixth_preview_is_refused_with_the_numbers_and_has_its_turn() {
    on_a_vm("sixth", |vm| {
        let first = ports::free_range(6)?;
        let total = vm.engine.call("GET", "/info", None)?["MemTotal"].as_u64().context("no `MemTotal`")?;
        let reserve = total - 5 * CAP - CAP / 2;
        let tags: Vec<String> = (1..=6).map(|number| format!("pr-{number}")).collect();
        for tag in &tags {
            publish(vm, tag, tag)?;
        }
        // All at once: none may be promised what another was promised.
        configure(vm, first, 6, &json!({ "reserve": { "memory": reserve.to_string() } }))?;
        let refused = eventually(ROLLOUT, "five serve and one is refused", || {
            let mut refused = Vec::new();
            for tag in &tags {
                let status = vm.status_of(&app(vm, tag)?)?;
                if status.services.iter().any(|service| service.ready == 1) {
                    continue;
                }
                let reason = status.reason.with_context(|| format!("{tag}: {}", status.state))?;
                ensure!(reason.contains("32 MiB asked, 16 MiB free"), "{tag}: {reason}");
                refused.push(tag.clone());
            }
            ensure!(refused.len() == 1, "refused: {refused:?}");
            refused.pop().context("none")
        })?;
        let other = tags.iter().find(|tag| **tag != refused).context("there is one")?;
        vm.registry.delete(&repository(vm), other)?;
        // Nobody is there when it goes: what is to end is found at the start.
        vm.kill_agent()?;
        a_day_later(vm, other)?;
        eventually(SOON, "the tag is gone", || {
            ensure!(!previews(vm)?.tags.contains_key(other), "not yet");
            Ok(())
        })?;
        vm.start_agent()?;
        eventually(ROLLOUT, "it has its turn", || vm.engine.serving(app(vm, &refused)?.as_str(), "api").map(drop))
    });
}

#[test]
fn image_tags_have_previews_of_a_file_on_the_vm() {
    on_a_vm("preview-tags", |vm| {
        let first = ports::free_range(2)?;
        let file = vm.layout().host_compose(&vm.app);
        std::fs::create_dir_all(file.parent().context("no parent")?)?;
        std::fs::write(
            &file,
            COMPOSE.replace("REGISTRY", vm.registry.address()).replace("VERSION", "${LANDFALL_TAG}"),
        )?;
        let mut entry = entry(vm, "sample/api", first, 2);
        entry["source"] = json!("tags");
        vm.write_settings(&json!({ "previews": { vm.app.as_str(): entry } }).to_string())?;
        push(vm, "pr-7", "seven")?;
        served(first, "seven")?;
        push(vm, "pr-8", "eight")?;
        served(first + 1, "eight")?;
        push(vm, "pr-7", "seven-again")?;
        served(first, "seven-again")?;
        served(first + 1, "eight")
    });
}

fn repository(vm: &Vm) -> String {
    format!("deploy/{}", vm.app)
}

/// The entry has the name of the VM's app.
fn app(vm: &Vm, tag: &str) -> Result<AppName> {
    Ok(format!("{}-{tag}", vm.app).parse()?)
}

fn configure(vm: &Vm, first: u16, count: u16, host: &Value) -> Result<()> {
    let previews = json!({ vm.app.as_str(): entry(vm, &repository(vm), first, count) });
    vm.write_settings(&json!({ "host": host, "previews": previews }).to_string())
}

fn entry(vm: &Vm, repository: &str, first: u16, count: u16) -> Value {
    json!({
        "channel": format!("{}/{repository}:pr-*", vm.registry.address()),
        "poll": "250ms",
        "ports": format!("{first}-{}", first + count - 1),
        "caps": { "memory": "32M" },
    })
}

/// As CI does for a pull request.
fn publish(vm: &Vm, tag: &str, version: &str) -> Result<()> {
    push(vm, version, version)?;
    let file = vm.project.compose_file();
    std::fs::write(&file, COMPOSE.replace("REGISTRY", vm.registry.address()).replace("VERSION", version))?;
    let channel = format!("{}/{}:{tag}", vm.registry.address(), repository(vm));
    let ran = vm.landfall(&["publish", &channel, "--file", file.to_str().context("the path is no text")?])?;
    ensure!(ran.code == 0, "{ran:?}");
    Ok(())
}

/// Pushes an image, and nothing else.
fn push(vm: &Vm, tag: &str, version: &str) -> Result<()> {
    let image = Image {
        repository: "sample/api",
        tag,
        command: &["api"],
        environment: &[("VERSION", version)],
        owner: vm.app.as_str(),
        ..Image::default()
    };
    images::push(&vm.registry, &image).map(drop)
}

fn served(port: u16, version: &str) -> Result<()> {
    eventually(ROLLOUT, &format!("{version} is served at {port}"), || {
        let served = prober::ask(&format!("http://127.0.0.1:{port}/")).map_err(anyhow::Error::msg)?;
        ensure!(served.version == version, "{} is", served.version);
        Ok(())
    })
}

fn previews(vm: &Vm) -> Result<PreviewsFile> {
    match contract::read(&vm.layout().previews(&vm.app)) {
        Read::Found(file) => Ok(file),
        other => bail!("the file of previews is {other:?}"),
    }
}

/// Lets the watcher know that a tag has been missing for all but the last moment of a day.
fn a_day_later(vm: &mut Vm, tag: &str) -> Result<()> {
    vm.kill_watcher()?;
    let mut file = previews(vm)?;
    file.tags.get_mut(tag).context("it is gone")?.missing_ms = MISSING_MS - 1;
    landfall_core::publish::write_json(&vm.layout().previews(&vm.app), &file)?;
    vm.start_watcher()
}

/// Containers, networks, volumes, images by their keeper tags, files.
fn left_of(vm: &Vm, app: &AppName) -> Result<()> {
    let containers = vm.engine.containers(app.as_str())?;
    ensure!(containers.is_empty(), "{} containers", containers.len());
    for (list, names) in [("/networks", "Name"), ("/volumes", "Name"), ("/images/json", "RepoTags")] {
        let found = vm.engine.call("GET", list, None)?;
        let items = found.get("Volumes").unwrap_or(&found).as_array().cloned().unwrap_or_default();
        let left = items.iter().map(|item| item[names].to_string()).find(|name| name.contains(app.as_str()));
        ensure!(left.is_none(), "{list}: {left:?}");
    }
    let layout = vm.layout();
    for path in
        [layout.ledger(app), layout.history(app), layout.wanted(app), layout.agent_app(app), layout.channel(app)]
    {
        ensure!(!path.exists(), "`{}`", path.display());
    }
    Ok(())
}
