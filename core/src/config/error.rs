//! Errors of settings files: the place, what is wrong, and the nearest thing that would be right.

use std::io;
use std::path::{Path, PathBuf};

use serde_saphyr::Error as YamlError;

use crate::ids::printable;

/// Why there are no [`super::Settings`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither the main file nor a drop-in is there.
    #[error("`{}` is not there; write it (an example is in README.md) or name another tree with `--root`", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// From 1; 0 where the parser could not tell.
        line: u64,
        /// From 1; 0 where the parser could not tell.
        column: u64,
        /// What is wrong, and what would be right.
        message: String,
        /// The line of the file, for people.
        snippet: String,
    },
    /// All files together lack something.
    #[error("{}: {message}", path.display())]
    Incomplete {
        /// The first file.
        path: PathBuf,
        /// What is missing, and where it goes.
        message: String,
    },
}

impl ConfigError {
    /// The line of the file with a mark below the column, for a terminal; empty where there is none.
    pub fn snippet(&self) -> String {
        match self {
            Self::Invalid { line, column, snippet, .. } if !snippet.is_empty() => {
                let margin = format!("{line} | ");
                let indent = usize::try_from(*column).unwrap_or(1).saturating_sub(1).min(snippet.chars().count());
                format!("{margin}{snippet}\n{}^", " ".repeat(margin.len() + indent))
            }
            Self::Invalid { .. } | Self::Missing { .. } | Self::Read { .. } | Self::Incomplete { .. } => String::new(),
        }
    }
}

/// Keys that the design knows and this version does not, each with a key that stands beside it where it belongs.
const NOT_YET: &[(&str, &str)] = &[
    ("notify", "apps"),
    ("drift", "allow_binds"),
    ("signatures", "allow_binds"),
    ("cpu", "memory"),
    ("pids", "memory"),
    ("file", "plain_http"),
    ("ca", "plain_http"),
    ("approval", "channel"),
    ("rollout", "channel"),
    ("drift", "channel"),
];

/// Turns the parser's error into ours.
pub(super) fn explain(path: &Path, text: &str, error: &YamlError) -> ConfigError {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let snippet =
        usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?)).unwrap_or_default();
    ConfigError::Invalid {
        path: path.to_owned(),
        line,
        column,
        message: message(error),
        snippet: printable(snippet, 200),
    }
}

fn message(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        YamlError::Message { msg, .. } | YamlError::ExternalMessage { msg, .. } => msg.clone(),
        other => {
            let options = serde_saphyr::render_options! { snippets: serde_saphyr::SnippetMode::Off };
            strip_place(&other.render_with_options(options)).to_owned()
        }
    }
}

/// The parser puts the place at the front; ours stands there already.
fn strip_place(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(message, _)| message)
}

fn unknown_key(field: &str, expected: &[&str]) -> String {
    let shown = printable(field, 80);
    if NOT_YET.iter().any(|(key, sibling)| *key == field && expected.contains(sibling)) {
        return format!("`{shown}` is not supported by this version; remove it");
    }
    match nearest(field, expected) {
        Some(key) => format!("unknown key `{shown}`; did you mean `{key}`?"),
        None => format!(
            "unknown key `{shown}`; known here: {}",
            expected.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn nearest<'a>(field: &str, expected: &[&'a str]) -> Option<&'a str> {
    let most = (field.chars().count() / 3).max(1);
    expected.iter().map(|key| (distance(field, key), *key)).filter(|(d, _)| *d <= most).min().map(|(_, key)| key)
}

/// How many letters to add, drop, change or swap with the next.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = change.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(table[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    table[a.len()][b.len()]
}
