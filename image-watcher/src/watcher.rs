//! The loop that wires everything: reads the settings, keeps one follower per app and one lister per entry of `previews`,
//! passes on polls that the agent wants now, cleans up. It does no network and survives any settings file: the last valid one stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use landfall_core::config::{App, Previews, Settings, SettingsFiles};
use landfall_core::daemon::Daemon;
use landfall_core::ids::AppName;
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::follow::{Board, Follower};
use crate::follow_previews::{self, Apps, Lister};
use crate::registry::Registries;
use crate::wanted::Wanted;
use crate::{clean, stage};

/// The settings and credential files are looked at after a poll, when the process is awake anyway, once this has passed,
const LOOK_SOONEST: Duration = Duration::from_secs(3);
/// and where there was no poll until then, for its own sake. It is longer than the usual time between two polls with its jitter.
const LOOK_LATEST: Duration = Duration::from_secs(6);
/// The promise to the service manager: a look is a matter of milliseconds.
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
    let (news, polled) = (Arc::clone(&watcher.news), Arc::clone(&watcher.polled));
    let mut looked = Instant::now();
    let mut shutdown = std::pin::pin!(daemon.shutdown());
    watcher.reload();
    daemon.ready();
    loop {
        // By the clock, and before all else: polls by hand, coming fast, must not keep it from being done.
        if looked.elapsed() >= LOOK_SOONEST {
            watcher.look_again();
            looked = Instant::now();
        }
        wanted.arm();
        watcher.wake(&wanted.raised(watcher.followed.keys()));
        if Instant::now() >= clean_at {
            watcher.end_unnamed();
            if let Err(error) = clean::clean(&layout, SystemTime::now(), |app| watcher.may_follow(app)) {
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
            () = news.notified() => watcher.hear(),
            () = polled.notified() => {}
            () = tokio::time::sleep_until(looked + LOOK_LATEST) => {}
        }
    }
}

/// The followers and the settings that they came from.
struct Watcher {
    layout: Layout,
    files: SettingsFiles,
    settings: Option<Settings>,
    registries: Arc<Registries>,
    board: Board,
    followed: BTreeMap<AppName, Followed>,
    /// What is wrong with which entry's listing.
    listings: Board,
    listed: BTreeMap<AppName, Listed>,
    /// A lister has told something.
    news: Arc<Notify>,
    /// A channel was asked.
    polled: Arc<Notify>,
    /// Previews whose name an app has, told once.
    shadowed: BTreeSet<AppName>,
}

/// A running follower; it ends when this is dropped.
struct Followed {
    settings: App,
    wake: watch::Sender<u64>,
    task: JoinHandle<()>,
}

/// A running lister; it ends when this is dropped.
struct Listed {
    settings: Previews,
    wake: watch::Sender<u64>,
    apps: watch::Receiver<Apps>,
    /// All that lived when it was heard last.
    living: BTreeSet<AppName>,
    task: JoinHandle<()>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.task.abort();
    }
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
            files: SettingsFiles::new(layout),
            settings: None,
            registries: Arc::new(Registries::new(&Settings::default())),
            board: Board::default(),
            followed: BTreeMap::new(),
            listings: Board::default(),
            listed: BTreeMap::new(),
            news: Arc::default(),
            polled: Arc::default(),
            shadowed: BTreeSet::new(),
        }
    }

    fn look_again(&mut self) {
        if self.files.have_changed() {
            self.reload();
        }
        if self.registries.credentials_changed() {
            self.wake(&self.followed.keys().cloned().collect::<Vec<_>>());
            self.listed.values().for_each(|listed| listed.wake.send_modify(|count| *count += 1));
        }
    }

    fn reload(&mut self) {
        if let Some(settings) = self.files.read("nothing is followed") {
            self.apply(settings);
        }
    }

    fn apply(&mut self, settings: Settings) {
        if self.settings.as_ref() == Some(&settings) {
            return;
        }
        if self.settings.as_ref().is_none_or(|before| before.registries != settings.registries) {
            self.registries = Arc::new(Registries::new(&settings));
            self.followed.clear();
            self.listed.clear();
        }
        let listings = &self.listings;
        self.listed.retain(|entry, listed| {
            let stays = settings.previews.get(entry) == Some(&listed.settings);
            if !stays {
                listings.clear(entry);
            }
            stays
        });
        let (apps, previews) = (settings.apps.len(), settings.previews.len());
        tracing::info!(MESSAGE_ID = event::SETTINGS_LOADED, apps, previews, "the settings are read");
        let new: Vec<AppName> = settings.previews.keys().filter(|e| !self.listed.contains_key(*e)).cloned().collect();
        self.settings = Some(settings);
        let mut ended = Vec::new();
        for entry in new {
            ended.extend(self.list(&entry));
        }
        self.follow();
        self.forget(ended);
        self.end_unnamed();
    }

    /// Begins to list the tags of an entry. Gives the apps of it that have ended and have a channel file.
    fn list(&mut self, entry: &AppName) -> BTreeSet<AppName> {
        let Some(settings) = self.settings.as_ref().and_then(|all| all.previews.get(entry)) else {
            return BTreeSet::new();
        };
        let Some(mut opened) = follow_previews::open(&self.layout, entry, settings) else { return BTreeSet::new() };
        let ended = std::mem::take(&mut opened.leftovers);
        let lister = Lister::new(entry, opened, &self.layout, &self.registries, &self.listings);
        let (wake, woken) = watch::channel(0);
        let now = lister.apps();
        let (told, apps) = watch::channel(now.clone());
        let task = tokio::spawn(lister.run(woken, told, Arc::clone(&self.news)));
        let settings = settings.clone();
        self.listed.insert(entry.clone(), Listed { settings, wake, apps, living: now.living, task });
        ended
    }

    /// A lister has written down other tags.
    fn hear(&mut self) {
        let mut ended = Vec::new();
        for listed in self.listed.values_mut() {
            let living = listed.apps.borrow_and_update().living.clone();
            let before = std::mem::replace(&mut listed.living, living);
            ended.extend(before.difference(&listed.living).cloned());
        }
        self.follow();
        self.forget(ended);
    }

    /// Makes the followers those of the settings and of the previews that live.
    fn follow(&mut self) {
        let Some(settings) = &self.settings else { return };
        let mut wanted = settings.apps.clone();
        for (entry, listed) in &self.listed {
            for (app, channel) in &listed.apps.borrow().followed {
                if let Some(other) = wanted.get(app) {
                    if self.shadowed.insert(app.clone()) {
                        tracing::warn!(LANDFALL_APP = %app, entry = %entry, "`{channel}` has no preview: `{app}`, which would be its name, follows `{}`; rename one of them in landfall.yaml", other.channel);
                    }
                } else {
                    wanted.insert(app.clone(), listed.settings.app(entry, app, channel, None));
                }
            }
        }
        let board = &self.board;
        self.followed.retain(|app, followed| {
            let stays = wanted.get(app) == Some(&followed.settings);
            if !stays {
                board.clear(app);
            }
            stays
        });
        for (app, app_settings) in &wanted {
            if !self.followed.contains_key(app) {
                self.followed.insert(app.clone(), self.start(app, app_settings));
            }
        }
    }

    /// Removes the channel files of previews that have ended, unless another app has the name.
    fn forget(&self, ended: impl IntoIterator<Item = AppName>) {
        let is_app = |app: &AppName| self.settings.as_ref().is_none_or(|settings| settings.apps.contains_key(app));
        for app in ended.into_iter().filter(|app| !self.followed.contains_key(app) && !is_app(app)) {
            let path = self.layout.channel(&app);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(LANDFALL_APP = %app, "cannot remove `{}`: {error}; remove it", path.display());
            }
        }
    }

    /// Whether an app is followed, or may be: without settings nobody knows.
    fn may_follow(&self, app: &AppName) -> bool {
        self.settings.is_none() || self.followed.contains_key(app)
    }

    /// Ends previews whose entry is not in the settings any more and whose time is over.
    fn end_unnamed(&self) {
        let Some(settings) = &self.settings else { return };
        match follow_previews::end_unnamed(&self.layout, &settings.previews, Timestamp::now()) {
            Ok(ended) => self.forget(ended),
            Err(error) => {
                tracing::warn!("cannot end previews: {error}; check `{}`", self.layout.previews_dir().display());
            }
        }
    }

    fn start(&self, app: &AppName, settings: &App) -> Followed {
        let (wake, woken) = watch::channel(0);
        let follower = Follower::new(app.clone(), settings.clone(), &self.layout, &self.registries, &self.board);
        Followed {
            settings: settings.clone(),
            wake,
            task: tokio::spawn(follower.follow(woken, Arc::clone(&self.polled))),
        }
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
        let problem = self.board.problems().pop_first().or_else(|| self.listings.problems().pop_first());
        match (self.files.mistake(), problem) {
            (Some(mistake), _) => format!("following {channels}; {mistake}"),
            (None, Some((app, problem))) => format!("following {channels}; {app}: {problem}"),
            (None, None) => format!("following {channels}"),
        }
    }
}
