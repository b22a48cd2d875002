//! `status.json`: what `landfall status --json` shows, for those who may read files but not use the socket. Written when
//! something changed, not on a timer, whole or not at all; it never outlives a power cut (it lies on tmpfs).
//!
//! Two things change all the time and are no reason to write: the time of the last good poll, which `channels/<app>.json`
//! has, and the memory in use, which costs calls to the Engine and is left out. Pulls under way are left out as well.

use std::rc::Rc;
use std::time::Duration;

use landfall_core::protocol::Status;

use crate::metrics_file::MetricsFile;
use crate::shared::Shared;
use crate::status::{Memory, status};

/// Not more than one file in this time: a rollout changes many things at once.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps the file until the agent stops, and the one of the metrics, which is made of the same.
pub async fn keep(shared: Rc<Shared>) {
    let mut written: Option<Status> = None;
    let mut failed = false;
    let mut metrics = MetricsFile::new(shared.layout.agent_metrics());
    loop {
        let mut now = status(&shared, Memory::LeftOut).await;
        // How far they are is another thing each moment.
        now.apps.iter_mut().for_each(|app| app.pulls.clear());
        let news = written.as_ref().is_none_or(|before| !same(before, &now));
        metrics.keep(&shared, &now, news);
        if !news {
            // Past that time the metrics are due.
            let _ = tokio::time::timeout_at(metrics.due(), shared.changed.notified()).await;
            continue;
        }
        match landfall_core::publish::write_json_volatile(&shared.layout.agent_status(), &now) {
            Ok(()) => {
                written = Some(now);
                failed = false;
            }
            Err(error) => {
                if !failed {
                    let path = shared.layout.agent_status();
                    tracing::warn!("cannot write `{}`: {error}; `landfall status` is not affected", path.display());
                }
                failed = true;
            }
        }
        tokio::time::sleep(PAUSE).await;
        let _ = tokio::time::timeout_at(metrics.due(), shared.changed.notified()).await;
    }
}

/// Whether they say the same but for times.
fn same(before: &Status, now: &Status) -> bool {
    let timeless = |status: &Status| {
        let mut status = status.clone();
        status.at.clear();
        for app in &mut status.apps {
            app.last_good_poll = None;
            app.stale_secrets.iter_mut().for_each(|stale| stale.age_s = 0);
        }
        status
    };
    timeless(before) == timeless(now)
}
