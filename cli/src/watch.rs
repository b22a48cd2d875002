//! `landfall watch`: what an app does, as it does it. On a terminal one screen that is drawn anew, elsewhere a line for each change.
//! It asks the agent a few times a second, by what costs no question to the Engine; rendering is pure.

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::ids::{AppName, printable};
use landfall_core::layout::Layout;
use landfall_core::protocol::{AppStatus, Cause, Command, HistoryEntry, HistoryEvent, Status};
use terminal_size::{Height, Width};

use crate::agent::{Agent, only, typed};
use crate::failure::{Exit, Failed};
use crate::terminal::{self, Paint, WIDTH, cut, took, wrap};
use crate::{arguments, history, status};

/// Between two looks.
const PACE: Duration = Duration::from_millis(300);
/// So many of the last events are on the screen.
const EVENTS: usize = 5;
/// So many may have happened between two looks.
const AT_ONCE: usize = 50;
/// The longest text from the agent that is shown as one.
const TEXT: usize = 400;
/// Plain lines tell a pull in steps of so many percent.
const STEP: u64 = 25;

/// Shows it until the outcome of a rollout, or until somebody stops this program.
pub async fn run(layout: &Layout, agent: &Agent, arguments: &arguments::Watch) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let mut seen = events(agent, &app, 1).await?.last().map_or(0, |entry| entry.seq);
    let on_screen = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let (mut before, mut told, mut drawn): (Option<Status>, Vec<HistoryEntry>, String) = Default::default();
    loop {
        let (mut now, news) = match (look(agent, &app, before.as_ref(), seen).await, &before) {
            (Ok(looked), _) => looked,
            // There was an agent: it is being started again.
            (Err(failed), Some(last)) if failed.exit == Exit::Unreachable => {
                (Status { problems: vec![failed.message], ..last.clone() }, Vec::new())
            }
            (Err(failed), _) => return Err(failed),
        };
        // A line for each minute that passes would be no news.
        now.problems.splice(0..0, status::of_the_machine(layout, on_screen.then(Timestamp::now).as_ref()));
        seen = news.last().map_or(seen, |entry| entry.seq);
        let end = news.iter().find_map(outcome).filter(|_| arguments.once);
        if on_screen {
            told.extend(news);
            told.drain(..told.len().saturating_sub(EVENTS));
            let size = terminal_size::terminal_size();
            let (width, height) = size.map_or((WIDTH, 24), |(Width(w), Height(h))| (w.into(), h.into()));
            let screen = frame(&now, &told, Paint::for_stdout(), width, height);
            terminal::out(&format!("{}{screen}", wipe(&drawn, width)));
            drawn = screen;
        } else {
            terminal::out(&lines(before.as_ref(), &now, &news));
        }
        if let Some(exit) = end {
            return Ok(exit);
        }
        before = Some(now);
        tokio::time::sleep(PACE).await;
    }
}

/// Its status, and what has happened since `seen` where the status is another than `before`.
async fn look(
    agent: &Agent,
    app: &AppName,
    before: Option<&Status>,
    seen: u64,
) -> Result<(Status, Vec<HistoryEntry>), Failed> {
    let mut now: Status = only(agent.ask(Command::Glance {}).await?)?;
    now.apps.retain(|one| one.app == *app);
    if now.apps.is_empty() {
        return Err(Failed::new(Exit::Failed, format!("`{app}` is no longer on this VM"))
            .next("see what is: `landfall status`"));
    }
    let timeless = |status: &Status| {
        let mut app = status.apps.first().cloned()?;
        app.last_good_poll = None;
        app.pulls.clear();
        Some(app)
    };
    if before.is_some_and(|before| timeless(before) == timeless(&now)) {
        return Ok((now, Vec::new()));
    }
    let mut news = events(agent, app, AT_ONCE).await?;
    news.retain(|entry| entry.seq > seen);
    Ok((now, news))
}

async fn events(agent: &Agent, app: &AppName, last: usize) -> Result<Vec<HistoryEntry>, Failed> {
    agent.ask(Command::History { app: app.clone(), last }).await?.into_iter().map(typed).collect()
}

/// How the program ends where this is the end of a rollout.
fn outcome(entry: &HistoryEntry) -> Option<Exit> {
    match entry.event {
        HistoryEvent::Live => Some(Exit::Done),
        HistoryEvent::RolledBack | HistoryEvent::Held => Some(Exit::Failed),
        // What cannot be had now is tried again.
        HistoryEvent::Refused => {
            let passes = matches!(entry.cause, Some(Cause::Unavailable | Cause::DiskFull));
            (!passes).then_some(Exit::Refused)
        }
        HistoryEvent::RolloutStarted
        | HistoryEvent::Good
        | HistoryEvent::RollbackStarted
        | HistoryEvent::Restarted
        | HistoryEvent::Recovered
        | HistoryEvent::Operator
        | HistoryEvent::Unclean
        | HistoryEvent::Repaired
        | HistoryEvent::RepairFailed => None,
    }
}

/// A screen: the status, then the last events; never more rows than the terminal has.
pub fn frame(status: &Status, events: &[HistoryEntry], paint: Paint, width: usize, height: usize) -> String {
    let mut text = status::render(status, paint);
    if !events.is_empty() {
        text.push('\n');
        text.push_str(&history::render(events, paint));
    }
    let mut left = height.saturating_sub(1);
    let mut fits = String::new();
    for line in text.lines() {
        let needs = rows(line, width);
        if needs > left {
            break;
        }
        left -= needs;
        fits.push_str(line);
        fits.push('\n');
    }
    fits
}

/// What takes a screen that was drawn away again.
fn wipe(drawn: &str, width: usize) -> String {
    match drawn.lines().map(|line| rows(line, width)).sum::<usize>() {
        0 => String::new(),
        up => format!("\x1b[{up}A\x1b[J"),
    }
}

/// How many rows of a terminal a line takes; colours take none.
fn rows(line: &str, width: usize) -> usize {
    let mut coloured = false;
    let shown = line.chars().filter(|c| {
        let shows = !coloured && *c != '\x1b';
        coloured = *c == '\x1b' || (coloured && *c != 'm');
        shows
    });
    shown.count().div_ceil(width.max(1)).max(1)
}

/// A line for each change.
pub fn lines(before: Option<&Status>, now: &Status, events: &[HistoryEntry]) -> String {
    let mut said = Vec::new();
    let old = before.and_then(|status| status.apps.first());
    for problem in now.problems.iter().filter(|one| before.is_none_or(|before| !before.problems.contains(one))) {
        said.push(format!("problem: {}", printable(problem, TEXT)));
    }
    for app in &now.apps {
        changes(&mut said, old, app);
    }
    for entry in events {
        let release = entry.release.as_ref().map_or("-", |release| release.short());
        let after = entry.took_ms.map(|ms| format!(" after {}", took(ms))).unwrap_or_default();
        let why = entry.reason.as_ref().map(|why| format!(": {}", printable(why, TEXT))).unwrap_or_default();
        said.push(format!("event: {} of release {release}{after}{why}", entry.event.word()));
    }
    said.iter().map(|line| wrap(&format!("{} ", cut(&printable(&now.at, TEXT), 24)), 25, line)).collect()
}

fn changes(said: &mut Vec<String>, old: Option<&AppStatus>, app: &AppStatus) {
    let why =
        |app: &AppStatus| app.reason.as_ref().map(|why| format!(": {}", printable(why, TEXT))).unwrap_or_default();
    if old.is_none_or(|old| (&old.state, &old.reason) != (&app.state, &app.reason)) {
        said.push(format!("{}: {}{}", app.app, printable(&app.state, TEXT), why(app)));
    }
    let percent = |done: u64, total: u64| done.saturating_mul(100).checked_div(total).unwrap_or(0);
    for pull in &app.pulls {
        let step = |done, total| percent(done, total) / STEP;
        let then = old.and_then(|old| old.pulls.iter().find(|then| then.image == pull.image));
        if then.is_none_or(|then| step(then.done, then.total) != step(pull.done, pull.total)) {
            said.push(format!("pulling {}: {}", status::short(&pull.image), status::bytes(pull)));
        }
    }
    for gone in old.iter().flat_map(|old| &old.pulls).filter(|then| app.pulls.iter().all(|p| p.image != then.image)) {
        said.push(format!("pulling {}: ended", status::short(&gone.image)));
    }
    for one in &app.services {
        let then = old.and_then(|old| old.services.iter().find(|then| then.service == one.service));
        if then.is_none_or(|then| (&then.state, then.ready, then.wanted) != (&one.state, one.ready, one.wanted)) {
            let (service, state) = (printable(&one.service, TEXT), printable(&one.state, TEXT));
            said.push(format!("`{service}`: {state}, {} of {} ready", one.ready, one.wanted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_taken_away_by_as_many_rows_as_it_took() {
        for (line, width, wanted) in
            [("", 80, 1), ("abcd", 4, 1), ("abcde", 4, 2), ("\x1b[31mabcd\x1b[0m", 4, 1), ("ab", 0, 2)]
        {
            assert_eq!(rows(line, width), wanted, "{line:?}");
        }
        assert_eq!(wipe("abcde\nx\n", 4), "\x1b[3A\x1b[J");
        assert_eq!(wipe("", 4), "");
    }

    #[test]
    fn only_the_end_of_a_rollout_ends_it() {
        let entry = |event: &str, cause: Option<&str>| -> HistoryEntry {
            let entry = serde_json::json!({ "format": 1, "seq": 1, "at": "", "event": event, "release": null,
                "deployment": null, "reason": null, "detected_at": null, "took_ms": null, "cause": cause });
            serde_json::from_value(entry).unwrap()
        };
        for (event, cause, wanted) in [
            ("live", None, Some(Exit::Done)),
            ("rolled-back", None, Some(Exit::Failed)),
            ("held", Some("exited"), Some(Exit::Failed)),
            ("refused", Some("refused"), Some(Exit::Refused)),
            ("refused", None, Some(Exit::Refused)),
            ("refused", Some("unavailable"), None),
            ("good", None, None),
            ("rollback-started", Some("late"), None),
            ("rollout-started", None, None),
        ] {
            assert_eq!(outcome(&entry(event, cause)), wanted, "{event} {cause:?}");
        }
    }
}
