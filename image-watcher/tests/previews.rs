//! The shipped watcher and the tags of a repository that has one for each pull request: which of them have an app, and what it
//! takes for one to leave. That no trouble of a registry takes one away is in `previews_trouble.rs`.

mod support;

use std::fs;

use jiff::{SignedDuration, Timestamp};
use landfall_core::contract::PreviewsFile;
use landfall_core::ids::Digest;
use support::fake::{Fake, Says};
use support::{Bundle, Registry, Vm, wait_for};

fn bundle(text: &str) -> Bundle {
    Bundle::new(&format!("services: {{ a: {{ labels: {{ n: \"{text}\" }} }} }}\n"))
}

fn hours_ago(hours: i64) -> String {
    (Timestamp::now() - SignedDuration::from_hours(hours)).to_string()
}

/// A machine that follows `pr-1` and `pr-2` of a fake, was stopped, and has its file as `edit` leaves it.
fn machine(more: &str, edit: impl FnOnce(&mut PreviewsFile)) -> (Fake, Vm) {
    let fake = Fake::start();
    fake.lists(&["prod", "pr-1", "pr-2"]);
    let first = fake.serve_at("pr-1", &bundle("1"));
    fake.serve_at("pr-2", &bundle("2"));
    let mut vm = Vm::with_previews(&fake.address, more);
    vm.start();
    let mut file = vm.wait_for_tags(&["pr-1", "pr-2"]);
    vm.wait_for_digest(&first);
    vm.kill();
    edit(&mut file);
    vm.put_previews(&file);
    (fake, vm)
}

#[test]
fn a_tag_that_matches_has_an_app_and_a_follower_of_its_own() {
    let registry = Registry::start();
    registry.publish("prod", &bundle("prod"));
    let first = registry.publish("pr-1", &bundle("1"));
    let mut vm = Vm::with_previews(&registry.address, "ttl: 1h");
    vm.start();
    let shown = vm.wait_for_digest(&first);
    assert_eq!(shown.channel, registry.channel("pr-1"));
    vm.check_staged(shown.release.as_ref().unwrap());
    let file = vm.wait_for_tags(&["pr-1"]);
    assert_eq!((file.channel, file.ttl_ms), (format!("{}/deploy:pr-*", registry.address), 3_600_000));
    // More tags, and more publications of one.
    registry.publish("pr-22", &bundle("22"));
    vm.wait_for_tags(&["pr-1", "pr-22"]);
    vm.wait_for_digest(&registry.publish("pr-1", &bundle("1b")));
    let channels = || fs::read_dir(vm.layout.channels()).unwrap().count();
    wait_for("a channel file for each", || (channels() == 2).then_some(()));
    assert_eq!(vm.log().matches("is followed from now on").count(), 2, "{}", vm.log());
}

#[test]
fn a_tag_that_is_deleted_is_missing_and_after_a_day_gone() {
    let (fake, mut vm) = machine("ttl: 24h", |_| {});
    fake.lists(&["pr-2"]);
    fake.forgets("pr-1");
    vm.start();
    let listed = |vm: &Vm| vm.previews().unwrap().listed_at;
    let before = listed(&vm);
    wait_for("a few listings", || (fake.count("GET /v2/deploy/tags/list") > 5).then_some(()));
    vm.wait_for_tags(&["pr-1", "pr-2"]);
    vm.wait_for_problem("publish a release there");
    assert!(!vm.log().contains("nothing new is taken"), "a pull request that is closed is no trouble: {}", vm.log());
    vm.kill();
    assert!(vm.channel().is_some(), "it is missing, not gone");
    // As after a day of listings without it.
    let mut file = vm.previews().unwrap();
    file.tags.get_mut("pr-1").unwrap().missing_ms = 24 * 3_600_000 - 100;
    vm.put_previews(&file);
    vm.start();
    vm.wait_for_tags(&["pr-2"]);
    vm.wait_for_log("tag `pr-1` is no longer followed: it was missing for 24 h while the registry answered");
    wait_for("the channel file to go", || vm.channel().is_none().then_some(()));
    assert!(listed(&vm) >= before);
    assert_eq!(fs::read_dir(vm.layout.channels()).unwrap().count(), 1);
    // It is pushed again.
    let again = fake.serve_at("pr-1", &bundle("1"));
    fake.lists(&["pr-1", "pr-2"]);
    vm.wait_for_digest(&again);
}

#[test]
fn what_is_there_is_not_gone_whatever_the_list_says() {
    let (fake, mut vm) = machine("ttl: 24h", |file| {
        file.tags.get_mut("pr-1").unwrap().missing_ms = 25 * 3_600_000;
    });
    // The list lacks it, and then the question for it fails in every way but 404.
    fake.lists(&["pr-2"]);
    fake.says("manifests/pr-1", Says::status(500));
    vm.start();
    vm.wait_for_log("answered 500");
    fake.says("manifests/pr-1", Says::status(403));
    vm.wait_for_log("no credential is set");
    assert_eq!(vm.wait_for_tags(&["pr-1", "pr-2"]).tags["pr-1"].missing_ms, 25 * 3_600_000);
    fake.serve_at("pr-1", &bundle("1"));
    // What nobody acts on is on disk a minute later; an end of the problem is at once.
    let heard = |file: &PreviewsFile| file.problem.is_none() && file.tags["pr-1"].missing_ms == 0;
    wait_for("it to be there", || vm.previews().filter(heard));
    assert!(vm.channel().is_some());
}

#[test]
fn after_a_restart_previews_are_followed_at_once() {
    let (fake, mut vm) = machine("ttl: 24h", |_| {});
    fake.says("tags/list", Says::status(500));
    let next = fake.serve_at("pr-1", &bundle("1b"));
    vm.start();
    vm.wait_for_digest(&next);
    assert_eq!(vm.log().matches("is followed from now on").count(), 2, "{}", vm.log());
}

#[test]
fn a_preview_ends_when_its_time_is_over_and_a_push_wakes_it() {
    let (fake, mut vm) = machine("ttl: 24h", |file| {
        file.tags.get_mut("pr-1").unwrap().published = hours_ago(25);
    });
    // As if it had not been published since: the channel file is of then.
    let mut shown = vm.channel().unwrap();
    shown.detected_at = Some(hours_ago(25));
    landfall_core::publish::write_json(&vm.layout.channel(&vm.app), &shown).unwrap();
    vm.start();
    let file = vm.wait_for_tags(&["!pr-1", "pr-2"]);
    assert_eq!(file.tags["pr-1"].over, shown.digest);
    vm.wait_for_log("tag `pr-1` is no longer followed: nothing was published there for 24 h");
    wait_for("the channel file to go", || vm.channel().is_none().then_some(()));
    let asked = |from: usize| fake.requests()[from..].iter().filter(|(_, what)| what.contains("/pr-1")).count();
    let from = fake.requests().len();
    wait_for("a question for what sleeps", || (asked(from) > 2).then_some(()));
    assert!(vm.channel().is_none());
    let next = fake.serve_at("pr-1", &bundle("1b"));
    vm.wait_for_digest(&next);
    vm.wait_for_tags(&["pr-1", "pr-2"]);
}

/// As a kill between the two writes leaves it.
#[test]
fn a_channel_file_of_a_preview_that_ended_is_removed_at_the_next_start() {
    let (fake, mut vm) = machine("ttl: 24h", |file| {
        file.tags.remove("pr-1");
    });
    fake.says("tags/list", Says::status(500));
    let other = vm.layout.channel(&"web-pr-9".parse().unwrap());
    fs::write(&other, "{").unwrap();
    assert!(vm.channel().is_some());
    vm.start();
    wait_for("the channel file to go", || vm.channel().is_none().then_some(()));
    assert!(other.exists(), "nobody knows whose that is");
    let lives = vm.layout.channel(&"web-pr-2".parse().unwrap());
    wait_for("the channel file of one that lives", || lives.exists().then_some(()));
}

#[test]
fn a_new_machine_does_not_begin_old_previews() {
    let fake = Fake::start();
    fake.lists(&["pr-1", "pr-2", "pr-3", "pr-4"]);
    let old = Timestamp::now() - SignedDuration::from_hours(50);
    let sequence = u64::try_from(old.as_millisecond()).unwrap();
    let channel = |tag: &str| format!("{}/deploy:{tag}", fake.address);
    let first = fake.serve_at("pr-1", &bundle("1").sequence(&channel("pr-1"), sequence));
    fake.serve_at("pr-2", &bundle("2").annotate("org.opencontainers.image.created", &old.to_string()));
    fake.serve_at("pr-3", &bundle("3"));
    // `pr-4` is listed and has no manifest.
    let mut vm = Vm::with_previews(&fake.address, "ttl: 48h");
    vm.start();
    let file = vm.wait_for_tags(&["!pr-1", "!pr-2", "pr-3"]);
    assert_eq!(file.tags["pr-1"].over, Some(first));
    vm.app = "web-pr-3".parse().unwrap();
    wait_for("its channel file", || vm.channel());
    assert_eq!(fs::read_dir(vm.layout.channels()).unwrap().count(), 1);
}

#[test]
fn an_entry_that_is_taken_out_keeps_its_previews_until_their_time_is_over() {
    let (fake, mut vm) = machine("ttl: 24h", |file| {
        file.tags.get_mut("pr-2").unwrap().published = hours_ago(25);
    });
    vm.configure("apps: {}\n");
    let before = fake.requests().len();
    vm.start();
    vm.wait_for_tags(&["pr-1"]);
    vm.wait_for_log("tag `pr-2` is no longer followed: landfall.yaml has no entry `web` any more");
    assert!(vm.channel().is_some(), "`pr-1` stays");
    vm.app = "web-pr-2".parse().unwrap();
    wait_for("its channel file to go", || vm.channel().is_none().then_some(()));
    assert_eq!(fake.requests().len(), before, "nothing is asked any more");
    vm.kill();
    let mut file = vm.previews().unwrap();
    file.tags.get_mut("pr-1").unwrap().published = hours_ago(25);
    vm.put_previews(&file);
    vm.start();
    wait_for("the file to go", || vm.previews().is_none().then_some(()));
    wait_for("the channel files to go", || (fs::read_dir(vm.layout.channels()).unwrap().count() == 0).then_some(()));
}

#[test]
fn an_app_of_that_name_comes_first() {
    let fake = Fake::start();
    fake.lists(&["prod", "pr-1"]);
    let app = fake.serve_bundle(&bundle("prod"));
    fake.serve_at("pr-1", &bundle("1"));
    let mut vm = Vm::with_previews(&fake.address, "ttl: 24h");
    let previews = fs::read_to_string(vm.layout.config_file()).unwrap();
    vm.configure(&format!("apps: {{ web-pr-1: {{ channel: \"{}\", poll: 200ms }} }}\n{previews}", fake.channel()));
    vm.start();
    assert_eq!(vm.wait_for_digest(&app).channel, fake.channel());
    vm.wait_for_tags(&["pr-1"]);
    vm.wait_for_log("deploy:pr-1` has no preview: `web-pr-1`, which would be its name, follows");
    vm.wait_for_digest(&fake.serve_bundle(&bundle("prod2")));
    // The preview takes the name when the app is not there any more.
    vm.configure(&previews);
    vm.reload();
    vm.wait_for_digest(&Digest::of(bundle("1").manifest().to_string().as_bytes()));
}
