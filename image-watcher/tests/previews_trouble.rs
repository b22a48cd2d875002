//! The shipped watcher and a registry that does not list tags as it should, or files that are not as they were written: no preview
//! leaves because of that, and what is wrong is told once.

mod support;

use std::fs;

use support::fake::{End, Fake, Says};
use support::{Bundle, Vm, wait_for};

/// As in `wrong_answers.rs`, KiB.
const MOST_MEMORY: u64 = 24 << 10;
const BAD_NEWS: &str = "cannot be listed, and none of them leaves: ";

fn bundle(text: &str) -> Bundle {
    Bundle::new(&format!("services: {{ a: {{ labels: {{ n: \"{text}\" }} }} }}\n"))
}

fn page(tags: &str, link: &str) -> Says {
    Says::ok(format!("{{\"tags\":[{tags}]}}").as_bytes()).header("Link", link)
}

/// Name, what the registry says to a listing, and words of what is told.
fn cases() -> Vec<(&'static str, Says, &'static str)> {
    let long = format!("\"{}\",", "x".repeat(60_000)).repeat(20);
    vec![
        ("trouble of its own", Says::status(500), "answered 500"),
        ("no such repository", Says::status(404), "has no tags of `127.0.0.1"),
        ("no entry", Says::status(403), "no credential is set"),
        ("garbage", Says::ok(b"<html>login</html>"), "sent a wrong answer for tags of"),
        ("another object", Says::ok(br#"{"errors":[]}"#), "missing field `tags`"),
        ("half a list", Says::ok(br#"{"tags":["pr-1","pr-2"]}"#).ends(End::BreaksOff(15)), "cannot be reached"),
        ("a list without an end", Says::ok(br#"{"tags":["pr-1","pr-2"]}"#).ends(End::Never), "more than 1048576 bytes"),
        ("a page that is too large", page(&format!("{long}\"a\""), ""), "more than 1048576 bytes"),
        (
            "a circle of redirects",
            Says::status(302).header("Location", "/v2/deploy/tags/list"),
            "more than 4 redirects",
        ),
        ("a circle of pages", page("\"pr-2\"", "</v2/deploy/tags/list?last=pr-2>; rel=next"), "in a circle, at `pr-2`"),
        (
            "a link to nowhere",
            page("\"pr-2\"", "<http://x/\u{9b}2J\u{202e}>; rel=\"next\""),
            "the link to its next page",
        ),
    ]
}

#[test]
fn nothing_leaves_when_the_registry_does_not_list() {
    std::thread::scope(|scope| {
        for (name, says, words) in cases() {
            let check = move || {
                let fake = Fake::start();
                fake.lists(&["pr-1"]);
                let first = fake.serve_at("pr-1", &bundle("1"));
                let mut vm = Vm::with_previews(&fake.address, "ttl: 24h");
                vm.start();
                vm.wait_for_digest(&first);
                fake.says("tags/list", says);
                vm.wait_for_log(words);
                let from = fake.count("GET /v2/deploy/tags/list");
                wait_for("more listings", || (fake.count("GET /v2/deploy/tags/list") > from + 3).then_some(()));
                let file = vm.wait_for_tags(&["pr-1"]);
                assert!(file.problem.as_ref().is_some_and(|problem| problem.contains(words)), "{name}: {file:?}");
                assert_eq!(vm.log().matches(BAD_NEWS).count(), 1, "{name}: {}", vm.log());
                assert!(!vm.log().contains(['\u{9b}', '\u{202e}']), "{name}");
                // What is followed is followed on.
                vm.wait_for_digest(&fake.serve_at("pr-1", &bundle("1b")));
                assert!(vm.peak_memory() < MOST_MEMORY, "{name}: {} KiB", vm.peak_memory());
                fake.serve_at("pr-2", &bundle("2"));
                fake.lists(&["pr-1", "pr-2"]);
                assert_eq!(vm.wait_for_tags(&["pr-1", "pr-2"]).problem, None, "{name}");
                vm.wait_for_log("are listed again");
            };
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, check).unwrap();
        }
    });
}

#[test]
fn a_list_of_three_pages_is_read_whole_and_from_one_host() {
    let (fake, elsewhere) = (Fake::start(), Fake::start());
    for tag in ["pr-1", "pr-2", "pr-3"] {
        fake.serve_at(tag, &bundle(tag));
    }
    // A tag that is no tag, and links as registries write them: relative, and with a host that is not theirs.
    fake.says_at(
        "/v2/deploy/tags/list?n=1000",
        page("\"pr-1\",\"prod\"", "</v2/deploy/tags/list?last=prod&n=2>; rel=\"next\""),
    );
    let away = format!("<http://{}/v2/other/tags/list?last=pr%2D2&n=2>; rel=\"next\"", elsewhere.address);
    fake.says_at("/v2/deploy/tags/list?n=2&last=prod", page("\"pr-2\",\"pr-\\u001b[2J\",7", &away));
    fake.says_at("/v2/deploy/tags/list?n=2&last=pr%2D2", Says::ok(br#"{"tags":["pr-3"]}"#));
    let mut vm = Vm::with_previews(&fake.address, "ttl: 24h");
    vm.start();
    vm.wait_for_tags(&["pr-1", "pr-2", "pr-3"]);
    assert!(elsewhere.requests().is_empty());
    // Without its last page the list is no list.
    fake.says_at("/v2/deploy/tags/list?n=2&last=pr%2D2", Says::status(500));
    vm.wait_for_log("answered 500");
    vm.wait_for_tags(&["pr-1", "pr-2", "pr-3"]);
}

#[test]
fn a_file_that_is_garbled_or_newer_takes_no_preview_away() {
    let fake = Fake::start();
    fake.lists(&["pr-1", "pr-2"]);
    let first = fake.serve_at("pr-1", &bundle("1"));
    fake.serve_at("pr-2", &bundle("2"));
    let mut vm = Vm::with_previews(&fake.address, "ttl: 24h");
    let path = vm.layout.previews(&"web".parse().unwrap());
    vm.start();
    vm.wait_for_tags(&["pr-1", "pr-2"]);
    vm.wait_for_digest(&first);
    vm.kill();
    // Until the registry has listed, the file stays as it is; what has a channel file is followed.
    fs::write(&path, "{\"format\":1,").unwrap();
    fake.says("tags/list", Says::status(500));
    vm.start();
    vm.wait_for_digest(&fake.serve_at("pr-1", &bundle("1b")));
    vm.wait_for_log(BAD_NEWS);
    assert_eq!(fs::read(&path).unwrap(), b"{\"format\":1,");
    // A tag that the first list lacks is missing, and not gone.
    fake.lists(&["pr-2"]);
    vm.wait_for_tags(&["pr-1", "pr-2"]);
    vm.kill();
    // A newer program's file is left alone.
    let newer = "{\"format\":2,\"tags\":\"elsewhere\"}";
    fs::write(&path, newer).unwrap();
    let from = fake.requests().len();
    vm.start();
    vm.wait_for_log("has format 2, and this version reads 1");
    vm.wait_for_log("the settings are read");
    vm.reload();
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    assert_eq!(fake.requests().len(), from);
}

#[test]
fn a_new_machine_writes_nothing_before_it_knows_all() {
    let fake = Fake::start();
    fake.lists(&["pr-1", "pr-2"]);
    fake.serve_at("pr-2", &bundle("2"));
    fake.says("manifests/pr-1", Says::status(500));
    let mut vm = Vm::with_previews(&fake.address, "ttl: 24h");
    vm.start();
    // `pr-2` is asked first; a file with it alone would end an app of `pr-1`.
    vm.wait_for_log(BAD_NEWS);
    assert!(vm.previews().is_none());
    fake.serve_at("pr-1", &bundle("1"));
    vm.wait_for_tags(&["pr-1", "pr-2"]);
}
