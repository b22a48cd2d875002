//! landfall-agent: makes the VM match the release.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use landfall_agent::children::Job;
use landfall_agent::{child, fence};
use landfall_core::{daemon, journal};

const NAME: &str = "landfall-agent";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // This program again, for a moment: the fence narrows itself and becomes the Compose plugin, the others answer one question.
    match arguments.first().and_then(|word| word.to_str()) {
        Some("fence") => fence::main(arguments.into_iter().skip(1).map(|a| a.to_string_lossy().into_owned())),
        Some(word) => {
            if let Some(job) = Job::named(word) {
                return child::main(job);
            }
        }
        None => {}
    }
    if let Some(version) = daemon::version(NAME, arguments.iter().cloned()) {
        println!("{version}");
        return ExitCode::SUCCESS;
    }
    journal::init(NAME);
    daemon::exit(run(arguments))
}

fn run(arguments: Vec<OsString>) -> anyhow::Result<()> {
    let layout = daemon::layout(arguments, std::env::var_os(daemon::ROOT_VARIABLE))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let done = tokio::task::LocalSet::new().block_on(&runtime, landfall_agent::agent::run(layout));
    // What still runs beside it is not waited for: a service manager that asked for the end gets it.
    runtime.shutdown_background();
    done
}
