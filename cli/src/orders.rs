//! What an operator orders: `hold`, `resume`, `hands-off`, `rollback`, `retry`. The agent decides; this only asks and
//! says that it was taken.

use landfall_core::ids::{AppName, printable};
use landfall_core::protocol::Command;
use serde_json::Value;

use crate::agent::Agent;
use crate::arguments::{HandsOff, Which, Why};
use crate::failure::{Exit, Failed};

/// `landfall hold`.
pub async fn hold(agent: &Agent, arguments: &Why) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let command = Command::Hold { app: app.clone(), why: arguments.why.clone() };
    order(agent, command, &format!("`{app}` is held; end it with `landfall resume {app}`")).await
}

/// `landfall resume`.
pub async fn resume(agent: &Agent, arguments: &Which) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let said = format!("`{app}` follows its channel again; see `landfall status`");
    order(agent, Command::Resume { app }, &said).await
}

/// `landfall hands-off`.
pub async fn hands_off(agent: &Agent, arguments: &HandsOff) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let seconds = arguments.period.as_secs();
    let said = format!("hands off `{app}` for {seconds} s; end it earlier with `landfall resume {app}`");
    order(agent, Command::HandsOff { app, seconds, why: arguments.why.clone() }, &said).await
}

/// `landfall rollback`.
pub async fn rollback(agent: &Agent, arguments: &Why) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let said = going(&app, "returns to its last good deployment and holds there");
    order(agent, Command::Rollback { app, why: arguments.why.clone() }, &said).await
}

/// `landfall retry`.
pub async fn retry(agent: &Agent, arguments: &Which) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let said = going(&app, "tries again");
    order(agent, Command::Retry { app }, &said).await
}

fn going(app: &AppName, what: &str) -> String {
    format!("`{app}` {what}; see `landfall status`")
}

/// Sends an order. What the agent says of it goes before what we say.
async fn order(agent: &Agent, command: Command, said: &str) -> Result<Exit, Failed> {
    for value in agent.ask(command).await? {
        match value {
            Value::String(text) => eprintln!("{}", printable(&text, 1000)),
            other => eprintln!("{}", printable(&other.to_string(), 1000)),
        }
    }
    eprintln!("{said}");
    Ok(Exit::Done)
}
