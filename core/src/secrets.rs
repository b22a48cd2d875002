//! What the agent asks of the secrets-fetcher, and what that answers: names, versions and sets, never a value.
//!
//! A *need* is what one service needs for one generation: files, each from a secret. Without versions it asks for the newest; with
//! all versions it names exactly one set, also after a reboot emptied the memory that sets lie in. A *set* is a directory that never
//! changes, named by what is in it, so that the same versions are the same path and a rotation is another one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, sha256_hex};

/// The vault of a reference that names none.
pub const DEFAULT_VAULT: &str = "default";
/// Key Vault's own limit on names.
const NAME_LENGTH: usize = 127;
/// Key Vault's versions have 32.
const VERSION_LENGTH: usize = 64;
/// How much of a sha256 names a set.
const SET_LENGTH: usize = 32;
/// What the name of a live directory begins with.
const LIVE: &str = "live-";
/// Mode of a file that says none: every process of its container may read it, as Compose has it.
pub const DEFAULT_MODE: u32 = 0o444;

/// `[vault/]name[@version]`: as a compose file names a secret, in `name:` of an external one or in `x-keyvault:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretReference {
    /// A key of `vaults` in landfall.yaml.
    pub vault: String,
    /// Its name there.
    pub name: String,
    /// Exactly this version; none for the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no secret: expected `name`, `vault/name` or `name@version`; a name has letters, digits and `-`, at most 127"
)]
pub struct InvalidReference(String);

impl FromStr for SecretReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (path, version) = text.split_once('@').map_or((text, None), |(path, version)| (path, Some(version)));
        let (vault, name) = path.split_once('/').unwrap_or((DEFAULT_VAULT, path));
        let version_is_valid = version
            .is_none_or(|v| (1..=VERSION_LENGTH).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_alphanumeric()));
        if is_vault_name(vault) && is_secret_name(name) && version_is_valid {
            Ok(Self { vault: vault.to_owned(), name: name.to_owned(), version: version.map(str::to_owned) })
        } else {
            Err(InvalidReference(crate::ids::printable(text, 200)))
        }
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.vault != DEFAULT_VAULT {
            write!(f, "{}/", self.vault)?;
        }
        f.write_str(&self.name)?;
        self.version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

/// Whether Key Vault takes it as a secret's name.
pub fn is_secret_name(text: &str) -> bool {
    (1..=NAME_LENGTH).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether it can be a key of `vaults`.
pub fn is_vault_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.len() <= 40
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether a set may have a file of this name: what Compose takes as the key of a secret.
pub fn is_file_name(text: &str) -> bool {
    !text.starts_with('.')
        && (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// What one service needs: the files of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretNeed {
    /// The Compose service: sets are not shared.
    pub service: String,
    /// By file name: the Compose key of the secret.
    pub files: BTreeMap<String, NeededFile>,
    /// The live directory that its sets lie in, where containers see a rotation while they run; none where a rotation is another
    /// container. By file name is then by the name that containers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NeededFile {
    /// Where its content is.
    pub secret: SecretReference,
    /// Whose it is; none: root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group; none: root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits; none: [`DEFAULT_MODE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

impl SecretNeed {
    /// What an answer is found by: sha256 over all of it, 64 hex digits.
    pub fn id(&self) -> String {
        let mut text = format!("landfall-need-v1\n{}\n", self.service);
        for (name, file) in &self.files {
            let NeededFile { secret, uid, gid, mode } = file;
            text.push_str(&format!("{name} {secret} {} {} {}\n", number(*uid), number(*gid), octal(*mode)));
        }
        self.live.iter().for_each(|live| text.push_str(&format!("{live}\n")));
        sha256_hex(text.as_bytes())
    }

    /// The same, served live. The directory's name follows from what is asked for: other files are another directory, so that an old
    /// and a new release do not meet in one.
    #[must_use]
    pub fn served_live(self) -> Self {
        let id = Self { live: None, ..self.clone() }.id();
        Self { live: Some(format!("{LIVE}{}", &id[..SET_LENGTH])), ..self }
    }

    /// Whether any of it is wanted in its newest version.
    pub fn is_open(&self) -> bool {
        self.files.values().any(|file| file.secret.version.is_none())
    }

    /// The same with these versions, by file name: what names exactly one set. None where one is missing.
    pub fn pinned(&self, versions: &BTreeMap<String, String>) -> Option<Self> {
        let pin = |(name, file): (&String, &NeededFile)| {
            let secret = SecretReference { version: Some(versions.get(name)?.clone()), ..file.secret.clone() };
            Some((name.clone(), NeededFile { secret, ..file.clone() }))
        };
        let files = self.files.iter().map(pin).collect::<Option<_>>()?;
        Some(Self { service: self.service.clone(), files, live: self.live.clone() })
    }
}

/// Whether it can be the name of a live directory: of none that a set has.
pub fn is_live_directory(text: &str) -> bool {
    text.strip_prefix(LIVE).is_some_and(is_set)
}

/// Whether it can be the name of a set.
pub fn is_set(text: &str) -> bool {
    text.len() == SET_LENGTH && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The directory name of a set: the first 32 hex digits of the sha256 of sorted lines `file source version uid gid mode`. `source` says
/// where a vault's secret is (for Key Vault its URL without a version).
pub fn set_id<'a>(files: impl IntoIterator<Item = (&'a str, &'a str, &'a str, &'a NeededFile)>) -> String {
    let line = |(name, source, version, file): (&str, &str, &str, &NeededFile)| {
        format!("{name} {source} {version} {} {} {}\n", number(file.uid), number(file.gid), octal(file.mode))
    };
    let mut lines: Vec<String> = files.into_iter().map(line).collect();
    lines.sort();
    let mut id = sha256_hex(format!("landfall-set-v1\n{}", lines.concat()).as_bytes());
    id.truncate(SET_LENGTH);
    id
}

fn number(number: Option<u32>) -> String {
    number.unwrap_or_default().to_string()
}

fn octal(mode: Option<u32>) -> String {
    format!("{:04o}", mode.unwrap_or(DEFAULT_MODE))
}

/// `index/<app>.json`: what the fetcher has of what `wanted/<app>.json` asks. No value is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsFile {
    /// [`crate::contract::FORMAT`].
    pub format: u32,
    /// Whose needs.
    pub app: AppName,
    /// The `request` of the `wanted` that this answers.
    pub request: String,
    /// By [`SecretNeed::id`]. A need that is not in it has not been looked at yet.
    pub needs: BTreeMap<String, NeedAnswer>,
    /// By live directory: the set that containers see in it now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub live: BTreeMap<String, String>,
}

/// What became of one need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NeedAnswer {
    /// The newest complete set; none before the first. It stays when a later look failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// What is in that set, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FetchedFile>,
    /// When all of it was last seen to be right (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
    /// Why the last look failed, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Set while the set is what was sealed before a boot, and no vault has confirmed it since: when one gave it last (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_cache_at: Option<String>,
}

/// One file of a set that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedFile {
    /// Its version at the source.
    pub version: String,
    /// When the service's side of it was written (RFC 3339).
    pub fetched_at: String,
    /// When it ends (RFC 3339), where the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (text, wanted) in [
            ("db-password", Some(("default", "db-password", None))),
            ("kv2/db-password", Some(("kv2", "db-password", None))),
            ("db@0123456789abcdef0123456789abcdef", Some(("default", "db", Some("0123456789abcdef0123456789abcdef")))),
            ("", None),
            ("a_b", None),
            ("a/b/c", None),
            ("a@", None),
            ("a@b/c", None),
            ("KV/a", None),
            ("../a", None),
            ("a b", None),
        ] {
            let found = text.parse::<SecretReference>().ok();
            let found = found.as_ref().map(|r| (r.vault.as_str(), r.name.as_str(), r.version.as_deref()));
            assert_eq!(found, wanted, "{text}");
            if let Ok(reference) = text.parse::<SecretReference>() {
                assert_eq!(reference.to_string(), text);
            }
        }
        assert!("a".repeat(127).parse::<SecretReference>().is_ok());
        assert!("a".repeat(128).parse::<SecretReference>().is_err());
    }

    fn need() -> SecretNeed {
        let file = |name: &str| NeededFile { secret: name.parse().unwrap(), uid: None, gid: None, mode: None };
        let files = [("DB", file("db")), ("KEY", file("kv2/key"))].map(|(name, file)| (name.to_owned(), file));
        SecretNeed { service: "api".to_owned(), files: files.into(), live: None }
    }

    #[test]
    fn a_live_directory_is_the_same_for_all_versions_and_another_for_other_files() {
        let live = need().served_live();
        let directory = live.live.clone().unwrap();
        assert!(is_live_directory(&directory) && !is_set(&directory) && !is_file_name(&format!("..{directory}")));
        assert_ne!(live.id(), need().id());
        let versions = [("DB".to_owned(), "1".to_owned()), ("KEY".to_owned(), "2".to_owned())].into();
        assert_eq!(live.pinned(&versions).unwrap().live, Some(directory.clone()));
        assert_eq!(live.clone().served_live(), live);
        let mut fewer = need();
        fewer.files.remove("DB");
        assert_ne!(fewer.served_live().live, Some(directory));
        assert!(!is_live_directory("live-../../x") && !is_live_directory("live") && !is_set("../x"));
    }

    /// A contract: another id makes every fetcher fetch anew.
    #[test]
    fn ids_are_what_they_were() {
        assert_eq!(need().id().len(), 64);
        let versions = [("DB".to_owned(), "1".to_owned()), ("KEY".to_owned(), "2".to_owned())].into();
        let pinned = need().pinned(&versions).unwrap();
        assert_ne!(pinned.id(), need().id());
        assert_eq!(pinned.files["KEY"].secret.to_string(), "kv2/key@2");
        assert_eq!(need().pinned(&[("DB".to_owned(), "1".to_owned())].into()), None);
        let file = &need().files["DB"];
        let id = |version: &str| set_id([("DB", "https://kv/secrets/db", version, file)]);
        assert_eq!(id("1").len(), 32);
        assert_ne!(id("1"), id("2"));
        let explicit = NeededFile { uid: Some(0), gid: Some(0), mode: Some(0o444), ..file.clone() };
        assert_eq!(id("1"), set_id([("DB", "https://kv/secrets/db", "1", &explicit)]), "what is silent is the default");
    }
}
