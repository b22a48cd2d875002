//! The agent, killed at every point of the end of a preview. The watcher only stages its release; then its word is written by hand.

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::contract::{FORMAT, PreviewTag, PreviewsFile};
use landfall_core::ids::AppName;
use landfall_tests::ports;
use landfall_tests::suite::on_a_vm;
use landfall_tests::tracer::{Moment, Target, Traced};
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::eventually;
use serde_json::json;

use crate::agent::targets;
use crate::drill::say;

/// Below this number the tracer is blind.
const FEWEST: usize = 8;
const TAG: &str = "pr-1";
const COMPOSE: &str = r#"services:
  store:
    image: REGISTRY/sample/base:1
    command: ["store"]
    volumes: [data:/data]
    deploy: { resources: { limits: { memory: 32M } }, update_config: { monitor: 1ms } }
volumes:
  data: {}
"#;

#[test]
fn a_preview_ends_whole_whatever_is_killed() {
    on_a_vm("end-points", |vm| {
        let app: AppName = format!("{}-{TAG}", vm.app).parse()?;
        stage(vm)?;
        let targets = targets(&round(vm, &app, None)?);
        let numbered = targets.iter().filter(|target| target.moment == Moment::Before).count();
        say(&format!("End: {numbered} points, {} kills", targets.len()));
        ensure!(numbered >= FEWEST, "only {numbered} points: {targets:?}");
        for (index, target) in targets.iter().enumerate() {
            round(vm, &app, Some(target.clone()))
                .with_context(|| format!("kill {} of {}, {target:?}", index + 1, targets.len()))?;
        }
        Ok(())
    });
}

/// Has the watcher follow the preview, and takes it away when the release is there.
fn stage(vm: &mut Vm) -> Result<()> {
    let file = vm.project.compose_file();
    std::fs::write(&file, COMPOSE.replace("REGISTRY", vm.registry.address()))?;
    let channel = channel(vm);
    let ran = vm.landfall(&["publish", &channel, "--file", file.to_str().context("the path is no text")?])?;
    ensure!(ran.code == 0, "{ran:?}");
    let port = ports::free()?;
    let entry = json!({ "channel": channel.replace(TAG, "pr-*"), "poll": "250ms", "ports": format!("{port}-{port}") });
    vm.write_settings(&json!({ "previews": { vm.app.as_str(): entry } }).to_string())?;
    let app: AppName = format!("{}-{TAG}", vm.app).parse()?;
    eventually(SOON, "the release is staged", || {
        ensure!(vm.layout().channel(&app).exists(), "not yet");
        vm.engine.serving(app.as_str(), "store").map(drop)
    })?;
    vm.kill_watcher()
}

fn channel(vm: &Vm) -> String {
    format!("{}/deploy/{}:{TAG}", vm.registry.address(), vm.app)
}

/// What the watcher would say.
fn say_of_tags(vm: &Vm, tags: &[&str]) -> Result<()> {
    let tag = |tag: &&str| -> Result<_> {
        let (channel, published) = (channel(vm).parse()?, "2026-01-01T00:00:00.000Z".to_owned());
        Ok(((*tag).to_owned(), PreviewTag { channel, published, missing_ms: 0, over: None }))
    };
    let file = PreviewsFile {
        format: FORMAT,
        entry: vm.app.clone(),
        channel: channel(vm).replace(TAG, "pr-*"),
        ttl_ms: 1,
        listed_at: None,
        problem: None,
        tags: tags.iter().map(tag).collect::<Result<_>>()?,
    };
    Ok(landfall_core::publish::write_json(&vm.layout().previews(&vm.app), &file)?)
}

/// The preview comes, and goes under trace.
fn round(vm: &mut Vm, app: &AppName, target: Option<Target>) -> Result<Vec<landfall_tests::points::Point>> {
    say_of_tags(vm, &[TAG])?;
    eventually(ROLLOUT, "the preview is live", || {
        vm.engine.serving(app.as_str(), "store")?;
        let state = vm.status_of(app)?.state;
        ensure!(state == "idle", "it is {state}");
        Ok(())
    })?;
    let wanted = target.clone();
    let traced = Traced::start(vm.agent_id()?, &vm.layout().agent(), target)?;
    say_of_tags(vm, &[])?;
    eventually(ROLLOUT, "the agent is killed, or has done its work", || {
        if traced.ended() { Ok(()) } else { over(vm, app) }
    })?;
    vm.kill_agent()?;
    let points = traced.wait(SOON)?;
    if let Some(target) = wanted
        && points.last() != Some(&target.point)
    {
        bail!("this point did not come up: the numbering does not hold; {points:?}");
    }
    vm.start_agent()?;
    eventually(ROLLOUT, "nothing is left of it", || over(vm, app))?;
    Ok(points)
}

/// Whether it has ended and is forgotten.
fn over(vm: &Vm, app: &AppName) -> Result<()> {
    let containers = vm.engine.containers(app.as_str())?;
    ensure!(containers.is_empty(), "{} containers", containers.len());
    for list in ["/networks", "/volumes"] {
        let found = vm.engine.call("GET", list, None)?.to_string();
        ensure!(!found.contains(&format!("\"{app}_")), "{list} has something of it");
    }
    let layout = vm.layout();
    let slots = std::fs::read_to_string(layout.preview_slots())?;
    ensure!(!slots.contains(app.as_str()), "its ports are not free");
    for path in [layout.ledger(app), layout.history(app), layout.wanted(app), layout.agent_app(app)] {
        ensure!(!path.exists(), "`{}`", path.display());
    }
    Ok(())
}
