//! What `landfall status` shows, from the apps' views. It must never wait for the Engine: a person asks when it hangs.

use std::time::Duration;

use landfall_core::ids::AppName;
use landfall_core::protocol::{AppStatus, Cause, ServiceStatus, Status, UncleanStatus};

use crate::clock::{now_text, text};
use crate::engine::door;
use crate::expiry;
use crate::observed::{Container, Health, RunState};
use crate::pulls;
use crate::repairs::{Incident, Stage};
use crate::secret_sets;
use crate::shared::{AppView, Shared};
use crate::spec::ServiceSpec;
use crate::state::{Generation, Phase, completion_key};

/// How long the Engine may take to show that it answers, and then to say what all containers use.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether to ask the Engine for the memory in use, a call for each container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Ask.
    Asked,
    /// Leave it out.
    LeftOut,
}

/// The whole status.
pub async fn status(shared: &Shared, memory: Memory) -> Status {
    let settings = shared.settings();
    let mut problems: Vec<String> = Vec::new();
    let engine_answers = memory == Memory::LeftOut || shared.engine.answers(PATIENCE).await;
    let engine_problem = shared.engine_problem.borrow().clone();
    // A hung Engine keeps its connections: whoever follows its events notices nothing.
    problems.extend(engine_problem.or_else(|| (!engine_answers).then(engine_hangs)));
    let ask = engine_answers && memory == Memory::Asked;
    let until = ask.then(|| tokio::time::Instant::now() + PATIENCE);
    problems.extend(door::too_old(&shared.machine.borrow().version));
    problems.extend(shared.plugin.problem());
    problems.extend(shared.settings_problem.borrow().clone());
    problems.extend(shared.preview_problems.borrow().iter().cloned());
    let views = shared.views.borrow().clone();
    let mut apps = Vec::new();
    for (app, view) in views {
        let mut services = Vec::new();
        if let Some(generation) = view.state.current() {
            for (name, spec) in &generation.deployment.services {
                services.push(service(shared, &view, generation, name, spec, until).await);
            }
        }
        let running = view.state.current().map(|g| &g.deployment);
        let (state, reason, mut next) = words(&view);
        if let Some(why) = shared.ending.borrow().get(&app).filter(|_| view.state.hold.is_some()) {
            next = format!("`landfall resume {app}` ends it, with its volumes: {why}");
        }
        let images = running.into_iter().flat_map(|d| d.services.values()).map(|spec| spec.image.as_str());
        let credentials = expiry::credentials(&settings, settings.apps.get(&app), images);
        if let Some(to_do) = expiry::to_do(&credentials, jiff::Timestamp::now()) {
            next = format!("{to_do}; else: {next}");
        }
        apps.push(AppStatus {
            channel: settings.apps.get(&app).map(|a| a.channel.to_string()).unwrap_or_default(),
            release: running.map(|d| d.release.clone()),
            deployment: running.map(|d| d.id.clone()),
            state,
            reason,
            next,
            last_good_poll: view.channel.as_ref().and_then(|c| c.last_good_poll.clone()),
            hold: view.state.hold.clone(),
            quarantined: view.state.quarantine.iter().map(|(id, q)| (id.clone(), q.reason.clone())).collect(),
            services,
            credentials,
            stale_secrets: secret_sets::stale(shared, &app),
            pulls: pulls::of(&shared.pulls.borrow(), &app),
            unclean: if view.state.incidents.is_empty() { Vec::new() } else { unclean(&app, &view) },
            app,
        });
    }
    Status { version: env!("CARGO_PKG_VERSION").to_owned(), at: now_text(), problems, apps }
}

fn engine_hangs() -> String {
    let seconds = PATIENCE.as_secs();
    format!(
        "the Docker Engine does not answer within {seconds} s: what runs goes on running, nothing is changed or healed; \
         see `systemctl status docker`"
    )
}

/// State, reason and next action in words.
fn words(view: &AppView) -> (String, Option<String>, String) {
    let channel_problem = view.channel.as_ref().and_then(|c| c.problem.clone());
    let ending = match &view.state.phase {
        Phase::Ending { reason } => Some(reason.clone()),
        _ => None,
    };
    let newest = view.refused.clone().or(view.quarantined.clone());
    // All are true at once: what keeps what is to run, what keeps the newest release that is here, and what keeps a newer one from coming.
    let of_app = match ending {
        Some(ending) => vec![ending],
        None => view.why.clone().into_iter().chain(newest).collect(),
    };
    let reasons: Vec<String> = of_app.into_iter().chain(channel_problem).collect();
    let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
    let word = if view.preflight && matches!(view.state.phase, Phase::Idle) { "preflight" } else { view.state.word() };
    let next = match &view.state.phase {
        Phase::Held { .. } => "decide: `landfall rollback`, or `landfall retry` after a fix",
        _ if view.state.hold.is_some() => "`landfall resume` lets releases through again",
        _ if view.refused_for == Some(Cause::DiskFull) => {
            "make room on the disk; the newest release is rolled out by itself"
        }
        _ if view.refused_for == Some(Cause::Unavailable) => {
            "the newest release is tried again by itself until it has what it lacks"
        }
        _ if view.refused.is_some() || view.quarantined.is_some() => {
            "publish a release that passes, or change the host's settings"
        }
        Phase::Idle if view.state.live.is_none() && view.channel.as_ref().is_none_or(|c| c.release.is_none()) => {
            "waits for a first release on the channel"
        }
        Phase::Idle if view.preflight => "pulls and examines the new release",
        Phase::Idle => "follows the channel",
        Phase::Preparing { .. } => "creates the new containers beside the old",
        Phase::Rolling { .. } => "replaces the changed services in order",
        Phase::Monitoring { .. } => "goes live when all stay well",
        Phase::Probation(_) => "follows the channel; the way back is armed",
        Phase::RollingBack { .. } => "returns to the last good set",
        Phase::Ending { .. } => "removes the preview with all that it has here",
    };
    (word.to_owned(), reason, next.to_owned())
}

/// One word for the state of an app.
pub fn word_of(view: &AppView) -> String {
    words(view).0
}

/// The data directories that were not shut down cleanly, each with the command that repairs it.
fn unclean(app: &AppName, view: &AppView) -> Vec<UncleanStatus> {
    let Some(generation) = view.state.current() else { return Vec::new() };
    let found = |(name, incident): (&String, &Incident)| {
        let spec = generation.deployment.services.get(name)?;
        let wish = spec.unclean.as_ref()?;
        let container = view.seen.containers.get(&incident.container)?;
        let done = match &incident.stage {
            Stage::Starts => "it was started all the same".to_owned(),
            Stage::Waits { why: None } => {
                format!("it waits for the repair, or for `landfall retry {app}`, which starts it as it is")
            }
            Stage::Waits { why: Some(why) } => {
                format!("it waits for a person: {why}; `landfall retry {app}` starts it as it is")
            }
            Stage::Repairs => "it is being repaired".to_owned(),
            Stage::Repaired => "it was repaired".to_owned(),
        };
        let repair = wish.command(app.as_str(), name, &container.name, &spec.image);
        // The agent would start it again under the hands of whoever repairs.
        let repair = match &incident.stage {
            Stage::Waits { .. } | Stage::Repairs => repair,
            Stage::Starts | Stage::Repaired => format!(
                "landfall hands-off {app} --for 1h --why repair && docker stop {} && {repair} && landfall resume {app}",
                container.name
            ),
        };
        let reason = format!("`{name}` was not shut down cleanly (`{}` was not empty); {done}", wish.file);
        Some(UncleanStatus { service: name.clone(), at: text(incident.at), reason, repair })
    };
    view.state.incidents.iter().filter_map(found).collect()
}

async fn service(
    shared: &Shared,
    view: &AppView,
    generation: &Generation,
    name: &str,
    spec: &ServiceSpec,
    until: Option<tokio::time::Instant>,
) -> ServiceStatus {
    let ids = generation.ids(name);
    let containers: Vec<&Container> = ids.iter().filter_map(|id| view.seen.containers.get(id)).collect();
    let completed =
        spec.one_shot && view.state.completed.contains(&completion_key(&generation.deployment, name, &shared.boot));
    let states: Vec<&str> = containers.iter().map(|c| word(c, view)).collect();
    let ready = states.iter().filter(|s| matches!(**s, "healthy" | "running")).count();
    let worst = ["unhealthy", "backing-off", "exited", "paused", "starting", "running", "healthy"]
        .into_iter()
        .find(|w| states.contains(w));
    let mut memory = None;
    for container in containers.iter().filter(|c| c.runs()) {
        let Some(until) = until else { break };
        if let Ok(Some(used)) = tokio::time::timeout_at(until, shared.engine.memory(&container.id)).await {
            memory = Some(memory.unwrap_or(0) + used);
        }
    }
    ServiceStatus {
        service: name.to_owned(),
        state: if completed { "completed" } else { worst.unwrap_or("missing") }.to_owned(),
        ready: if completed { spec.replicas } else { u32::try_from(ready).unwrap_or(0) },
        wanted: spec.replicas,
        image: spec
            .image
            .rsplit_once("sha256:")
            .map_or_else(|| spec.image.clone(), |(_, hex)| hex.chars().take(12).collect()),
        memory,
        memory_cap: Some(spec.memory),
        restarts: ids.iter().filter_map(|id| view.restarts.get(id)).sum(),
    }
}

fn word(container: &Container, view: &AppView) -> &'static str {
    match (container.state, container.health) {
        (RunState::Paused, _) => "paused",
        (RunState::Running, Health::Unhealthy) => "unhealthy",
        (RunState::Running, Health::Healthy) => "healthy",
        (RunState::Running, Health::Unknown) if container.check.is_none() => "running",
        // The agent's own probe may have passed before Docker's first check.
        (RunState::Running, Health::Unknown) if view.opened.contains(&container.id) => "healthy",
        (RunState::Running, Health::Unknown) => "starting",
        (RunState::Exited { .. }, _) if view.backing_off.contains(&container.id) => "backing-off",
        (RunState::Exited { .. } | RunState::Created, _) => "exited",
    }
}
