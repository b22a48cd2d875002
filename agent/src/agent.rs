//! Wires the agent: one instance, the settings, a loop for each app, the socket, and what wakes them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use landfall_core::backoff::Backoff;
use landfall_core::config::{Settings, Stamp};
use landfall_core::daemon::Daemon;
use landfall_core::ids::{AppName, printable};
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::app_loop::AppLoop;
use crate::decide::PROBATION;
use crate::engine::door;
use crate::engine::{Engine, MachineFacts};
use crate::found_plugin::FoundPlugin;
use crate::shared::{AppView, Shared};
use crate::state::{AppState, Phase};
use crate::{children, instance, preview_watch, socket, status, status_file, watch};

/// The Engine's socket where nothing else is said.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Names another socket, as `unix:///path` or a path.
const SOCKET_VARIABLE: &str = "LANDFALL_DOCKER_HOST";
/// Shortens probation, in milliseconds: for drills and tests on a machine of one's own.
const PROBATION_VARIABLE: &str = "LANDFALL_PROBATION_MS";
/// When a missing Compose is told, if no release asked for it earlier.
const COMPOSE_AFTER: Duration = Duration::from_secs(10);
/// Between two looks for one that was not there.
const COMPOSE_AGAIN: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(30) };
/// How often the heart beats; the watchdog's promise is several times that.
const BEAT: Duration = Duration::from_secs(5);

/// Runs until SIGTERM.
pub async fn run(layout: Layout) -> Result<()> {
    let daemon = Daemon::start("landfall-agent")?;
    let mut stop = std::pin::pin!(daemon.shutdown());
    let lock = layout.agent_lock();
    let _alone = tokio::select! {
        alone = instance::alone(&lock) => alone?,
        () = &mut stop => return Ok(()),
    };
    if let Err(error) = landfall_core::publish::remove_temporaries(&layout.agent()) {
        // They only take space: no reason to leave the stack alone.
        let directory = layout.agent();
        tracing::warn!("cannot remove unfinished files below `{}`: {error}", directory.display());
    }
    // Before the first reading: what changes from here on is read again, however long the start takes.
    let at_start = Stamp::take(&layout);
    let (settings, problem) = tokio::select! {
        read = settings(&layout) => read?,
        () = &mut stop => return Ok(()),
    };
    let socket = std::env::var(SOCKET_VARIABLE).ok().filter(|v| !v.is_empty());
    let socket = PathBuf::from(socket.as_deref().map_or(DOCKER_SOCKET, |v| v.trim_start_matches("unix://")));
    let probation = std::env::var(PROBATION_VARIABLE).ok().and_then(|v| v.parse().ok()).unwrap_or(PROBATION);
    let shared = Rc::new(Shared {
        layout,
        engine: Engine::new(&socket)?,
        engine_socket: socket,
        written: RefCell::new(Rc::new(settings.clone())),
        settings: RefCell::new(Rc::new(settings)),
        previews: RefCell::default(),
        ending: RefCell::default(),
        preview_problems: RefCell::default(),
        admission: tokio::sync::Mutex::new(()),
        settings_epoch: Cell::new(1),
        settings_problem: RefCell::new(problem),
        plugin: FoundPlugin::default(),
        machine: RefCell::new(MachineFacts::default()),
        engine_problem: RefCell::new(None),
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        probation,
        views: RefCell::new(BTreeMap::new()),
        changed: Notify::new(),
        pulls: RefCell::default(),
        too_large: RefCell::default(),
        ended: Notify::new(),
        needs: RefCell::default(),
        first_live: RefCell::default(),
        secrets_changed: Notify::new(),
        mailboxes: RefCell::new(BTreeMap::new()),
    });
    shared.previews.replace(preview_watch::remembered(&shared));
    let loops: Rc<RefCell<BTreeMap<AppName, JoinHandle<()>>>> = Rc::default();
    start_apps(&shared, &loops);
    let listener = socket::listen(&shared)?;
    let mut helpers = vec![
        tokio::task::spawn_local(socket::serve(Rc::clone(&shared), listener)),
        tokio::task::spawn_local(watch::channels(Rc::clone(&shared))),
        tokio::task::spawn_local(watch::secrets(Rc::clone(&shared))),
        tokio::task::spawn_local(watch::engine(Rc::clone(&shared))),
        tokio::task::spawn_local(look_for_compose(Rc::clone(&shared))),
        tokio::task::spawn_local(status_file::keep(Rc::clone(&shared))),
    ];
    let (again, all) = (Rc::clone(&shared), Rc::clone(&loops));
    let on_new_app = move || start_apps(&again, &all);
    helpers.push(tokio::task::spawn_local(watch::settings(Rc::clone(&shared), at_start, on_new_app)));
    let (again, all) = (Rc::clone(&shared), Rc::clone(&loops));
    helpers.push(tokio::task::spawn_local(watch::previews(Rc::clone(&shared), move || start_apps(&again, &all))));
    daemon.ready();
    loop {
        daemon.pet(BEAT * 6);
        // One that could not be opened is tried again; for all others this finds their loop.
        start_apps(&shared, &loops);
        daemon.status(&summary(&shared));
        tokio::select! {
            () = &mut stop => break,
            () = shared.ended.notified() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
    for task in helpers {
        task.abort();
    }
    for (_, task) in std::mem::take(&mut *loops.borrow_mut()) {
        task.abort();
    }
    // What runs goes on running: stopping the agent stops nothing else.
    let _ = std::fs::remove_file(shared.layout.agent_socket());
    // It would go on saying what nobody looks after.
    let _ = std::fs::remove_file(shared.layout.agent_status());
    Ok(())
}

/// A loop for each app that has none. An app that went from the settings keeps its loop: what runs is still supervised.
fn start_apps(shared: &Rc<Shared>, loops: &RefCell<BTreeMap<AppName, JoinHandle<()>>>) {
    // A preview whose life is over has no loop any more; it may come back.
    loops.borrow_mut().retain(|_, task| !task.is_finished());
    preview_watch::look(shared);
    let mut names: Vec<AppName> = shared.settings().apps.keys().cloned().collect();
    let ledgers = std::fs::read_dir(shared.layout.agent().join("ledger")).into_iter().flatten().flatten();
    names.extend(ledgers.filter_map(|e| e.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok()));
    for app in names {
        if loops.borrow().contains_key(&app) {
            continue;
        }
        let (sender, mail) = mpsc::unbounded_channel();
        match AppLoop::open(app.clone(), Rc::clone(shared), mail) {
            Ok(one) => {
                shared.mailboxes.borrow_mut().insert(app.clone(), sender);
                loops.borrow_mut().insert(app, tokio::task::spawn_local(one.run()));
            }
            Err(error) => leave(shared, &app, &error),
        }
    }
}

/// An app whose ledger or history the disk does not give: not even what should run is known. It is tried again.
fn leave(shared: &Shared, app: &AppName, error: &anyhow::Error) {
    let text = printable(&format!("{error:#}"), 600);
    let reason = format!("{text}; the app is left as it is until the disk gives it: repair the disk");
    let phase = Phase::Held { reason: reason.clone(), ends_when_well: true, way_back: None };
    let state = AppState { phase, ..AppState::default() };
    let view = AppView { state, why: Some(reason), ..AppView::default() };
    let said = shared.views.borrow_mut().insert(app.clone(), view.clone());
    shared.changed.notify_one();
    if said.is_none_or(|said| said.why != view.why) {
        tracing::error!(MESSAGE_ID = event::LEDGER_BROKEN, LANDFALL_APP = %app, "app `{app}`: {text}");
    }
}

/// The settings on disk, or the last valid ones with what is wrong.
async fn settings(layout: &Layout) -> Result<(Settings, Option<String>)> {
    match children::settings(layout).await {
        Ok(settings) => {
            landfall_core::publish::write_json(&layout.last_settings(), &settings)?;
            Ok((settings, None))
        }
        Err(error) => {
            let Ok(text) = std::fs::read(layout.last_settings()) else { return Err(error.into()) };
            let settings = serde_json::from_slice(&text).context("the last valid settings are garbled too")?;
            let text = printable(&error.to_string(), 600);
            tracing::warn!(
                MESSAGE_ID = event::SETTINGS_INVALID,
                "the settings have a mistake, the last valid ones stay in force: {text}"
            );
            Ok((settings, Some(format!("settings not read: {text}"))))
        }
    }
}

/// Beside all else, and after a while: a stack that is down does not wait for a program that only releases need, nor share its
/// cores with it.
async fn look_for_compose(shared: Rc<Shared>) {
    tokio::time::sleep(COMPOSE_AFTER).await;
    let (mut failures, mut told) = (0, None);
    while let Err(why) = shared.plugin.get().await {
        if told.as_ref() != Some(&why) {
            tracing::error!("no release can be rolled out: {why}");
        }
        failures += 1;
        told = Some(why);
        tokio::time::sleep(COMPOSE_AGAIN.after(failures)).await;
    }
    if told.is_some() {
        tracing::info!("Docker Compose is there, releases can be rolled out");
        shared.changed.notify_one();
    }
}

/// One line for `systemctl status`: what is missing on this machine first, then each app.
fn summary(shared: &Shared) -> String {
    let views = shared.views.borrow();
    let engine = shared.engine_problem.borrow().clone().or_else(|| door::too_old(&shared.machine.borrow().version));
    let problem = engine.or_else(|| shared.plugin.problem());
    let apps = views.iter().map(|(app, view)| format!("{app}: {}", status::word_of(view)));
    let words: Vec<String> = problem.into_iter().chain(apps).collect();
    if words.is_empty() { "no apps".to_owned() } else { words.join(", ") }
}
