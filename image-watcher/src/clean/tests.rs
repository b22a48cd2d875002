//! Which releases and files are left, by who still names them.

use std::collections::BTreeMap;

use landfall_core::contract::{FORMAT, StagedFile};
use landfall_core::ids::Digest;

use super::*;
use crate::release::Staging;

fn id(text: &str) -> ReleaseId {
    Digest::of(text.as_bytes()).hex().parse().unwrap()
}

struct Vm {
    root: tempfile::TempDir,
    layout: Layout,
    app: AppName,
    is_followed: bool,
}

impl Vm {
    /// Three releases, each with a file of its own and one in common; the channel shows `c`.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let vm = Self { layout: Layout::new(root.path()), app: "web".parse().unwrap(), is_followed: true, root };
        for name in ["a", "b", "c"] {
            let content = [name, "common"].map(|text| {
                let digest = Digest::of(text.as_bytes());
                (StagedFile { title: format!("{text}.conf"), executable: false, digest }, text.as_bytes().to_vec())
            });
            let source = StagedSource::Bundle {
                compose: Vec::new(),
                files: content.iter().map(|(file, _)| file.clone()).collect(),
            };
            let record = StagedRelease {
                format: FORMAT,
                app: vm.app.clone(),
                release: id(name),
                source,
                provenance: BTreeMap::new(),
            };
            let staging = Staging { record, tree: Vec::new(), content: content.into() };
            crate::stage::lay_down(&vm.layout, &vm.app, &staging).unwrap();
        }
        let channel = ChannelFile {
            format: FORMAT,
            app: vm.app.clone(),
            channel: "a.b/c:1".into(),
            release: Some(id("c")),
            digest: None,
            sequence: None,
            detected_at: None,
            last_good_poll: None,
            problem: None,
            tags: BTreeMap::new(),
        };
        publish::write_json(&vm.layout.channel(&vm.app), &channel).unwrap();
        vm
    }

    fn want(&self, names: &[&str]) {
        let wanted = WantedFile {
            format: FORMAT,
            app: self.app.clone(),
            releases: names.iter().map(|name| id(name)).collect(),
            poll: 0,
            secrets: Vec::new(),
            live: BTreeMap::new(),
            tags: BTreeMap::new(),
            request: String::new(),
        };
        publish::write_json(&self.layout.wanted(&self.app), &wanted).unwrap();
    }

    fn clean_after(&self, age: Duration) -> String {
        clean(&self.layout, SystemTime::now() + age, |_| self.is_followed).unwrap();
        let releases = ["a", "b", "c"].into_iter().filter(|name| self.layout.release(&self.app, &id(name)).exists());
        let files = ["a", "b", "c", "common"]
            .into_iter()
            .filter(|name| self.layout.watcher_files().join(Digest::of(name.as_bytes()).hex()).exists());
        format!("{} | {}", releases.collect::<Vec<_>>().join(" "), files.collect::<Vec<_>>().join(" "))
    }
}

const OLD: Duration = Duration::from_hours(1);
const ALL: &str = "a b c | a b c common";

#[test]
fn only_what_nobody_names_goes_and_only_when_it_is_old() {
    let vm = Vm::new();
    vm.want(&["a"]);
    assert_eq!(vm.clean_after(Duration::ZERO), ALL);
    assert_eq!(vm.clean_after(OLD), "a c | a c common");
    vm.want(&[]);
    assert_eq!(vm.clean_after(OLD), "c | c common");
    assert!(vm.root.path().exists());
}

#[test]
fn nothing_goes_where_it_is_not_known_who_needs_it() {
    let vm = Vm::new();
    assert_eq!(vm.clean_after(OLD), ALL, "no wanted file");
    std::fs::create_dir_all(vm.layout.wanted_dir()).unwrap();
    for garbled in ["", "{", "{\"format\":2}"] {
        std::fs::write(vm.layout.wanted(&vm.app), garbled).unwrap();
        assert_eq!(vm.clean_after(OLD), ALL, "{garbled}");
    }
    vm.want(&[]);
    std::fs::write(vm.layout.channel(&vm.app), "{").unwrap();
    assert_eq!(vm.clean_after(OLD), ALL, "no channel file");
}

#[test]
fn a_record_that_cannot_be_read_keeps_all_files() {
    let vm = Vm::new();
    vm.want(&["a"]);
    let record = vm.layout.release(&vm.app, &id("a")).join("release.json");
    std::fs::remove_file(&record).unwrap();
    assert_eq!(vm.clean_after(OLD), "a c | a b c common");
}

#[test]
fn of_an_app_that_has_ended_nothing_is_left() {
    let mut vm = Vm::new();
    vm.want(&[]);
    vm.is_followed = false;
    assert_eq!(vm.clean_after(OLD), "c | c common", "the channel file names one");
    std::fs::remove_file(vm.layout.channel(&vm.app)).unwrap();
    assert_eq!(vm.clean_after(OLD), "c | c common", "the agent may still need it");
    std::fs::remove_file(vm.layout.wanted(&vm.app)).unwrap();
    vm.is_followed = true;
    assert_eq!(vm.clean_after(OLD), "c | c common", "its next release may be this");
    vm.is_followed = false;
    assert_eq!(vm.clean_after(Duration::ZERO), "c | c common", "it is young");
    assert_eq!(vm.clean_after(OLD), " | ");
    assert!(!vm.layout.releases(&vm.app).exists());
}
