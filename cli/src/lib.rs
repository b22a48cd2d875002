//! landfall: what the operator and CI type. It asks the agent on its socket and publishes to a registry; it never acts
//! on the VM by itself (but `host`, `init`, `verify` and `break-glass`), and only `verify` and `support-bundle` look at Docker.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arguments`] | what can be typed, and what `--help` says |
//! | [`failure`] | an error with its exit code and what to do next |
//! | [`terminal`] | colour, widths, ages and sizes as people read them |
//! | [`agent`] | the client of the agent's socket |
//! | [`status`], [`watch`], [`history`], [`plan`], [`logs`], [`secrets`], [`orders`], [`check`] | one command group each; rendering is pure |
//! | [`host`] | what root prepares on a VM |
//! | [`break_glass`] | the system's own proxy, for a while, when the app's way in is broken |
//! | [`init`] | a first landfall.yaml, and what to do in Azure; user-data of a machine to come |
//! | [`verify`] | the checklist before a VM takes traffic |
//! | [`support_bundle`] | what somebody needs who helps from afar, without values |
//! | [`docker`] | what these two ask of the Engine |
//! | [`values`] | values of secrets, to be looked for and masked, never shown |
//! | [`publish`] | the glue of `publish`, over the modules below |
//! | [`promote`], [`diff`] | a channel's release to another channel; the project against a channel |
//! | [`published`] | a release as a channel has it |
//! | [`compose`] | the little of a compose file that publish must see |
//! | [`flatten`] | `extends` and `include` resolved by the Compose plugin, without a daemon |
//! | [`bundle`] | compose documents and files to layers: pure |
//! | [`files`] | the project directory as [`bundle`] sees it |
//! | [`image`] | image and channel references |
//! | [`manifest`] | the manifest's bytes: pure |
//! | [`registry`] | resolve and push, over oci-client |
//! | [`identity`] | the release id of what a channel has: pure |
//! | [`wait`], [`outcome_store`] | what became of a publication, asked of a store; the store over HTTP |
//! | [`credentials`] | the Docker config file, credential helpers, environment |

#![deny(clippy::disallowed_methods)]

pub mod agent;
pub mod arguments;
pub mod break_glass;
pub mod bundle;
pub mod check;
pub mod compose;
pub mod credentials;
pub mod diff;
pub mod docker;
pub mod failure;
pub mod files;
pub mod flatten;
pub mod history;
pub mod host;
pub mod identity;
pub mod image;
pub mod init;
pub mod logs;
pub mod manifest;
pub mod orders;
pub mod outcome_store;
pub mod plan;
pub mod promote;
pub mod publish;
pub mod published;
pub mod registry;
pub mod secrets;
pub mod status;
pub mod support_bundle;
pub mod terminal;
pub mod values;
pub mod verify;
pub mod wait;
pub mod watch;

use std::io::Write as _;

use arguments::{Cli, Verb};
use failure::{Exit, Failed};

/// Runs what was typed and returns the exit code. Prints the error, once, with what to do next.
pub fn run(cli: Cli) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failed::new(Exit::Failed, format!("cannot start: {error}"))),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit.code(),
        Err(failed) => report(&failed),
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Failed> {
    let layout = landfall_core::layout::Layout::new(&cli.root);
    let agent = agent::Agent::new(layout.agent_socket());
    match cli.verb {
        Verb::Publish(arguments) => publish::run(&arguments).await,
        Verb::Promote(arguments) => promote::run(&arguments).await,
        Verb::Diff(arguments) => diff::run(&arguments).await,
        Verb::Check(arguments) => check::run(&layout, &arguments).await,
        Verb::Status(arguments) => status::run(&layout, &agent, &arguments).await,
        Verb::Watch(arguments) => watch::run(&layout, &agent, &arguments).await,
        Verb::History(arguments) => history::run(&agent, &arguments).await,
        Verb::Plan(arguments) => plan::run(&agent, &arguments).await,
        Verb::Logs(arguments) => logs::run(&agent, &arguments).await,
        Verb::Secrets(arguments) => secrets::run(&agent, &arguments).await,
        Verb::Hold(arguments) => orders::hold(&agent, &arguments).await,
        Verb::Resume(arguments) => orders::resume(&agent, &arguments).await,
        Verb::HandsOff(arguments) => orders::hands_off(&agent, &arguments).await,
        Verb::Rollback(arguments) => orders::rollback(&agent, &arguments).await,
        Verb::Retry(arguments) => orders::retry(&agent, &arguments).await,
        Verb::Poll(arguments) => orders::poll(&agent, &arguments).await,
        Verb::Host(arguments) => host::run(&layout, &arguments).await,
        Verb::BreakGlass(arguments) => break_glass::run(&layout, &arguments).await,
        Verb::Init(arguments) => init::run(&layout, &arguments),
        Verb::SupportBundle(arguments) => support_bundle::run(&layout, &agent, &arguments).await,
        Verb::Verify(arguments) => verify::run(&layout, &agent, &arguments).await,
    }
}

fn report(failed: &Failed) -> u8 {
    let paint = terminal::Paint::for_stderr();
    // A closed stderr changes nothing about the exit code.
    let _ = std::io::stderr().write_all(failed.render(paint).as_bytes());
    failed.exit.code()
}
