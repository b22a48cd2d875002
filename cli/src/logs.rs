//! `landfall logs`: the last lines that an app's services wrote. What they wrote is untrusted: it is escaped here again.

use landfall_core::ids::printable;
use landfall_core::protocol::{Command, LogLine};

use crate::agent::{Agent, typed};
use crate::arguments;
use crate::failure::{Exit, Failed};
use crate::terminal::{self, Paint, column};

/// The longest line that is shown.
const TEXT: usize = 8000;
/// The widest that the column of names gets.
const NAME_WIDTH: usize = 24;

/// Asks and prints.
pub async fn run(agent: &Agent, arguments: &arguments::Logs) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let command = Command::Logs { app, service: arguments.service.clone(), lines: arguments.lines };
    let lines = agent.ask(command).await?.into_iter().map(typed).collect::<Result<Vec<LogLine>, Failed>>()?;
    terminal::out(&render(&lines, Paint::for_stdout()));
    Ok(Exit::Done)
}

/// The lines, with their service before them.
pub fn render(lines: &[LogLine], paint: Paint) -> String {
    let width = lines.iter().map(|l| l.service.chars().count()).max().unwrap_or(0).min(NAME_WIDTH);
    lines.iter().fold(String::new(), |mut text, line| {
        let name = column(&printable(&line.service, NAME_WIDTH), width);
        text.push_str(&paint.faint(&format!("{name} | ")));
        text.push_str(&printable(&line.text, TEXT));
        text.push('\n');
        text
    })
}
