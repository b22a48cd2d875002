//! Removes releases that nobody needs, and then files that no release has. Whoever might still need something is asked
//! first: without a readable `wanted` file nothing of that app goes, and a young release stays in any case (the agent may
//! be reading it, and says so only a moment later). An app that has neither a `wanted` file nor a channel file and that nobody
//! follows has ended, as previews do: nothing of it is needed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use landfall_core::contract::{self, ChannelFile, Read, StagedRelease, StagedSource, WantedFile};
use landfall_core::ids::{AppName, ReleaseId};
use landfall_core::layout::Layout;
use landfall_core::publish;

use crate::stage::entries;

/// A release that was staged less than this ago stays.
const GRACE: Duration = Duration::from_mins(10);

/// One round. `is_followed` says which apps are followed.
pub fn clean(layout: &Layout, now: SystemTime, is_followed: impl Fn(&AppName) -> bool) -> io::Result<()> {
    let mut kept_files = Some(BTreeSet::new());
    for entry in entries(&layout.watcher().join("releases"))? {
        let Some(app) = entry.file_name().to_str().and_then(|name| name.parse::<AppName>().ok()) else { continue };
        let needed = if is_followed(&app) { known(layout, &app) } else { needed(layout, &app) };
        for release in staged(layout, &app)? {
            let path = layout.release(&app, &release);
            let is_old = age(&path, now).is_some_and(|age| age > GRACE);
            if is_old && needed.as_ref().is_some_and(|needed| !needed.contains(&release)) {
                tracing::info!(LANDFALL_APP = %app, LANDFALL_RELEASE = %release, "a release that nothing needs any more is removed");
                remove(&path)?;
            } else if let (Some(kept), Some(files)) = (&mut kept_files, files_of(layout, &app, &release)) {
                kept.extend(files);
            } else {
                // A record that cannot be read may name any file: then all of them stay.
                kept_files = None;
            }
        }
        if needed.is_some_and(|needed| needed.is_empty()) {
            remove_empty(&entry.path())?;
        }
    }
    match kept_files {
        Some(kept) => remove_files_but(layout, &kept, now),
        None => Ok(()),
    }
}

/// The releases of an app that must stay; `None` where that is not known.
fn known(layout: &Layout, app: &AppName) -> Option<BTreeSet<ReleaseId>> {
    let Read::Found(wanted) = contract::read::<WantedFile>(&layout.wanted(app)) else { return None };
    let Read::Found(channel) = contract::read::<ChannelFile>(&layout.channel(app)) else { return None };
    Some(wanted.releases.into_iter().chain(channel.release).collect())
}

/// The same of an app that nobody follows: none where it has ended.
fn needed(layout: &Layout, app: &AppName) -> Option<BTreeSet<ReleaseId>> {
    let has_ended =
        !layout.wanted(app).try_exists().unwrap_or(true) && !layout.channel(app).try_exists().unwrap_or(true);
    if has_ended { Some(BTreeSet::new()) } else { known(layout, app) }
}

fn staged(layout: &Layout, app: &AppName) -> io::Result<Vec<ReleaseId>> {
    let names = entries(&layout.releases(app))?;
    Ok(names.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn files_of(layout: &Layout, app: &AppName, release: &ReleaseId) -> Option<Vec<String>> {
    let path = layout.release(app, release).join("release.json");
    let Read::Found(record) = contract::read::<StagedRelease>(&path) else { return None };
    Some(match record.source {
        StagedSource::Bundle { files, .. } => files.iter().map(contract::StagedFile::content_dir).collect(),
        StagedSource::Pointer { .. } => Vec::new(),
    })
}

fn remove_files_but(layout: &Layout, kept: &BTreeSet<String>, now: SystemTime) -> io::Result<()> {
    for entry in entries(&layout.watcher_files())? {
        let is_kept = entry.file_name().to_str().is_none_or(|name| kept.contains(name));
        if !is_kept && age(&entry.path(), now).is_some_and(|age| age > GRACE) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Out of sight first, so that a kill in between leaves no half of a release under its name.
fn remove(path: &std::path::Path) -> io::Result<()> {
    let gone = publish::temporary_beside(path);
    fs::rename(path, &gone)?;
    fs::remove_dir_all(gone)
}

/// A directory that still has something stays.
fn remove_empty(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn age(path: &std::path::Path, now: SystemTime) -> Option<Duration> {
    now.duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

#[cfg(test)]
mod tests;
