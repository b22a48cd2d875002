//! `landfall break-glass`: the system's own proxy on port 80, for a while and with a reason, when the app's own way in (a tunnel, its proxy)
//! is broken. Caddy is Debian's, runs as a unit of ours, and is off otherwise.
//!
//! What is on stands in a file in memory, so a reboot ends it. A timer, without which the unit does not run, has `check` look at that file
//! every few seconds: the end at its time needs neither the agent nor whoever opened it. Each `on` and `off` is in the journal before, or
//! as soon as, it is so: nothing is opened that is not audited.

mod opened;
mod typist;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp, Unit};
use landfall_core::command::Command;
use landfall_core::journal::{self, event};
use landfall_core::layout::Layout;
use landfall_core::publish;

use self::opened::{Glass, Opened};
use crate::arguments::{duration, reason};
use crate::failure::{Exit, Failed, chain};
use crate::terminal;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const CADDY: &str = "usr/bin/caddy";
const SERVICE: &str = "landfall-break-glass.service";
const TIMER: &str = "landfall-break-glass.timer";
/// systemd waits that long for a start, and longer for nothing.
const DEADLINE: Duration = Duration::from_secs(100);
/// The longest time that is given at once.
const LONGEST: Duration = Duration::from_hours(24);
/// Who ends it at its time.
const ITSELF: &str = "landfall";

/// Arguments of `break-glass`.
#[derive(Debug, Args)]
#[command(
    after_help = "`on` and `off` need root, and are in the journal with who typed them and why. What Caddy does is in \
/etc/landfall/break-glass.caddyfile. A reboot ends it."
)]
pub struct BreakGlass {
    /// Without it: how it stands.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Open it, or give it more time; run with sudo.
    On(On),
    /// Close it; run with sudo.
    Off(Off),
    /// Close it if its time is over: what its timer runs.
    Check,
}

/// Arguments of `on`.
#[derive(Debug, Args)]
pub struct On {
    /// The reason, for the journal and `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub why: String,
    /// When it ends by itself, from now: `30m`, at most `24h`.
    #[arg(long = "for", value_name = "DURATION", value_parser = period, default_value = "1h")]
    pub period: Duration,
    /// Where visitors are led: an address of this machine, as one that a container publishes.
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:8080")]
    pub to: SocketAddr,
}

/// Arguments of `off`.
#[derive(Debug, Args)]
pub struct Off {
    /// The reason, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub why: String,
}

fn period(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        period if period <= LONGEST => Ok(period),
        _ => Err("at most 24h; say `on` again when that is not enough".to_owned()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address with its port, as in `127.0.0.1:8080` or `[::1]:8080`".to_owned())
}

/// Does it, and says so.
pub async fn run(layout: &Layout, arguments: &BreakGlass) -> Result<Exit, Failed> {
    match &arguments.verb {
        None => {
            let glass = look(layout)?;
            terminal::out(&format!("{}\n", glass.said(Some(&Timestamp::now()))));
            Ok(if glass == Glass::Off { Exit::Done } else { Exit::Different })
        }
        Some(Verb::On(on)) => open(layout, on).await,
        Some(Verb::Off(off)) => {
            privileged(layout)?;
            if look(layout)? == Glass::Off {
                eprintln!("break-glass is off already");
                return Ok(Exit::Done);
            }
            audited()?;
            close(layout, &typist::name(), &off.why).await?;
            eprintln!("break-glass is off");
            Ok(Exit::Done)
        }
        Some(Verb::Check) => check(layout).await,
    }
}

/// The line of `status`, `watch` and `verify` while it is on. One that cannot be looked at is told too.
pub fn problem(layout: &Layout, now: Option<&Timestamp>) -> Option<String> {
    match look(layout) {
        Ok(Glass::Off) => None,
        Ok(glass) => Some(glass.said(now)),
        Err(failed) => Some(failed.message),
    }
}

async fn open(layout: &Layout, on: &On) -> Result<Exit, Failed> {
    privileged(layout)?;
    if !layout.root().join(CADDY).is_file() {
        return Err(Failed::new(Exit::Failed, "there is no `/usr/bin/caddy` here, which is what would answer").next(
            "`apt install caddy`, then `systemctl disable --now caddy`: its own unit would take port 80 at each boot",
        ));
    }
    audited()?;
    let before = look(layout)?;
    let opened = Opened::new(typist::name(), on, Timestamp::now().round(Unit::Second).unwrap_or_default(), uptime()?);
    // First: whatever ends this program from here on leaves what it did in the journal, and an end behind it.
    tracing::warn!(
        MESSAGE_ID = event::BREAK_GLASS_ON,
        LANDFALL_WHO = opened.who,
        LANDFALL_WHY = opened.why,
        LANDFALL_UNTIL = opened.until,
        LANDFALL_TO = opened.to,
        "break-glass is on until {}, by {}: {}",
        opened.until,
        opened.who,
        opened.why
    );
    let written = |error: io::Error| Failed::new(Exit::Failed, format!("cannot write below /run/landfall: {error}"));
    publish::write_volatile(&layout.break_glass_environment(), opened.environment().as_bytes(), 0o644)
        .map_err(written)?;
    publish::write_json_volatile(&layout.break_glass(), &opened).map_err(written)?;
    // One that runs is kept, but where it leads elsewhere now.
    let verb = if before.leads_to(&opened.to) { "start" } else { "restart" };
    if let Err(why) = systemctl(&[verb, SERVICE]).await {
        close(layout, &opened.who, "it did not start").await?;
        return Err(Failed::new(Exit::Failed, format!("break-glass did not start, and is off: {why}"))
            .next(format!("`journalctl -u {SERVICE} -n 20`; where a container has port 80, stop it, or change the port in /etc/landfall/break-glass.caddyfile")));
    }
    eprintln!("{}", Glass::On(Box::new(opened)).said(Some(&Timestamp::now())));
    Ok(Exit::Done)
}

/// What the timer runs. Nobody reads what it prints.
async fn check(layout: &Layout) -> Result<Exit, Failed> {
    privileged(layout)?;
    let over = match read(layout)? {
        Some(Ok(opened)) if !opened.is_over(uptime()?) => return Ok(Exit::Done),
        Some(Ok(_)) => "its time is over",
        Some(Err(_)) => "nobody can read until when",
        None => "nobody has said until when",
    };
    audited()?;
    close(layout, ITSELF, over).await?;
    Ok(Exit::Done)
}

/// The file goes after the unit, and the timer last: whatever ends this program on the way, the timer has it begin again.
async fn close(layout: &Layout, who: &str, why: &str) -> Result<(), Failed> {
    let stopped = |what: &str, why: String| {
        Failed::new(Exit::Failed, format!("cannot stop {what}: {why}")).next(format!("`systemctl kill {SERVICE}`"))
    };
    systemctl(&["stop", SERVICE]).await.map_err(|why| stopped(SERVICE, why))?;
    tracing::warn!(
        MESSAGE_ID = event::BREAK_GLASS_OFF,
        LANDFALL_WHO = who,
        LANDFALL_WHY = why,
        "break-glass is off, by {who}: {why}"
    );
    for path in [layout.break_glass(), layout.break_glass_environment()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failed::new(Exit::Failed, format!("cannot remove `{}`: {error}", path.display())));
            }
            Ok(()) | Err(_) => {}
        }
    }
    systemctl(&["stop", TIMER]).await.map_err(|why| stopped(TIMER, why))
}

/// How it stands. What is over and not closed yet is off: nothing needs to be done about it.
fn look(layout: &Layout) -> Result<Glass, Failed> {
    Ok(match read(layout)? {
        None => Glass::Off,
        Some(Ok(opened)) if opened.is_over(uptime()?) => Glass::Off,
        Some(Ok(opened)) => Glass::On(Box::new(opened)),
        Some(Err(why)) => Glass::Garbled(why),
    })
}

fn read(layout: &Layout) -> Result<Option<Result<Opened, String>>, Failed> {
    let path = layout.break_glass();
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Opened::parse(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failed::new(Exit::Failed, format!("cannot read `{}`: {error}", path.display()))),
    }
}

fn privileged(layout: &Layout) -> Result<(), Failed> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failed::new(Exit::Failed, "break-glass is opened and closed by root").next("run it with sudo"));
    }
    if !layout.systemd().is_dir() {
        return Err(Failed::new(Exit::Failed, "break-glass is a unit, and systemd does not run here"));
    }
    Ok(())
}

fn audited() -> Result<(), Failed> {
    if journal::init_audit("landfall-break-glass", SERVICE) {
        return Ok(());
    }
    Err(Failed::new(Exit::Failed, "the journal does not answer, and nothing is opened or closed that is not audited")
        .next("`systemctl status systemd-journald`"))
}

/// Seconds since the kernel started: no clock that is set, or was wrong, makes it longer.
fn uptime() -> Result<SignedDuration, Failed> {
    let text = fs::read_to_string("/proc/uptime");
    let seconds = text.ok().and_then(|text| text.split(['.', ' ']).next()?.parse().ok());
    seconds.map(SignedDuration::from_secs).ok_or_else(|| Failed::new(Exit::Failed, "/proc/uptime cannot be read"))
}

async fn systemctl(words: &[&str]) -> Result<(), String> {
    let output = Command::new(SYSTEMCTL).args(words).env("LC_ALL", "C.UTF-8").deadline(DEADLINE).run().await;
    match output {
        Ok(output) if output.success() => Ok(()),
        Ok(output) => Err(output.last_words()),
        Err(error) => Err(chain(&error)),
    }
}
