//! The process: arguments, log, runtime, run, exit code.

use std::process::ExitCode;

use anyhow::Context as _;
use landfall_core::daemon::{self, Daemon};
use landfall_core::journal;
use landfall_image_watcher::watcher;

const NAME: &str = "landfall-image-watcher";

fn main() -> ExitCode {
    if let Some(version) = daemon::version(NAME, std::env::args_os().skip(1)) {
        println!("{version}");
        return ExitCode::SUCCESS;
    }
    journal::init(NAME);
    daemon::exit(start())
}

fn start() -> anyhow::Result<()> {
    let layout = daemon::layout(std::env::args_os().skip(1), std::env::var_os(daemon::ROOT_VARIABLE))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let daemon = Daemon::start(NAME).context("cannot listen for signals")?;
        watcher::run(layout, daemon).await
    })
}
