//! `landfall.prom`: the metrics, for `node_exporter`'s textfile collector. Written when the status changed, at most every few seconds,
//! and once a minute else; whole or not at all. The Engine is never asked for it: memory is read from the kernel's files. It stays
//! when the agent ends: that it grows old is how others see that nobody writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::ids::AppName;
use landfall_core::protocol::Status;
use tokio::time::Instant;

use crate::disks;
use crate::metrics::{self, App, Disk, Machine};
use crate::observed::Container;
use crate::room::{Filesystem, Ratio};
use crate::secret_sets;
use crate::shared::{AppView, Shared};

/// Not more than one file in this time.
const PAUSE: Duration = Duration::from_secs(5);
/// What changes without news is written as often.
const AT_LEAST: Duration = Duration::from_mins(1);

/// Where cgroups are, with the names of what they use and of the part of it that is cache; version 2, then version 1.
const HIERARCHIES: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.current", "inactive_file "),
    ("/sys/fs/cgroup/memory", "memory.usage_in_bytes", "total_inactive_file "),
];

/// The file, and when it is due.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    started: Timestamp,
    tried: Option<Instant>,
    news: bool,
    failed: bool,
}

impl MetricsFile {
    /// Not written yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, started: Timestamp::now(), tried: None, news: true, failed: false }
    }

    /// When [`Self::keep`] has something to do at the latest.
    pub fn due(&self) -> Instant {
        self.due_at().unwrap_or_else(Instant::now)
    }

    /// None: at once.
    fn due_at(&self) -> Option<Instant> {
        let pause = if self.news { PAUSE } else { AT_LEAST };
        self.tried.map(|tried| tried + pause)
    }

    /// Writes it when it is due; `news` says that the status is another than before.
    pub fn keep(&mut self, shared: &Shared, status: &Status, news: bool) {
        self.news |= news;
        let now = Instant::now();
        if self.due_at().is_some_and(|due| now < due) {
            return;
        }
        self.tried = Some(now);
        self.news = false;
        let text = metrics::page(status, &machine(shared, self.started), &apps(shared, status));
        let written = landfall_core::publish::write_volatile(&self.path, text.as_bytes(), 0o644);
        if let (Err(error), false) = (&written, self.failed) {
            tracing::warn!("cannot write `{}`: {error}; only monitoring is affected", self.path.display());
        }
        self.failed = written.is_err();
    }
}

fn machine(shared: &Shared, started: Timestamp) -> Machine {
    Machine {
        started,
        engine: shared.engine_problem.borrow().is_none(),
        compose: shared.plugin.is_there(),
        settings: shared.settings_problem.borrow().is_none(),
        disks: disks::look(shared).found.into_iter().filter_map(disk).collect(),
        reserve: Ratio::per_cent(shared.settings().host.reserve_disk),
    }
}

fn disk(found: Filesystem) -> Option<Disk> {
    Some(Disk { used: found.used_ratio()?, inodes_used: found.inodes_used_ratio(), path: found.path })
}

fn apps<'a>(shared: &Shared, status: &'a Status) -> BTreeMap<&'a str, App> {
    let (views, settings) = (shared.views.borrow(), shared.settings());
    let more = |app: &'a AppName| {
        let view = views.get(app)?;
        let more = App {
            totals: view.totals.clone(),
            stuck: view.stuck,
            refused: view.refused.is_some(),
            quarantined: view.quarantined.is_some(),
            poll: settings.apps.get(app).map(|app| app.poll),
            secrets: secret_sets::ages(shared, app),
            memory: memory(view),
        };
        Some((app.as_str(), more))
    };
    status.apps.iter().filter_map(|app| more(&app.app)).collect()
}

/// By service, of the container that uses most.
fn memory(view: &AppView) -> BTreeMap<String, u64> {
    let mut most = BTreeMap::new();
    for (service, ids) in view.state.current().iter().flat_map(|generation| &generation.containers) {
        let running = ids.iter().filter(|id| view.seen.containers.get(*id).is_some_and(Container::runs));
        if let Some(used) = running.filter_map(|id| in_use(id)).max() {
            most.insert(service.clone(), used);
        }
    }
    most
}

/// What a container uses but for cache that can be dropped, as the kernel says; none where it is not found.
fn in_use(id: &str) -> Option<u64> {
    let groups = [
        format!("landfall.slice/docker-{id}.scope"),
        format!("docker/{id}"),
        format!("system.slice/docker-{id}.scope"),
    ];
    let places = HIERARCHIES.iter().flat_map(|hierarchy| groups.iter().map(move |group| (hierarchy, group)));
    let mut found = places.filter_map(|((root, usage, cache), group)| {
        let group = Path::new(root).join(group);
        let used: u64 = std::fs::read_to_string(group.join(usage)).ok()?.trim().parse().ok()?;
        let stat = std::fs::read_to_string(group.join("memory.stat")).ok()?;
        let dropped = stat.lines().find_map(|line| line.strip_prefix(cache)?.parse().ok()).unwrap_or(0);
        Some(used.saturating_sub(dropped))
    });
    found.next()
}
