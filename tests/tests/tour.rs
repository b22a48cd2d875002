//! What `make try` shows is true: its six lines are there, in order, and the container that answers at the end has the
//! image that was published as v2. What it leaves is removed without a trace.

use anyhow::{Result, ensure};
use landfall_tests::clean::PREFIX;
use landfall_tests::engine::Engine;
use landfall_tests::tour::{Options, clean, run};
use landfall_tests::{ports, prober};

#[test]
fn the_tour_ends_with_v2_and_six_true_lines() -> Result<()> {
    let engine = Engine::of_this_machine();
    let app = format!("{PREFIX}{}-tour", std::process::id());
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("try");
    let options = Options {
        directory: directory.clone(),
        app: app.clone(),
        port: ports::free()?,
        restart_docker: Err("other tests run beside this one".to_owned()),
        secrets: Ok(()),
    };
    let mut said = Vec::new();
    let outcome = run(&options, &mut |line| said.push(line.to_owned()));
    let checked = outcome.and_then(|outcome| {
        let lines: Vec<&str> = outcome.timeline.iter().map(|line| line.what.as_str()).collect();
        let starts = [
            "v1 rolled out",
            "v2 rolled out",
            "secret rotated",
            "v3 rolled back to v2",
            "api killed",
            "all containers killed",
        ];
        ensure!(lines.len() == starts.len() && lines.iter().zip(starts).all(|(l, s)| l.starts_with(s)), "{lines:?}");
        ensure!(outcome.timeline.is_sorted_by(|a, b| a.at <= b.at), "{:?}", outcome.timeline);
        let served = prober::ask(&outcome.url).map_err(anyhow::Error::msg)?;
        ensure!(served.version == "v2", "{} is served", served.version);
        let digests = engine.image_digests(&served.container)?;
        ensure!(digests.contains(&outcome.serving.image.to_string()), "it runs {digests:?}");
        Ok(())
    });
    if checked.is_err() {
        eprintln!("{}", said.join("\n"));
        eprintln!("{}", landfall_tests::process::tail(&directory.join("landfall-agent.log"), 60));
    }
    let removed = clean(&directory, &app)?;
    checked?;

    for process in ["registry", "sandbox", "landfall-agent", "landfall-image-watcher", "landfall-secrets-fetcher"] {
        ensure!(removed.iter().any(|name| name == process), "{process} did not run: {removed:?}");
    }
    ensure!(engine.containers(&app)?.is_empty(), "containers are left");
    for list in ["/networks", "/volumes", "/images/json"] {
        let text = engine.call("GET", list, None)?.to_string();
        ensure!(!text.contains(&app), "{list} still names {app}");
    }
    ensure!(!directory.exists(), "{} is left", directory.display());
    Ok(())
}
