//! What is known of previews before anything is asked: their files, and the channel files of their apps. Where a previews file is
//! garbled, those say which tags had an app: it is not forgotten because of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::Timestamp;
use landfall_core::config::{Channel, Previews, preview_name};
use landfall_core::contract::{self, ChannelFile, PreviewsFile, Read};
use landfall_core::ids::AppName;
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use landfall_core::publish;

use crate::previews::{self, Change, Entry};
use crate::stage::entries;

/// An entry, as far as it is known.
#[derive(Debug)]
pub struct Opened {
    /// What is known.
    pub entry: Entry,
    /// The file as it is on disk.
    pub written: Option<PreviewsFile>,
    /// Apps that have a channel file and do not live: a kill came before it was removed.
    pub leftovers: BTreeSet<AppName>,
}

/// Reads what is known of an entry; none where a newer program wrote it.
pub fn open(layout: &Layout, name: &AppName, settings: &Previews) -> Option<Opened> {
    let path = layout.previews(name);
    let written = match contract::read::<PreviewsFile>(&path) {
        Read::Found(file) if file.entry == *name => Some(file),
        Read::Found(file) => {
            let why = format!("it is of entry `{}`", file.entry);
            tracing::warn!(entry = %name, "`{}` cannot be used and is made anew from the registry: {why}", path.display());
            None
        }
        Read::Absent => None,
        Read::Garbled(why) => {
            tracing::warn!(entry = %name, "the file of the previews cannot be read and is made anew from the registry: {why}");
            None
        }
        Read::NewerFormat(format) => {
            tracing::warn!(entry = %name, "`{}` has format {format}, and this version reads {}; its previews are left as they are: upgrade Landfall on this machine", path.display(), contract::FORMAT);
            return None;
        }
    };
    let now = Timestamp::now();
    let files = channel_files(layout, name, settings);
    let published = |file: &ChannelFile| previews::of_channel_file(file, now).unwrap_or(now);
    let remembered = files.iter().map(|(tag, file)| (tag.clone(), published(file))).collect();
    let entry = Entry::new(name, settings, written.clone(), remembered, now);
    let living = entry.living();
    let leftovers = files.into_values().map(|file| file.app).filter(|app| !living.contains(app)).collect();
    Some(Opened { entry, written, leftovers })
}

/// When something was published last at each tag that is followed, by its channel file.
pub(super) fn published(layout: &Layout, name: &AppName, entry: &Entry, now: Timestamp) -> BTreeMap<String, Timestamp> {
    let of = |(app, channel): (AppName, Channel)| {
        let file = read(layout, &app).filter(|file| file.channel == channel.to_string())?;
        debug_assert_eq!(app, preview_name(name, &channel.tag));
        Some((channel.tag, previews::of_channel_file(&file, now)?))
    };
    entry.followed().into_iter().filter_map(of).collect()
}

/// Ends the previews of entries that are not in the settings any more, where their time is over. Gives the apps that ended.
pub fn end_unnamed(layout: &Layout, named: &BTreeMap<AppName, Previews>, now: Timestamp) -> io::Result<Vec<AppName>> {
    let mut ended = Vec::new();
    for entry in entries(&layout.previews_dir())? {
        let name = entry.file_name().to_str().and_then(|name| name.strip_suffix(".json")?.parse::<AppName>().ok());
        let Some(name) = name.filter(|name| !named.contains_key(name)) else { continue };
        // Garbled or newer: nobody can say what has ended.
        let Read::Found(before) = contract::read::<PreviewsFile>(&layout.previews(&name)) else { continue };
        if before.entry != name {
            continue;
        }
        let mut file = before.clone();
        previews::repair(&mut file, now);
        let changes = previews::expire(&mut file, now, |_| false);
        if file.tags.is_empty() {
            std::fs::remove_file(layout.previews(&name))?;
            publish::sync_directory(&layout.previews_dir())?;
        } else if file != before {
            publish::write_json(&layout.previews(&name), &file)?;
        }
        for Change { tag, app, .. } in changes {
            tracing::info!(MESSAGE_ID = event::PREVIEW_ENDED, LANDFALL_APP = %app, entry = %name, "tag `{tag}` is no longer followed: landfall.yaml has no entry `{name}` any more, and its time is over");
            ended.push(app);
        }
    }
    Ok(ended)
}

/// The channel files of an entry's tags, by tag.
fn channel_files(layout: &Layout, name: &AppName, settings: &Previews) -> BTreeMap<String, ChannelFile> {
    let of = |entry: &std::fs::DirEntry| {
        let app = entry.file_name().to_str()?.strip_suffix(".json")?.parse::<AppName>().ok()?;
        let file = read(layout, &app).filter(|file| file.app == app)?;
        let channel: Channel = file.channel.parse().ok()?;
        let is_ours = settings.channel.matches(&channel.tag)
            && settings.channel.channel(&channel.tag) == channel
            && preview_name(name, &channel.tag) == app;
        is_ours.then_some((channel.tag, file))
    };
    entries(&layout.channels()).unwrap_or_default().iter().filter_map(of).collect()
}

fn read(layout: &Layout, app: &AppName) -> Option<ChannelFile> {
    match contract::read(&layout.channel(app)) {
        Read::Found(file) => Some(file),
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => None,
    }
}
