//! Ten rollouts of the api behind the sample's proxy, each start-first, under 200 requests a second. The proxy tries again
//! at most once and after connection errors only; the load never.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::ours;
use crate::bench::report::Report;
use crate::load::Load;

/// Requests a second.
const RATE: u32 = 200;
/// Rollouts in a row.
const ROLLOUTS: usize = 10;

/// Measures ten rollouts: the number is a sum, not a median.
pub fn measure(report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("bench", "start-first")?;
    vm.configure(&json!({ "poll": "250ms" }))?;
    vm.project.edit("compose.yaml", "order: stop-first", "order: start-first")?;
    super::start(&mut vm)?;
    ours::settled(&vm, &ours::publish(&vm, "v0")?.published)?;
    let load = Load::start(&vm.url(), RATE)?;
    let mut wanted = vec!["v0".to_owned()];
    for rollout in 1..=ROLLOUTS {
        let version = format!("v{rollout}");
        ours::settled(&vm, &ours::publish(&vm, &version)?.published)?;
        wanted.push(version);
        report.progress(&format!("start-first: rollout {rollout} of {ROLLOUTS}"));
    }
    let answers = load.stop();
    ensure!(answers.versions() == wanted, "{:?} answered, not {wanted:?}", answers.versions());
    let failures = answers.failures();
    for failure in &failures {
        println!("          {failure}");
    }
    report.raw("start_first_requests", f64::from(u32::try_from(answers.0.len())?));
    report.raw("start_first_failures", f64::from(u32::try_from(failures.len())?));
    report.number("failed_requests_start_first", 0.0, "start_first_failures", "requests")
}
