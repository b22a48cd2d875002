//! `bench [--runs N] [SUBJECT…]` measures the shipped programs, prints the numbers and leaves them in bench.json; its exit
//! code is 1 where a target is missed. `make bench` builds what it needs and calls it; docs/bench.md says what is measured.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use landfall_tests::bench::report::Report;
use landfall_tests::bench::{Subject, root};
use landfall_tests::programs;

const USAGE: &str = "usage: bench [--runs N] [fleet] [idle] [wire] [many-apps] [staged] [rollouts] [start-first] [cold-start] [secrets]";
const RUNS: usize = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Ok((runs, subjects)) = read(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(runs, &subjects) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}; next: read the lines above, then `make bench` again");
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Result<(usize, Vec<Subject>)> {
    let mut runs = RUNS;
    let mut subjects = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--runs" {
            runs = words.next().and_then(|number| number.parse().ok()).filter(|runs| *runs > 0).context(USAGE)?;
        } else {
            subjects.push(Subject::ALL.iter().find(|(_, name)| name == word).context(USAGE)?.0);
        }
    }
    let all = || Subject::ALL.iter().map(|(subject, _)| *subject).collect();
    Ok((runs, if subjects.is_empty() { all() } else { subjects }))
}

fn run(runs: usize, subjects: &[Subject]) -> Result<bool> {
    println!(
        "measures the programs in {}, {runs} runs each; about a minute for each run",
        programs::directory()?.display()
    );
    let mut report = Report::default();
    for subject in subjects {
        subject.measure(runs, &mut report)?;
        report.write(root())?;
    }
    println!("\n{}", report.table());
    Ok(report.met())
}
