//! The process: a clean environment, arguments, log, runtime, run, exit code.

use std::process::ExitCode;

use anyhow::Context as _;
use landfall_core::daemon::{self, Daemon};
use landfall_core::journal;
use landfall_secrets_fetcher::{environment, fetcher, hygiene, owner};

const NAME: &str = "landfall-secrets-fetcher";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == owner::GIVE) {
        return owner::main();
    }
    if let Some(version) = daemon::version(NAME, std::env::args_os().skip(1)) {
        println!("{version}");
        return ExitCode::SUCCESS;
    }
    let is_clean = environment::clean();
    journal::init(NAME);
    daemon::exit(is_clean.context("cannot begin anew with a clean environment").and_then(|()| start()))
}

fn start() -> anyhow::Result<()> {
    let layout = daemon::layout(std::env::args_os().skip(1), std::env::var_os(daemon::ROOT_VARIABLE))?;
    hygiene::keep_in_memory().context("cannot keep values out of core dumps")?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("TLS has been set up already, which is a mistake in this program"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let daemon = Daemon::start(NAME).context("cannot listen for signals")?;
        fetcher::run(layout, daemon).await
    })
}
