//! What 50 apps cost one watcher: they follow 10 channels at the default poll, and nothing changes. Printed, without a target.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use landfall_core::contract::{self, ChannelFile, Read};
use landfall_core::ids::AppName;
use serde_json::{Map, json};

use crate::artifact::{self, Layer, Place};
use crate::bench::cost;
use crate::bench::report::Report;
use crate::vm::{SOON, Vm};
use crate::wait::{self, eventually};

const APPS: usize = 50;
const CHANNELS: usize = 10;
/// After the last release is staged, before the first run.
const SETTLE: Duration = Duration::from_secs(30);
/// A run: four polls of each app.
const RUN: Duration = Duration::from_secs(20);

/// Measures `runs` times 20 s.
pub fn measure(runs: usize, report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("bench", "many")?;
    let places: Vec<Place<'_>> = (0..CHANNELS).map(|n| Place::new(&vm.registry, &format!("deploy/many-{n}"))).collect();
    for place in &places {
        let text = format!("services: {{ api: {{ image: \"{}\" }} }}\n", place.channel);
        artifact::push_to(place, artifact::BUNDLE, &[Layer::compose(&text)])?;
    }
    let apps: Map<_, _> = places.iter().cycle().take(APPS).zip(0..).map(|(place, n)| app(place, n)).collect();
    vm.write_settings(&json!({ "apps": apps }).to_string())?;
    vm.start_watcher()?;
    let names = apps.keys().map(|name| name.parse()).collect::<Result<Vec<AppName>, _>>()?;
    eventually(SOON, "every app has its release", || names.iter().try_for_each(|name| has_release(&vm, name)))?;
    wait::until(Instant::now() + SETTLE);
    for run in 0..runs {
        one(&vm, report)?;
        report.progress(&format!("many-apps: run {} of {runs}", run + 1));
    }
    Ok(())
}

fn app(place: &Place<'_>, number: usize) -> (String, serde_json::Value) {
    (format!("app-{number}"), json!({ "channel": place.channel }))
}

fn has_release(vm: &Vm, app: &AppName) -> Result<()> {
    let shown = contract::read::<ChannelFile>(&vm.layout().channel(app));
    ensure!(matches!(&shown, Read::Found(file) if file.release.is_some()), "{app}: {shown:?}");
    Ok(())
}

fn one(vm: &Vm, report: &mut Report) -> Result<()> {
    let (watcher, log) = (vm.watcher_id()?, vm.directory().join("registry.log"));
    let (cpu, requests, began) = (cost::cpu(watcher)?, cost::requests(&log)?.len(), Instant::now());
    wait::until(began + RUN);
    let (cpu, requests) = (cost::cpu(watcher)? - cpu, cost::requests(&log)?.len() - requests);
    let seconds = began.elapsed().as_secs_f64();
    report.raw("many_apps_cpu_ms_per_s", cpu / seconds);
    report.raw("many_apps_requests_per_min", f64::from(u32::try_from(requests)?) / seconds * 60.0);
    report.raw("many_apps_watcher_pss_mib", cost::pss(watcher)?);
    Ok(())
}
