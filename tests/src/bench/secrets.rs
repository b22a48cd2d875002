//! What a rotation takes: from a new version in the vault to the service that has it, over the refresh interval and a restart by hand. And
//! what the fetcher costs while nothing changes: requests as the sandbox logged them, memory as the kernel counts it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use landfall_sample::http;
use serde_json::json;

use crate::bench::cost::{cpu, pss};
use crate::bench::report::Report;
use crate::sandbox::Sandbox;
use crate::sandbox::fault::Service;
use crate::sandbox::vault::Grant;
use crate::vm::{SOON, Vm};
use crate::wait::{self, eventually};

/// Short, so that a rollout weighs more in it than at the default of a minute.
const REFRESH: Duration = Duration::from_secs(5);
/// The default: what the fetcher costs is measured at it.
const DEFAULT_REFRESH: Duration = Duration::from_mins(1);
/// Two refreshes and what jitter adds.
const REST: Duration = Duration::from_secs(135);
/// Between two questions of the client.
const PACE: Duration = Duration::from_millis(10);
/// A rotation that takes longer has failed.
const LIMIT: Duration = Duration::from_mins(1);
const HOUR: f64 = 3600.0;

/// Measures `runs` rotations and as many restarts by hand, by turns, and then a rest.
pub fn measure(runs: usize, report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("secrets", "secrets")?;
    let sandbox = vm.sandbox("kv")?;
    sandbox.grant("kv", "system", Grant::GET)?;
    sandbox.set_secret("kv", "api-key", "first")?;
    sandbox.set_secret("kv", "store-key", "unchanged")?;
    let url = sandbox.vault_url("kv")?;
    vm.configure_vaults(&json!({ "default": { "url": url, "refresh": seconds(REFRESH) } }))?;
    vm.start_fetcher(&sandbox)?;
    super::start(&mut vm)?;
    let measured = rotations(&vm, &sandbox, runs, report);
    if measured.is_err() {
        eprintln!("{}", vm.report());
    }
    measured?;
    // The slowest, whose version came just after a refresh, against a whole interval.
    let slowest = report.percentile("rotation_s", 100)?;
    let floor = REFRESH.as_secs_f64() + report.median("restart_by_hand_s")?;
    report.value("rotation_over_floor", 1.2, slowest / floor, "ratio")?;

    vm.configure_vaults(&json!({ "default": { "url": url, "refresh": seconds(DEFAULT_REFRESH) } }))?;
    vm.kill_fetcher()?;
    sandbox.forget_log()?;
    vm.start_fetcher(&sandbox)?;
    rest(&vm, &sandbox, report)?;
    report.number("pss_mib_fetcher", 4.0, "fetcher_pss_mib", "MiB")
}

fn rotations(vm: &Vm, sandbox: &Sandbox, runs: usize, report: &mut Report) -> Result<()> {
    vm.live(&vm.publish_version("v1", &[])?)?;
    for run in 0..runs {
        settled(vm)?;
        // Versions come evenly over the interval.
        let phase = (f64::from(u32::try_from(run)?) + 0.5) / f64::from(u32::try_from(runs)?);
        wait::until(last_asked(sandbox)? + REFRESH.mul_f64(phase));
        let value = format!("rotation-{run}");
        sandbox.set_secret("kv", "api-key", &value)?;
        let began = Instant::now();
        report.raw("rotation_s", (answers(vm, &value)? - began).as_secs_f64());

        settled(vm)?;
        let api = vm.engine.serving(vm.app.as_str(), "api")?.id;
        said(vm, &["hands-off", "--for", "1m", "--why", "restart by hand"])?;
        let began = Instant::now();
        vm.engine.call("POST", &format!("/containers/{api}/restart"), None)?;
        report.raw("restart_by_hand_s", (answers(vm, &value)? - began).as_secs_f64());
        said(vm, &["resume"])?;
        report.progress(&format!("secrets: run {} of {runs}", run + 1));
    }
    Ok(())
}

/// When the api first answers with this value.
fn answers(vm: &Vm, value: &str) -> Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let asked = Instant::now();
        // While nobody serves there is no answer.
        if http::get(&format!("{}secret", vm.url())).is_ok_and(|answer| answer.text() == value) {
            return Ok(Instant::now());
        }
        ensure!(asked < deadline, "the api does not have `{value}` within {} s", LIMIT.as_secs());
        wait::until(asked + PACE);
    }
}

/// One api runs, and is healthy.
fn settled(vm: &Vm) -> Result<()> {
    eventually(SOON, "the old api is removed", || {
        let all = vm.engine.containers(vm.app.as_str())?;
        let apis: Vec<_> = all.into_iter().filter(|container| container.service() == "api").collect();
        ensure!(apis.len() == 1 && apis[0].status.contains("(healthy)"), "{apis:?}");
        Ok(())
    })
}

/// When the vault was last asked, by the clock of this process.
fn last_asked(sandbox: &Sandbox) -> Result<Instant> {
    let vault = Service::vault("kv");
    let at = sandbox.log()?.iter().filter(|entry| entry.service == vault).map(|entry| entry.at_ms).max();
    let ago = crate::sandbox::door::now_ms().saturating_sub(at.context("the vault was never asked")?);
    Instant::now().checked_sub(Duration::from_millis(ago)).context("asked before the clock began")
}

fn said(vm: &Vm, words: &[&str]) -> Result<()> {
    let app = vm.app.to_string();
    let words: Vec<&str> = [&words[..1], &[app.as_str()], &words[1..]].concat();
    let ran = vm.landfall(&words)?;
    if ran.code != 0 {
        bail!("`landfall {}`: {}", words.join(" "), ran.stderr)
    }
    Ok(())
}

/// Nothing changes: how often IMDS and the vault are asked, and how large the fetcher is.
fn rest(vm: &Vm, sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    eventually(SOON, "the fetcher has asked", || sandbox.log()?.last().map(drop).context("nothing was asked"))?;
    // What the start asks for is not the rest.
    wait::until(Instant::now() + Duration::from_secs(10));
    sandbox.forget_log()?;
    let (fetcher, began) = (vm.fetcher_id()?, Instant::now());
    let before = cpu(fetcher)?;
    wait::until(began + REST);
    let log = sandbox.log()?;
    let per_hour = |vault: bool| {
        let asked = log.iter().filter(|entry| (entry.service == Service::vault("kv")) == vault).count();
        f64::from(u32::try_from(asked).unwrap_or(u32::MAX)) * HOUR / began.elapsed().as_secs_f64()
    };
    report.raw("vault_requests_per_hour_of_two_secrets", per_hour(true));
    report.raw("imds_requests_per_hour", per_hour(false));
    report.raw(
        "fetcher_cpu_ms_per_refresh",
        (cpu(fetcher)? - before) / (REST.as_secs_f64() / DEFAULT_REFRESH.as_secs_f64()),
    );
    report.raw("fetcher_pss_mib", pss(fetcher)?);
    report.progress("secrets: rest");
    Ok(())
}

fn seconds(interval: Duration) -> String {
    format!("{}s", interval.as_secs())
}
