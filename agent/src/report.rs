//! What the agent says of what it saw and did: one journal line per change, with its `MESSAGE_ID` and ids.

use landfall_core::ids::AppName;
use landfall_core::journal::event;
use landfall_core::protocol::{Cause, HistoryEntry, HistoryEvent};

use crate::live_secrets::Line;
use crate::state::{AppState, Generation, Phase};

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
        HistoryEvent::Refused if entry.cause == Some(Cause::DiskFull) => {
            line!(warn, event::WAITS_FOR_DISK, "release {release} is not pulled, nothing was touched: {reason}");
        }
        HistoryEvent::Refused => {
            line!(warn, event::RELEASE_REFUSED, "release {release} is not rolled out, nothing was touched: {reason}");
        }
        HistoryEvent::Held => line!(error, event::HELD, "held, a person is needed: {reason}"),
        HistoryEvent::Restarted => line!(info, event::SERVICE_RESTARTED, "{services} was started again"),
        HistoryEvent::Recovered => {
            line!(info, event::RECOVERED, "{services}: down before, all is well again{took}");
        }
        HistoryEvent::Operator => line!(info, event::OPERATOR_INTENT, "an operator asked: {reason}"),
        HistoryEvent::Unclean => {
            line!(warn, event::UNCLEAN_SHUTDOWN, "`{services}` was not shut down cleanly: {reason}");
        }
        HistoryEvent::Repaired => line!(info, event::REPAIRED, "`{services}` was {reason}"),
        HistoryEvent::RepairFailed => {
            line!(error, event::REPAIR_FAILED, "`{services}` is not started, a person is needed: {reason}");
        }
    }
    for text in evidence {
        tracing::warn!(LANDFALL_APP = %app, LANDFALL_SERVICE = %services, "{services} said: {text}");
    }
}

/// A preview has ended.
pub fn forgotten(app: &AppName, reason: &str) {
    tracing::info!(MESSAGE_ID = event::PREVIEW_ENDED, LANDFALL_APP = %app, "the preview `{app}` is gone, with its containers, networks and volumes: {reason}");
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

/// Containers that run see other secrets.
pub fn rotation(app: &AppName, line: &Line) {
    match line {
        Line::Switched { service, versions, done } => {
            tracing::info!(MESSAGE_ID = event::SECRETS_SWITCHED, LANDFALL_APP = %app, LANDFALL_SERVICE = %service, "`{service}` sees other secrets: {versions}; {done}");
        }
        Line::TakenBack { service, versions, reason } => {
            tracing::warn!(MESSAGE_ID = event::ROTATION_TAKEN_BACK, LANDFALL_APP = %app, LANDFALL_SERVICE = %service, "the rotation of `{service}` is taken back, {reason}: {versions}; it is not tried again until there is another version, or `landfall retry {app}`");
        }
    }
}

/// A container that no generation needs any more was removed.
pub fn removed(app: &AppName, service: &str, id: &str) {
    let short = &id[..id.len().min(12)];
    tracing::info!(MESSAGE_ID = event::ORPHAN_REMOVED, LANDFALL_APP = %app, LANDFALL_SERVICE = service, "removed container {short} of `{service}`, which no release needs any more");
}

/// What should run is down and is started.
pub fn down(app: &AppName, services: &[String]) {
    let services = services.join(" ");
    tracing::warn!(MESSAGE_ID = event::COLD_START, LANDFALL_APP = %app, LANDFALL_SERVICE = %services, "{services}: down, to be started in order");
}

/// A container exited, or its health check fails.
pub fn failed(app: &AppName, service: &str, what: &str) {
    tracing::warn!(MESSAGE_ID = event::SERVICE_FAILED, LANDFALL_APP = %app, LANDFALL_SERVICE = service, "`{service}`: {what}");
}

/// What the step from one remembered state to the next means beyond its entry in the history.
pub fn moved(app: &AppName, before: &AppState, after: &AppState) {
    for (deployment, quarantine) in &after.quarantine {
        if before.quarantine.get(deployment) != Some(quarantine) {
            tracing::warn!(MESSAGE_ID = event::RELEASE_QUARANTINED, LANDFALL_APP = %app, LANDFALL_DEPLOYMENT = %deployment, "deployment {} is not tried again by itself: publish a better one, or `landfall retry {app}`", deployment.short());
        }
    }
    if let (false, Phase::Ending { reason }) = (matches!(before.phase, Phase::Ending { .. }), &after.phase) {
        tracing::info!(LANDFALL_APP = %app, "the preview ends: {reason}");
        return;
    }
    let held = |state: &AppState| state.hold.is_some() || matches!(state.phase, Phase::Held { .. });
    if held(before) && !held(after) {
        tracing::info!(MESSAGE_ID = event::HOLD_ENDED, LANDFALL_APP = %app, "release changes are free again");
    }
    if let (Phase::Preparing { .. }, Phase::Rolling { from: Some(from), .. }) = (&before.phase, &after.phase)
        && from.deployment.services.values().any(|service| service.spec == "adopted")
    {
        adopted(app, from);
    }
}

fn adopted(app: &AppName, from: &Generation) {
    let services = from.deployment.services.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    tracing::info!(MESSAGE_ID = event::ADOPTED, LANDFALL_APP = %app, LANDFALL_SERVICE = %services, "took over what ran before Landfall: {services}");
}
