//! The encrypted last-known-good of secrets: what the vault gave last is sealed on the disk, need by need, and used after a boot while
//! the vault is out of reach. It writes ciphertext only, never opens what a vault has refused since, and without a key it does
//! nothing. Directories are not sealed: they are on this machine already.
//!
//! | module | what it holds |
//! |---|---|
//! | [`key`] | the key of this machine, from what the service manager hands over |
//! | [`sealed`] | the file: sealed and opened |
//! | [`judge`] | pure: may it be used, and what does a refusal take away |

pub mod judge;
pub mod key;
pub mod sealed;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use landfall_core::config::{CacheMode, Vault, VaultSource};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::publish;
use landfall_core::secrets::SecretNeed;
use tokio::time::Instant;

use self::key::{Key, NoKey};
use self::sealed::{Entry, Whose};
use crate::plan::{self, Vaults};
use crate::sets::{Unnamed, list};
use crate::settle::Given;
use crate::source::{Fetched, accept};
use crate::value::Value;

/// What is seen to be right is sealed anew after this part of the age that it may have.
const SEALED_ANEW: u32 = 24;
/// Nothing that was sealed is larger.
const MAX_BYTES: u64 = 64 << 20;
const MODE: u32 = 0o600;

/// What is sealed on this machine.
#[derive(Debug)]
pub struct Cache {
    layout: Layout,
    key: Result<Key, NoKey>,
    has_tpm2: bool,
    /// What this process sealed, so that it is not written again with each refresh.
    sealed: BTreeMap<PathBuf, (Vec<Entry>, Timestamp)>,
    unnamed: Unnamed,
    /// What was told last of why nothing can be sealed.
    told: Option<String>,
}

/// What is laid down in place of what the vault would give.
#[derive(Debug)]
pub struct Taken {
    /// As if the vault had given it.
    pub given: Given,
    /// When it did so last.
    pub sealed_at: Timestamp,
}

impl Cache {
    /// With the key that the service manager put into the directory `credentials`, if there is one.
    pub fn open(layout: &Layout, credentials: Option<&OsStr>) -> Self {
        match publish::remove_temporaries(&layout.secrets_cache()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot clear `{}`: {error}; check its owner", layout.secrets_cache().display());
            }
            Ok(()) | Err(_) => {}
        }
        let key = Key::load(layout, credentials);
        let (sealed, unnamed) = (BTreeMap::new(), Unnamed::default());
        Self { layout: layout.clone(), key, has_tpm2: false, sealed, unnamed, told: None }
    }

    /// Takes over settings: what is of a vault that is not cached goes at once.
    pub fn apply(&mut self, vaults: &Vaults) {
        self.has_tpm2 = self.layout.tpm2().exists();
        let cached: BTreeSet<&String> =
            vaults.iter().filter(|(_, vault)| self.is_cached(vault)).map(|(name, _)| name).collect();
        if let Err(error) = self.remove_all_but(&cached) {
            let directory = self.layout.secrets_cache();
            tracing::error!(
                "cannot remove what is not to be cached from `{}`: {error}; remove it",
                directory.display()
            );
        }
        let problem = self.key.as_ref().err().filter(|_| !cached.is_empty()).map(NoKey::to_string);
        match &problem {
            Some(problem) => self.tell(format!("secrets are not sealed for a boot without the vault: {problem}")),
            None => self.told = None,
        }
    }

    /// Seals what a vault gave for a need, before it is laid down: what is used is known after a boot too. What cannot be sealed is
    /// removed, because what is older must not come back.
    pub fn keep(&mut self, vaults: &Vaults, app: &AppName, need: &SecretNeed, given: &Given, now: Timestamp) {
        let Some(limit) = self.limit(vaults, need) else { return };
        let Some((entries, values)) = entries(vaults, need, given) else { return };
        // With its versions first: so it is asked for by what runs.
        let pinned = need.pinned(&versions(need, given));
        for need in pinned.iter().filter(|pinned| *pinned != need).chain([need]) {
            let path = self.layout.sealed_need(app, &need.id());
            let is_fresh = self.sealed.get(&path).is_some_and(|(before, at)| {
                *before == entries && is_within(*at, now, limit / SEALED_ANEW) && path.exists()
            });
            if is_fresh {
                continue;
            }
            match self.write(&path, app, need, &entries, &values, now) {
                Ok(true) => {
                    self.sealed.insert(path, (entries.clone(), now));
                }
                Ok(false) => self.remove(&path),
                Err(error) => {
                    self.remove(&path);
                    let problem = format!("cannot seal secrets at `{}`: {error}", path.display());
                    self.tell(format!("{problem}; next: see its owner and the space there"));
                }
            }
        }
    }

    fn write(
        &self,
        path: &Path,
        app: &AppName,
        need: &SecretNeed,
        entries: &[Entry],
        values: &[&Value],
        now: Timestamp,
    ) -> io::Result<bool> {
        let Ok(key) = &self.key else { return Ok(false) };
        let vaults: BTreeSet<String> = need.files.values().map(|file| file.secret.vault.clone()).collect();
        let vaults: Vec<String> = vaults.into_iter().collect();
        let id = need.id();
        let whose = Whose { app, service: &need.service, need: &id };
        let references = need.files.values().map(|file| file.secret.to_string());
        let entries = references.zip(entries).map(|(secret, entry)| entry.referred_to_as(secret));
        let secrets: Vec<(Entry, &Value)> = entries.zip(values.iter().copied()).collect();
        let sealed = sealed::seal(key, whose, &vaults, &secrets, now);
        let sealed = sealed.ok_or_else(|| io::Error::other("no random numbers"))?;
        publish::write(path, &sealed, MODE).map(|()| true)
    }

    /// What was sealed of a need, for one that the vault cannot give: none where there is nothing, or why it is not used.
    pub fn take(
        &self,
        vaults: &Vaults,
        app: &AppName,
        need: &SecretNeed,
        now: Timestamp,
    ) -> Option<Result<Taken, String>> {
        let limit = self.limit(vaults, need)?;
        let id = need.id();
        let path = self.layout.sealed_need(app, &id);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                return Some(Err(format!("cannot read `{}` ({error}); next: see its owner", path.display())));
            }
        };
        let key = match &self.key {
            Ok(key) => key,
            Err(problem) => return Some(Err(problem.to_string())),
        };
        let whose = Whose { app, service: &need.service, need: &id };
        let opened = sealed::open(key, whose, bytes, limit, now);
        Some(opened.map_err(|unusable| format!("`{}`: {unusable}", path.display())).and_then(|opened| {
            let now = now.max(opened.sealed_at);
            let given = given(vaults, need, opened.secrets, now)?;
            Ok(Taken { given, sealed_at: opened.sealed_at })
        }))
    }

    /// Removes what a vault refused to give: it is no longer what is known to be good.
    pub fn withdraw(&mut self, app: &AppName, need: &SecretNeed, versions: &BTreeMap<String, String>) {
        for need in [Some(need.clone()), need.pinned(versions)].into_iter().flatten() {
            let path = self.layout.sealed_need(app, &need.id());
            if path.exists() {
                tracing::warn!(LANDFALL_APP = %app, LANDFALL_SERVICE = %need.service, "the vault refused: what was sealed of it is removed");
            }
            self.remove(&path);
        }
    }

    /// Removes what nobody has named for as long as a set is kept.
    pub fn sweep(&mut self, named: &BTreeSet<PathBuf>, now: Instant) -> io::Result<()> {
        let directories = list(&self.layout.secrets_cache())?;
        let files = directories.iter().map(|app| list(app)).collect::<io::Result<Vec<_>>>()?.concat();
        for path in self.unnamed.over(files, named, now) {
            std::fs::remove_file(&path)?;
            self.sealed.remove(&path);
        }
        // Directories that are left empty; the others refuse.
        for app in directories {
            let _ = std::fs::remove_dir(app);
        }
        Ok(())
    }

    /// Where a need and what it names with these versions are sealed.
    pub fn paths(&self, app: &AppName, need: &SecretNeed, versions: &BTreeMap<String, String>) -> Vec<PathBuf> {
        let needs = [Some(need.clone()), need.pinned(versions)];
        needs.iter().flatten().map(|need| self.layout.sealed_need(app, &need.id())).collect()
    }

    fn is_cached(&self, vault: &Vault) -> bool {
        match (&vault.source, vault.cache) {
            (VaultSource::Directory(_), _) | (VaultSource::KeyVault { .. }, CacheMode::Off) => false,
            (VaultSource::KeyVault { .. }, CacheMode::On) => true,
            (VaultSource::KeyVault { .. }, CacheMode::Auto) => self.has_tpm2,
        }
    }

    /// How old what is sealed of a need may be; none where one of its vaults is not cached.
    fn limit(&self, vaults: &Vaults, need: &SecretNeed) -> Option<Duration> {
        let limit = |vault: &String| vaults.get(vault).filter(|vault| self.is_cached(vault)).map(|v| v.cache_age);
        let limits: Option<Vec<Duration>> = need.files.values().map(|file| limit(&file.secret.vault)).collect();
        limits?.into_iter().min()
    }

    fn remove_all_but(&mut self, cached: &BTreeSet<&String>) -> io::Result<()> {
        for app in list(&self.layout.secrets_cache())? {
            for path in list(&app)? {
                // One that does not say of which vault it is goes where there is none that it could be of.
                let stays = match sealed::head(&read(&path)?) {
                    Some(head) => head.vaults.iter().all(|vault| cached.contains(vault)),
                    None => !cached.is_empty(),
                };
                if !stays {
                    std::fs::remove_file(&path)?;
                    publish::sync_directory(&app)?;
                    self.sealed.remove(&path);
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        self.sealed.remove(path);
        let removed = match std::fs::remove_file(path) {
            Ok(()) => path.parent().map_or(Ok(()), publish::sync_directory),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::error!("cannot remove `{}`: {error}; remove it", path.display());
        }
    }

    fn tell(&mut self, problem: String) {
        if self.told.as_ref() != Some(&problem) {
            tracing::warn!("{problem}");
            self.told = Some(problem);
        }
    }
}

/// By file name.
fn versions(need: &SecretNeed, given: &Given) -> BTreeMap<String, String> {
    let version = |fetched: &Fetched| fetched.version.clone();
    let one = |name: &String, secret| Some((name.clone(), given.get(secret)?.as_ref().ok().map(version)?));
    need.files.iter().filter_map(|(name, file)| one(name, &file.secret)).collect()
}

/// What is sealed for each file of a need, in their order; none where something is missing.
fn entries<'a>(vaults: &Vaults, need: &SecretNeed, given: &'a Given) -> Option<(Vec<Entry>, Vec<&'a Value>)> {
    let one = |reference| {
        let fetched = given.get(reference)?.as_ref().ok()?;
        let place = plan::place_of(vaults, reference)?;
        Some((Entry::new(reference.to_string(), place, fetched), &fetched.value))
    };
    need.files.values().map(|file| one(&file.secret)).collect()
}

/// What was sealed, as if a vault had given it now: of the same place, and in its time.
fn given(vaults: &Vaults, need: &SecretNeed, secrets: Vec<(Entry, Fetched)>, now: Timestamp) -> Result<Given, String> {
    let mut sealed: BTreeMap<String, (Entry, Fetched)> =
        secrets.into_iter().map(|(entry, fetched)| (entry.secret.clone(), (entry, fetched))).collect();
    let mut given = Given::new();
    for reference in need.files.values().map(|file| &file.secret).collect::<BTreeSet<_>>() {
        let place = plan::place_of(vaults, reference);
        let found = sealed.remove(&reference.to_string()).filter(|(entry, _)| Some(&entry.place) == place.as_ref());
        let Some((_, fetched)) = found else {
            return Err(format!(
                "`vaults.{}` in landfall.yaml is another place than the one that `{}` was sealed from; next: wait for the vault",
                reference.vault, reference.name
            ));
        };
        let fetched = accept(&reference.name, fetched, now).map_err(|error| error.problem)?;
        given.insert(reference.clone(), Ok(fetched));
    }
    Ok(given)
}

fn is_within(at: Timestamp, now: Timestamp, most: Duration) -> bool {
    let age = now.duration_since(at);
    age >= SignedDuration::ZERO && age < SignedDuration::try_from(most).unwrap_or(SignedDuration::MAX)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
