//! Apps that stand for tags: from the settings as written, the watcher's word on tags and what was remembered, to the settings in
//! force, and to the apps whose life is over. Pure; [`crate::preview_watch`] reads and writes.
//!
//! An app ends only by the watcher's word. A file that is not there or cannot be read, and an entry that is gone from the settings,
//! end nothing: what runs goes on.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::config::{Channel, Settings, preview_name};
use landfall_core::contract::{FORMAT, PreviewsFile};
use landfall_core::ids::AppName;
use serde::{Deserialize, Serialize};

/// The apps that were made of tags, as remembered: an app keeps its ports for as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    format: u32,
    slots: BTreeMap<AppName, Slot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    /// The entry of `previews`.
    of: AppName,
    channel: Channel,
    /// Which block of the entry's ports; none where none was free, or there are none.
    block: Option<u16>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// With an app for each tag.
    pub settings: Settings,
    /// To be remembered before an app begins.
    pub slots: Slots,
    /// Apps that are to end, and why.
    pub ending: BTreeMap<AppName, String>,
    /// What keeps a tag from having an app, or the watcher from seeing new ones.
    pub problems: Vec<String>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { format: FORMAT, slots: BTreeMap::new() }
    }
}

impl Slots {
    /// The apps.
    pub fn apps(&self) -> impl Iterator<Item = &AppName> {
        self.slots.keys()
    }

    /// Forgets apps that have ended: their ports are free.
    pub fn retain(&mut self, keep: impl Fn(&AppName) -> bool) {
        self.slots.retain(|app, _| keep(app));
    }

    fn free_block(&self, of: &AppName, blocks: u16) -> Option<u16> {
        let taken: BTreeSet<u16> =
            self.slots.values().filter(|slot| slot.of == *of).filter_map(|slot| slot.block).collect();
        (0..blocks).find(|block| !taken.contains(block))
    }
}

/// `files` by entry, as far as they can be read.
pub fn derive(written: &Settings, files: &BTreeMap<AppName, PreviewsFile>, remembered: &Slots) -> Derived {
    let mut slots = remembered.clone();
    // A name that is in `apps` now is an app like any other.
    slots.retain(|app| !written.apps.contains_key(app));
    let mut ending = BTreeMap::new();
    let mut problems = Vec::new();
    for (app, slot) in &slots.slots {
        if let Some(file) = files.get(&slot.of)
            && let Some(why) = over(file, &slot.channel)
        {
            ending.insert(app.clone(), why);
        }
    }
    let mut settings = written.clone();
    for (of, entry) in &written.previews {
        if let Some(file) = files.get(of) {
            let problem = |what: &str| format!("previews `{of}`: {what}");
            problems.extend(file.problem.as_deref().map(problem));
            for (tag, one) in file.tags.iter().filter(|(_, one)| one.over.is_none()) {
                let app = preview_name(of, tag);
                if written.apps.contains_key(&app) {
                    problems.push(problem(&format!("tag `{tag}` has no preview, for `apps.{app}` has that name")));
                    continue;
                }
                let slot = slots.slots.entry(app);
                let slot = slot.or_insert(Slot { of: of.clone(), channel: one.channel.clone(), block: None });
                if slot.of == *of {
                    slot.channel = one.channel.clone();
                }
            }
        } else {
            problems.push(format!(
                "previews `{of}`: the watcher has not listed their tags yet; see `journalctl -u landfall-image-watcher`"
            ));
        }
        let blocks = entry.ports.map_or(0, landfall_core::config::PortRange::blocks);
        let of_entry: Vec<AppName> =
            slots.slots.iter().filter(|(_, slot)| slot.of == *of).map(|(app, _)| app.clone()).collect();
        for app in of_entry.iter().filter(|app| !ending.contains_key(*app)) {
            let free = slots.free_block(of, blocks);
            let Some(slot) = slots.slots.get_mut(app) else { continue };
            if slot.block.is_none_or(|block| block >= blocks) {
                slot.block = free;
            }
            settings.apps.insert(app.clone(), entry.app(of, app, &slot.channel, slot.block));
        }
    }
    Derived { settings, slots, ending, problems }
}

/// Why a tag has no app any more; none where it has one.
fn over(file: &PreviewsFile, channel: &Channel) -> Option<String> {
    match file.tags.get(&channel.tag) {
        None => Some(format!("`{channel}` is gone")),
        Some(tag) if tag.over.is_some() => {
            Some(format!("nothing was published to `{channel}` within its time to live"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::contract::PreviewTag;
    use landfall_core::ids::Digest;

    use super::*;

    fn name(text: &str) -> AppName {
        text.parse().unwrap()
    }

    /// Entry `web`, with three blocks of two ports.
    fn written() -> Settings {
        let text = r#"{"host":{"reserve_memory":0,"require_caps":true,"default_memory":null,"allow_binds":[],"publish_loopback_only":false},
            "registries":{},"apps":{},"previews":{"web":{"channel":"r.io/d:pr-*","source":"bundle","poll":5000,"ttl":3600000,
            "ports":{"first":8100,"last":8105,"each":2},"caps":{"memory":null,"services":{}},"profiles":[],"vars":{}}}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn files(tags: &[(&str, bool)]) -> BTreeMap<AppName, PreviewsFile> {
        let tag = |(tag, over): &(&str, bool)| {
            let channel = format!("r.io/d:{tag}").parse().unwrap();
            let over = over.then(|| Digest::of(b"x"));
            ((*tag).to_owned(), PreviewTag { channel, published: String::new(), missing_ms: 0, over })
        };
        let file = PreviewsFile {
            format: FORMAT,
            entry: name("web"),
            channel: "r.io/d:pr-*".to_owned(),
            ttl_ms: 3_600_000,
            listed_at: None,
            problem: None,
            tags: tags.iter().map(tag).collect(),
        };
        [(name("web"), file)].into()
    }

    fn ports(derived: &Derived) -> Vec<String> {
        let port = |app: &AppName| derived.settings.apps[app].vars.get("LANDFALL_PORT").cloned().unwrap_or_default();
        derived.settings.apps.keys().map(|app| format!("{app} {}", port(app))).collect()
    }

    #[test]
    fn each_living_tag_has_an_app_and_keeps_its_ports() {
        let first = derive(&written(), &files(&[("pr-1", false), ("pr-2", false), ("pr-0", true)]), &Slots::default());
        assert_eq!(ports(&first), ["web-pr-1 8100", "web-pr-2 8102"]);
        assert!(first.ending.is_empty());
        let more = [("pr-2", false), ("pr-3", false), ("pr-4", false)];
        let second = derive(&written(), &files(&more), &first.slots);
        // The one that ends has its ports until it has ended.
        assert_eq!(second.ending.keys().map(AppName::as_str).collect::<Vec<_>>(), ["web-pr-1"]);
        assert_eq!(ports(&second), ["web-pr-2 8102", "web-pr-3 8104", "web-pr-4 "]);
        let mut slots = second.slots;
        slots.retain(|app| *app != name("web-pr-1"));
        let third = derive(&written(), &files(&more), &slots);
        assert_eq!(ports(&third), ["web-pr-2 8102", "web-pr-3 8104", "web-pr-4 8100"]);
        assert!(third.ending.is_empty());
    }

    #[test]
    fn only_the_watchers_word_ends_an_app() {
        let first = derive(&written(), &files(&[("pr-1", false)]), &Slots::default());
        let unread = derive(&written(), &BTreeMap::new(), &first.slots);
        assert_eq!((ports(&unread), unread.ending.len()), (vec!["web-pr-1 8100".to_owned()], 0));
        let without = Settings { previews: BTreeMap::new(), ..written() };
        let removed = derive(&without, &files(&[("pr-1", false)]), &first.slots);
        assert_eq!((removed.settings.apps.len(), removed.ending.len(), removed.slots), (0, 0, first.slots.clone()));
        for (tags, why) in [(&[][..], "`r.io/d:pr-1` is gone"), (&[("pr-1", true)], "within its time to live")] {
            let ended = derive(&without, &files(tags), &first.slots);
            assert!(ended.ending[&name("web-pr-1")].contains(why), "{:?}", ended.ending);
        }
    }

    #[test]
    fn an_app_of_that_name_comes_first() {
        let mut written = written();
        let first = derive(&written, &files(&[("pr-1", false)]), &Slots::default());
        written.apps.insert(name("web-pr-1"), first.settings.apps[&name("web-pr-1")].clone());
        let second = derive(&written, &files(&[("pr-1", false)]), &first.slots);
        assert_eq!((second.slots.apps().count(), second.ending.len(), second.problems.len()), (0, 0, 1));
        assert!(second.problems[0].contains("`apps.web-pr-1` has that name"), "{:?}", second.problems);
    }
}
