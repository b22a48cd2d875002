//! The loop that wires everything: what is wanted, the settings, rounds that fetch, sets that are laid down, index files that say so.
//! It never waits for a vault: rounds run beside it. Any settings file is survived: the last valid one stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use landfall_core::config::{Settings, SettingsFiles, Vault, VaultSource};
use landfall_core::contract::{self, Read};
use landfall_core::daemon::Daemon;
use landfall_core::ids::AppName;
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use landfall_core::publish;
use landfall_core::secrets::SecretReference;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::{App, Need};
use crate::azure::{Identities, KeyVault};
use crate::cache::{Cache, judge, key};
use crate::directory::Directory;
use crate::live;
use crate::machine::Machine;
use crate::plan::{self, Lookup};
use crate::round::{self, Answers};
use crate::schedule::{Clock, Eagerness, when};
use crate::sets::{self, Unnamed};
use crate::settle::{Given, With, do_without, note_laid, settle};
use crate::source::{FetchError, Source};
use crate::unit_socket;
use crate::wanted::{News, Wanted};

/// How often settings, files that went, and the memory are looked at.
const TICK: Duration = Duration::from_secs(5);
/// How often it is looked whether there is a directory of wishes to watch.
const UNWATCHED: Duration = Duration::from_secs(1);
/// The promise to the service manager: nothing in the loop waits for anybody.
const PROMISE: Duration = Duration::from_mins(1);
/// How often sets that nobody names are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Runs until it is told to stop.
pub async fn run(layout: Layout, mut daemon: Daemon) -> anyhow::Result<()> {
    sets::remove_unfinished(&layout).with_context(|| {
        format!("cannot clear unfinished work in `{}`; check its owner", layout.secrets().display())
    })?;
    let mut fetcher = Fetcher::new(&layout);
    let mut wanted = Wanted::new(&layout);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(daemon.shutdown());
    fetcher.reload();
    daemon.ready();
    loop {
        wanted.look().into_iter().for_each(|news| fetcher.hear(news));
        let now = Instant::now();
        let wake = fetcher.begin(now);
        fetcher.sweep(now);
        fetcher.publish();
        daemon.status(&fetcher.status());
        daemon.pet(PROMISE);
        let most = now + if wanted.is_watched() { TICK } else { UNWATCHED };
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            () = daemon.reload() => fetcher.reload(),
            () = wanted.changed() => {}
            Some(given) = fetcher.early.1.recv() => fetcher.machine.take(&given),
            Some(done) = fetcher.rounds.join_next() => fetcher.finish(done),
            () = tokio::time::sleep_until(wake.map_or(most, |wake| wake.min(most))) => {}
            _ = ticks.tick() => fetcher.look_again(),
        }
    }
}

struct Fetcher {
    layout: Layout,
    files: SettingsFiles,
    settings: Option<Settings>,
    /// Why nothing may be written.
    unfit: Option<String>,
    identities: Arc<Identities>,
    vaults: BTreeMap<String, Open>,
    clocks: BTreeMap<String, Clock>,
    apps: BTreeMap<AppName, App>,
    rounds: JoinSet<Answers>,
    cache: Cache,
    /// What was fetched first, before its round has ended.
    early: (UnboundedSender<Given>, UnboundedReceiver<Given>),
    machine: Machine,
    units: unit_socket::Service,
    unnamed: Unnamed,
    sweep_at: Instant,
}

/// A vault of the settings.
struct Open {
    source: Arc<dyn Source>,
    /// A round asks it.
    is_busy: bool,
    /// Why it is left alone.
    problem: Option<FetchError>,
}

impl Fetcher {
    fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            files: SettingsFiles::new(layout),
            settings: None,
            unfit: None,
            identities: Arc::default(),
            vaults: BTreeMap::new(),
            clocks: BTreeMap::new(),
            apps: BTreeMap::new(),
            rounds: JoinSet::new(),
            cache: Cache::open(layout, std::env::var_os(key::CREDENTIALS).as_deref()),
            early: mpsc::unbounded_channel(),
            machine: Machine::new(layout),
            units: unit_socket::Service::new(layout.unit_socket()),
            unnamed: Unnamed::default(),
            sweep_at: Instant::now(),
        }
    }

    fn look_again(&mut self) {
        if self.files.have_changed() {
            self.reload();
        }
    }

    fn reload(&mut self) {
        if let Some(settings) = self.files.read("nothing is fetched") {
            self.apply(settings);
        }
    }

    fn apply(&mut self, settings: Settings) {
        let is_same = self.settings.as_ref().is_some_and(|before| before.vaults == settings.vaults);
        if !is_same {
            tracing::info!(
                MESSAGE_ID = event::SETTINGS_LOADED,
                vaults = settings.vaults.len(),
                "the settings are read"
            );
            // What is on its way was asked under other settings.
            self.rounds = JoinSet::new();
            self.early = mpsc::unbounded_channel();
            let now = Instant::now();
            self.clocks =
                settings.vaults.iter().map(|(name, vault)| (name.clone(), Clock::new(vault.refresh, now))).collect();
            self.vaults = settings.vaults.iter().map(|(name, vault)| (name.clone(), self.open(vault))).collect();
            self.cache.apply(&settings.vaults);
            self.apps
                .values_mut()
                .flat_map(|app| app.needs.values_mut())
                .for_each(|need| need.eagerness = Eagerness::Now);
        }
        self.machine.apply(&settings, !is_same);
        self.settings = Some(settings);
    }

    fn open(&self, vault: &Vault) -> Open {
        let source: Arc<dyn Source> = match &vault.source {
            VaultSource::KeyVault { url, identity } => Arc::new(KeyVault::new(url, identity, &self.identities)),
            VaultSource::Directory(path) => Arc::new(Directory::new(path, &self.layout.secrets_key())),
        };
        Open { source, is_busy: false, problem: None }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Asked(wanted) => {
                let (layout, name) = (&self.layout, wanted.app.clone());
                let known = |app: &AppName| match contract::read(&layout.secrets_index(app)) {
                    Read::Found(file) => Some(file),
                    Read::Absent | Read::NewerFormat(_) | Read::Garbled(_) => None,
                };
                let app = self.apps.entry(name.clone()).or_insert_with(|| App::new(known(&name)));
                app.ask(*wanted, |need, set| layout.set_of(&name, need, set).is_dir());
            }
            // Its sets and its index stay until nobody has named them for a while.
            News::Gone(app) => {
                self.apps.remove(&app);
            }
        }
    }

    /// Begins the rounds that are due, and says when the next one is.
    fn begin(&mut self, now: Instant) -> Option<Instant> {
        let Some(settings) = &self.settings else {
            self.refuse();
            return None;
        };
        let machine = self.machine.due(now, &self.clocks, |vault| self.vaults.get(vault).is_none_or(|v| v.is_busy));
        // Where nothing is needed, nobody misses the memory.
        let is_needed = self.apps.values().any(|app| !app.needs.is_empty());
        self.unfit = if is_needed { sets::fitness(&self.layout, self.unfit.as_ref()) } else { None };
        let (mut due, mut wake) = (Vec::new(), machine.wake);
        for (name, app) in &mut self.apps {
            let unconfirmed = app.unconfirmed();
            for (id, need) in &mut app.needs {
                let wanted = need.need.clone();
                let path = |set: &str| self.layout.set_of(name, &wanted, set);
                let is_there = |set: &str| path(set).is_dir();
                if let Some(problem) = &self.unfit {
                    need.failed(name, problem.clone(), is_there);
                    need.eagerness = Eagerness::Now;
                    continue;
                }
                // What was sealed before a boot is no reason not to ask.
                let is_laid = |set: &str| {
                    let has_it = !need.is_from_cache() && need.set().is_some_and(|own| own == set);
                    is_there(set) && (has_it || !unconfirmed.contains(&(wanted.service.clone(), set.to_owned())))
                };
                let references = match plan::look(&need.need, &settings.vaults, is_laid) {
                    Lookup::Impossible(problem) => {
                        need.failed(name, problem, is_there);
                        continue;
                    }
                    Lookup::Laid(set) => {
                        note_laid(name, need, set, path);
                        continue;
                    }
                    Lookup::Fetch(references) => references,
                };
                if need.eagerness == Eagerness::Never {
                    // Somebody removed what was there.
                    need.eagerness = Eagerness::Now;
                }
                let vaults: BTreeSet<&String> = references.iter().map(|reference| &reference.vault).collect();
                let open: Vec<&Open> = vaults.iter().filter_map(|vault| self.vaults.get(*vault)).collect();
                if open.iter().any(|vault| vault.is_busy) {
                    continue;
                }
                match when(need.eagerness, vaults.iter().copied(), &self.clocks) {
                    Some(at) if at <= now => due.push(((name.clone(), id.clone()), references)),
                    Some(at) => {
                        wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
                        // It is not asked for now: what it waits for is known.
                        if need.answer.is_none()
                            && let Some(error) = open.iter().find_map(|vault| vault.problem.clone())
                        {
                            let closed =
                                |vault: &String| self.vaults.get(vault).and_then(|vault| vault.problem.clone());
                            let error_of = |reference: &SecretReference| Some(Err(closed(&reference.vault)?));
                            let given: Given =
                                references.into_iter().filter_map(|r| Some((r.clone(), error_of(&r)?))).collect();
                            let mut with =
                                With { layout: &self.layout, vaults: &settings.vaults, cache: &mut self.cache };
                            do_without(&mut with, name, need, &given, error.problem);
                        }
                    }
                    None => {}
                }
            }
        }
        for round in plan::rounds(machine.secrets, due) {
            let mut sources = BTreeMap::new();
            for (name, vault) in self.vaults.iter_mut().filter(|(name, _)| round.vaults().contains(name)) {
                vault.is_busy = true;
                sources.insert(name.clone(), Arc::clone(&vault.source));
            }
            self.rounds.spawn(round::ask(round, sources, self.early.0.clone()));
        }
        wake
    }

    /// Without valid settings ever, nobody knows what may be asked.
    fn refuse(&mut self) {
        let Some(mistake) = self.files.mistake() else { return };
        for (name, app) in &mut self.apps {
            for need in app.needs.values_mut() {
                let wanted = need.need.clone();
                let is_there = |set: &str| self.layout.set_of(name, &wanted, set).is_dir();
                need.failed(name, format!("the settings cannot be used: {mistake}"), is_there);
            }
        }
    }

    /// Lays down what a round brought.
    fn finish(&mut self, done: Result<Answers, tokio::task::JoinError>) {
        let Ok(answers) = done else {
            // A panic in a round is a mistake of ours; its vaults must not stay busy for ever.
            tracing::error!("a round ended by itself, which is a mistake in this program; it is asked again");
            self.vaults.values_mut().for_each(|vault| vault.is_busy = false);
            return;
        };
        // Else it would be asked for again.
        while let Ok(given) = self.early.1.try_recv() {
            self.machine.take(&given);
        }
        let (now, chance) = (Instant::now(), RandomState::new().build_hasher().finish());
        for (name, closed) in &answers.vaults {
            let (Some(vault), Some(clock)) = (self.vaults.get_mut(name), self.clocks.get_mut(name)) else { continue };
            vault.is_busy = false;
            vault.problem = closed.as_ref().map(|closed| closed.error.clone());
            match closed {
                None => clock.answered(now, chance),
                Some(closed) => clock.failed(closed.pause, now, chance),
            }
        }
        let Some(settings) = &self.settings else { return };
        for (name, app) in &self.apps {
            for need in app.needs.values().filter(|need| judge::is_withdrawn(&need.need, &answers.secrets)) {
                self.cache.withdraw(name, &need.need, &need.versions());
            }
        }
        let mut with = With { layout: &self.layout, vaults: &settings.vaults, cache: &mut self.cache };
        for key in &answers.round.needs {
            let need = self.apps.get_mut(&key.0).and_then(|app| app.needs.get_mut(&key.1));
            if let Some(need) = need {
                settle(&mut with, key, need, &answers.secrets);
            }
        }
    }

    /// Writes the index files that are not right, and has units get what there is.
    fn publish(&mut self) {
        self.machine.publish();
        self.units.keep(self.machine.offer());
        for (name, app) in &mut self.apps {
            live::follow(&self.layout, name, app);
            let file = app.file(name);
            let is_right = app.written.as_ref() == Some(&file) || (app.written.is_none() && app.needs.is_empty());
            if is_right {
                continue;
            }
            match publish::write_json_volatile(&self.layout.secrets_index(name), &file) {
                Ok(()) => app.written = Some(file),
                Err(error) => {
                    let path = self.layout.secrets_index(name);
                    tracing::error!(LANDFALL_APP = %name, "cannot write `{}`: {error}; check its owner and the space there", path.display());
                }
            }
        }
    }

    /// Removes sets that nobody names.
    fn sweep(&mut self, now: Instant) {
        let Some(settings) = self.settings.as_ref().filter(|_| now >= self.sweep_at && self.unfit.is_none()) else {
            return;
        };
        self.sweep_at = now + SWEEP_EVERY;
        let (mut named, mut sealed): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) = Default::default();
        named.insert(self.layout.machine_secrets_index());
        for (name, app) in &self.apps {
            named.insert(self.layout.secrets_index(name));
            for need in app.needs.values() {
                let answered = need.answer.as_ref().and_then(|answer| answer.set.clone());
                let sets = [answered, plan::pinned_set(&need.need, &settings.vaults)];
                sealed.extend(self.cache.paths(name, &need.need, &need.versions()));
                named.extend(sets.iter().flatten().map(|set| self.layout.set_of(name, &need.need, set)));
            }
            named.extend(live::named(&self.layout, name, app));
        }
        if let Err(error) = self.cache.sweep(&sealed, now) {
            let directory = self.layout.secrets_cache();
            tracing::warn!("cannot remove what is sealed and not needed: {error}; check `{}`", directory.display());
        }
        match self.unnamed.sweep(&self.layout, &named, now) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(count = removed.len(), "sets that nobody has named for an hour are removed"),
            Err(error) => {
                tracing::warn!("cannot remove old sets: {error}; check `{}`", self.layout.secrets().display());
            }
        }
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let needs: Vec<(&AppName, &Need)> =
            self.apps.iter().flat_map(|(name, app)| app.needs.values().map(move |need| (name, need))).collect();
        let problem = needs.iter().find_map(|(name, need)| {
            let problem = need.answer.as_ref()?.problem.as_ref()?;
            Some(format!("{name}/{}: {problem}", need.need.service))
        });
        let (held, of_machine) = self.machine.status();
        let work = match (needs.len(), held) {
            (0, 0) => "idle: nobody needs a secret".to_owned(),
            (1, 0) => "keeping the secrets of 1 service".to_owned(),
            (count, 0) => format!("keeping {count} sets of secrets"),
            (count, held) => format!("keeping {count} sets of secrets, {held} credentials of registries and units"),
        };
        match self.files.mistake().cloned().or(self.unfit.clone()).or(of_machine).or(problem) {
            None => work,
            Some(problem) => format!("{work}; {problem}"),
        }
    }
}
