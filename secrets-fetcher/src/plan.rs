//! What is to be fetched, for all needs of all apps at once. Pure: what is laid down already is a question to the caller, who also
//! knows the time.
//!
//! What `wanted` asks for is checked here once more: names become paths, and only what this machine's settings allow is fetched.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::config::{Vault, VaultSource};
use landfall_core::ids::{AppName, printable};
use landfall_core::secrets::{
    NeededFile, SecretNeed, SecretReference, is_file_name, is_live_directory, is_secret_name, is_vault_name, set_id,
};

/// `vaults` of the settings.
pub type Vaults = BTreeMap<String, Vault>;

/// A need, by its app and [`SecretNeed::id`].
pub type NeedKey = (AppName, String);

/// What a need asks of the vaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing: it cannot be had, for this reason.
    Impossible(String),
    /// Nothing: it names exactly this set, and that is there.
    Laid(String),
    /// These.
    Fetch(BTreeSet<SecretReference>),
}

/// What a need asks of the vaults now. `is_there` says whether a set of its service is laid down.
pub fn look(need: &SecretNeed, vaults: &Vaults, is_there: impl Fn(&str) -> bool) -> Lookup {
    if let Some(problem) = refusal(need, vaults) {
        return Lookup::Impossible(problem);
    }
    match pinned_set(need, vaults) {
        Some(set) if is_there(&set) => Lookup::Laid(set),
        Some(_) | None => Lookup::Fetch(need.files.values().map(|file| file.secret.clone()).collect()),
    }
}

/// The set that a need with all its versions names.
pub fn pinned_set(need: &SecretNeed, vaults: &Vaults) -> Option<String> {
    let version = |(name, file): (&String, &NeededFile)| Some((name.clone(), file.secret.version.clone()?));
    let versions: BTreeMap<String, String> = need.files.iter().map(version).collect::<Option<_>>()?;
    set_of(need, vaults, &versions)
}

/// The set that a need has with these versions, by file name.
pub fn set_of(need: &SecretNeed, vaults: &Vaults, versions: &BTreeMap<String, String>) -> Option<String> {
    let place = |name: &String| {
        let secret = &need.files[name].secret;
        Some(place(&vaults.get(&secret.vault)?.source, &secret.name))
    };
    let places: BTreeMap<&String, String> = need.files.keys().map(|n| Some((n, place(n)?))).collect::<Option<_>>()?;
    let lines: Vec<(&str, &str, &str, &NeededFile)> = need
        .files
        .iter()
        .map(|(name, file)| Some((name.as_str(), places[name].as_str(), versions.get(name)?.as_str(), file)))
        .collect::<Option<_>>()?;
    Some(set_id(lines))
}

/// Where a secret is, without its version; none where its vault is unknown.
pub fn place_of(vaults: &Vaults, secret: &SecretReference) -> Option<String> {
    Some(place(&vaults.get(&secret.vault)?.source, &secret.name))
}

fn place(source: &VaultSource, name: &str) -> String {
    match source {
        VaultSource::KeyVault { url, .. } => format!("{url}/secrets/{name}"),
        VaultSource::Directory(path) => format!("file:{}", path.join(name).display()),
    }
}

/// What keeps a need from being asked for.
fn refusal(need: &SecretNeed, vaults: &Vaults) -> Option<String> {
    if !is_file_name(&need.service) {
        return Some(format!(
            "`{}` cannot be a directory name; next: rename the service",
            printable(&need.service, 100)
        ));
    }
    if need.live.as_ref().is_some_and(|directory| !is_live_directory(directory)) {
        return Some("its live directory cannot be one, which is a mistake in the agent; next: report it".to_owned());
    }
    if need.files.is_empty() {
        return Some("nothing is asked for, which is a mistake in the agent; next: report it".to_owned());
    }
    need.files.iter().find_map(|(name, file)| {
        let secret = &file.secret;
        if !is_file_name(name) {
            return Some(format!("`{}` cannot be a file name; next: rename the secret in the compose file", printable(name, 100)));
        }
        let version_is_valid =
            secret.version.as_ref().is_none_or(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !is_vault_name(&secret.vault) || !is_secret_name(&secret.name) || !version_is_valid {
            return Some(format!("`{}` names no secret; next: correct it in the compose file", printable(&secret.to_string(), 300)));
        }
        match vaults.get(&secret.vault) {
            None => Some(format!(
                "`{}` is in no vault that this machine knows; next: add `vaults.{}` to landfall.yaml",
                secret.name, secret.vault
            )),
            Some(vault) if !vault.allows(&secret.name) => Some(format!(
                "this machine may not read `{}`: `vaults.{}.allow` in landfall.yaml has {}; next: add it there, or name another secret",
                secret.name,
                secret.vault,
                patterns(vault)
            )),
            Some(_) => None,
        }
    })
}

fn patterns(vault: &Vault) -> String {
    if vault.allow.is_empty() {
        return "nothing".to_owned();
    }
    vault.allow.iter().map(|pattern| format!("`{}`", pattern.as_str())).collect::<Vec<_>>().join(", ")
}

/// What is asked at one time: some needs and, by vault, what they take, each once. No two rounds have a vault in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Whom it is for.
    pub needs: BTreeSet<NeedKey>,
    /// What the machine itself needs, by vault: asked before all else.
    pub first: BTreeMap<String, BTreeSet<SecretReference>>,
    /// What is fetched.
    pub secrets: BTreeMap<String, BTreeSet<SecretReference>>,
}

impl Round {
    /// Everyone it asks.
    pub fn vaults(&self) -> BTreeSet<&String> {
        self.first.keys().chain(self.secrets.keys()).collect()
    }

    fn join(&mut self, other: Self) {
        self.needs.extend(other.needs);
        for (vault, secrets) in other.first {
            self.first.entry(vault).or_default().extend(secrets);
        }
        for (vault, secrets) in other.secrets {
            self.secrets.entry(vault).or_default().extend(secrets);
        }
    }
}

/// The rounds for what the machine itself needs and for these needs: those that share a vault are asked for together, so that a vault
/// that hangs keeps up nobody else.
pub fn rounds(
    first: impl IntoIterator<Item = SecretReference>,
    due: impl IntoIterator<Item = (NeedKey, BTreeSet<SecretReference>)>,
) -> Vec<Round> {
    let of_machine = first.into_iter().map(|reference| {
        let first = [(reference.vault.clone(), [reference].into())].into();
        Round { first, ..Round::default() }
    });
    let of_needs = due.into_iter().map(|(key, references)| {
        let mut round = Round { needs: [key].into(), ..Round::default() };
        for reference in references {
            round.secrets.entry(reference.vault.clone()).or_default().insert(reference);
        }
        round
    });
    let mut rounds: Vec<Round> = Vec::new();
    for mut round in of_machine.chain(of_needs) {
        let (shared, apart): (Vec<Round>, Vec<Round>) =
            rounds.into_iter().partition(|other| !other.vaults().is_disjoint(&round.vaults()));
        rounds = apart;
        for other in shared {
            round.join(other);
        }
        rounds.push(round);
    }
    rounds
}

#[cfg(test)]
mod tests;
