//! The loop that wires everything: reads the settings, keeps one follower per app, passes on polls that the agent wants
//! now, cleans up. It does no network and survives any settings file: the last valid one stays in force.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use landfall_core::config::{App, Settings, config_files};
use landfall_core::daemon::Daemon;
use landfall_core::ids::{AppName, printable};
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::follow::{Board, Follower};
use crate::registry::Registries;
use crate::wanted::Wanted;
use crate::{clean, stage};

/// How often the settings and credential files are looked at.
const TICK: Duration = Duration::from_secs(5);
/// The promise to the service manager: a tick is a matter of milliseconds.
const PROMISE: Duration = Duration::from_mins(1);
/// How often releases that nobody needs are looked for.
const CLEAN_EVERY: Duration = Duration::from_mins(10);

/// Runs until it is told to stop.
pub async fn run(layout: Layout, mut daemon: Daemon) -> anyhow::Result<()> {
    stage::sweep(&layout).with_context(|| {
        format!("cannot clear unfinished work in `{}`; check its owner", layout.watcher().display())
    })?;
    let mut watcher = Watcher::new(&layout);
    let mut wanted = Wanted::new(&layout);
    let mut clean_at = Instant::now();
    // One clock for the whole life: a sleep begun anew after each wake-up would never end under frequent polls by hand.
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(daemon.shutdown());
    watcher.reload();
    daemon.ready();
    loop {
        wanted.arm();
        watcher.wake(&wanted.raised(watcher.followed.keys()));
        if Instant::now() >= clean_at {
            if let Err(error) = clean::clean(&layout, SystemTime::now()) {
                tracing::warn!("cannot remove old releases: {error}; check `{}`", layout.watcher().display());
            }
            clean_at = Instant::now() + CLEAN_EVERY;
        }
        daemon.status(&watcher.status());
        daemon.pet(PROMISE);
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            () = daemon.reload() => watcher.reload(),
            () = wanted.changed() => {}
            _ = ticks.tick() => watcher.look_again(),
        }
    }
}

/// The followers and the settings that they came from.
struct Watcher {
    layout: Layout,
    settings: Option<Settings>,
    /// How the settings files looked when they were read.
    stamp: Stamp,
    /// The mistake that was told last.
    mistake: Option<String>,
    registries: Arc<Registries>,
    board: Board,
    followed: BTreeMap<AppName, Followed>,
}

type Stamp = Vec<(PathBuf, i64, i64, u64, u64)>;

/// A running follower; it ends when this is dropped.
struct Followed {
    settings: App,
    wake: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            settings: None,
            stamp: Stamp::new(),
            mistake: None,
            registries: Arc::new(Registries::new(&Settings::default())),
            board: Board::default(),
            followed: BTreeMap::new(),
        }
    }

    fn look_again(&mut self) {
        if stamp(&self.layout) != self.stamp {
            self.reload();
        }
        if self.registries.credentials_changed() {
            self.wake(&self.followed.keys().cloned().collect::<Vec<_>>());
        }
    }

    fn reload(&mut self) {
        // Before the reading: a change in between is seen by the next look.
        self.stamp = stamp(&self.layout);
        match Settings::load(&self.layout) {
            Ok(settings) => {
                self.mistake = None;
                self.apply(settings);
            }
            Err(error) => {
                let mistake = printable(&format!("{:#}", anyhow::Error::from(error)), 1000);
                if self.mistake.as_ref() != Some(&mistake) {
                    let kept = if self.settings.is_some() {
                        "the last valid ones stay in force"
                    } else {
                        "nothing is followed"
                    };
                    tracing::error!(
                        MESSAGE_ID = event::SETTINGS_INVALID,
                        "the settings cannot be used, {kept}: {mistake}"
                    );
                    self.mistake = Some(mistake);
                }
            }
        }
    }

    fn apply(&mut self, settings: Settings) {
        if self.settings.as_ref() == Some(&settings) {
            return;
        }
        if self.settings.as_ref().is_none_or(|before| before.registries != settings.registries) {
            self.registries = Arc::new(Registries::new(&settings));
            self.followed.clear();
        }
        let board = &self.board;
        self.followed.retain(|app, followed| {
            let stays = settings.apps.get(app) == Some(&followed.settings);
            if !stays {
                board.clear(app);
            }
            stays
        });
        for (app, app_settings) in &settings.apps {
            if !self.followed.contains_key(app) {
                self.followed.insert(app.clone(), self.start(app, app_settings));
            }
        }
        let apps = settings.apps.len();
        tracing::info!(MESSAGE_ID = event::SETTINGS_LOADED, apps, "the settings are read");
        self.settings = Some(settings);
    }

    fn start(&self, app: &AppName, settings: &App) -> Followed {
        let (wake, woken) = watch::channel(0);
        let follower = Follower::new(app.clone(), settings.clone(), &self.layout, &self.registries, &self.board);
        Followed { settings: settings.clone(), wake, task: tokio::spawn(follower.follow(woken)) }
    }

    fn wake(&self, apps: &[AppName]) {
        for followed in apps.iter().filter_map(|app| self.followed.get(app)) {
            followed.wake.send_modify(|count| *count += 1);
        }
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let count = self.followed.len();
        let channels = if count == 1 { "1 channel".to_owned() } else { format!("{count} channels") };
        match (&self.mistake, self.board.problems().first_key_value()) {
            (Some(mistake), _) => format!("following {channels}; {mistake}"),
            (None, Some((app, problem))) => format!("following {channels}; {app}: {problem}"),
            (None, None) => format!("following {channels}"),
        }
    }
}

/// What tells a changed settings file: cheap, and enough for editors that write in place and those that rename.
fn stamp(layout: &Layout) -> Stamp {
    let files = config_files(layout).unwrap_or_default();
    let look = |path: PathBuf| {
        let data = std::fs::metadata(&path).ok()?;
        Some((path, data.mtime(), data.mtime_nsec(), data.len(), data.ino()))
    };
    files.into_iter().filter_map(look).collect()
}
