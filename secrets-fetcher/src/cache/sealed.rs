//! What a sealed file is, and how it is opened again. Pure but for random numbers: bytes in, bytes out.
//!
//! One line of JSON that anybody may read and nobody may change (it is authenticated), then a random nonce, then the ciphertext:
//! which secrets there are, of where, in which versions, and their values. Plain text is only ever in buffers that are wiped, which
//! have their whole size from the start, because one that grows leaves copies behind.

use std::time::Duration;

use jiff::Timestamp;
use landfall_core::ids::AppName;
use ring::aead::{Aad, CHACHA20_POLY1305, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::Key;
use crate::source::Fetched;
use crate::value::Value;

/// The format that is written and read.
const FORMAT: u32 = 1;
/// How long the first line may be.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How far the clock may be behind after a boot, before the time has been set.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// A time as files have it: RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

impl TryFrom<String> for Time {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.0.to_string()
    }
}

/// The first line: what it is, without a value, a name or a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of the file.
    pub format: u32,
    /// Whose need.
    pub app: AppName,
    /// Of which service.
    pub service: String,
    /// [`landfall_core::secrets::SecretNeed::id`].
    pub need: String,
    /// The keys of `vaults` that it is from.
    pub vaults: Vec<String>,
    /// [`Key::machine`].
    pub machine: String,
    /// [`Key::id`].
    pub key: String,
    /// When the vault last gave all of it.
    pub sealed_at: Time,
}

/// Whose need is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The app.
    pub app: &'a AppName,
    /// The Compose service.
    pub service: &'a str,
    /// [`landfall_core::secrets::SecretNeed::id`].
    pub need: &'a str,
}

/// One secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The reference, as the need has it.
    pub secret: String,
    /// Where it was: for Key Vault its URL.
    pub place: String,
    /// Its version there.
    pub version: String,
    /// It may not be used before.
    not_before: Option<Time>,
    /// It may not be used from then on.
    expires: Option<Time>,
    /// How long its value is.
    bytes: usize,
}

impl Entry {
    /// Of a secret that was given.
    pub fn new(secret: String, place: String, fetched: &Fetched) -> Self {
        let Fetched { value, version, not_before, expires } = fetched;
        let (version, not_before, expires, bytes) =
            (version.clone(), not_before.map(Time), expires.map(Time), value.bytes().len());
        Self { secret, place, version, not_before, expires, bytes }
    }

    /// The same, as another need refers to it.
    #[must_use]
    pub fn referred_to_as(&self, secret: String) -> Self {
        Self { secret, ..self.clone() }
    }
}

/// What was opened.
#[derive(Debug)]
pub struct Opened {
    /// When the vault last gave all of it.
    pub sealed_at: Timestamp,
    /// Each secret.
    pub secrets: Vec<(Entry, Fetched)>,
}

/// Why a sealed file is not used. What to do is in each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is no such file, or not all of it.
    #[error("it is cut off or no sealed file; next: nothing, it is written anew when the vault answers")]
    Truncated,
    /// By a newer program.
    #[error("it has format {0}, of a newer version; next: install that version again")]
    NewerFormat(u32),
    /// It was copied.
    #[error(
        "it was sealed on another machine, or for another `/etc/machine-id`; next: nothing, it is written anew when the vault answers"
    )]
    Machine,
    /// The key was made anew since.
    #[error(
        "it was sealed with another key than `landfall-cache-key` is now; next: put the old one back, or wait for the vault"
    )]
    Key,
    /// It lies where another belongs.
    #[error("it is what was sealed for another service; next: remove it and see who wrote it, or restore the disk")]
    Misplaced,
    /// Somebody changed it, or the disk did.
    #[error("it was changed since it was sealed; next: see who wrote it and how the disk is, then remove it")]
    Tampered,
    /// Nobody confirmed it for too long.
    #[error(
        "the vault gave it last at {sealed_at:.3}, longer ago than `cache_age` allows ({} h); next: wait for the vault, or raise `cache_age`", limit.as_secs() / 3600
    )]
    TooOld {
        /// When.
        sealed_at: Timestamp,
        /// What the settings allow.
        limit: Duration,
    },
    /// How old it is cannot be known.
    #[error(
        "it was sealed at {sealed_at:.3}, and the clock of this machine says that this is yet to come; next: set the clock"
    )]
    Clock {
        /// When.
        sealed_at: Timestamp,
    },
}

/// Seals; `secrets` are those of one need. None where there are no random numbers.
pub fn seal(
    key: &Key,
    whose: Whose<'_>,
    vaults: &[String],
    secrets: &[(Entry, &Value)],
    now: Timestamp,
) -> Option<Vec<u8>> {
    let Whose { app, service, need } = whose;
    let head = Head {
        format: FORMAT,
        app: app.clone(),
        service: service.to_owned(),
        need: need.to_owned(),
        vaults: vaults.to_vec(),
        machine: key.machine.clone(),
        key: key.id.clone(),
        sealed_at: Time(now),
    };
    let head = serde_json::to_vec(&head).ok()?;
    let entries: Vec<&Entry> = secrets.iter().map(|(entry, _)| entry).collect();
    let entries = serde_json::to_vec(&entries).ok()?;
    let length = 4 + entries.len() + secrets.iter().map(|(_, value)| value.bytes().len()).sum::<usize>();
    let mut plain = Zeroizing::new(Vec::with_capacity(length + CHACHA20_POLY1305.tag_len()));
    plain.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_le_bytes());
    plain.extend_from_slice(&entries);
    for (_, value) in secrets {
        plain.extend_from_slice(value.bytes());
    }
    let mut nonce = [0; NONCE_LEN];
    // Random: two of them meet after some 2^48 files, and each file that is sealed is one.
    SystemRandom::new().fill(&mut nonce).ok()?;
    let authenticated = Aad::from(&head);
    key.seal.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), authenticated, &mut *plain).ok()?;
    Some([head.as_slice(), b"\n", nonce.as_slice(), plain.as_slice()].concat())
}

/// The first line, as it says itself; it is proven only by [`open`].
pub fn head(bytes: &[u8]) -> Option<Head> {
    serde_json::from_slice(split(bytes)?.0).ok()
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(MAX_HEAD_BYTES).position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The part of a head that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Opens what was sealed for `whose`, if it is not older than `limit`.
pub fn open(key: &Key, whose: Whose<'_>, bytes: Vec<u8>, limit: Duration, now: Timestamp) -> Result<Opened, Unusable> {
    let mut bytes = Zeroizing::new(bytes);
    let (line, _) = split(&bytes).ok_or(Unusable::Truncated)?;
    let line = line.to_vec();
    let format = serde_json::from_slice::<Format>(&line).map_err(|_| Unusable::Truncated)?.format;
    if format > FORMAT {
        return Err(Unusable::NewerFormat(format));
    }
    let head: Head = serde_json::from_slice(&line).map_err(|_| Unusable::Tampered)?;
    if head.machine != key.machine {
        return Err(Unusable::Machine);
    }
    if head.key != key.id {
        return Err(Unusable::Key);
    }
    if (&head.app, head.service.as_str(), head.need.as_str()) != (whose.app, whose.service, whose.need) {
        return Err(Unusable::Misplaced);
    }
    let sealed = bytes.get_mut(line.len() + 1..).unwrap_or_default();
    let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(Unusable::Truncated)?;
    if sealed.len() < CHACHA20_POLY1305.tag_len() {
        return Err(Unusable::Truncated);
    }
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unusable::Truncated)?;
    let plain = key.seal.open_in_place(nonce, Aad::from(&line), sealed).map_err(|_| Unusable::Tampered)?;
    // From here on it is ours, whatever the clock says.
    let sealed_at = head.sealed_at.0;
    let age = now.duration_since(sealed_at);
    if age < -jiff::SignedDuration::try_from(CLOCK_SLACK).unwrap_or_default() {
        return Err(Unusable::Clock { sealed_at });
    }
    if age > jiff::SignedDuration::try_from(limit).unwrap_or(jiff::SignedDuration::MAX) {
        return Err(Unusable::TooOld { sealed_at, limit });
    }
    let secrets = entries(plain).ok_or(Unusable::Tampered)?;
    Ok(Opened { sealed_at, secrets })
}

fn entries(plain: &[u8]) -> Option<Vec<(Entry, Fetched)>> {
    let (length, rest) = plain.split_first_chunk::<4>()?;
    let (entries, mut values) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let entries: Vec<Entry> = serde_json::from_slice(entries).ok()?;
    let mut secrets = Vec::with_capacity(entries.len());
    for entry in entries {
        let (value, rest) = values.split_at_checked(entry.bytes)?;
        values = rest;
        let (version, not_before, expires) =
            (entry.version.clone(), entry.not_before.map(|at| at.0), entry.expires.map(|at| at.0));
        secrets.push((entry, Fetched { value: Value::new(value.to_vec()), version, not_before, expires }));
    }
    values.is_empty().then_some(secrets)
}

#[cfg(test)]
mod tests;
