//! One release on three machines, as `edge`, `control` and `data` of cloud-init/values.yaml have it: each runs the services of its profile
//! and has the secrets of those alone. Users ask the first, which asks the second, which asks the third.

use anyhow::{Context as _, Result, ensure};
use landfall_tests::life::{APP, Guest as _, Life};
use landfall_tests::machine::Machine;
use landfall_tests::project::Project;
use landfall_tests::wait::eventually;
use landfall_tests::world;
use serde_json::json;

use super::{PATIENCE, Place};

/// The compose file and the proxy's configuration of `fixtures/split` have these addresses.
const CONTROL: &str = "10.0.0.5";
const DATA: &str = "10.0.0.6";

#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn each_of_three_machines_runs_its_part_of_one_release() -> Result<()> {
    let part = |profile: &str, allow: &str| json!({ "profiles": [profile], "allow": [allow] });
    let edge = Place::at("edge", world::MACHINE, part("vm-edge", "edge-*"))?;
    let control = Place::at("control", CONTROL, part("vm-control", "api-*"))?;
    let data = Place::at("data", DATA, part("vm-data", "store-*"))?;
    edge.life(Vec::new())?.tell(|story| {
        story.project = Project::create(&edge.directory.path().join("split"), "split", APP, &story.world.registry)?;
        let mut others = [control.machine(&story.world)?, data.machine(&story.world)?];
        let done = live_through(story, &mut others);
        for other in others.iter().filter(|_| done.is_err()) {
            eprintln!("--- {}\n{:?}", other.url(), other.run(&["landfall", "status"]));
        }
        done
    })
}

fn live_through(story: &mut Life<Machine>, others: &mut [Machine; 2]) -> Result<()> {
    story.publish("v1")?;
    power_on(story, others)?;
    story.serves("v1")?;
    each_has_its_part(story, others)?;

    // All at once, and nobody orders them.
    story.guest.cut_power()?;
    others.iter_mut().try_for_each(Machine::cut_power)?;
    power_on(story, others)?;
    story.serves("v1")?;
    each_has_its_part(story, others)?;

    let [control, data] = others;
    let before = (containers(&story.guest)?, containers(control)?, containers(data)?);
    story.publish("v2")?;
    story.serves("v2")?;
    let releases = || -> Result<Vec<String>> { [&story.guest, control, data].into_iter().map(release).collect() };
    eventually(PATIENCE, "all three have the same release", || {
        let releases = releases()?;
        ensure!(releases.windows(2).all(|pair| pair[0] == pair[1]), "{releases:?}");
        Ok(())
    })?;
    let after = (containers(&story.guest)?, containers(control)?, containers(data)?);
    ensure!(before.0 == after.0 && before.2 == after.2, "v2 is another api, and nothing else: {before:?}, {after:?}");
    ensure!(before.1 != after.1, "the api of v1");
    Ok(())
}

fn power_on(story: &mut Life<Machine>, others: &mut [Machine; 2]) -> Result<()> {
    story.guest.power_on()?;
    others.iter_mut().try_for_each(Machine::power_on)
}

fn each_has_its_part(story: &Life<Machine>, others: &[Machine; 2]) -> Result<()> {
    let [control, data] = others;
    for (machine, service, secret) in
        [(&story.guest, "proxy", None), (control, "api", Some("API_KEY")), (data, "store", Some("STORE_KEY"))]
    {
        let running = told(machine, r#"docker ps --format '{{.Label "com.docker.compose.service"}}'"#)?;
        ensure!(running.trim() == service, "in place of `{service}` there runs: {running}");
        let files = told(machine, r"find /run/landfall/secrets -type f -name '*_KEY' -printf '%f\n'")?;
        ensure!(files.lines().eq(secret), "`{service}` has other secrets: {files}");
    }
    Ok(())
}

fn containers(machine: &Machine) -> Result<String> {
    told(machine, "docker ps --quiet --no-trunc")
}

fn release(machine: &Machine) -> Result<String> {
    let status: serde_json::Value = serde_json::from_str(&told(machine, "landfall status --json")?)?;
    Ok(status["apps"][0]["release"].as_str().context("no release")?.to_owned())
}

fn told(machine: &Machine, line: &str) -> Result<String> {
    let ran = machine.run(&["sh", "-c", line])?;
    ensure!(ran.code == 0, "`{line}`: {ran:?}");
    Ok(ran.stdout)
}
