//! Brings the settings in force in line with the tags that have an app: reads the watcher's word, remembers, tells the apps whose
//! life is over. What follows from what is said in [`crate::previews`].

use std::collections::BTreeMap;
use std::rc::Rc;

use landfall_core::config::Settings;
use landfall_core::contract::{self, PreviewsFile, Read};
use landfall_core::ids::AppName;
use landfall_core::journal::event;

use crate::previews::{self, Derived, Slots};
use crate::shared::{Mail, Shared};

/// What was remembered. The file is ours: one that cannot be read is told, and ports are given anew.
pub fn remembered(shared: &Shared) -> Slots {
    let path = shared.layout.preview_slots();
    match contract::read::<Slots>(&path) {
        Read::Found(slots) => slots,
        Read::Absent => Slots::default(),
        Read::Garbled(why) => {
            tracing::warn!("which ports each preview has cannot be read, they are given anew: {why}");
            Slots::default()
        }
        Read::NewerFormat(format) => {
            tracing::warn!("`{}` has format {format}, of a newer agent: ports are given anew", path.display());
            Slots::default()
        }
    }
}

/// Looks again. Quick where nothing has changed: it is called at every beat.
pub fn look(shared: &Shared) {
    let written = shared.written.borrow().clone();
    if written.previews.is_empty() && shared.previews.borrow().apps().next().is_none() {
        shared.settings.replace(written);
        shared.ending.borrow_mut().clear();
        shared.preview_problems.borrow_mut().clear();
        return;
    }
    derived(shared, &written);
}

/// Apart, so that a VM without previews need not have it in memory (`children.ld`).
#[inline(never)]
fn derived(shared: &Shared, written: &Settings) {
    let mut slots = shared.previews.borrow().clone();
    let files = files(shared);
    let before = slots.clone();
    let ending = previews::derive(written, &files, &slots).ending;
    slots.retain(|app| !ending.contains_key(app) || is_there(shared, app));
    let freed = slots != before;
    let derived = previews::derive(written, &files, &slots);
    if derived.slots != before {
        // Before an app begins: its ports are its own from its first moment on.
        if let Err(error) = landfall_core::publish::write_json(&shared.layout.preview_slots(), &derived.slots) {
            let problem = format!("cannot remember the previews, new ones wait: {error}; check the disk's free space");
            if !shared.preview_problems.borrow().contains(&problem) {
                tracing::warn!("{problem}");
            }
            shared.preview_problems.replace(vec![problem]);
            return;
        }
    }
    take(shared, &before, derived);
    if freed {
        // What it had may be what others wait for: ports, memory.
        shared.tell_all(|| Mail::Again);
    }
}

fn take(shared: &Shared, before: &Slots, derived: Derived) {
    let Derived { settings, slots, ending, problems } = derived;
    for app in slots.apps().filter(|app| !before.apps().any(|known| known == *app)) {
        let channel = settings.apps.get(app).map(|one| one.channel.to_string()).unwrap_or_default();
        tracing::info!(MESSAGE_ID = event::PREVIEW_BEGAN, LANDFALL_APP = %app, channel, "`{channel}` has an app now: `{app}`");
    }
    for (app, why) in &ending {
        if let Some(mailbox) = shared.mailboxes.borrow().get(app) {
            // A loop that is gone needs no mail; one that is at it already takes no notice.
            let _ = mailbox.send(Mail::End(why.clone()));
        }
    }
    shared.ending.replace(ending);
    // For `status`; the watcher has told them to the journal.
    shared.preview_problems.replace(problems);
    shared.previews.replace(slots);
    if **shared.settings.borrow() != settings {
        shared.settings.replace(Rc::new(settings));
        shared.changed.notify_one();
    }
}

/// Whether anything of an app is left.
fn is_there(shared: &Shared, app: &AppName) -> bool {
    shared.mailboxes.borrow().contains_key(app) || shared.layout.ledger(app).exists()
}

/// What the watcher says, as far as it can be read.
fn files(shared: &Shared) -> BTreeMap<AppName, PreviewsFile> {
    let entries = std::fs::read_dir(shared.layout.previews_dir()).into_iter().flatten().flatten();
    let entries = entries.filter_map(|file| file.file_name().to_str()?.strip_suffix(".json")?.parse::<AppName>().ok());
    let read = |entry: AppName| match contract::read::<PreviewsFile>(&shared.layout.previews(&entry)) {
        Read::Found(file) => Some((entry, file)),
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => None,
    };
    entries.filter_map(read).collect()
}
