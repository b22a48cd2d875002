//! One poll of an app that follows image tags: a HEAD for each tag that the agent names, and where a new set is whole, a release.
//! Decides nothing about sets ([`crate::tags`]) and nothing about when to poll ([`crate::follow`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::config::Channel;
use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;

use crate::channel_file::{ChannelRecord, Taken};
use crate::registry::{AskError, Registries};
use crate::revision;
use crate::stage;
use crate::tags::{Seen, Set};
use crate::take::NotTaken;

/// What a poll of tags has shown.
#[derive(Debug)]
pub enum Found {
    /// As before.
    Unchanged,
    /// The agent has not said yet which tags are to be followed.
    NotAsked,
    /// A new set, which may not be whole: to be looked at again after this long.
    Settling(Duration),
    /// A new set that is whole, staged.
    Whole(Taken),
}

/// One poll. An error names the tag.
pub async fn poll(
    (app, layout, registries): (&AppName, &Layout, &Registries),
    seen: &mut Seen,
    record: &ChannelRecord,
) -> Result<Found, NotTaken> {
    let followed = match contract::read::<WantedFile>(&layout.wanted(app)) {
        Read::Found(wanted) if !wanted.tags.is_empty() => wanted.tags,
        // Torn or newer: what is shown stays shown.
        Read::Found(_) | Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => return Ok(Found::NotAsked),
    };
    let tags: BTreeSet<Channel> = followed.values().cloned().collect();
    seen.keep(&tags);
    for tag in &tags {
        let digest = registries.digest(tag).await.map_err(AskError::of_image)?;
        seen.note(tag, digest, Timestamp::now());
    }
    let Some(set) = seen.set(&followed) else { return Ok(Found::NotAsked) };
    let shown = record.file();
    if shown.release.as_ref() == Some(&set.release()) && shown.tags == followed {
        return Ok(Found::Unchanged);
    }
    let set = with_revisions(registries, seen, &followed, set).await;
    let wait = set.wait(Timestamp::now());
    if wait > Duration::ZERO {
        return Ok(Found::Settling(wait));
    }
    stage::lay_down(layout, app, &set.staging(app))
        .map_err(|source| NotTaken::Disk { path: layout.watcher().display().to_string(), source })?;
    let release = set.release();
    Ok(Found::Whole(Taken { release, digest: None, sequence: None, detected_at: set.since, tags: followed }))
}

/// Asks the images what they were built from, where that decides.
async fn with_revisions(
    registries: &Registries,
    seen: &mut Seen,
    followed: &BTreeMap<String, Channel>,
    set: Set,
) -> Set {
    if set.wait(Timestamp::now()) == Duration::ZERO {
        return set;
    }
    for (tag, digest) in set.images.values().cloned().collect::<BTreeMap<_, _>>() {
        let revision = revision::of(registries, &tag, &digest).await;
        seen.note_revision(&tag, revision.as_deref());
        // One that says nothing decides it: the others need not be asked.
        if revision.is_none() {
            break;
        }
    }
    seen.set(followed).unwrap_or(set)
}
