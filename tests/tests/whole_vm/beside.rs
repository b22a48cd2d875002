//! What stands beside the stack on a VM: cloudflared and Alloy, whose units do nothing without their programs and start by themselves when
//! their credentials are here, and break-glass, the system's own proxy. cloudflared and Alloy are stand-ins, which show what they can reach;
//! they come onto the machine as `make image EXTRAS=DIR` brings the real ones.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use landfall_core::journal::event;
use landfall_tests::life::{Guest as _, Life};
use landfall_tests::machine::Machine;
use landfall_tests::ran::Ran;
use landfall_tests::wait::eventually;
use landfall_tests::{prober, world};
use serde_json::{Value, json};

use crate::{PATIENCE, Place};

const TOKEN: &str = "of-the-tunnel";
const PASSWORD: &str = "of-the-shipper";
/// Says what it can do, each with a word of what it stands for.
const PROBES: &str = r#"
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "can $name"; else echo "cannot $name"; fi; }
try read-the-token cat /run/credentials/cloudflared.service/TUNNEL_TOKEN
try read-the-password cat /run/credentials/alloy.service/REMOTE_PASSWORD
try read-the-memory-of-secrets cat /run/landfall/secrets/.units/alloy.service/REMOTE_PASSWORD
try ask-docker curl --silent --fail --unix-socket /run/docker.sock http://d/version
try ask-for-the-identity curl --silent --max-time 5 http://169.254.169.254/
try read-the-journal sh -c 'journalctl --quiet --lines=1 | grep -q .'
try read-the-metrics cat /run/landfall/agent/metrics/landfall.prom
try write-to-the-disk touch /etc/of-a-stand-in
"#;
const ALL: usize = 8;

#[test]
#[ignore = "needs a machine and a network of its own: `make test-vm`"]
fn what_is_beside_the_stack() -> Result<()> {
    let place = Place::new("beside", "off")?;
    place.life(Vec::new())?.tell(|story| {
        story.world.sandbox.set_secret("kv", "tunnel-token", TOKEN)?;
        story.world.sandbox.set_secret("kv", "telemetry-password", PASSWORD)?;
        named_in_the_settings(&place, story)?;
        story.publish("v1")?;
        story.guest.power_on()?;
        story.serves("v1")?;
        story.cloud_init_is_done()?;
        // The tests' settings were there before those that they are laid over, which it said.
        story.told(&["systemctl", "restart", "landfall-host"])?;
        without_their_programs_nothing_is_tried(story)?;
        break_glass(story)?;
        story.guest.cut_power()?;
        stand_ins(&place, &story.guest)?;
        story.guest.power_on()?;
        story.serves("v1")?;
        ensure!(!is_open(), "a reboot has not ended break-glass");
        ensure!(state(story)?.contains("is off"), "a reboot has not ended break-glass");
        they_run_by_themselves(story)?;
        a_program_that_goes_is_no_failure(story)
    })
}

fn named_in_the_settings(place: &Place, story: &Life<Machine>) -> Result<()> {
    let units = json!({ "units": {
        "cloudflared.service": { "TUNNEL_TOKEN": "tunnel-token" },
        "alloy.service": { "REMOTE_PASSWORD": "telemetry-password" },
    } });
    let settings = "/etc/landfall/landfall.d/60-beside.yaml".to_owned();
    place.lay_down(&story.guest, &settings, units.to_string())?;
    let there = "https://telemetry.acme.example";
    let variables = format!("METRICS_URL={there}/push\nLOGS_URL={there}/logs\nREMOTE_USER=acme\n");
    place.lay_down(&story.guest, "/etc/landfall/alloy.env", variables)
}

/// The image as it ships: the secrets are here, and nobody wants them.
fn without_their_programs_nothing_is_tried(story: &Life<Machine>) -> Result<()> {
    eventually(PATIENCE, "the credentials are here", || {
        story.told(&["test", "-s", "/run/landfall/secrets/.units/alloy.service/REMOTE_PASSWORD"]).map(drop)
    })?;
    for (unit, is) in [
        ("cloudflared.path", "disabled"),
        ("alloy.path", "disabled"),
        ("cloudflared.service", "static"),
        ("alloy.service", "static"),
        ("caddy.service", "disabled"),
        ("landfall-break-glass.service", "static"),
    ] {
        let said = story.guest.run(&["systemctl", "is-enabled", unit])?;
        ensure!(said.stdout.trim() == is, "{unit} is {said:?}, not {is}");
        ensure!(is_active(story, unit)? == "inactive", "{unit} is active");
    }
    for unit in ["cloudflared", "alloy"] {
        // By hand, as somebody does who has not read on.
        story.told(&["systemctl", "start", &format!("{unit}.path"), &format!("{unit}.service")])?;
        ensure!(is_active(story, &format!("{unit}.service"))? == "inactive", "{unit} is active without its program");
    }
    nothing_failed(story)
}

/// By the script that makes the image.
fn stand_ins(place: &Place, machine: &Machine) -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    let tree = place.directory.path().join("extras");
    let (root, files) = (tree.join("root"), tree.join("files"));
    std::fs::create_dir_all(root.join("usr/lib"))?;
    std::fs::create_dir_all(&files)?;
    let image = repository.join("packaging/image/root/usr/lib/systemd");
    run(Command::new("cp").arg("-r").arg(image).arg(root.join("usr/lib")))?;
    let mut list = String::new();
    for (name, credential) in
        [("cloudflared", "$4 $5"), ("alloy", "--token-file $CREDENTIALS_DIRECTORY/REMOTE_PASSWORD")]
    {
        let script = format!(
            "#!/bin/sh\nset -- {credential}\n[ \"$1\" = --token-file ] || exit 1\necho \"has $(cat \"$2\")\"\n{PROBES}\necho done\nexec sleep infinity\n"
        );
        std::fs::write(files.join(name), script)?;
        let sum = run(Command::new("sha256sum").arg(files.join(name)))?;
        let sum = sum.split(' ').next().unwrap_or_default();
        list.push_str(&format!("{name} 0 {sum} - /usr/bin/{name} {name}.path https://stand-in.example/{name}\n"));
    }
    std::fs::write(tree.join("list"), list)?;
    let mut script = Command::new(repository.join("tools/image-extras.sh"));
    run(script.arg(&root).arg(tree.join("list")).arg(&files))?;
    machine.lay_tree(&root)
}

fn they_run_by_themselves(story: &Life<Machine>) -> Result<()> {
    for (unit, has, allowed) in [
        ("cloudflared.service", TOKEN, &["read-the-token"][..]),
        ("alloy.service", PASSWORD, &["read-the-password", "read-the-journal", "read-the-metrics"]),
    ] {
        let said = eventually(PATIENCE, &format!("{unit} has said what it can do"), || {
            let said = story.told(&["journalctl", "-b", "-u", unit, "-o", "cat", "--no-pager"])?;
            ensure!(said.lines().any(|line| line == "done"), "{said}");
            Ok(said)
        })?;
        ensure!(said.contains(&format!("has {has}\n")), "{unit} has not its credential: {said}");
        let can: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("can ")).collect();
        ensure!(can == allowed, "{unit} can {can:?}");
        let cannot = said.lines().filter(|line| line.starts_with("cannot ")).count();
        ensure!(can.len() + cannot == ALL, "{said}");
        ensure!(is_active(story, unit)? == "active", "{unit} has ended");
    }
    // The probes do what they should: root, outside, can all of it.
    let said = story.told(&["sh", "-c", PROBES])?;
    ensure!(said.lines().filter(|line| line.starts_with("can ")).count() == ALL, "root: {said}");
    nothing_failed(story)?;
    for unit in ["cloudflared.service", "alloy.service"] {
        let process = || story.told(&["systemctl", "show", "--property=MainPID", "--value", unit]);
        let before = process()?;
        story.told(&["kill", "-9", before.trim()])?;
        eventually(PATIENCE, &format!("{unit} is back"), || {
            let now = process()?;
            ensure!(now != before && now.trim() != "0", "{now}");
            Ok(())
        })?;
    }
    Ok(())
}

fn a_program_that_goes_is_no_failure(story: &mut Life<Machine>) -> Result<()> {
    story.told(&["rm", "/usr/bin/cloudflared", "/usr/bin/alloy"])?;
    story.cut_power_and_boot()?;
    story.serves("v1")?;
    for unit in ["cloudflared", "alloy"] {
        for kind in ["path", "service"] {
            ensure!(is_active(story, &format!("{unit}.{kind}"))? == "inactive", "{unit}.{kind} is active");
        }
    }
    nothing_failed(story)
}

/// On a machine on which the app answers. Left on.
fn break_glass(story: &Life<Machine>) -> Result<()> {
    ensure!(!is_open(), "something answers at port 80");
    said(story, "", 0, "break-glass is off")?;
    said(story, "off --why x", 0, "off already")?;
    said(story, "on", 2, "--why")?;
    let stranger =
        story.guest.run(&["runuser", "--user", "ops", "--", "landfall", "break-glass", "on", "--why", "x"])?;
    ensure!(stranger.code == 1 && stranger.stderr.contains("run it with sudo"), "{stranger:?}");
    story.told(&["mv", "/usr/bin/caddy", "/usr/bin/caddy.away"])?;
    said(story, "on --why x", 1, "apt install caddy")?;
    story.told(&["mv", "/usr/bin/caddy.away", "/usr/bin/caddy"])?;
    ensure!(entries(story, event::BREAK_GLASS_ON)?.is_empty(), "what was refused is in the journal as done");

    port_80_is_taken(story)?;

    // Opened: the app answers at another port too, and everybody is told.
    let opened = story.told(&["env", "SUDO_USER=ops", "landfall", "break-glass", "on", "--why", "the tunnel is down"]);
    opened.context("it does not open")?;
    ensure!(at_port_80().is_ok_and(|version| version == "v1"), "{:?}", at_port_80());
    let status = story.guest.run(&["landfall", "status"])?;
    ensure!(status.code == 10 && status.stdout.starts_with("problem: break-glass is on until"), "{status:?}");
    let words = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words.contains("by ops: the tunnel is down"), "{status:?}");
    let status: Value = serde_json::from_str(&story.guest.run(&["landfall", "status", "--json"])?.stdout)?;
    ensure!(status["problems"][0].as_str().is_some_and(|text| text.starts_with("break-glass is on")), "{status}");
    let watch = "landfall watch >/run/watched & until grep break-glass /run/watched; do sleep 0.1; done; kill $!";
    let watched = story.told(&["timeout", "30", "sh", "-c", watch])?;
    ensure!(watched.contains("problem: break-glass is on until"), "{watched}");
    let verified = story.guest.run(&["landfall", "verify", "--json"])?.stdout;
    let warned = verified.lines().any(|line| line.contains("\"check\":\"break-glass\"") && line.contains("\"warn\""));
    ensure!(warned, "{verified}");
    let told = entries(story, event::BREAK_GLASS_ON)?;
    ensure!(told.len() == 2, "one that did not start, one that did: {told:?}");
    for (field, value) in
        [("LANDFALL_WHO", "ops"), ("LANDFALL_WHY", "the tunnel is down"), ("LANDFALL_TO", "127.0.0.1:8080")]
    {
        ensure!(told[1][field] == value, "{field}: {}", told[1]);
    }

    // Again: more time, and elsewhere, where nobody answers. Not even kill -9 ends it.
    said(story, "on --why longer --for 2h --to 127.0.0.1:9", 0, "is on until")?;
    let page = at_port_80().err().unwrap_or_default();
    ensure!(page.starts_with("503") && page.contains("being mended"), "{page}");
    let told = entries(story, event::BREAK_GLASS_ON)?.split_off(1);
    let until = |entry: &Value| entry["LANDFALL_UNTIL"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let ends: Vec<_> = told.iter().filter_map(until).map(jiff::Timestamp::as_second).collect();
    ensure!(ends.len() == 2 && ends[1] - ends[0] >= 3600, "{told:?}");
    story.told(&["pkill", "--signal", "KILL", "--exact", "caddy"])?;
    eventually(PATIENCE, "it is back", || {
        ensure!(at_port_80().is_err_and(|why| why.starts_with("503")), "{:?}", at_port_80());
        Ok(())
    })?;
    said(story, "off --why 'it works again'", 0, "break-glass is off")?;
    closed(story, "root", "it works again")?;

    // By itself, and what ends it is not to be taken away.
    said(story, "on --why x --for 6s", 0, "is on until")?;
    closed(story, "landfall", "its time is over")?;
    said(story, "on --why x", 0, "is on until")?;
    story.told(&["systemctl", "stop", "landfall-break-glass.timer"])?;
    ensure!(!is_open(), "it is open without what ends it");
    // Left on for the reboot.
    said(story, "on --why y", 0, "is on until")?;
    ensure!(is_open(), "it does not open again");
    nothing_failed(story)
}

/// It says so, is off, and has ended in the journal as it began there.
fn port_80_is_taken(story: &Life<Machine>) -> Result<()> {
    let mut taker = vec!["systemd-run", "--quiet", "--unit=taker", "--property=Type=notify"];
    let listens =
        "import os,socket,time; s=socket.create_server(('',80)); os.system('systemd-notify --ready'); time.sleep(999)";
    taker.extend(["--property=NotifyAccess=all", "python3", "-c", listens]);
    story.told(&taker)?;
    said(story, "on --why x", 1, "break-glass did not start, and is off")?;
    story.told(&["systemctl", "stop", "taker"])?;
    closed(story, "root", "it did not start")?;
    nothing_failed(story)
}

/// Closed, with the reason in the journal's last entry about it.
fn closed(story: &Life<Machine>, who: &str, why: &str) -> Result<()> {
    eventually(PATIENCE, &format!("it is off: {why}"), || {
        let last = entries(story, event::BREAK_GLASS_OFF)?.pop().context("no entry")?;
        ensure!(last["LANDFALL_WHY"] == why && last["LANDFALL_WHO"] == who, "{last}");
        for unit in ["landfall-break-glass.service", "landfall-break-glass.timer"] {
            ensure!(is_active(story, unit)? == "inactive", "{unit} is active");
        }
        Ok(())
    })?;
    ensure!(!is_open(), "something answers at port 80");
    ensure!(state(story)?.contains("is off"), "it does not say so");
    let status = story.guest.run(&["landfall", "status"])?;
    ensure!(!status.stdout.contains("break-glass"), "{status:?}");
    Ok(())
}

/// `landfall break-glass …` as root ends so and says this.
fn said(story: &Life<Machine>, line: &str, code: i32, words: &str) -> Result<()> {
    let ran = story.guest.run(&["sh", "-c", &format!("landfall break-glass {line}")])?;
    let text = format!("{}{}", ran.stdout, ran.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(ran.code == code && text.contains(words), "`{line}`: {ran:?}");
    Ok(())
}

fn state(story: &Life<Machine>) -> Result<String> {
    Ok(story.guest.run(&["landfall", "break-glass"])?.stdout)
}

/// The journal's entries of an event, oldest first: all of them are found with the unit.
fn entries(story: &Life<Machine>, id: &str) -> Result<Vec<Value>> {
    let (unit, id) = ("--unit=landfall-break-glass.service", format!("MESSAGE_ID={id}"));
    let ran = story.guest.run(&["journalctl", "--output=json", "--no-pager", unit, &id])?;
    ran.stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// What users get at port 80: a version, or why there is none.
fn at_port_80() -> Result<String, String> {
    prober::ask(&format!("http://{}:80/", world::MACHINE)).map(|served| served.version)
}

fn is_open() -> bool {
    std::net::TcpStream::connect((world::MACHINE, 80)).is_ok()
}

fn is_active(story: &Life<Machine>, unit: &str) -> Result<String> {
    Ok(story.guest.run(&["systemctl", "is-active", unit])?.stdout.trim().to_owned())
}

fn nothing_failed(story: &Life<Machine>) -> Result<()> {
    let failed = story.told(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"])?;
    // The tests' machines have their cable configured from outside, so networkd may not start, whoever asks its socket.
    let failed: Vec<&str> = failed.lines().filter(|line| !line.starts_with("systemd-networkd.socket ")).collect();
    ensure!(failed.is_empty(), "failed: {failed:?}");
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let ran = Ran::of(command)?;
    ensure!(ran.code == 0, "{command:?} ended with {}: {}", ran.code, ran.stderr);
    Ok(ran.stdout)
}
