//! The commands that ask the agent, against a hand-written agent that says what a row of the table says.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use landfall::agent::Agent;
use landfall::failure::Exit;
use landfall_core::layout::Layout;
use landfall_core::protocol::{Command as Asked, Request};
use serde_json::{Value, json};

const DONE: &str = r#"{"end":true,"ok":true}"#;

/// Answers one connection for each of `answers`; returns what was asked.
fn agent(root: &Path, answers: Vec<String>) -> JoinHandle<Vec<Value>> {
    let socket = Layout::new(root).agent_socket();
    fs::create_dir_all(socket.parent().expect("a parent")).expect("created");
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a request");
            serde_json::from_str::<Request>(&line).expect("the request is per protocol");
            asked.push(serde_json::from_str(&line).expect("JSON"));
            stream.write_all(answer.as_bytes()).expect("sent");
        }
        asked
    })
}

fn landfall(root: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall"))
        .env_clear()
        .env("LANDFALL_ROOT", root)
        .args(arguments.split('|'))
        .output()
        .expect("landfall runs")
}

fn status(apps: &[&str], service_state: &str) -> Value {
    let app = |name: &&str| {
        json!({ "app": name, "channel": "ghcr.io/acme/deploy:prod", "release": "a".repeat(64), "deployment": "b".repeat(64),
                "state": "idle", "reason": null, "next": "nothing to do", "last_good_poll": null, "hold": null,
                "quarantined": {}, "a-field-of-a-newer-agent": 1,
                "services": [{ "service": "api", "state": service_state, "ready": 1, "wanted": 1, "image": "0123456789ab",
                               "memory": null, "memory_cap": null, "restarts": 0 }] })
    };
    json!({ "version": "0.1.0", "at": "2026-01-31T12:00:05.000Z", "problems": [], "apps": apps.iter().map(app).collect::<Vec<_>>() })
}

fn lines(data: &[Value], last: &str) -> String {
    data.iter().fold(String::new(), |text, value| format!("{text}{}\n", json!({ "data": value }))) + last + "\n"
}

fn failure(code: &str) -> String {
    json!({ "end": true, "ok": false, "error": { "code": code, "message": "it is not so", "next": "do this\u{1b}[2J" } }).to_string()
}

/// What is typed, what the agent answers, the exit code, a part of stdout, a part of stderr, what the agent was asked last.
type Row = (&'static str, Vec<String>, i32, &'static str, &'static str, Value);

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    let ask = |command: &str, arguments: Value| json!({ "protocol": 1, "command": command, "arguments": arguments });
    let ask_status = || ask("status", json!({}));
    let said = |text: &str| lines(&[json!(text)], DONE);
    let one = || lines(&[status(&["web"], "healthy")], DONE);
    let done = || format!("{DONE}\n");
    let steps = json!({ "release": "a".repeat(64), "deployment": "b".repeat(64), "steps": ["pull"] });
    let none = json!({ "release": "a".repeat(64), "deployment": "b".repeat(64), "steps": [] });
    vec![
        ("status", vec![one()], 0, "web  idle", "", ask_status()),
        ("status", vec![lines(&[status(&["web"], "unhealthy")], DONE)], 10, "unhealthy", "", ask_status()),
        ("status|--json", vec![one()], 0, "\"a-field-of-a-newer-agent\":1", "", ask_status()),
        (
            "hold|--why|moving",
            vec![one(), said("no release changes")],
            0,
            "",
            "`web`: no release changes",
            ask("hold", json!({ "app": "web", "why": "moving" })),
        ),
        (
            "hold|--why|x",
            vec![lines(&[status(&["a", "b"], "healthy")], DONE)],
            2,
            "",
            "several apps: `a`, `b`",
            ask_status(),
        ),
        ("resume", vec![lines(&[status(&[], "")], DONE)], 2, "", "no app is configured", ask_status()),
        ("resume|web", vec![done()], 0, "", "`web`: done", ask("resume", json!({ "app": "web" }))),
        (
            "hands-off|web|--for|90s|--why|x",
            vec![said("no healing\u{1b}")],
            0,
            "",
            "no healing\\u{1b}",
            ask("hands-off", json!({ "app": "web", "seconds": 90, "why": "x" })),
        ),
        (
            "rollback|web|--why|x",
            vec![failure("waiting") + "\n"],
            4,
            "",
            "it is not so",
            ask("rollback", json!({ "app": "web", "why": "x" })),
        ),
        (
            "retry|web",
            vec![failure("refused") + "\n"],
            3,
            "",
            "next: do this\\u{1b}[2J",
            ask("retry", json!({ "app": "web" })),
        ),
        (
            "retry|web",
            vec![failure("unknown-app") + "\n"],
            2,
            "",
            "it is not so",
            ask("retry", json!({ "app": "web" })),
        ),
        ("retry|web", vec![failure("internal") + "\n"], 1, "", "it is not so", ask("retry", json!({ "app": "web" }))),
        (
            "retry|web",
            vec![failure("a-newer-word") + "\n"],
            1,
            "",
            "it is not so",
            ask("retry", json!({ "app": "web" })),
        ),
        (
            "plan|web|0123abcd",
            vec![lines(&[steps], DONE)],
            10,
            "1. pull",
            "",
            ask("plan", json!({ "app": "web", "release": "0123abcd" })),
        ),
        (
            "plan|web",
            vec![lines(&[none], DONE)],
            0,
            "no difference",
            "",
            ask("plan", json!({ "app": "web", "release": null })),
        ),
        (
            "history|web|--last|5",
            vec![done()],
            0,
            "",
            "nothing has happened",
            ask("history", json!({ "app": "web", "last": 5 })),
        ),
        (
            "logs|web|api|--lines|2",
            vec![lines(&[json!({ "service": "api", "text": "up\u{1b}" })], DONE)],
            0,
            "api | up\\u{1b}",
            "",
            ask("logs", json!({ "app": "web", "service": "api", "lines": 2 })),
        ),
        ("status", vec!["not JSON\n".to_owned()], 1, "", "not understood", ask_status()),
        ("status", vec![String::new()], 5, "", "lost contact", ask_status()),
        ("status", vec![done()], 1, "", "0 data lines", ask_status()),
    ]
}

#[test]
fn what_is_typed_is_asked_and_answered() {
    for (typed, answers, code, out, error, asked) in rows() {
        let root = tempfile::tempdir().expect("a directory");
        let agent = agent(root.path(), answers);
        let output = landfall(root.path(), typed);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{typed}: {stdout}{stderr}");
        assert!(stdout.contains(out) && stderr.contains(error), "{typed}: {stdout}{stderr}");
        assert_eq!(agent.join().expect("the agent ends").last(), Some(&asked), "{typed}");
    }
}

#[test]
fn no_agent_is_exit_code_5_with_the_path_and_the_next_step() {
    let root = tempfile::tempdir().expect("a directory");
    let output = landfall(root.path(), "status");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr.contains("run/landfall/agent/agent.sock") && stderr.contains("systemctl status"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_agent_that_hangs_is_a_deadline_and_not_a_hang() {
    let root = tempfile::tempdir().expect("a directory");
    let socket = root.path().join("agent.sock");
    // It listens, and never accepts.
    let _listener = UnixListener::bind(&socket).expect("bound");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = Instant::now();
    let agent = Agent::new(socket).deadline(Duration::from_millis(100));
    let failed = runtime.block_on(agent.ask(Asked::Status {})).expect_err("it hangs");
    assert_eq!(failed.exit, Exit::Waiting);
    assert!(started.elapsed() < Duration::from_secs(10));
}
