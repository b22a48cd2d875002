//! What wakes the apps: the watcher's channel files, the settings, and the Engine's events. Each of these only says
//! "look": what it means is decided in the apps' loops.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use landfall_core::backoff::Backoff;
use landfall_core::config::Stamp;
use landfall_core::directory_watch::{Change, DirectoryWatch};
use landfall_core::ids::printable;
use landfall_core::journal::event;

use crate::children::{self, Unsettled};
use crate::clock::now;
use crate::engine::door;
use crate::engine_end;
use crate::shared::{Mail, Shared};

/// For settings, whose editors have many ways to save.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Until the watcher has made its directory of channel files, or inotify can be had again.
const DIRECTORY: Duration = Duration::from_millis(500);
/// Between attempts to follow the Engine's events.
const ENGINE: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// Tells all apps when a channel file may have changed.
pub async fn channels(shared: Rc<Shared>) {
    let directory = shared.layout.channels();
    loop {
        let watch = DirectoryWatch::open(&directory);
        shared.tell_all(|| Mail::Look);
        let Ok(watch) = watch else {
            // The watcher has not made the directory yet.
            tokio::time::sleep(DIRECTORY).await;
            continue;
        };
        while watch.changed().await == Change::Published {
            shared.tell_all(|| Mail::Look);
        }
    }
}

/// Has previews begin and end when the watcher says something new of their tags.
pub async fn previews(shared: Rc<Shared>, mut on_news: impl FnMut()) {
    let directory = shared.layout.previews_dir();
    loop {
        if let Ok(watch) = DirectoryWatch::open(&directory) {
            on_news();
            while watch.changed().await == Change::Published {
                on_news();
            }
        }
        // The watcher makes the directory for its first previews.
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells all apps when the fetcher may have other sets of secrets.
pub async fn secrets(shared: Rc<Shared>) {
    let directory = shared.layout.secrets_index_dir();
    let tell = || {
        shared.secrets_changed.notify_waiters();
        shared.tell_all(|| Mail::Look);
    };
    loop {
        if let Ok(watch) = DirectoryWatch::open(&directory) {
            tell();
            while watch.changed().await == Change::Published {
                tell();
            }
        }
        // The fetcher makes the directory when somebody needs a secret.
        tokio::time::sleep(DIRECTORY).await;
    }
}

/// Follows the settings on disk; `at_start` is from before they were first read. A mistake keeps those in force and is said once.
pub async fn settings(shared: Rc<Shared>, at_start: Stamp, mut on_new_app: impl FnMut()) {
    // Those that were not read at the start may only have met a busy machine.
    let mut seen = shared.settings_problem.borrow().is_none().then(|| (at_start, compose_files(&shared)));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Some((Stamp::take(&shared.layout), compose_files(&shared)));
        if now == seen {
            continue;
        }
        seen = now;
        let read = children::settings(&shared.layout).await;
        shared.changed.notify_one();
        match read {
            Ok(settings) => {
                shared.settings_problem.replace(None);
                if **shared.written.borrow() != settings {
                    tracing::info!(MESSAGE_ID = event::SETTINGS_LOADED, "the settings changed and are in force");
                    if let Err(error) = landfall_core::publish::write_json(&shared.layout.last_settings(), &settings) {
                        tracing::warn!("cannot keep the last valid settings: {error}");
                    }
                    shared.written.replace(Rc::new(settings));
                }
                // Else a compose file on this machine changed, or a file was only touched: a look costs little.
                shared.settings_epoch.set(shared.settings_epoch.get() + 1);
                on_new_app();
                shared.tell_all(|| Mail::Look);
            }
            Err(error) => {
                match error {
                    Unsettled::Invalid(_) => {}
                    // Nothing is known of the files: the next look asks again.
                    Unsettled::NoAnswer(_) => seen = None,
                }
                let text = printable(&error.to_string(), 600);
                let problem = Some(format!("settings not read: {text}"));
                if shared.settings_problem.replace(problem.clone()) != problem {
                    tracing::warn!(
                        MESSAGE_ID = event::SETTINGS_INVALID,
                        "the settings have a mistake, the last valid ones stay in force: {text}"
                    );
                }
            }
        }
    }
}

/// How the compose files look that are on this machine.
fn compose_files(shared: &Shared) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let settings = shared.settings();
    let on_host = settings.apps.iter().filter(|(_, app)| app.source.is_on_host());
    let mut files: Vec<_> = on_host.map(|(name, app)| shared.layout.host_compose(app.project(name))).collect();
    files.dedup();
    let look = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok();
        let changed = meta.as_ref().and_then(|m| m.modified().ok());
        (path, changed, meta.map_or(0, |m| m.len()))
    };
    files.into_iter().map(look).collect()
}

/// Follows the Engine's events, across its restarts.
pub async fn engine(shared: Rc<Shared>) {
    let mut failures = 0;
    loop {
        let at = now();
        match shared.engine.machine().await {
            Ok(facts) => {
                if shared.engine_problem.replace(None).is_some() {
                    shared.changed.notify_one();
                    tracing::info!(MESSAGE_ID = event::ENGINE_REACHABLE, "the Docker Engine answers again");
                }
                failures = 0;
                let before = shared.machine.replace(facts);
                let version = shared.machine.borrow().version.clone();
                if let Some(problem) = door::too_old(&version).filter(|_| before.version != version) {
                    tracing::error!("{problem}");
                }
                // All of it is looked at after `at`, and every event since `at` is told: nothing falls between.
                shared.tell_all(|| Mail::Gap);
                let follow = shared.engine.events(at, |project, id| {
                    let mailboxes = shared.mailboxes.borrow();
                    if let Some((_, mailbox)) = mailboxes.iter().find(|(app, _)| app.as_str() == project) {
                        // A loop that is gone needs no mail.
                        let _ = mailbox.send(Mail::Touched(id));
                    }
                });
                tokio::select! {
                    ended = follow => {
                        if let Err(error) = ended {
                            tracing::debug!("the Engine's events ended: {error:#}");
                        }
                    }
                    // It would wait for us before it ends.
                    () = engine_end::stops(&shared.engine_socket) => {}
                }
                shared.tell_all(|| Mail::Gap);
            }
            Err(error) => {
                failures += 1;
                let text = printable(&format!("{error:#}"), 300);
                let problem = format!("the Docker Engine does not answer: {text}");
                let before = shared.engine_problem.replace(Some(problem));
                shared.changed.notify_one();
                if before.is_none() {
                    tracing::error!(
                        MESSAGE_ID = event::ENGINE_UNREACHABLE,
                        "the Docker Engine does not answer: {text}; see `systemctl status docker`"
                    );
                }
            }
        }
        tokio::time::sleep(ENGINE.after(failures.max(1))).await;
    }
}
