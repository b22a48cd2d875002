//! What wakes the apps: the watcher's channel files, the settings, and the Engine's events. Each of these only says
//! "look": what it means is decided in the apps' loops.

use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use landfall_core::backoff::Backoff;
use landfall_core::config::{Settings, config_files};
use landfall_core::ids::printable;
use landfall_core::journal::event;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::shared::{Mail, Shared};

/// Where inotify cannot be had, and for settings, whose editors have many ways to save.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between attempts to follow the Engine's events.
const ENGINE: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// Tells all apps when a channel file may have changed.
pub async fn channels(shared: Rc<Shared>) {
    let directory = shared.layout.channels();
    loop {
        let watch = open(&directory);
        shared.tell_all(|| Mail::Look);
        let Ok(watch) = watch else {
            // The watcher has not made the directory yet.
            tokio::time::sleep(LOOK_EVERY.min(Duration::from_millis(500))).await;
            continue;
        };
        loop {
            let Ok(mut ready) = watch.readable().await else { break };
            let events = watch.get_ref().0.read_events();
            ready.clear_ready();
            match events {
                Ok(events) if events.iter().any(|e| e.mask.contains(AddWatchFlags::IN_IGNORED)) => break,
                Ok(_) => shared.tell_all(|| Mail::Look),
                Err(nix::errno::Errno::EAGAIN) => {}
                Err(_) => break,
            }
        }
    }
}

/// tokio asks for a raw descriptor; nix gives a borrowed one.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[expect(deprecated, reason = "its successor is an unsafe function, and this crate has no unsafe code")]
fn open(directory: &std::path::Path) -> std::io::Result<AsyncFd<Descriptor>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(
        directory,
        AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE_SELF,
    )?;
    AsyncFd::new(Descriptor(inotify))
}

/// Follows the settings on disk. A mistake keeps those in force and is said once.
pub async fn settings(shared: Rc<Shared>, mut on_new_app: impl FnMut()) {
    let mut stamp = stamp_of(&shared);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp_of(&shared);
        if now == stamp {
            continue;
        }
        stamp = now;
        match Settings::load(&shared.layout) {
            Ok(settings) => {
                shared.settings_problem.replace(None);
                if **shared.settings.borrow() == settings {
                    continue;
                }
                tracing::info!(MESSAGE_ID = event::SETTINGS_LOADED, "the settings changed and are in force");
                if let Err(error) = landfall_core::publish::write_json(&shared.layout.last_settings(), &settings) {
                    tracing::warn!("cannot keep the last valid settings: {error}");
                }
                shared.settings.replace(Rc::new(settings));
                shared.settings_epoch.set(shared.settings_epoch.get() + 1);
                on_new_app();
                shared.tell_all(|| Mail::Look);
            }
            Err(error) => {
                let text = printable(&error.to_string(), 600);
                tracing::warn!(
                    MESSAGE_ID = event::SETTINGS_INVALID,
                    "the settings have a mistake, the last valid ones stay in force: {text}"
                );
                shared.settings_problem.replace(Some(format!("settings not read: {text}")));
            }
        }
    }
}

fn stamp_of(shared: &Shared) -> Vec<(std::path::PathBuf, Option<SystemTime>, u64)> {
    let files = config_files(&shared.layout).unwrap_or_default();
    let look = |path: std::path::PathBuf| {
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
        match shared.engine.machine().await {
            Ok(facts) => {
                if shared.engine_problem.replace(None).is_some() {
                    tracing::info!(MESSAGE_ID = event::ENGINE_REACHABLE, "the Docker Engine answers again");
                }
                failures = 0;
                shared.machine.replace(facts);
                let follow = shared.engine.events(|project, id| {
                    let mailboxes = shared.mailboxes.borrow();
                    if let Some((_, mailbox)) = mailboxes.iter().find(|(app, _)| app.as_str() == project) {
                        // A loop that is gone needs no mail.
                        let _ = mailbox.send(Mail::Touched(id));
                    }
                });
                // What happened before the stream was open is seen by looking at everything.
                let told = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    shared.tell_all(|| Mail::Gap);
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    _ = follow => {}
                    () = told => {}
                }
                shared.tell_all(|| Mail::Gap);
            }
            Err(error) => {
                failures += 1;
                let text = printable(&format!("{error:#}"), 300);
                if shared.engine_problem.replace(Some(format!("the Docker Engine does not answer: {text}"))).is_none() {
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
