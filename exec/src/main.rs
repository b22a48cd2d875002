//! landfall-exec: what Landfall mounts into containers, read-only, as their entrypoint and for their health checks.
//!
//! Its command line is a contract: containers that are live hold it in their configuration, of older releases too. Words are only
//! ever added. `help.txt` states it whole, as `--help` prints it:
//!
#![doc = concat!("```text\n", include_str!("help.txt"), "```")]
//!
//! It must never print a byte of a value, never start a program when a value is missing, never write a file. It has no
//! dependency and no unsafe code: it runs in every container that asks for it, as that container's user.
//!
//! | module | what it does |
//! |---|---|
//! | `arguments` | pure: words to what is to be done |
//! | `values` | reads the files that become variables |
//! | `run` | becomes the program |
//! | `target` | pure: a URL to what is asked of whom |
//! | `probe` | asks it, in time |
//! | `status` | pure: the first bytes of an answer |
//! | `failure` | how it ends where it ends itself |

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod arguments;
mod failure;
mod probe;
mod run;
mod status;
mod target;
mod values;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::Invocation;
use failure::Failure;

const HELP: &str = include_str!("help.txt");
const VERSION: &str = concat!("landfall-exec ", env!("CARGO_PKG_VERSION"), "\n");

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Not `eprintln!`, which panics where standard error is closed: the exit code says it too.
            let _ = writeln!(std::io::stderr(), "landfall-exec: {}", failure.message);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn start() -> Result<(), Failure> {
    match arguments::parse(std::env::args_os().skip(1))? {
        Invocation::Run(plan) => Err(run::become_program(&plan)),
        Invocation::Probe(plan) => probe::probe(&plan),
        Invocation::Help => say(HELP),
        Invocation::Version => say(VERSION),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::usage(format!("cannot print: {error}")))
}
