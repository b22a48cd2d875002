//! `landfall status`: one screen that answers "is it well, and what comes next". Rendering is pure; ages are against the
//! agent's own clock, so that a wrong clock here shows no wrong age.

use std::fmt::Write as _;

use jiff::Timestamp;
use landfall_core::ids::printable;
use landfall_core::layout::Layout;
use landfall_core::protocol::{AppStatus, Command, PullStatus, ServiceStatus, Status};

use crate::agent::{Agent, json_lines, only};
use crate::arguments;
use crate::break_glass;
use crate::failure::{Exit, Failed};
use crate::host::disk;
use crate::terminal::{self, Paint, WIDTH, age, column, cut, paragraph, size, wrap};

/// The longest text from the agent that is shown as one.
const TEXT: usize = 400;
/// The longest of this machine itself, with what to do.
const TROUBLE: usize = 1200;
/// Before what a line says.
const KEY_WIDTH: usize = 13;
const APP_WIDTH: usize = 24;
const APP_STATE_WIDTH: usize = 12;
const SERVICE_WIDTH: usize = 22;
const STATE_WIDTH: usize = 11;
/// The name of an image, `@` and 12 digits.
const IMAGE_WIDTH: usize = 32;
/// A progress bar without its ends.
const BAR: usize = 12;

/// Asks and prints. Exit code 10 where something is not healthy.
pub async fn run(layout: &Layout, agent: &Agent, arguments: &arguments::Status) -> Result<Exit, Failed> {
    let ours = of_the_machine(layout, Some(&Timestamp::now()));
    let asked = agent.ask(Command::Status {}).await;
    if asked.is_err() {
        for text in &ours {
            eprint!("{}", problem(&printable(text, TROUBLE), Paint::for_stderr()));
        }
    }
    let mut data = asked?;
    let mut status: Status = only(data.clone())?;
    for told in data.iter_mut().filter_map(|line| line.get_mut("problems")?.as_array_mut()) {
        told.splice(0..0, ours.iter().cloned().map(Into::into));
    }
    status.problems.splice(0..0, ours);
    if arguments.json {
        terminal::out(&json_lines(&data));
    } else {
        terminal::out(&render(&status, Paint::for_stdout()));
    }
    Ok(if healthy(&status) { Exit::Done } else { Exit::Different })
}

/// What is wrong with the machine itself: the agent may not look at disks and knows nothing of break-glass, and it may be what is broken.
/// `now` as [`break_glass::problem`] has it.
pub fn of_the_machine(layout: &Layout, now: Option<&Timestamp>) -> Vec<String> {
    let trouble = disk::trouble(layout).map(|trouble| printable(&trouble, TROUBLE));
    trouble.into_iter().chain(break_glass::problem(layout, now)).collect()
}

fn problem(text: &str, paint: Paint) -> String {
    wrap(&format!("{} ", paint.bad("problem:")), 9, text)
}

/// Whether all that should serve does, and nobody has to act.
pub fn healthy(status: &Status) -> bool {
    problems(status).next().is_none() && status.apps.iter().all(app_healthy)
}

fn problems(status: &Status) -> impl Iterator<Item = &String> {
    status.problems.iter().filter(|p| *p != "ok")
}

fn app_healthy(app: &AppStatus) -> bool {
    app.release.is_some()
        && !matches!(app.state.as_str(), "held" | "rolling-back")
        && app.services.iter().all(|s| grade(s) == Grade::Good)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Busy,
    Bad,
}

fn grade(service: &ServiceStatus) -> Grade {
    match service.state.as_str() {
        "completed" => Grade::Good,
        "healthy" | "running" if service.ready >= service.wanted => Grade::Good,
        "healthy" | "running" | "starting" => Grade::Busy,
        _ => Grade::Bad,
    }
}

/// The screen.
pub fn render(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    for said in problems(status) {
        text.push_str(&problem(&printable(said, TEXT), paint));
    }
    if status.apps.is_empty() {
        text.push_str("no app is configured, and there is no preview; add one to /etc/landfall/landfall.yaml, then `landfall check`\n");
    }
    for (count, app) in status.apps.iter().enumerate() {
        if count > 0 {
            text.push('\n');
        }
        render_app(&mut text, app, &status.at, paint);
    }
    text
}

fn render_app(text: &mut String, app: &AppStatus, at: &str, paint: Paint) {
    let state = cut(&printable(&app.state, TEXT), APP_STATE_WIDTH);
    let state = match app.state.as_str() {
        "idle" if app_healthy(app) => paint.good(&state),
        "held" | "rolling-back" => paint.bad(&state),
        _ => paint.busy(&state),
    };
    let release = app.release.as_ref().map_or("no release yet".to_owned(), |r| format!("release {}", r.short()));
    let polled = match app.last_good_poll.as_deref().map(|then| age(at, then)) {
        Some(Some(age)) => format!("polled {age} ago"),
        Some(None) => "poll time unknown".to_owned(),
        None => "never polled".to_owned(),
    };
    let name = paint.strong(&cut(app.app.as_str(), APP_WIDTH));
    let _ = writeln!(text, "{name}  {state}  {release}  {polled}");
    line(text, "channel", &cut(&printable(&app.channel, TEXT), WIDTH - 13));
    for credential in &app.credentials {
        let (registry, expires) = (printable(&credential.registry, TEXT), printable(&credential.expires, TEXT));
        let word = if is_over(at, &credential.expires) { "expired" } else { "expires" };
        line(text, "credential", &format!("of `{registry}` {word} {expires}"));
    }
    if let Some(stale) = &app.stale_secrets {
        let ago = age(at, &stale.checked_at).unwrap_or_else(|| format!("{} s", stale.age_s));
        let more = match stale.services.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let reason = cut(&stale.reason, TEXT);
        let said = format!(
            "stale: those of `{}`{more} were last confirmed {ago} ago: {reason}; next: {}",
            stale.service, stale.next
        );
        text.push_str(&paragraph(&key("secrets"), KEY_WIDTH, &said));
    }
    for unclean in &app.unclean {
        let said = format!("{}; to repair:", unclean.reason);
        text.push_str(&paragraph(&key("unclean"), KEY_WIDTH, &said));
        // Whole, to be pasted: not wrapped, not cut.
        let _ = writeln!(text, "{:KEY_WIDTH$}{}", "", printable(&unclean.repair, usize::MAX));
    }
    if let Some(hold) = &app.hold {
        line(text, "hold", &printable(hold, TEXT));
    }
    if let Some(reason) = &app.reason {
        text.push_str(&paragraph(&key("reason"), KEY_WIDTH, reason));
    }
    for pull in &app.pulls {
        let image = column(&short(&pull.image), IMAGE_WIDTH);
        let _ = writeln!(text, "{}{image} {} {}", key("pull"), bar(pull.done, pull.total), bytes(pull));
    }
    for (deployment, reason) in &app.quarantined {
        line(text, "quarantine", &format!("{} {}", deployment.short(), printable(reason, TEXT)));
    }
    if !app.services.is_empty() {
        let head = format!(
            "  {} {} {:>5}  {:<13} {:>8}  IMAGE",
            column("SERVICE", SERVICE_WIDTH),
            column("STATE", STATE_WIDTH),
            "READY",
            "MEMORY",
            "RESTARTS"
        );
        text.push_str(&paint.faint(&head));
        text.push('\n');
    }
    for service in &app.services {
        render_service(text, service, paint);
    }
    line(text, "next", &printable(&app.next, TEXT));
}

/// A reference as people tell images apart: its last part, with the beginning of the digest.
pub fn short(image: &str) -> String {
    let name = printable(image, TEXT);
    let (name, digest) = name.split_once("@sha256:").unwrap_or((&name, ""));
    let name = cut(name.rsplit('/').next().unwrap_or(name), IMAGE_WIDTH - 13);
    if digest.is_empty() { name } else { format!("{name}@{}", digest.chars().take(12).collect::<String>()) }
}

/// How much of an image is here.
pub fn bytes(pull: &PullStatus) -> String {
    match (pull.done, pull.total) {
        (_, 0) => "begins".to_owned(),
        (done, total) if done >= total => format!("{}, is unpacked", size(total)),
        (done, total) => format!("{} of {}", size(done), size(total)),
    }
}

/// A bar of [`BAR`] signs; full only where all is here.
fn bar(done: u64, total: u64) -> String {
    let filled = (u128::from(done.min(total)) * BAR as u128).checked_div(u128::from(total)).unwrap_or(0);
    let filled = usize::try_from(filled).unwrap_or(0);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR - filled))
}

/// Whether `then` is past at `at`; what is no time is not.
fn is_over(at: &str, then: &str) -> bool {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    parse(then).zip(parse(at)).is_some_and(|(then, at)| then <= at)
}

fn render_service(text: &mut String, service: &ServiceStatus, paint: Paint) {
    let state = column(&printable(&service.state, TEXT), STATE_WIDTH);
    let state = match grade(service) {
        Grade::Good => paint.good(&state),
        Grade::Busy => paint.busy(&state),
        Grade::Bad => paint.bad(&state),
    };
    let memory = match (service.memory, service.memory_cap) {
        (Some(used), Some(cap)) => format!("{} of {}", size(used), size(cap)),
        (Some(used), None) => size(used),
        (None, Some(cap)) => format!("- of {}", size(cap)),
        (None, None) => "-".to_owned(),
    };
    let row = format!(
        "  {} {state} {:>5}  {} {:>8}  {}",
        column(&printable(&service.service, TEXT), SERVICE_WIDTH),
        format!("{}/{}", service.ready, service.wanted),
        column(&memory, 13),
        service.restarts,
        cut(&printable(&service.image, TEXT), 12),
    );
    text.push_str(row.trim_end());
    text.push('\n');
}

fn line(text: &mut String, key: &str, value: &str) {
    text.push_str(&wrap(&self::key(key), KEY_WIDTH, value));
}

/// [`KEY_WIDTH`] wide.
fn key(name: &str) -> String {
    format!("  {name:<10} ")
}
