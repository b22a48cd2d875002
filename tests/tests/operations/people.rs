//! Who may do what on a machine, and what strangers can do to it: users and the agent's socket, whoever flushes the guard, a registry that
//! answers with what is to look like our own words in the journal.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_core::journal::event;
use landfall_core::protocol::HistoryEvent;
use landfall_tests::artifact::{self, BUNDLE, FILE, Layer};
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{Stage, run};

/// How soon the guard must be back, and how long it is waited for.
const BACK: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_secs(90);
/// What the forged words are found by.
const FORGED: &str = "forged";

/// A member of the group uses the socket; who is none is told which it is.
pub fn an_operator_needs_no_root(stage: &Stage) -> Result<()> {
    run(
        "useradd operator-of-a-test && usermod --append --groups landfall-operators operator-of-a-test && useradd passer-by",
    )?;
    let typed = |user: &str, line: &str| {
        let ids = format!("--reuid={user} --regid={user} --init-groups --inh-caps=-all --bounding-set=-all");
        stage.shell(&format!("setpriv {ids} landfall {line}"))
    };
    let app = stage.vm.app.as_str();
    let status = typed("operator-of-a-test", "status")?;
    ensure!(status.code == 0 && status.stdout.contains(app), "{status:?}");
    let seq = stage.vm.last_seq()?;
    let held = typed("operator-of-a-test", "hold --why 'no root was needed'")?;
    ensure!(held.code == 0, "{held:?}");
    let entry = stage.vm.recorded(seq, HistoryEvent::Operator, None)?;
    let id = run("id -u operator-of-a-test")?;
    let reason = entry.reason.unwrap_or_default();
    ensure!(reason.contains("no root was needed") && reason.contains(id.trim()), "{reason}, of uid {id}");
    ensure!(typed("operator-of-a-test", "resume")?.code == 0, "not resumed");

    for line in ["status", "hold --why x", "logs"] {
        let refused = typed("passer-by", line)?;
        ensure!(refused.code == 5 && refused.stdout.is_empty(), "{line}: {refused:?}");
        let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(said.contains("become a member of group `landfall-operators`"), "{line}: {refused:?}");
        ensure!(said.contains("sudo usermod -aG landfall-operators $USER"), "{line}: {refused:?}");
    }
    run("userdel operator-of-a-test && userdel passer-by").map(drop)
}

/// By the timer alone, and the journal says so once.
pub fn a_guard_that_was_taken_away_comes_back() -> Result<()> {
    run("systemctl restart landfall-host.timer")?;
    let since = run("date +%s.%N")?;
    let guard_restored = format!("MESSAGE_ID={}", event::GUARD_RESTORED);
    let told =
        || journal(&["--unit", "landfall-host-check", "--since", &format!("@{}", since.trim()), &guard_restored]);
    run("nft delete table inet landfall_guard")?;
    let gone = Instant::now();
    eventually(PATIENCE, "the guard is back", || run("nft list table inet landfall_guard").map(drop))?;
    let took = gone.elapsed();
    ensure!(took < BACK, "it took {took:?}");
    let entry = eventually(SOON, "the journal says so", || {
        let mut entries = told()?;
        ensure!(entries.len() == 1, "{entries:?}");
        entries.pop().context("no entry")
    })?;
    ensure!(entry["OBJECT_SYSTEMD_UNIT"] == "landfall-host-check.service" && entry["_UID"] == "0", "{entry}");
    ensure!(entry["LANDFALL_TABLE"] == "landfall_guard" && entry["PRIORITY"] == "4", "{entry}");
    Ok(())
}

/// In a title, a type, an annotation, the body of an error and its header: our log has the words, as words.
pub fn a_hostile_registry_forges_nothing(stage: &Stage) -> Result<()> {
    let (vm, words) = (&stage.vm, words());
    let since = run("date +%s.%N")?;
    let read = || journal(&["--since", &format!("@{}", since.trim())]);
    let compose = || Layer::compose("services: {}");
    let reason_of = |what: &str| {
        eventually(SOON, &format!("{what} is in the watcher's log"), || {
            let told = read()?
                .iter()
                .filter(|entry| is_of(entry, "landfall-image-watcher") && text_of(entry).contains(what))
                .count();
            ensure!(told > 0, "not yet");
            Ok(())
        })
    };
    artifact::push(vm, BUNDLE, &[compose(), Layer::new(FILE, &format!("../title {words}"), "x")])?;
    reason_of("title forged")?;
    artifact::push(vm, &format!("application/type {words}"), &[compose()])?;
    reason_of("type forged")?;
    let annotations = json!({ "io.landfall.channel": format!("annotation {words}"), "io.landfall.sequence": "1" });
    push_with(stage, &annotations)?;
    reason_of("annotation forged")?;
    let manifest = json!({ "io.landfall.channel": vm.channel(), "io.landfall.sequence": format!("sequence {words}") });
    push_with(stage, &manifest)?;
    reason_of("sequence forged")?;

    let hostile = Hostile::start(&words)?;
    let mut app = json!({ "channel": format!("{}/deploy:prod", hostile.0), "poll": "1s" });
    app["vars"] = json!({ "PORT": vm.port().to_string() });
    stage.write_settings(&json!({ "apps": { vm.app.as_str(): app } }))?;
    eventually(SOON, "status tells of it", || {
        let reason = vm.status()?.reason.unwrap_or_default();
        ensure!(reason.contains(&hostile.0), "{reason}");
        Ok(())
    })?;
    reason_of(&hostile.0)?;

    let ours: Vec<Value> = read()?.into_iter().filter(|entry| is_of(entry, "landfall-")).collect();
    for entry in &ours {
        // journald gives as bytes what has control characters.
        ensure!(entry["MESSAGE"].is_string(), "raw: {entry}");
        let shows_otherwise = |c: char| c.is_control() || c == '\u{202e}';
        ensure!(!text_of(entry).chars().any(shows_otherwise), "control characters: {entry}");
        ensure!(entry["LANDFALL_APP"] != FORGED && entry["LANDFALL_RELEASE"] != FORGED, "a field: {entry}");
        ensure!(entry["MESSAGE_ID"] != event::ROLLOUT_LIVE, "an event: {entry}");
        ensure!(!["0", "1", "2"].iter().any(|one| entry["PRIORITY"] == *one), "a priority: {entry}");
        // No line of it stands for itself.
        ensure!(!text_of(entry).starts_with(FORGED) && !text_of(entry).starts_with("<0>"), "a line: {entry}");
    }
    stage.write_settings(&json!({}))
}

/// What would be another line, another field, another priority or a picture on a terminal.
fn words() -> String {
    format!(
        "{FORGED} \u{1b}[2J\u{1b}]0;x\u{7}\r\n<0>{FORGED}\nMESSAGE_ID={}\n\nLANDFALL_APP={FORGED}\nPRIORITY=0\nMESSAGE={FORGED}\u{9b}31m\u{202e}",
        event::ROLLOUT_LIVE
    )
}

fn push_with(stage: &Stage, annotations: &Value) -> Result<()> {
    let (registry, repository) = (&stage.vm.registry, format!("deploy/{}", stage.vm.app));
    let text: &[u8] = b"services: {}";
    let (config, layer) = (registry.push_blob(&repository, b"{}")?, registry.push_blob(&repository, text)?);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": artifact::MANIFEST, "artifactType": BUNDLE, "annotations": annotations,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": artifact::COMPOSE, "digest": layer, "size": text.len(),
                     "annotations": { "org.opencontainers.image.title": "compose.yaml" } }],
    });
    registry.push_manifest(&repository, "prod", artifact::MANIFEST, manifest.to_string().as_bytes()).map(drop)
}

/// A registry that answers everything with an error of these words, until the test ends. By its address.
struct Hostile(String);

impl Hostile {
    fn start(words: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let body = json!({ "errors": [{ "code": words, "message": words, "detail": words }] }).to_string();
        let line = words.replace(['\r', '\n'], " ");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own business.
                let _ = answer(stream, &line, &body);
            }
        });
        Ok(Self(address))
    }
}

fn answer(mut stream: TcpStream, line: &str, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    // A HEAD has no body.
    let body = if head.starts_with("HEAD") { "" } else { body };
    write!(
        stream,
        "HTTP/1.1 500 {FORGED} <0>\r\nX-Reason: {line}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn is_of(entry: &Value, unit: &str) -> bool {
    entry["_SYSTEMD_UNIT"].as_str().is_some_and(|name| name.starts_with(unit))
}

fn text_of(entry: &Value) -> &str {
    entry["MESSAGE"].as_str().unwrap_or_default()
}

fn journal(arguments: &[&str]) -> Result<Vec<Value>> {
    let quoted: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let text = run(&format!("journalctl --output=json --all --no-pager {} || [ $? = 1 ]", quoted.join(" ")))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
