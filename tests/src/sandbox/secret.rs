//! The secrets of one vault, with their versions, and what tests do to them. It answers nobody: `vault` does.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::identity;

/// The largest value that the service takes.
pub const MAX_VALUE_BYTES: usize = 25_600;
/// How long the service keeps what was deleted.
pub const RECOVERABLE_DAYS: i64 = 90;

/// What can be told of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Whether it may be read.
    pub enabled: bool,
    /// Seconds since the epoch; the service does not enforce it.
    pub not_before: Option<i64>,
    /// Seconds since the epoch; the service does not enforce it.
    pub expires: Option<i64>,
    /// Whatever its owner says it is.
    pub content_type: Option<String>,
    /// Words of its owner.
    pub tags: BTreeMap<String, String>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { enabled: true, not_before: None, expires: None, content_type: None, tags: BTreeMap::new() }
    }
}

/// A value under an id that never means another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// 32 hex digits.
    pub id: String,
    /// The secret itself.
    pub value: String,
    /// What can be told of it.
    pub attributes: Attributes,
    created: i64,
    updated: i64,
}

impl Version {
    /// As in an answer: its id below `base`, its value only where it is asked for.
    pub fn show(&self, id: &str, value: Option<&str>) -> Value {
        let attributes = &self.attributes;
        let mut shown = json!({
            "id": id,
            "attributes": {
                "enabled": attributes.enabled, "created": self.created, "updated": self.updated,
                "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": RECOVERABLE_DAYS,
            },
            "tags": attributes.tags,
        });
        let optional = [("nbf", attributes.not_before), ("exp", attributes.expires)];
        for (key, time) in optional.iter().filter_map(|(key, time)| Some((key, (*time)?))) {
            shown["attributes"][key] = time.into();
        }
        if let Some(content_type) = &attributes.content_type {
            shown["contentType"] = content_type.as_str().into();
        }
        if let Some(value) = value {
            shown["value"] = value.into();
        }
        shown
    }
}

/// A secret: its versions, the newest last. There is at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secret {
    versions: Vec<Version>,
    /// Once it was deleted: when.
    pub deleted: Option<i64>,
}

impl Secret {
    /// The newest.
    pub fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The one with that id.
    pub fn version(&self, id: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.id == id)
    }

    /// All, as the service lists them: by id, which says nothing of their age.
    pub fn by_id(&self) -> BTreeMap<&str, &Version> {
        self.versions.iter().map(|version| (version.id.as_str(), version)).collect()
    }
}

/// The secrets of a vault, deleted ones too.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// One that is there, or one that is deleted; whether it is, the secret says.
    pub fn find(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// All that are there, by name.
    pub fn living(&self) -> impl Iterator<Item = (&String, &Secret)> {
        self.0.iter().filter(|(_, secret)| secret.deleted.is_none())
    }

    /// A new version, of a new secret if there is none. Says the version's id.
    pub fn set(&mut self, name: &str, value: &str, attributes: Attributes, now: i64) -> Result<String> {
        ensure!(is_name(name), "`{name}` is no name of a secret: 1 to 127 of letters, digits and `-`");
        ensure!(value.len() <= MAX_VALUE_BYTES, "a value has at most {MAX_VALUE_BYTES} bytes");
        let secret = self.0.entry(name.to_owned()).or_default();
        ensure!(secret.deleted.is_none(), "`{name}` is deleted; next: recover or purge it");
        let id = identity::hex(format!("{name} {}", secret.versions.len()).as_bytes())[..32].to_owned();
        let value = value.to_owned();
        secret.versions.push(Version { id: id.clone(), value, attributes, created: now, updated: now });
        Ok(id)
    }

    /// Changes what is told of a version, of the newest unless one is named.
    pub fn describe(&mut self, name: &str, version: Option<&str>, attributes: Attributes, now: i64) -> Result<()> {
        let secret = self.0.get_mut(name).with_context(|| format!("there is no secret `{name}`"))?;
        let found = match version {
            Some(id) => secret.versions.iter_mut().find(|version| version.id == id),
            None => secret.versions.last_mut(),
        };
        let found = found.with_context(|| format!("`{name}` has no such version"))?;
        (found.attributes, found.updated) = (attributes, now);
        Ok(())
    }

    /// Deletes softly, as the service does.
    pub fn delete(&mut self, name: &str, now: i64) -> Result<()> {
        self.mark(name, Some(now))
    }

    /// Takes a deletion back.
    pub fn recover(&mut self, name: &str) -> Result<()> {
        self.mark(name, None)
    }

    /// Forgets what was deleted.
    pub fn purge(&mut self, name: &str) -> Result<()> {
        let is_deleted = self.0.get(name).is_some_and(|secret| secret.deleted.is_some());
        ensure!(is_deleted, "there is no deleted secret `{name}`");
        self.0.remove(name);
        Ok(())
    }

    fn mark(&mut self, name: &str, deleted: Option<i64>) -> Result<()> {
        let secret = self.0.get_mut(name).with_context(|| format!("there is no secret `{name}`"))?;
        ensure!(secret.deleted.is_some() != deleted.is_some(), "`{name}` is so already");
        secret.deleted = deleted;
        Ok(())
    }
}

/// Whether the service takes such a name.
pub fn is_name(name: &str) -> bool {
    (1..=127).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_an_id_and_the_newest_is_the_latest() {
        let mut secrets = Secrets::default();
        let ids: Vec<String> =
            (0..8).map(|n| secrets.set("a", &n.to_string(), Attributes::default(), n).unwrap()).collect();
        let secret = secrets.find("a").unwrap();
        assert_eq!(secret.latest().unwrap().value, "7");
        assert_eq!(secret.version(&ids[3]).unwrap().value, "3");
        assert!(ids.iter().all(|id| id.len() == 32));
        // Or a client that takes the last of the list for the latest would be right by chance.
        assert_ne!(secret.by_id().keys().next_back().unwrap(), ids.last().unwrap());
    }

    #[test]
    fn names_and_sizes_are_bounded() {
        let mut secrets = Secrets::default();
        for name in ["", "a_b", "a.b", &"a".repeat(128)] {
            assert!(secrets.set(name, "v", Attributes::default(), 0).is_err(), "{name}");
        }
        let largest = "x".repeat(MAX_VALUE_BYTES);
        assert!(secrets.set("a", &largest, Attributes::default(), 0).is_ok());
        assert!(secrets.set("a", &format!("{largest}x"), Attributes::default(), 0).is_err());
    }

    #[test]
    fn what_is_deleted_can_be_recovered_until_it_is_purged() {
        let mut secrets = Secrets::default();
        secrets.set("a", "v", Attributes::default(), 0).unwrap();
        assert!(secrets.purge("a").is_err());
        secrets.delete("a", 5).unwrap();
        assert!(secrets.set("a", "w", Attributes::default(), 6).is_err());
        assert_eq!(secrets.living().count(), 0);
        secrets.recover("a").unwrap();
        assert_eq!(secrets.living().count(), 1);
        secrets.delete("a", 7).unwrap();
        secrets.purge("a").unwrap();
        assert!(secrets.find("a").is_none());
    }

    #[test]
    fn times_are_shown_only_where_they_are_set() {
        let mut secrets = Secrets::default();
        secrets.set("a", "v", Attributes::default(), 3).unwrap();
        let shown = secrets.find("a").unwrap().latest().unwrap().show("https://x/secrets/a", None);
        assert_eq!(shown["attributes"]["created"], 3);
        assert!(shown["attributes"].get("exp").is_none() && shown.get("value").is_none());
        secrets.describe("a", None, Attributes { expires: Some(9), ..Attributes::default() }, 4).unwrap();
        let shown = secrets.find("a").unwrap().latest().unwrap().show("https://x/secrets/a", Some("v"));
        assert_eq!((&shown["attributes"]["exp"], &shown["attributes"]["updated"]), (&json!(9), &json!(4)));
        assert_eq!(shown["value"], "v");
    }
}
