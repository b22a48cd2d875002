//! What the machine itself needs of vaults: credentials of its registries, and what systemd units fetch from our socket. A person wrote
//! it into the settings, so `allow`, which is for releases, says nothing of it. Each is a file of its own that is replaced when it
//! rotates, and stays when a look fails. What was asked is the loop's affair; a value is only passed on to [`held_files`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use landfall_core::config::Settings;
use landfall_core::contract::{self, FORMAT, Read};
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use landfall_core::machine_secrets::{MachineSecret, MachineSecretsFile};
use landfall_core::secrets::SecretReference;
use landfall_core::{publish, secrets_mount};
use tokio::time::Instant;

use crate::held_files;
use crate::schedule::{Clock, Eagerness, when};
use crate::settle::Given;
use crate::source::Fetched;
use crate::unit_socket::{Offer, Offered};

/// Who needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A registry, by its host.
    Registry(String),
    /// A systemd unit, and the credential's id.
    Unit(String, String),
}

/// What is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    secret: SecretReference,
    /// The user of a registry's credential.
    username: Option<String>,
}

#[derive(Debug)]
struct Held {
    wish: Wish,
    answer: MachineSecret,
    eagerness: Eagerness,
}

/// All of it.
#[derive(Debug)]
pub struct Machine {
    layout: Layout,
    items: BTreeMap<Item, Held>,
    /// What the index file says.
    written: MachineSecretsFile,
    /// Why the index file is not right, told once.
    unwritten: bool,
}

/// What is to be asked for.
#[derive(Debug, Default)]
pub struct Due {
    /// Now.
    pub secrets: BTreeSet<SecretReference>,
    /// When the next is due.
    pub wake: Option<Instant>,
}

impl Item {
    /// Its file.
    pub fn path(&self, layout: &Layout) -> PathBuf {
        match self {
            Self::Registry(host) => layout.registry_credential(host),
            Self::Unit(unit, id) => layout.unit_secret(unit, id),
        }
    }

    /// As the journal names it.
    fn name(&self) -> String {
        match self {
            Self::Registry(host) => format!("the credential of registry `{host}`"),
            Self::Unit(unit, id) => format!("credential `{id}` of unit `{unit}`"),
        }
    }

    /// Why its file may not be written.
    fn unfit(&self, layout: &Layout) -> Option<String> {
        let checked = match self {
            Self::Registry(_) => {
                let directory = layout.registry_credentials();
                if let Err(error) = held_files::make_shared(&directory) {
                    return Some(format!("cannot make `{}` ({error}); next: check its owner", directory.display()));
                }
                secrets_mount::check_for(&directory, secrets_mount::SHARED)
            }
            Self::Unit(..) => secrets_mount::check(&layout.secrets()),
        };
        checked.err().map(|error| error.to_string())
    }
}

impl Machine {
    /// Needs nothing yet; knows what an earlier fetcher wrote.
    pub fn new(layout: &Layout) -> Self {
        let written = match contract::read(&layout.machine_secrets_index()) {
            Read::Found(file) => file,
            Read::Absent | Read::NewerFormat(_) | Read::Garbled(_) => MachineSecretsFile::default(),
        };
        Self { layout: layout.clone(), items: BTreeMap::new(), written, unwritten: false }
    }

    /// Takes over what the settings name, and removes what they name no more. `ask_anew`: the vaults are others.
    pub fn apply(&mut self, settings: &Settings, ask_anew: bool) {
        let mut before = std::mem::take(&mut self.items);
        for (item, wish) in wishes(settings) {
            let kept = before.remove(&item).filter(|held| held.wish == wish);
            let mut held = kept.unwrap_or_else(|| self.begin(&item, wish));
            if ask_anew {
                held.eagerness = Eagerness::Now;
            }
            self.items.insert(item, held);
        }
        let named: BTreeSet<PathBuf> = self.items.keys().map(|item| item.path(&self.layout)).collect();
        match held_files::remove_others(&self.layout, &named) {
            Ok(removed) => removed
                .iter()
                .for_each(|path| tracing::info!("`{}` is removed: the settings do not name it", path.display())),
            Err(error) => tracing::warn!(
                "cannot remove what the settings do not name any more: {error}; check the owner of `{}` and `{}`",
                self.layout.registry_credentials().display(),
                self.layout.unit_secrets().display()
            ),
        }
    }

    fn begin(&self, item: &Item, wish: Wish) -> Held {
        let path = item.path(&self.layout);
        let told = match item {
            Item::Registry(host) => self.written.registries.get(host),
            Item::Unit(unit, id) => self.written.units.get(unit).and_then(|of| of.get(id)),
        };
        let secret = wish.secret.to_string();
        let told = told.filter(|told| told.secret == secret && path.is_file()).cloned();
        if told.is_none() && matches!(item, Item::Unit(..)) {
            // It is of another secret: a unit gets what the settings name or nothing. A registry says itself what it thinks of one.
            let _ = std::fs::remove_file(&path);
        }
        let answer = told.unwrap_or_else(|| MachineSecret { secret, ..MachineSecret::default() });
        Held { wish, answer, eagerness: Eagerness::Now }
    }

    /// What is to be asked for now. `is_busy` says which vaults are being asked.
    pub fn due(&mut self, now: Instant, clocks: &BTreeMap<String, Clock>, is_busy: impl Fn(&str) -> bool) -> Due {
        let mut due = Due::default();
        for (item, held) in &mut self.items {
            if let Some(problem) = item.unfit(&self.layout) {
                held.failed(item, problem);
                held.eagerness = Eagerness::Now;
                continue;
            }
            if held.answer.version.is_some() && held.answer.problem.is_none() && !item.path(&self.layout).exists() {
                // Somebody removed it.
                held.eagerness = Eagerness::Now;
            }
            let vault = &held.wish.secret.vault;
            match when(held.eagerness, [vault], clocks) {
                _ if is_busy(vault) => {}
                Some(at) if at <= now => drop(due.secrets.insert(held.wish.secret.clone())),
                Some(at) => due.wake = Some(due.wake.map_or(at, |earlier| earlier.min(at))),
                None => {}
            }
        }
        due
    }

    /// Lays down what vaults gave.
    pub fn take(&mut self, given: &Given) {
        for (item, held) in &mut self.items {
            let Some(given) = given.get(&held.wish.secret) else { continue };
            let is_pinned = held.wish.secret.version.is_some() && given.is_ok();
            held.eagerness = if is_pinned { Eagerness::Never } else { Eagerness::Refresh };
            let laid = match given {
                Ok(fetched) => {
                    let path = item.path(&self.layout);
                    held_files::lay(&path, held.wish.username.as_deref(), &fetched.value).map(|()| fetched)
                }
                Err(error) => Err(error.problem.clone()),
            };
            match laid {
                Ok(fetched) => held.found(item, fetched),
                Err(problem) => held.failed(item, problem),
            }
        }
    }

    /// Writes the index file where it is not right.
    pub fn publish(&mut self) {
        let mut file = MachineSecretsFile { format: FORMAT, ..MachineSecretsFile::default() };
        for (item, held) in &self.items {
            let answer = held.answer.clone();
            match item {
                Item::Registry(host) => drop(file.registries.insert(host.clone(), answer)),
                Item::Unit(unit, id) => {
                    drop(file.units.entry(unit.clone()).or_default().insert(id.clone(), answer));
                }
            }
        }
        let is_idle = self.items.is_empty() && self.written == MachineSecretsFile::default();
        if file == self.written || is_idle {
            return;
        }
        let path = self.layout.machine_secrets_index();
        match publish::write_json_volatile(&path, &file) {
            Ok(()) => (self.written, self.unwritten) = (file, false),
            Err(error) if !self.unwritten => {
                tracing::error!("cannot write `{}`: {error}; check its owner and the space there", path.display());
                self.unwritten = true;
            }
            Err(_) => {}
        }
    }

    /// What units may ask for, and what is there; none where no unit has anything.
    pub fn offer(&self) -> Option<Offer> {
        let mut offer = Offer::new();
        for (item, held) in &self.items {
            if let Item::Unit(unit, id) = item {
                let path = item.path(&self.layout);
                let (is_there, problem) = (path.is_file(), held.answer.problem.clone());
                offer.insert((unit.clone(), id.clone()), Offered { path, is_there, problem });
            }
        }
        (!offer.is_empty()).then_some(offer)
    }

    /// How many there are, and the first problem.
    pub fn status(&self) -> (usize, Option<String>) {
        let problem =
            |(item, held): (&Item, &Held)| Some(format!("{}: {}", item.name(), held.answer.problem.as_ref()?));
        (self.items.len(), self.items.iter().find_map(problem))
    }
}

fn wishes(settings: &Settings) -> BTreeMap<Item, Wish> {
    let of_registries = settings.registries.iter().filter_map(|(host, registry)| {
        let of = registry.secret.clone()?;
        Some((Item::Registry(host.clone()), Wish { secret: of.secret, username: Some(of.username) }))
    });
    let of_units = settings.units.iter().flat_map(|(unit, credentials)| {
        credentials.iter().map(move |(id, secret)| {
            (Item::Unit(unit.clone(), id.clone()), Wish { secret: secret.clone(), username: None })
        })
    });
    of_registries.chain(of_units).collect()
}

impl Held {
    fn failed(&mut self, item: &Item, problem: String) {
        if self.answer.problem.as_ref() != Some(&problem) {
            tracing::warn!(MESSAGE_ID = event::SECRETS_MISSING, "{} cannot be had: {problem}", item.name());
            self.answer.problem = Some(problem);
        }
    }

    fn found(&mut self, item: &Item, fetched: &Fetched) {
        let (version, written) = (Some(fetched.version.clone()), |at: Timestamp| format!("{at:.3}"));
        let answer = &mut self.answer;
        if answer.problem.take().is_some() {
            tracing::info!(MESSAGE_ID = event::SECRETS_BACK, "{} can be had again", item.name());
        }
        answer.expires = fetched.expires.map(written);
        if answer.version == version {
            return;
        }
        if let Some(before) = &answer.version {
            tracing::info!(
                MESSAGE_ID = event::SECRETS_ROTATED,
                "{} has a new version: {} {before} -> {}",
                item.name(),
                self.wish.secret.name,
                fetched.version
            );
        }
        (answer.version, answer.fetched_at) = (version, Some(written(Timestamp::now())));
    }
}
