//! `landfall verify`: the checklist before a VM takes traffic, run with sudo. Each check is a look, which may fail, and a judgement, which
//! is pure. It mends nothing. What it changes is one container of its own, which is removed.

mod apps;
pub mod caps;
mod disk;
mod engine;
pub mod finding;
pub mod guard;
mod host;
mod identity;
pub mod machine;
pub mod plain_text;
mod space;
mod units;
mod versions;

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use landfall_core::config::{Host, Settings};
use landfall_core::layout::Layout;
use landfall_core::protocol::{Command, SecretStatus, Status};

use crate::agent::{Agent, only, typed};
use crate::break_glass;
use crate::docker::Engine;
use crate::failure::{Exit, Failed};
use crate::terminal::{self, Paint};
use finding::{Finding, Grade, Subject};
use machine::Machine;

/// The agent answers at once, or is ill.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 where nothing failed, 10 where something did. What cannot be looked at is `skip` with the \
reason: as somebody else than root that is much."
)]
pub struct Verify {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Whether a container may be made to see what it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// One that is removed again.
    Container,
    /// None: only looks.
    None,
}

/// Looks, and prints what was found.
pub async fn run(layout: &Layout, agent: &Agent, arguments: &Verify) -> Result<Exit, Failed> {
    let findings = all(layout, agent, Probing::Container).await;
    let paint = Paint::for_stdout();
    for finding in &findings {
        terminal::out(&if arguments.json { format!("{}\n", finding.json()) } else { finding.render(paint) });
    }
    eprintln!("{}", finding::sum(&findings));
    let failed = findings.iter().any(|finding| finding.grade == Grade::Fail);
    Ok(if failed { Exit::Different } else { Exit::Done })
}

/// All checks, always in this order.
pub async fn all(layout: &Layout, agent: &Agent, probing: Probing) -> Vec<Finding> {
    let machine = Machine::new(layout.clone());
    let loaded = Settings::load(layout);
    let settings = loaded.as_ref().ok();
    let agent = agent.clone().deadline(PATIENCE);
    let status: Result<Status, Failed> = agent.ask(Command::Status {}).await.and_then(only);
    let connected = Engine::of_this_machine();
    let told = match &connected {
        Ok(engine) => engine.facts().await,
        Err(why) => Err(why.clone()),
    };
    let facts = told.as_ref().ok();
    let docker = facts.map(|facts| facts.root_directory.as_path());
    let containers = match &connected {
        Ok(engine) => engine.containers().await,
        Err(why) => Err(why.to_string()),
    };

    let mut found = vec![apps::settings(&loaded), versions::engine(&told), versions::compose(versions::look().await)];
    found.extend(units::check(&machine).await);
    found.push(apps::agent(&status));
    found.extend(apps::polls(settings, &status));
    found.extend(engine::check(&machine, facts));
    found.push(caps::slice(&machine, facts));
    found.push(caps::containers(&machine, containers.as_deref().map_err(Clone::clone)));
    let (rules, is_active) = guard::rules(&machine).await;
    found.push(rules);
    if probing == Probing::Container {
        found.push(guard::probe(layout, connected.as_ref(), is_active, &guard::FORBIDDEN).await);
    }
    let secrets = secrets(&agent, &status).await;
    found.extend(identity::check(settings, secrets.as_deref().map_err(Clone::clone)));
    found.push(plain_text::check(&machine, docker));
    found.push(host::memory(&machine, settings));
    found.extend(disk::check(&machine, settings, docker));
    let reserve = settings.map_or_else(|| Host::default().reserve_disk, |settings| settings.host.reserve_disk);
    found.extend(space::check(&machine, facts, reserve));
    found.push(host::clock(&machine).await);
    found.push(host::docker_group(&machine));
    found.push(judge_glass(machine.needs_systemd(), break_glass::problem(layout, Some(&Timestamp::now()))));
    found
}

/// Whether visitors meet the app alone.
fn judge_glass(unknown: Option<String>, problem: Option<String>) -> Finding {
    let subject = Subject::new("break-glass", "break-glass is off");
    match (problem, unknown) {
        (None, Some(why)) => subject.skip(why),
        (None, None) => subject.pass("off"),
        (Some(problem), _) => {
            subject.warn(problem, "`landfall break-glass off --why \"…\"` when the app's own way in works")
        }
    }
}

/// What all apps need of vaults, by the agent's word.
async fn secrets(agent: &Agent, status: &Result<Status, Failed>) -> Result<Vec<SecretStatus>, String> {
    let status = status.as_ref().map_err(|_| "the agent did not answer".to_owned())?;
    let mut known: Vec<SecretStatus> = Vec::new();
    for app in &status.apps {
        let lines = agent.ask(Command::Secrets { app: app.app.clone() }).await.map_err(|failed| failed.message)?;
        for line in lines {
            let secret = typed(line).map_err(|failed| failed.message)?;
            // Those of registries are told with each app.
            if !known.contains(&secret) {
                known.push(secret);
            }
        }
    }
    Ok(known)
}

/// Which Compose this machine has.
pub async fn compose_version() -> Result<String, String> {
    versions::look().await.map_err(|error| crate::failure::chain(&error))
}
