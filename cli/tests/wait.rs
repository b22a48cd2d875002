//! `--wait-url`: what `landfall publish` and `promote` make of the answers of a store, and that a store can neither hold them
//! for longer than they were told nor get the token for another host.

#[path = "registry/mod.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod registry;
mod store;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use registry::Registry;
use serde_json::Value;
use store::{Says, Store};

/// More than any case here may take.
const SPARE: Duration = Duration::from_secs(20);

fn outcome(word: &str, more: &str) -> String {
    format!(
        r#"{{"format":1,"app":"web","machine":"vm-1","seq":4,"at":"2100-01-01T00:00:00.000Z","release":"RELEASE","outcome":"{word}"{more}}}"#
    )
}

fn landfall(arguments: &[&str], token: Option<&str>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall"))
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        // What a proxied CI has: it must not be asked for what is on loopback.
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .envs(token.map(|token| ("LANDFALL_WAIT_TOKEN", token)))
        .output()
        .expect("landfall runs")
}

/// Each store has a repository of its own: the registry loses blobs that are pushed to one by several at once.
fn channel(registry: &Registry, store: &Store) -> String {
    format!("{}/{}:prod", registry.host, repository(store))
}

fn repository(store: &Store) -> String {
    store.host.replace(['.', ':'], "-")
}

/// Publishes a pointer and waits; with what was said and how long it took.
fn publish(registry: &Registry, store: &Store, more: &[&str], token: Option<&str>) -> (Output, String, Duration) {
    let channel = channel(registry, store);
    let image = format!("api={}/api:v1", registry.host);
    let url = format!("http://{}/outcomes?key=hidden", store.host);
    let began = Instant::now();
    let all = [&["publish", &channel, "--pointer", "--image", &image, "--wait-url", &url], more].concat();
    let output = landfall(&all, token);
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n        ", " ");
    assert!(!stderr.contains("hidden"), "the key of the address is told: {stderr}");
    (output, stderr, began.elapsed())
}

/// A script, and what comes of it.
struct Case {
    name: &'static str,
    script: Vec<Says>,
    timeout: &'static str,
    code: i32,
    /// After the publication, on stdout.
    outcome: String,
    /// On stderr.
    words: &'static [&'static str],
}

/// After other answers the store has this outcome.
fn ends(
    name: &'static str,
    before: &[Says],
    word: &str,
    more: &str,
    code: i32,
    words: &'static [&'static str],
) -> Case {
    let script = [before, &[Says::body(&outcome(word, more))]].concat();
    Case { name, script, timeout: "30s", code, outcome: format!("outcome {word}\n"), words }
}

/// This is all that the store ever answers.
fn stays(name: &'static str, says: Says, code: i32, words: &'static [&'static str]) -> Case {
    Case { name, script: vec![says], timeout: "2s", code, outcome: String::new(), words }
}

fn outcomes() -> Vec<Case> {
    let not_yet = Says::status(404);
    let reason = r#","reason":"service `api` is not healthy\n\u001b[2Jexit 3""#;
    let under_way = Says::body(&outcome("rollout-started", ""));
    let earlier = Says::body(&outcome("rolled-back", r#","sequence":7"#));
    let busy = Says::header(429, "Retry-After: 2");
    let told = &["error: rolled-back on `vm-1` (app `web`): service `api` is", "\\u{1b}[2Jexit 3", "landfall history"];
    vec![
        ends("not yet, then live", &[not_yet], "live", "", 0, &["the store has no outcome yet\n", "live on `vm-1`"]),
        ends("under way, then good", &[under_way], "good", r#","later":{}"#, 0, &["rollout-started on `vm-1`"]),
        ends("rolled back", &[], "rolled-back", reason, 1, told),
        ends("held", &[], "held", "", 1, &["error: held on"]),
        ends("refused", &[], "refused", reason, 3, &["error: refused on"]),
        ends(
            "an earlier one first",
            &[earlier],
            "live",
            r#","sequence":99999999999999"#,
            0,
            &["of an earlier publication"],
        ),
        ends("trouble", &[Says::status(500), Says::status(502)], "live", "", 0, &["answered 500\n", "answered 502\n"]),
        ends("busy", &[busy], "live", "", 0, &["answered 429\n"]),
        ends("garbage", &[Says::body("<html>wait")], "live", "", 0, &["what it sent is no outcome"]),
    ]
}

fn ends_without_outcome() -> Vec<Case> {
    let other = outcome("live", "").replace("RELEASE", &"ab".repeat(32));
    let newer = outcome("live", "").replace("\"format\":1", "\"format\":9");
    let away = Says::header(302, "Location: http://192.0.2.1/x");
    vec![
        stays("never", Says::status(404), 4, &["within 2s; the store has no outcome yet", "--wait-timeout"]),
        stays("under way", Says::body(&outcome("rollback-started", "")), 4, &["rollback-started on `vm-1`"]),
        stays(
            "trouble",
            Says::status(500),
            5,
            &["did not tell the outcome", "answered 500", "the release is published"],
        ),
        stays("busy for long", Says::header(429, "Retry-After: 3600"), 5, &["answered 429"]),
        stays("garbage", Says::body("<html>wait"), 5, &["what it sent is no outcome"]),
        stays("another release", Says::body(&other), 5, &["what it sent is about release abababababab"]),
        stays("silence", Says::Hangs, 5, &["no whole answer within 2 s"]),
        stays("a body without end", Says::Endless, 5, &["more than 65536 bytes"]),
        stays("a circle", Says::header(302, "Location: /outcomes/again"), 5, &["more than 4 redirects"]),
        stays("off to a host in the open", away, 5, &["a redirect to `192.0.2.1`"]),
        // These are not tried again.
        Case { timeout: "1h", ..stays("newer", Says::body(&newer), 5, &["format 9", "upgrade `landfall`"]) },
        Case { timeout: "1h", ..stays("no entry", Says::status(401), 5, &["answered 401", "LANDFALL_WAIT_TOKEN"]) },
    ]
}

fn check(registry: &Registry, case: Case) {
    let Case { name, script, timeout, code, outcome, words } = case;
    let store = Store::start(script);
    let (output, stderr, took) = publish(registry, &store, &["--wait-timeout", timeout], None);
    assert_eq!(output.status.code(), Some(code), "{name}: {stderr}");
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().skip(2).fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(last, outcome, "{name}: {said}");
    for word in words {
        assert!(stderr.contains(word), "{name}: no `{word}`: {stderr}");
    }
    assert!(took < SPARE, "{name}: {took:?}");
    let release = said.strip_prefix("release ").and_then(|rest| rest.get(..64)).expect("a release id");
    assert_eq!(store.asked()[0].target, format!("/outcomes/{release}?key=hidden"), "{name}");
}

#[test]
fn every_answer_of_a_store_has_its_exit_code() {
    let registry = Registry::start();
    registry.put_image("api", "v1");
    std::thread::scope(|scope| {
        for case in outcomes().into_iter().chain(ends_without_outcome()) {
            let registry = &registry;
            std::thread::Builder::new()
                .name(case.name.to_owned())
                .spawn_scoped(scope, move || check(registry, case))
                .expect("a thread");
        }
    });
}

#[test]
fn a_store_is_left_alone_as_long_as_it_asks_and_what_stays_the_same_is_told_once() {
    let registry = Registry::start();
    registry.put_image("api", "v1");
    let script = vec![Says::header(503, "Retry-After: 3"), Says::status(404), Says::status(404), Says::status(404)];
    let store = Store::start([script, vec![Says::body(&outcome("live", ""))]].concat());
    let (output, stderr, _) = publish(&registry, &store, &["--json"], None);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr.matches("the store has no outcome yet").count(), 1, "{stderr}");
    let asked = store.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(3), "{asked:?}");
    assert!(asked[2].at - asked[1].at >= Duration::from_millis(900), "{asked:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[1]["outcome"], &lines[1]["release"]), (2, &"live".into(), &lines[0]["release"]));
}

#[test]
fn the_token_is_shown_to_the_store_and_to_nobody_it_sends_us_to() {
    let registry = Registry::start();
    registry.put_image("api", "v1");
    let token = Some("s3cret");
    let elsewhere = Store::start(vec![Says::body(&outcome("live", ""))]);
    let away = format!("Location: http://{}/x", elsewhere.host);
    let store = Store::start(vec![Says::header(302, &away)]);
    let (output, stderr, _) = publish(&registry, &store, &["--wait-timeout", "2s"], token);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("a redirect to `127.0.0.1`, which is not followed"), "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
    assert!(elsewhere.asked().is_empty());
    assert!(store.asked().iter().all(|asked| asked.shown.as_deref() == Some("Bearer s3cret")), "{:?}", store.asked());

    // On the same host it goes along.
    let store = Store::start(vec![Says::header(307, "Location: /moved/RELEASE"), Says::body(&outcome("live", ""))]);
    let (output, stderr, _) = publish(&registry, &store, &["--wait-timeout", "20s"], token);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let asked = &store.asked()[1];
    assert!(asked.target.starts_with("/moved/") && asked.shown.as_deref() == Some("Bearer s3cret"), "{asked:?}");
}

/// A mistake in what is to be waited for leaves no release behind; `promote` waits as `publish` does.
#[test]
fn promote_waits_too_and_mistakes_are_found_before_anything_is_published() {
    let registry = Registry::start();
    registry.put_image("api", "v1");
    let store = Store::start(vec![Says::body(&outcome("live", ""))]);
    let (output, stderr, _) = publish(&registry, &store, &[], Some("a\nb"));
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(registry.get(&format!("/v2/{}/manifests/prod", repository(&store))).0, 404);

    assert_eq!(publish(&registry, &store, &[], None).0.status.code(), Some(0));
    let release = store.asked()[0].target.clone();
    let from = channel(&registry, &store);
    let to = from.replace(":prod", ":next");
    let url = format!("http://{}/outcomes?key=hidden", store.host);
    for arguments in [vec!["promote", &from, &to], vec!["publish", &to, "--from", &from]] {
        let output = landfall(&[arguments, vec!["--wait-url", &url]].concat(), None);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with("\noutcome live\n"), "{output:?}");
        assert_eq!(store.asked().last().expect("it was asked").target, release, "the same content, the same release");
    }
}
