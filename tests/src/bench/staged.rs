//! How long a publication takes to be staged, over the poll interval: publications at random offsets, real jitter.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::artifact::{self, Layer};
use crate::bench::report::Report;
use crate::chance::Chance;
use crate::vm::SOON;
use crate::wait::{self, closely};

/// Short, so that this ends: requests and disk then weigh more than they do at the default.
const POLL: Duration = Duration::from_secs(2);
/// Publications, whatever `--runs` says: a 95th percentile of ten is their most.
const PUBLICATIONS: u32 = 50;
/// Of the offsets.
const SEED: u64 = 1;

/// Measures 50 publications.
pub fn measure(report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("bench", "staged")?;
    vm.configure(&json!({ "poll": format!("{}s", POLL.as_secs()) }))?;
    vm.start_watcher()?;
    let mut chance = Chance::seeded(SEED);
    for publication in 1..=PUBLICATIONS {
        wait::until(Instant::now() + POLL.mul_f64(chance.share()));
        let text = format!("services: {{ api: {{ image: \"example.org/api:{publication}\" }} }}\n");
        let digest = artifact::push(&vm, artifact::BUNDLE, &[Layer::compose(&text)])?;
        let tagged = Instant::now();
        closely(SOON, "the release is shown", || {
            let shown = vm.channel_file()?.digest;
            ensure!(shown.as_ref() == Some(&digest), "{shown:?} is shown");
            Ok(())
        })?;
        report.raw("publish_to_staged_s", tagged.elapsed().as_secs_f64());
        if publication % 10 == 0 {
            report.progress(&format!("staged: {publication} of {PUBLICATIONS}"));
        }
    }
    let slow = report.percentile("publish_to_staged_s", 95)?;
    report.value("publish_to_staged_over_interval", 1.2, slow / POLL.as_secs_f64(), "ratio")
}
