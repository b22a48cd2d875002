//! What the agent says of what it did: one journal line per change, with its `MESSAGE_ID` and ids.

use landfall_core::ids::AppName;
use landfall_core::journal::event;
use landfall_core::protocol::{HistoryEntry, HistoryEvent};

/// A line for an entry of the history, and the log that explains it.
pub fn event(app: &AppName, entry: &HistoryEntry, evidence: &[String]) {
    let release = entry.release.as_ref().map_or("", |r| r.short());
    let deployment = entry.deployment.as_ref().map_or("", |d| d.as_str());
    let reason = entry.reason.as_deref().unwrap_or_default();
    let services = entry.services.join(" ");
    let took = entry.took_ms.map(|ms| format!(" after {}.{} s", ms / 1000, ms % 1000 / 100)).unwrap_or_default();
    macro_rules! line {
        ($level:ident, $id:expr, $($text:tt)+) => {
            tracing::$level!(MESSAGE_ID = $id, LANDFALL_APP = %app, LANDFALL_RELEASE = release, LANDFALL_DEPLOYMENT = deployment, LANDFALL_SERVICE = %services, $($text)+)
        };
    }
    match entry.event {
        HistoryEvent::RolloutStarted => {
            line!(info, event::ROLLOUT_STARTED, "rolling out release {release}: {services}");
        }
        HistoryEvent::Live => line!(info, event::ROLLOUT_LIVE, "release {release} is live{took}"),
        HistoryEvent::Good => line!(info, event::ROLLOUT_GOOD, "release {release} is the last good one"),
        HistoryEvent::RollbackStarted => {
            line!(warn, event::ROLLBACK_STARTED, "release {release} failed, going back: {reason}");
        }
        HistoryEvent::RolledBack => line!(warn, event::ROLLED_BACK, "release {release} was taken back{took}: {reason}"),
        HistoryEvent::Refused => {
            line!(warn, event::RELEASE_REFUSED, "release {release} is not rolled out, nothing was touched: {reason}");
        }
        HistoryEvent::Held => line!(error, event::HELD, "held, a person is needed: {reason}"),
        HistoryEvent::Restarted => line!(info, event::SERVICE_RESTARTED, "{services} was started again"),
        HistoryEvent::Recovered => line!(info, event::RECOVERED, "what should run is back"),
        HistoryEvent::Operator => line!(info, event::OPERATOR_INTENT, "an operator asked: {reason}"),
    }
    for text in evidence {
        tracing::warn!(LANDFALL_APP = %app, LANDFALL_SERVICE = %services, "{services} said: {text}");
    }
}

/// A container was started.
pub fn started(app: &AppName, service: &str, id: &str, fresh: bool) {
    let short = &id[..id.len().min(12)];
    if fresh {
        tracing::info!(MESSAGE_ID = event::SERVICE_REPLACED, LANDFALL_APP = %app, LANDFALL_SERVICE = service, "started the new container {short} of `{service}`");
    } else {
        tracing::info!(MESSAGE_ID = event::SERVICE_RESTARTED, LANDFALL_APP = %app, LANDFALL_SERVICE = service, "started container {short} of `{service}` again");
    }
}
