//! What an operator orders: `hold`, `resume`, `hands-off`, `rollback`, `retry`, `poll`. The agent decides and says what it did;
//! this only asks and repeats that.

use landfall_core::ids::{AppName, printable};
use landfall_core::protocol::Command;
use serde_json::Value;

use crate::agent::Agent;
use crate::arguments::{HandsOff, Which, Why};
use crate::failure::{Exit, Failed};

/// The longest answer that is shown.
const TEXT: usize = 1000;

/// `landfall hold`.
pub async fn hold(agent: &Agent, arguments: &Why) -> Result<Exit, Failed> {
    let why = arguments.why.clone();
    order(agent, arguments.app.as_ref(), |app| Command::Hold { app, why }).await
}

/// `landfall resume`.
pub async fn resume(agent: &Agent, arguments: &Which) -> Result<Exit, Failed> {
    order(agent, arguments.app.as_ref(), |app| Command::Resume { app }).await
}

/// `landfall hands-off`.
pub async fn hands_off(agent: &Agent, arguments: &HandsOff) -> Result<Exit, Failed> {
    let (seconds, why) = (arguments.period.as_secs(), arguments.why.clone());
    order(agent, arguments.app.as_ref(), |app| Command::HandsOff { app, seconds, why }).await
}

/// `landfall rollback`.
pub async fn rollback(agent: &Agent, arguments: &Why) -> Result<Exit, Failed> {
    let why = arguments.why.clone();
    order(agent, arguments.app.as_ref(), |app| Command::Rollback { app, why }).await
}

/// `landfall retry`.
pub async fn retry(agent: &Agent, arguments: &Which) -> Result<Exit, Failed> {
    order(agent, arguments.app.as_ref(), |app| Command::Retry { app }).await
}

/// `landfall poll`.
pub async fn poll(agent: &Agent, arguments: &Which) -> Result<Exit, Failed> {
    order(agent, arguments.app.as_ref(), |app| Command::Poll { app }).await
}

async fn order(
    agent: &Agent,
    named: Option<&AppName>,
    command: impl FnOnce(AppName) -> Command,
) -> Result<Exit, Failed> {
    let app = agent.app(named).await?;
    let said = agent.ask(command(app.clone())).await?;
    let text = said.first().and_then(Value::as_str).unwrap_or("done; see `landfall status`");
    eprintln!("`{app}`: {}", printable(text, TEXT));
    Ok(Exit::Done)
}
