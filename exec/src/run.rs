//! Becomes the program: the process stays, with its id, user, working directory and streams; what runs in it is another.
//!
//! All values are read before the first attempt: a program never starts with one of them missing. What std changed of the process it
//! sets back on the way: SIGPIPE to its default, the signal mask to none blocked, as a container begins.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Run;
use crate::failure::{Exit, Failure, shown};
use crate::values;

/// What Docker sets in a container whose image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns only where it failed.
pub fn become_program(run: &Run) -> Failure {
    let values = match run.variables.iter().map(values::read).collect::<Result<Vec<_>, _>>() {
        Ok(values) => values,
        Err(failure) => return failure,
    };
    let variables: Vec<(&OsStr, OsString)> = run.variables.iter().map(|v| v.name.as_os_str()).zip(values).collect();
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut failure = not_found(&run.program);
    for candidate in candidates(&run.program, &path) {
        let error = become_file(&candidate, run, &variables);
        // As execvp does: what is not there or not allowed is looked for further on, anything else ends the search.
        match error.kind() {
            ErrorKind::NotFound if candidate.exists() => failure = no_loader(&candidate),
            ErrorKind::NotFound | ErrorKind::NotADirectory => {}
            ErrorKind::PermissionDenied => failure = not_executable(&candidate, &error),
            _ => return not_executable(&candidate, &error),
        }
    }
    failure
}

/// The files to try, each with a slash, so that nobody looks it up again.
fn candidates(program: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    let here = |directory: PathBuf| if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
    std::env::split_paths(path).map(|directory| here(directory).join(program)).collect()
}

#[expect(clippy::disallowed_methods, reason = "no child: this process itself becomes the program")]
fn become_file(file: &Path, run: &Run, variables: &[(&OsStr, OsString)]) -> std::io::Error {
    let variables = variables.iter().map(|(name, value)| (name, value));
    Command::new(file).arg0(&run.program).args(&run.arguments).envs(variables).exec()
}

fn not_found(program: &OsStr) -> Failure {
    let next = "next: check the service's `entrypoint` and `command`, and PATH in the image";
    Failure::new(Exit::NotFound, format!("`{}` is not found; {next}", shown(program)))
}

/// `execve` says "not found" of the file's interpreter too.
fn no_loader(file: &Path) -> Failure {
    let why = "is there, but not the interpreter or loader that it names";
    let next = "next: check its `#!` line, or that it was built for this image's C library";
    Failure::new(Exit::NotFound, format!("`{}` {why}; {next}", shown(file.as_os_str())))
}

fn not_executable(file: &Path, error: &std::io::Error) -> Failure {
    let next = match error.kind() {
        ErrorKind::ArgumentListTooLong => "have the program read large values from their files",
        ErrorKind::PermissionDenied => "check its mode and the container's user",
        _ => "check that it was built for this machine, or has a `#!` line",
    };
    Failure::new(Exit::NotExecutable, format!("cannot execute `{}`: {error}; next: {next}", shown(file.as_os_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_program_is_looked_for() {
        let table: [(&str, &str, &[&str]); 7] = [
            ("node", "/usr/bin:/bin", &["/usr/bin/node", "/bin/node"]),
            ("node", "/usr/bin/:", &["/usr/bin/node", "./node"]),
            ("node", "bin", &["bin/node"]),
            ("node", "", &["./node"]),
            ("/app", "/bin", &["/app"]),
            ("./app", "/bin", &["./app"]),
            ("", "/bin", &[]),
        ];
        for (program, path, files) in table {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            assert_eq!(candidates(program.as_ref(), path.as_ref()), files, "{program} in {path}");
        }
    }
}
