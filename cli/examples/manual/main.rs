//! Writes the manual pages and completions of `landfall` into a directory laid out as `/usr/share`, from the definition of its
//! arguments and README's reference of the configuration. An example, so that what ships does not carry it.

use std::path::PathBuf;
use std::process::ExitCode;

mod pages;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("manual: no directory to write to; next: `manual DIRECTORY`");
        return ExitCode::from(2);
    };
    match pages::write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: cannot write below `{}`: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}
