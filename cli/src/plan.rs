//! `landfall plan`: what a release would change, before it does. Rendering is pure.

use landfall_core::ids::printable;
use landfall_core::protocol::{Command, PlanView};

use crate::agent::{Agent, json_lines, only};
use crate::arguments;
use crate::failure::{Exit, Failed};
use crate::terminal::{self, Paint, wrap};

/// The longest step that is shown.
const TEXT: usize = 1000;

/// Asks and prints. Exit code 10 where there is a difference.
pub async fn run(agent: &Agent, arguments: &arguments::Plan) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let data = agent.ask(Command::Plan { app, release: arguments.release.clone() }).await?;
    let plan: PlanView = only(data.clone())?;
    if arguments.json {
        terminal::out(&json_lines(&data));
    } else {
        terminal::out(&render(&plan, Paint::for_stdout()));
    }
    Ok(if plan.steps.is_empty() { Exit::Done } else { Exit::Different })
}

/// The steps, numbered; then what Compose warned of.
pub fn render(plan: &PlanView, paint: Paint) -> String {
    let head = format!("release {}, deployment {}", plan.release.short(), plan.deployment.short());
    let mut text = format!("{}\n", paint.strong(&head));
    if plan.steps.is_empty() {
        text.push_str("  no difference: nothing would change\n");
    }
    for (count, step) in plan.steps.iter().enumerate() {
        text.push_str(&wrap(&format!("  {:>2}. ", count + 1), 6, &printable(step, TEXT)));
    }
    for warning in &plan.warnings {
        text.push_str(&wrap(&format!("  {} ", paint.busy("Compose warns:")), 6, &printable(warning, TEXT)));
    }
    text
}
