//! Goldens of what an operator reads. Every line fits 80 columns, nothing from outside arrives raw.

use landfall::terminal::{Paint, WIDTH};
use landfall::{history, logs, plan, status, watch};
use landfall_core::protocol::{HistoryEntry, LogLine, PlanView, Status};
use serde::de::DeserializeOwned;
use serde_json::json;

fn value<T: DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("it is what the agent would write")
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn check(text: &str, golden: &str) {
    assert_eq!(text, golden, "\n--- got ---\n{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
}

fn service(name: &str, state: &str, ready: u32, wanted: u32, memory: Option<u64>, restarts: u32) -> serde_json::Value {
    json!({ "service": name, "state": state, "ready": ready, "wanted": wanted, "image": "0123456789ab",
            "memory": memory, "memory_cap": 128 << 20, "restarts": restarts })
}

fn app(services: &[serde_json::Value]) -> serde_json::Value {
    json!({ "app": "web", "channel": "ghcr.io/acme/deploy:staging", "release": id('a'), "deployment": id('b'),
            "state": "idle", "reason": null, "next": "nothing to do", "last_good_poll": "2026-01-31T12:00:02.100Z",
            "hold": null, "quarantined": {}, "services": services })
}

fn status_of(apps: &[serde_json::Value]) -> Status {
    value(json!({ "version": "0.1.0", "at": "2026-01-31T12:00:05.000Z", "problems": [], "apps": apps }))
}

#[test]
fn a_status_that_is_well() {
    let services = [service("api", "healthy", 2, 2, Some(34 << 20), 0), service("migrate", "completed", 1, 1, None, 0)];
    let status = status_of(&[app(&services)]);
    check(&status::render(&status, Paint::OFF), include_str!("golden/status-well.txt"));
    assert!(status::healthy(&status));
}

#[test]
fn a_status_with_secrets_that_nobody_has_confirmed_for_long() {
    let mut one = app(&[service("api", "healthy", 1, 1, None, 0)]);
    one["stale_secrets"] = json!({ "services": ["api", "web"], "service": "api", "checked_at": "2026-01-31T10:47:05.000Z", "age_s": 4380,
        "reason": "kv.vault.azure.net does not answer\x1b[2J", "next": "`landfall secrets web`" });
    let status = status_of(&[one]);
    check(&status::render(&status, Paint::OFF), include_str!("golden/status-stale-secrets.txt"));
    // What runs is well.
    assert!(status::healthy(&status));
}

/// The command is to be pasted: on one line, however long.
#[test]
fn a_status_with_a_database_that_was_not_shut_down_cleanly() {
    let mut one = app(&[service("db", "exited", 0, 1, None, 0)]);
    let repair = format!("docker run --rm --volumes-from web-db-1 mongo@sha256:{} mongod '\x1b[2J'", id('a'));
    let reason = "`db` was not shut down cleanly (`/data/db/mongod.lock` was not empty); it waits for the repair";
    one["unclean"] = json!([{ "service": "db", "at": "2026-01-31T10:47:05.000Z", "reason": reason, "repair": repair }]);
    let text = status::render(&status_of(&[one]), Paint::OFF);
    let line = format!("\n             {}\n", repair.replace('\x1b', "\\u{1b}"));
    assert!(text.contains(&line) && text.contains("  unclean    `db` was not shut down cleanly"), "{text}");
}

#[test]
fn a_status_that_needs_a_person() {
    let mut one = app(&[
        service("a-service-with-quite-a-long-name", "backing-off", 0, 12, Some(1_610_612_736), 1234),
        service("evil\u{1b}[2J", "unhealthy", 0, 1, None, 0),
    ]);
    one["app"] = json!("an-app-with-forty-characters-in-its-name");
    one["channel"] = json!(format!("registry.internal.acme.example:5000/{}:production", "team/".repeat(12) + "deploy"));
    one["state"] = json!("rolling-back");
    one["reason"] =
        json!("service `api` did not get healthy within 40 s: exit code 1, \x1b[31mconnection refused to db:5432");
    one["hold"] = json!("database is being moved (alice)");
    one["last_good_poll"] = json!("2026-01-31T09:00:00Z");
    one["quarantined"] = json!({ id('c'): "crash-looped" });
    one["next"] = json!("wait; the last good deployment is being started. After that: `landfall history an-app`");
    let mut two = app(&[]);
    two["app"] = json!("other");
    two["release"] = json!(null);
    two["state"] = json!("waiting");
    two["last_good_poll"] = json!(null);
    two["reason"] = json!(
        "refused by host policy: 1 problem\n- service `db`: `mem_limit`: there is \x1b[2Jnone\n  next: give each a \
         `mem_limit`, or set `host.default_caps` in landfall.yaml"
    );
    two["credentials"] = json!([
        { "registry": "ghcr.io", "file": "/etc/x", "expires": "2026-01-31T12:00:05.000Z" },
        { "registry": "evil\u{1b}[2J", "file": "/etc/y", "expires": "2026-02-07T12:00:05.000Z" },
    ]);
    let mut status = status_of(&[one, two]);
    status.problems = vec![
        "landfall.yaml:3:5: unknown key `chanel`, did you mean `channel`; the last valid settings are used".into(),
    ];
    check(&status::render(&status, Paint::OFF), include_str!("golden/status-ill.txt"));
    assert!(!status::healthy(&status));
}

type Change = fn(&mut Status);

#[test]
fn healthy_means_all_that_should_serve_does() {
    let with = |change: Change| {
        let mut status = status_of(&[app(&[service("api", "healthy", 1, 1, None, 0)])]);
        change(&mut status);
        status::healthy(&status)
    };
    let table: [(&str, Change, bool); 9] = [
        ("as it is", |_| {}, true),
        ("problem `ok`", |s| s.problems = vec!["ok".into()], true),
        ("a hold is no illness", |s| s.apps[0].hold = Some("x".into()), true),
        ("a problem", |s| s.problems = vec!["engine down".into()], false),
        ("held", |s| s.apps[0].state = "held".into(), false),
        ("no release", |s| s.apps[0].release = None, false),
        ("unhealthy", |s| s.apps[0].services[0].state = "unhealthy".into(), false),
        ("a replica short", |s| s.apps[0].services[0].wanted = 2, false),
        ("no apps", |s| s.apps.clear(), true),
    ];
    for (name, change, expected) in table {
        assert_eq!(with(change), expected, "{name}");
    }
}

#[test]
fn a_history() {
    let entry =
        |seq: u64, at: &str, event: &str, took: Option<u64>, services: &[&str], reason: Option<&str>| -> HistoryEntry {
            value(json!({ "format": 1, "seq": seq, "at": at, "event": event, "release": id('a'), "deployment": id('b'),
                      "reason": reason, "services": services, "detected_at": null, "took_ms": took }))
        };
    let mut operator = entry(6, "2026-01-31T12:09:00Z", "operator", None, &[], Some("hold: database is being moved"));
    operator.release = None;
    let entries = [
        entry(1, "2026-01-31T12:00:05.123Z", "rollout-started", None, &["api", "web"], None),
        entry(2, "2026-01-31T12:00:17Z", "live", Some(12_345), &["api", "web"], None),
        entry(
            3,
            "2026-01-31T12:05:17Z",
            "rollback-started",
            None,
            &["api", "worker", "scheduler", "proxy"],
            Some(
                "service `api` did not get healthy within 40 s: exit code 1, last words: \u{1b}[31mconnection refused",
            ),
        ),
        entry(4, "2026-01-31T12:05:19Z", "rolled-back", Some(1_900), &["api"], None),
        entry(5, "not a time\n", "good", Some(300_000), &[], None),
        operator,
    ];
    check(&history::render(&entries, Paint::OFF), include_str!("golden/history.txt"));
}

#[test]
fn a_plan() {
    let mut view: PlanView = value(json!({ "release": id('a'), "deployment": id('b'), "steps": [
        "pull `ghcr.io/acme/api@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef`",
        "create `api` beside the one that serves",
        "stop the old `api`, start the new, wait until it is healthy (the gap is announced: stop-first)"
    ] }));
    let text = plan::render(&view, Paint::OFF);
    assert_eq!(text, include_str!("golden/plan.txt"), "\n--- got ---\n{text}");
    view.warnings = vec!["The \"TAG\" variable is not set\x1b[2J".to_owned()];
    let warned = plan::render(&view, Paint::OFF);
    assert!(warned.starts_with(&text) && warned.contains("Compose warns: The \"TAG\" variable"), "{warned}");
    assert!(!warned.contains('\x1b'), "{warned}");
    view.warnings.clear();
    view.steps.clear();
    check(
        &plan::render(&view, Paint::OFF),
        "release aaaaaaaaaaaa, deployment bbbbbbbbbbbb\n  no difference: nothing would change\n",
    );
}

#[test]
fn logs_name_their_service_and_are_escaped() {
    let line = |service: &str, text: &str| LogLine { service: service.into(), text: text.into() };
    let text = logs::render(&[line("api", "up"), line("web-proxy", "\u{1b}[2Jx\ty")], Paint::OFF);
    check(&text, "api       | up\nweb-proxy | \\u{1b}[2Jx\\ty\n");
}

fn pull(image: &str, done: u64, total: u64) -> serde_json::Value {
    json!({ "image": format!("r.example:5000/acme/{image}@sha256:{}", id('c')), "done": done, "total": total })
}

fn rolling() -> Status {
    let mut one = app(&[service("api", "starting", 0, 1, None, 0)]);
    one["state"] = json!("rolling");
    one["reason"] = json!("`api` is starting");
    one["pulls"] = json!([
        pull("api", 0, 0),
        pull("a-name-that-is-longer-than-its-column\u{1b}[2J", 9 << 20, 34 << 20),
        pull("worker", 5 << 20, 5 << 20)
    ]);
    status_of(&[one])
}

fn live() -> HistoryEntry {
    value(
        json!({ "format": 1, "seq": 2, "at": "2026-01-31T12:00:17Z", "event": "live", "release": id('a'), "deployment": id('b'),
                  "reason": null, "services": ["api"], "detected_at": null, "took_ms": 12_345 }),
    )
}

#[test]
fn a_screen_of_watch() {
    check(&watch::frame(&rolling(), &[live()], Paint::OFF, WIDTH, 40), include_str!("golden/watch-screen.txt"));
    let small = watch::frame(&rolling(), &[live()], Paint::OFF, 40, 8);
    assert!(small.lines().map(|line| line.chars().count().div_ceil(40).max(1)).sum::<usize>() <= 7, "{small}");
}

#[test]
fn lines_of_watch() {
    let first = rolling();
    let mut next = rolling();
    next.at = "2026-01-31T12:00:07.000Z".to_owned();
    next.problems = vec!["the Docker Engine does not answer\u{1b}[2J".to_owned()];
    let app = &mut next.apps[0];
    app.state = "monitoring".to_owned();
    app.reason = None;
    app.pulls.remove(2);
    // Into another quarter, and within one.
    app.pulls[0].done = 10;
    app.pulls[0].total = 100;
    app.pulls[1].done = 20 << 20;
    (app.services[0].state, app.services[0].ready) = ("healthy".to_owned(), 1);
    let text = watch::lines(None, &first, &[]) + &watch::lines(Some(&first), &next, &[live()]);
    check(&text, include_str!("golden/watch-lines.txt"));
    assert_eq!(watch::lines(Some(&next), &next, &[]), "", "no change, no line");
}
