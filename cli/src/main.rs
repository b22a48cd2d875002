//! The `landfall` program: arguments in, exit code out. All else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use landfall::arguments::Cli;

fn main() -> ExitCode {
    ExitCode::from(landfall::run(Cli::parse()))
}
