//! `try run` shows Landfall at work on this machine and leaves it running; `try clean` removes every trace of that.
//! `make try` and `make try-clean` call it; what is shown is in `landfall_tests::tour`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use landfall_tests::engine::Engine;
use landfall_tests::sandbox::namespace;
use landfall_tests::tour::{self, Options};
use landfall_tests::{docker_restart, ports, programs};

const APP: &str = "landfall-try";
const DIRECTORY: &str = "/var/tmp/landfall-try";
const PORT: u16 = 8080;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["run"] => run(),
        ["clean"] => clean(),
        _ => {
            eprintln!("usage: try [run | clean]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("try: {error:#}; the logs are in {DIRECTORY}; next: `make try` again, or `make try-clean`");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let directory = PathBuf::from(DIRECTORY);
    let earlier = tour::clean(&directory, APP)?;
    if !earlier.is_empty() {
        println!("removed what an earlier run left: {}", earlier.join(" "));
    }
    let free = TcpListener::bind(("127.0.0.1", PORT)).is_ok();
    let port = if free { PORT } else { ports::free()? };
    let restart_docker = docker_restart::allowed(&Engine::of_this_machine(), APP);
    let started = Instant::now();
    let mut say = |line: &str| println!("{:6.1} s  {line}", started.elapsed().as_secs_f64());
    let secrets = namespace::allowed();
    let options = Options { directory: directory.clone(), app: APP.to_owned(), port, restart_docker, secrets };
    let outcome = tour::run(&options, &mut say)?;

    println!("\nTimeline, from `landfall history --json`, in seconds since the first publication:");
    for line in &outcome.timeline {
        println!("{:8.1}  {}", line.at, line.what);
    }
    let landfall = programs::find("landfall")?;
    let here = std::env::current_dir()?;
    let landfall = landfall.strip_prefix(&here).unwrap_or(&landfall).display();
    let root = directory.join("root");
    let root = root.to_str().context("the path is no text")?;
    println!("\nIt is still running. Next:");
    println!("  curl {}", outcome.url);
    for arguments in ["status", "history", "logs landfall-try api --lines 5"] {
        println!("  {landfall} --root {root} {arguments}");
    }
    println!("  make try-clean");
    Ok(())
}

fn clean() -> Result<()> {
    for name in tour::clean(&PathBuf::from(DIRECTORY), APP)? {
        println!("removed {name}");
    }
    println!("nothing of `make try` is left but target/, dockerd, and the packages that it said it installed");
    Ok(())
}
