//! The words of the command line to what is to be done. Pure.
//!
//! It never repeats a word that stands where a path or an option belongs: someone may have put the value itself there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Failure, shown};
use crate::target::{self, Target};

/// How long a whole probe may take where nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const NEXT_HELP: &str = "next: `landfall-exec --help` shows the words";

#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    Run(Run),
    Probe(Probe),
    Help,
    Version,
}

/// A program to become, and the files that become its variables.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub variables: Vec<Variable>,
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

/// A variable and the file with its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: OsString,
    pub file: PathBuf,
}

/// One question about health; `timeout` is of the whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    pub target: Target,
    pub timeout: Duration,
}

/// `words` are those behind the program's own name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, Failure> {
    let mut words = words.into_iter();
    match words.next().as_deref().and_then(OsStr::to_str) {
        Some("run") => parse_run(words).map(Invocation::Run),
        Some("probe") => parse_probe(words).map(Invocation::Probe),
        Some("--help" | "-h") => Ok(Invocation::Help),
        Some("--version" | "-V") => Ok(Invocation::Version),
        Some(_) | None => Err(Failure::usage(format!("the first word is neither `run` nor `probe`; {NEXT_HELP}"))),
    }
}

fn parse_run(mut words: impl Iterator<Item = OsString>) -> Result<Run, Failure> {
    let nothing = || Failure::configuration(format!("`run` has no program behind `--`; {NEXT_HELP}"));
    let mut variables: Vec<Variable> = Vec::new();
    loop {
        let word = words.next().ok_or_else(nothing)?;
        if word == "--" {
            break;
        }
        if word != "--env" {
            let why = "a word before `--` is not `--env NAME=/path`";
            return Err(Failure::configuration(format!("{why}; {NEXT_HELP}")));
        }
        let variable = parse_variable(&words.next().ok_or_else(nothing)?)?;
        if variables.iter().any(|earlier| earlier.name == variable.name) {
            let name = shown(&variable.name);
            return Err(Failure::configuration(format!(
                "`--env {name}=…` is there twice; next: leave one of them out"
            )));
        }
        variables.push(variable);
    }
    let program = words.next().ok_or_else(nothing)?;
    Ok(Run { variables, program, arguments: words.collect() })
}

fn parse_variable(assignment: &OsStr) -> Result<Variable, Failure> {
    let bytes = assignment.as_bytes();
    let Some(equals) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err(Failure::configuration(format!("an `--env` has no `=` between name and file; {NEXT_HELP}")));
    };
    let (name, file) = (OsStr::from_bytes(&bytes[..equals]), OsStr::from_bytes(&bytes[equals + 1..]));
    if name.is_empty() {
        return Err(Failure::configuration(format!("an `--env` has no name before `=`; {NEXT_HELP}")));
    }
    // A relative path would depend on the image's working directory; and whoever wrote a value here must not read it in a log.
    if !file.as_bytes().starts_with(b"/") {
        let (name, next) = (shown(name), "next: write the path of the file that holds the value");
        return Err(Failure::configuration(format!("what `--env {name}=` names is no absolute path; {next}")));
    }
    Ok(Variable { name: name.to_owned(), file: file.into() })
}

fn parse_probe(mut words: impl Iterator<Item = OsString>) -> Result<Probe, Failure> {
    let mut url = None;
    let mut timeout = None;
    while let Some(word) = words.next() {
        let word = word.to_str().ok_or_else(|| Failure::usage(format!("a word is not UTF-8; {NEXT_HELP}")))?;
        if word == "--timeout" && timeout.is_none() {
            let written = words.next();
            let read = written.as_deref().and_then(OsStr::to_str).and_then(parse_duration);
            let why = "`--timeout` is no duration above zero like `500ms` or `5s`";
            timeout = Some(read.ok_or_else(|| Failure::usage(format!("{why}; {NEXT_HELP}")))?);
        } else if url.is_none() && !word.starts_with('-') {
            url = Some(word.to_owned());
        } else {
            return Err(Failure::usage(format!("`probe` does not know `{}` there; {NEXT_HELP}", shown(word.as_ref()))));
        }
    }
    let url = url.ok_or_else(|| Failure::usage(format!("`probe` has no URL; {NEXT_HELP}")))?;
    let target = target::parse(&url)
        .map_err(|why| Failure::usage(format!("`{}` cannot be probed: {why}; {NEXT_HELP}", shown(url.as_ref()))))?;
    Ok(Probe { target, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT) })
}

/// `500ms`, `5s`: a whole number and one of two units.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, per_unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    // u32 milliseconds are 49 days: no deadline made of it can overflow
    let milliseconds = if digits { number.parse::<u32>().ok()?.checked_mul(per_unit)? } else { 0 };
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn words(line: &str) -> Result<Invocation, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn variable(name: &str, file: &str) -> Variable {
        Variable { name: name.into(), file: file.into() }
    }

    #[test]
    fn run_takes_variables_then_a_program() {
        let read = words("run --env A=/run/a --env B=/x=y -- node --env C=/c -- server.js").unwrap();
        let arguments = ["--env", "C=/c", "--", "server.js"].map(OsString::from).into();
        let variables = vec![variable("A", "/run/a"), variable("B", "/x=y")];
        assert_eq!(read, Invocation::Run(Run { variables, program: "node".into(), arguments }));
        let read = words("run -- /app").unwrap();
        assert_eq!(read, Invocation::Run(Run { variables: vec![], program: "/app".into(), arguments: vec![] }));
    }

    #[test]
    fn bytes_that_are_no_text_go_through() {
        let program = OsStr::from_bytes(b"/\xff").to_owned();
        let variables = OsStr::from_bytes(b"\xfeA=/\xff").to_owned();
        let Ok(Invocation::Run(run)) = parse(["run".into(), "--env".into(), variables, "--".into(), program.clone()])
        else {
            panic!("refused");
        };
        assert_eq!((run.program, run.variables[0].name.as_bytes()), (program, b"\xfeA".as_slice()));
    }

    #[test]
    fn what_run_refuses() {
        let refused = [
            ("run", "no program"),
            ("run --", "no program"),
            ("run --env A=/a", "no program"),
            ("run --env", "no program"),
            ("run node", "a word before"),
            ("run --env A -- node", "no `=`"),
            ("run --env =/a -- node", "no name"),
            ("run --env A= -- node", "`--env A=` names is no absolute path"),
            ("run --env A=swordfish -- node", "no absolute path"),
            ("run --env swordfish -- node", "no `=`"),
            ("run --env=A=swordfish -- node", "a word before"),
            ("run swordfish -- node", "a word before"),
            ("run --env A=/a --env A=/b -- node", "there twice"),
        ];
        for (line, why) in refused {
            let failure = words(line).unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration, "{line}");
            assert!(failure.message.contains(why) && failure.message.contains("next: "), "{line}: {}", failure.message);
            assert!(!failure.message.contains("swordfish"), "{line}: {}", failure.message);
        }
    }

    #[test]
    fn probe_takes_a_url_and_a_timeout() {
        let timeout = |line: &str| match words(line) {
            Ok(Invocation::Probe(probe)) => probe.timeout,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(timeout("probe http://:3000/health"), Duration::from_secs(5));
        assert_eq!(timeout("probe tcp://:5432 --timeout 500ms"), Duration::from_millis(500));
        assert_eq!(timeout("probe --timeout 12s tcp://:5432"), Duration::from_secs(12));
    }

    #[test]
    fn what_is_no_usage() {
        let refused = [
            "",
            "start",
            "probe",
            "probe --timeout 5s",
            "probe ftp://:21",
            "probe tcp://:1 tcp://:2",
            "probe tcp://:1 --retry",
            "probe tcp://:1 --timeout",
            "probe tcp://:1 --timeout 5",
            "probe tcp://:1 --timeout 0s",
            "probe tcp://:1 --timeout -5s",
            "probe tcp://:1 --timeout +5s",
            "probe tcp://:1 --timeout 1.5s",
            "probe tcp://:1 --timeout ms",
            "probe tcp://:1 --timeout 99999999s",
            "probe tcp://:1 --timeout 1s --timeout 2s",
        ];
        for line in refused {
            let failure = words(line).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{line}");
            assert!(failure.message.contains("next: "), "{line}: {}", failure.message);
        }
    }

    #[test]
    fn help_and_version() {
        assert_eq!((words("--help"), words("--version")), (Ok(Invocation::Help), Ok(Invocation::Version)));
    }
}
