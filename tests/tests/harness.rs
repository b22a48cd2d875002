//! The judges are judged first: the sample as Compose itself starts it, a restart that the recorder must see, a gap that
//! the prober must see, and nothing left behind. No part of Landfall runs here.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_tests::engine::Engine;
use landfall_tests::events::Recorder;
use landfall_tests::prober::Prober;
use landfall_tests::process::Lifetime;
use landfall_tests::programs;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;

#[test]
fn the_harness_sees_what_happens_and_leaves_nothing() -> Result<()> {
    let engine = Engine::of_this_machine();
    let app = format!("t-{}-harness", std::process::id());
    let directory = tempfile::tempdir()?;
    let vm = Vm::create(directory.path(), &app, None, Lifetime::Test)?;
    let image = vm.project.set_version(&vm.registry, "v1", &[])?;
    let port = vm.url().rsplit(':').next().context("no port")?.trim_end_matches('/').to_owned();
    let up = Command::new(programs::compose_plugin()?)
        .args(["-p", &app, "-f"])
        .arg(vm.project.compose_file())
        .args(["up", "-d"])
        .env("PORT", port)
        .output()?;
    ensure!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));

    let served = eventually(SOON, "v1 is served", || vm.ask())?;
    assert_eq!((served.version.as_str(), served.site.as_str()), ("v1", "one"));
    assert!(engine.image_digests(&served.container)?.contains(&image.to_string()));

    let recorder = Recorder::start(&engine, &[&app])?;
    let prober = Prober::start(&vm.url(), Duration::from_millis(10));
    let start = Instant::now();
    eventually(SOON, "a hundred answers", || {
        ensure!(prober.probes().len() > 100);
        Ok(())
    })?;
    assert!(prober.failures(start).is_empty(), "{:?}", prober.failures(start).first());
    assert_eq!(recorder.changes(), []);

    engine.restart(&engine.serving(&app, "api")?.id)?;
    eventually(SOON, "the restart is seen", || {
        let changes = recorder.changes();
        ensure!(changes.iter().any(|c| c.kind == "container" && c.action == "restart"), "{changes:?}");
        Ok(())
    })?;
    eventually(SOON, "v1 is served again", || vm.ask())?;
    assert!(prober.gap(start) > Duration::from_millis(300), "the api takes 500 ms to start");
    drop(vm);
    assert_eq!(engine.containers(&app)?, []);
    Ok(())
}
