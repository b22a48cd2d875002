//! What a poll and a change cost on the wire: the shipped watcher behind a proxy that counts its bytes, on plain HTTP. The
//! change is what `landfall publish` makes of the bench project: a compose file and one file beside it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::ReleaseId;
use serde_json::json;

use crate::bench::cost;
use crate::bench::report::Report;
use crate::counting_proxy::{Bytes, CountingProxy};
use crate::vm::{SOON, Vm};
use crate::wait::eventually;

/// Far enough apart to tell one poll from the next; how far does not change what one costs.
const POLL: Duration = Duration::from_secs(1);

/// Measures `runs` polls and `runs` changes.
pub fn measure(runs: usize, report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("bench", "wire")?;
    let proxy = CountingProxy::start(vm.registry.address(), cost::WATCHER)?;
    let channel = format!("{}/deploy/{}:prod", proxy.address(), vm.app);
    let app = json!({ "channel": channel, "poll": format!("{}s", POLL.as_secs()) });
    vm.write_settings(&json!({ "apps": { vm.app.as_str(): app } }).to_string())?;
    vm.start_watcher()?;
    change(&vm, &channel, "first")?;
    let mut now = proxy.quiet_after(Bytes::default())?;
    for _ in 0..runs {
        let before = now;
        now = proxy.quiet_after(before)?;
        report.raw("wire_sent_per_idle_poll", number(now.sent - before.sent)?);
        report.raw("wire_received_per_idle_poll", number(now.received - before.received)?);
    }
    report.progress(&format!("wire: {runs} polls"));
    let idle = (report.median("wire_sent_per_idle_poll")?, report.median("wire_received_per_idle_poll")?);
    let log = vm.directory().join("registry.log");
    for run in 0..runs {
        let requests = cost::requests(&log)?.len();
        change(&vm, &channel, &format!("v{run}"))?;
        let before = now;
        now = proxy.quiet_after(before)?;
        let new = cost::requests(&log)?.split_off(requests);
        // One HEAD belongs to the change, the others are idle polls beside it.
        let idle_polls = new.iter().filter(|line| line.contains("\"HEAD ")).count().checked_sub(1);
        let idle_polls = f64::from(u32::try_from(idle_polls.context("a change without a HEAD")?)?);
        report.raw("wire_sent_per_change", number(now.sent - before.sent)? - idle_polls * idle.0);
        report.raw("wire_received_per_change", number(now.received - before.received)? - idle_polls * idle.1);
        report.raw("requests_per_change", f64::from(u32::try_from(new.len())?) - idle_polls);
    }
    report.progress(&format!("wire: {runs} changes"));
    Ok(())
}

/// Publishes through the proxy, which counts the watcher only, and waits until the release is staged.
fn change(vm: &Vm, channel: &str, version: &str) -> Result<()> {
    vm.project.push_api(&vm.registry, "live", version, &[])?;
    let file = vm.project.compose_file();
    let ran = vm.landfall(&["publish", channel, "--file", file.to_str().context("the path is no text")?])?;
    ensure!(ran.code == 0, "`landfall publish` ended with {}: {}", ran.code, ran.stderr.trim());
    let mut words = ran.stdout.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
    let release: ReleaseId = words.find_map(|word| word.parse().ok()).context("no release id")?;
    eventually(SOON, "the release is staged", || {
        let shown = vm.channel_file()?.release;
        ensure!(shown.as_ref() == Some(&release), "{shown:?} is shown");
        Ok(())
    })
}

fn number(bytes: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(bytes)?))
}
