//! landfall-agent: makes the VM match the release.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use landfall_core::{daemon, journal};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // The fenced child is this program again: it narrows itself, then becomes the Compose plugin.
    if arguments.first().is_some_and(|a| a == "fence") {
        landfall_agent::fence::main(arguments.into_iter().skip(1).map(|a| a.to_string_lossy().into_owned()));
    }
    journal::init("landfall-agent");
    daemon::exit(run(arguments))
}

fn run(arguments: Vec<OsString>) -> anyhow::Result<()> {
    let layout = daemon::layout(arguments, std::env::var_os(daemon::ROOT_VARIABLE))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, landfall_agent::agent::run(layout))
}
