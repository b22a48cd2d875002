//! `landfall history`: how the rollouts of an app went, oldest first. Rendering is pure.

use landfall_core::ids::printable;
use landfall_core::protocol::{Command, HistoryEntry, HistoryEvent};

use crate::agent::{Agent, json_lines, typed};
use crate::arguments;
use crate::failure::{Exit, Failed};
use crate::terminal::{self, Paint, cut, paragraph, took, wrap};

/// The longest text from the agent that is shown as one.
const TEXT: usize = 1000;

/// Asks and prints.
pub async fn run(agent: &Agent, arguments: &arguments::History) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let data = agent.ask(Command::History { app: app.clone(), last: arguments.last }).await?;
    if arguments.json {
        terminal::out(&json_lines(&data));
        return Ok(Exit::Done);
    }
    let entries = data.into_iter().map(typed).collect::<Result<Vec<HistoryEntry>, Failed>>()?;
    if entries.is_empty() {
        eprintln!("nothing has happened to `{app}` yet");
    } else {
        terminal::out(&render(&entries, Paint::for_stdout()));
    }
    Ok(Exit::Done)
}

/// The table.
pub fn render(entries: &[HistoryEntry], paint: Paint) -> String {
    let mut text =
        paint.faint(&format!("{:<20} {:<17} {:<12} {:>6}  SERVICES", "WHEN (UTC)", "EVENT", "RELEASE", "TOOK"));
    text.push('\n');
    for entry in entries {
        let event = format!("{:<17}", entry.event.word());
        let event = match entry.event {
            HistoryEvent::Live
            | HistoryEvent::Good
            | HistoryEvent::RolledBack
            | HistoryEvent::Recovered
            | HistoryEvent::Repaired => paint.good(&event),
            HistoryEvent::RollbackStarted
            | HistoryEvent::Refused
            | HistoryEvent::Held
            | HistoryEvent::Unclean
            | HistoryEvent::RepairFailed => paint.bad(&event),
            HistoryEvent::RolloutStarted | HistoryEvent::Restarted | HistoryEvent::Operator => event,
        };
        let release = entry.release.as_ref().map_or("-", |r| r.short());
        let took = entry.took_ms.map_or_else(String::new, took);
        let services = printable(&entry.services.join(", "), TEXT);
        let row = format!("{:<20} {event} {release:<12} {took:>6}  ", when(&entry.at));
        if services.chars().count() <= 20 {
            text.push_str(format!("{row}{services}").trim_end());
            text.push('\n');
        } else {
            text.push_str(row.trim_end());
            text.push('\n');
            text.push_str(&wrap("    ", 4, &services));
        }
        if let Some(reason) = &entry.reason {
            text.push_str(&paragraph("    ", 4, reason));
        }
    }
    text
}

/// `2026-01-31T12:00:05.123Z` to the second, without the letters; other text as it is, cut.
fn when(at: &str) -> String {
    match at.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => cut(&printable(at, TEXT), 20),
    }
}
