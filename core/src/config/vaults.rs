//! `vaults`: where secrets are, who asks for them, and which of them this machine's releases may name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::milliseconds;
use super::values::{InvalidValue, checked, parse_duration};
use super::written::{is_bind_root, keep, replace};

/// How often the newest versions are asked for unless the vault says.
const REFRESH: Duration = Duration::from_mins(1);
/// A vault is not asked more often than this.
const REFRESH_LEAST: Duration = Duration::from_secs(1);
/// A rotation that shows after more than a day is a mistake in the unit.
const REFRESH_MOST: Duration = Duration::from_hours(24);

/// How old what is sealed may be unless the vault says.
const CACHE_AGE: Duration = Duration::from_hours(30 * 24);
/// A limit of none is no cache, which has a word of its own.
const CACHE_AGE_LEAST: Duration = Duration::from_secs(1);
/// A value that no vault has confirmed for longer is not to be trusted.
const CACHE_AGE_MOST: Duration = Duration::from_hours(90 * 24);

/// `vaults`, by the name that a reference begins with.
pub type Vaults = BTreeMap<String, Vault>;

/// One vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// What it is.
    pub source: VaultSource,
    /// How often the newest versions are asked for.
    #[serde(with = "milliseconds")]
    pub refresh: Duration,
    /// Which names a release may use.
    pub allow: Vec<NamePattern>,
    /// Whether its secrets are sealed for a boot without it.
    #[serde(default)]
    pub cache: CacheMode,
    /// How old what is sealed may be, counted from when the vault gave it last.
    #[serde(with = "milliseconds", default = "cache_age")]
    pub cache_age: Duration,
}

/// Whether secrets of a vault are sealed on the disk for a boot while it is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// Where the machine has a TPM2, so that the disk alone opens nothing: the default.
    #[default]
    Auto,
    /// Also where the key of it lies on the same disk.
    On,
    /// Never, and what there is goes.
    Off,
}

fn cache_age() -> Duration {
    CACHE_AGE
}

/// What a vault is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultSource {
    /// Azure Key Vault.
    KeyVault {
        /// `https://NAME.vault.azure.net`, without a slash at its end.
        url: String,
        /// As whom it is asked.
        identity: Identity,
    },
    /// A directory with a file for each secret: systemd credentials, other clouds, a first try.
    Directory(PathBuf),
}

/// The machine's managed identity that a Key Vault is asked with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The system-assigned one.
    System,
    /// A user-assigned one, by its client id.
    ClientId(String),
    /// By its object (principal) id.
    ObjectId(String),
    /// By its Azure resource id.
    ResourceId(String),
}

/// Names of secrets, with at most one `*` for any run of letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether this name is one of them. Key Vault makes no difference between upper and lower case.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.to_ascii_lowercase(), name.to_ascii_lowercase());
        match pattern.split_once('*') {
            None => pattern == name,
            Some((before, after)) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
        }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Vault {
    /// Whether a release may use this secret.
    pub fn allows(&self, name: &str) -> bool {
        self.allow.iter().any(|pattern| pattern.matches(name))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenVault {
    url: Option<VaultUrl>,
    identity: Option<WrittenIdentity>,
    directory: Option<Directory>,
    refresh: Option<Refresh>,
    allow: Option<Vec<Allowed>>,
    cache: Option<Cache>,
    cache_age: Option<CacheAge>,
}

impl WrittenVault {
    pub(super) fn merge(&mut self, over: Self) {
        replace(&mut self.url, over.url);
        replace(&mut self.identity, over.identity);
        replace(&mut self.directory, over.directory);
        replace(&mut self.refresh, over.refresh);
        replace(&mut self.allow, over.allow);
        replace(&mut self.cache, over.cache);
        replace(&mut self.cache_age, over.cache_age);
    }

    pub(super) fn settle(self, name: &str) -> Result<Vault, String> {
        if self.directory.is_some() && (self.cache.is_some() || self.cache_age.is_some()) {
            return Err(format!(
                "`vaults.{name}` is a directory and has `cache` or `cache_age`: it is on this machine already; remove it"
            ));
        }
        let source = match (self.url, self.directory, self.identity) {
            (Some(url), None, identity) => {
                VaultSource::KeyVault { url: url.0, identity: identity.map_or(Identity::System, |identity| identity.0) }
            }
            (None, Some(directory), None) => VaultSource::Directory(directory.0.into()),
            (None, Some(_), Some(_)) => {
                return Err(format!(
                    "`vaults.{name}` is a directory and has an `identity`: nobody asks for it; remove it"
                ));
            }
            (Some(_), Some(_), _) => {
                return Err(format!("`vaults.{name}` has a `url` and a `directory`: keep the one that it is"));
            }
            (None, None, _) => {
                return Err(format!(
                    "`vaults.{name}` has no `url`; add `url: https://NAME.vault.azure.net` below it, or `directory: /path`"
                ));
            }
        };
        let allow = self.allow.unwrap_or_else(|| vec![Allowed(NamePattern("*".to_owned()))]);
        let refresh = self.refresh.map_or(REFRESH, |refresh| refresh.0);
        let (cache, cache_age) = (
            self.cache.map_or_else(CacheMode::default, |cache| cache.0),
            self.cache_age.map_or(CACHE_AGE, |age| age.0),
        );
        Ok(Vault { source, refresh, allow: allow.into_iter().map(|one| one.0).collect(), cache, cache_age })
    }
}

checked! {
    VaultUrl(String) = parse_url;
    WrittenIdentity(Identity) = parse_identity;
    Directory(String) = |t| keep(t, is_bind_root(t), "directory", "expected an absolute path without `..`");
    Refresh(Duration) = parse_refresh;
    Cache(CacheMode) = parse_cache;
    CacheAge(Duration) = parse_cache_age;
    Allowed(NamePattern) = parse_pattern;
}

fn parse_url(text: &str) -> Result<String, InvalidValue> {
    let refuse = || InvalidValue::new("vault", text, "expected `https://NAME.vault.azure.net`");
    let host = text.strip_prefix("https://").ok_or_else(refuse)?;
    let host = host.strip_suffix('/').unwrap_or(host);
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !label.starts_with('-')
    };
    let port_is_valid = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let valid = name.split('.').all(label) && port_is_valid;
    if valid { Ok(format!("https://{}", host.to_ascii_lowercase())) } else { Err(refuse()) }
}

fn parse_identity(text: &str) -> Result<Identity, InvalidValue> {
    let refuse = || {
        let rule = "expected `system`, `client-id:ID`, `object-id:ID` or `resource-id:/subscriptions/…`";
        InvalidValue::new("identity", text, rule)
    };
    let guid = |id: &str| {
        id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && id.matches('-').count() == 4
    };
    match text.split_once(':') {
        None if text == "system" => Ok(Identity::System),
        Some(("client-id", id)) if guid(id) => Ok(Identity::ClientId(id.to_owned())),
        Some(("object-id", id)) if guid(id) => Ok(Identity::ObjectId(id.to_owned())),
        Some(("resource-id", id)) if id.starts_with("/subscriptions/") && !id.chars().any(char::is_control) => {
            Ok(Identity::ResourceId(id.to_owned()))
        }
        None | Some(_) => Err(refuse()),
    }
}

fn parse_refresh(text: &str) -> Result<Duration, InvalidValue> {
    let refresh = parse_duration(text)?;
    if (REFRESH_LEAST..=REFRESH_MOST).contains(&refresh) {
        Ok(refresh)
    } else {
        Err(InvalidValue::new("refresh interval", text, "expected `1s` to `24h`"))
    }
}

fn parse_cache(text: &str) -> Result<CacheMode, InvalidValue> {
    match text {
        "auto" => Ok(CacheMode::Auto),
        "on" => Ok(CacheMode::On),
        "off" => Ok(CacheMode::Off),
        _ => Err(InvalidValue::new("cache", text, "expected `auto`, `on` or `off`")),
    }
}

fn parse_cache_age(text: &str) -> Result<Duration, InvalidValue> {
    let age = parse_duration(text)?;
    if (CACHE_AGE_LEAST..=CACHE_AGE_MOST).contains(&age) {
        Ok(age)
    } else {
        Err(InvalidValue::new("age of the cache", text, "expected `1s` to `2160h`"))
    }
}

fn parse_pattern(text: &str) -> Result<NamePattern, InvalidValue> {
    let valid = !text.is_empty()
        && text.len() <= 127
        && text.matches('*').count() <= 1
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*'));
    if valid {
        Ok(NamePattern(text.to_owned()))
    } else {
        Err(InvalidValue::new(
            "pattern of names",
            text,
            "use letters, digits, `-` and at most one `*`, as in `stage-*`",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("*", "anything", true),
            ("stage-*", "stage-db", true),
            ("stage-*", "STAGE-db", true),
            ("stage-*", "prod-db", false),
            ("*-key", "api-key", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(parse_pattern(pattern).unwrap().matches(name), wanted, "{pattern} {name}");
        }
        for wrong in ["", "a*b*", "a_b", "a/b"] {
            assert!(parse_pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_and_identities() {
        assert_eq!(parse_url("https://kv-Acme.vault.azure.net/").unwrap(), "https://kv-acme.vault.azure.net");
        assert_eq!(parse_url("https://localhost:8443").unwrap(), "https://localhost:8443");
        for wrong in
            ["http://kv.vault.azure.net", "https://", "https://a/b", "https://a:0", "https://u@h", "https://-a.b"]
        {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        let id = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(parse_identity(&format!("client-id:{id}")).unwrap(), Identity::ClientId(id.to_owned()));
        for wrong in ["", "System", "client-id:1", "resource-id:x", "other:1"] {
            assert!(parse_identity(wrong).is_err(), "{wrong}");
        }
    }
}
