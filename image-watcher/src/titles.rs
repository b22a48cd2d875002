//! Titles of layers: the relative paths that a publisher chose. They become paths on this machine, so each is checked
//! here, once, before anything is made: relative, no `..`, no control characters, no two that need the same name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use landfall_core::ids::printable;
use landfall_core::publish::TEMPORARY;

/// The filesystem's own limits: of one part and of the whole.
const PART_LENGTH: usize = 255;
const LENGTH: usize = 1024;

/// A relative path that stays below where it is put.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Title(String);

/// Why a title was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the title `{title}` {rule}")]
pub struct BadTitle {
    title: String,
    rule: &'static str,
}

impl Title {
    /// The path, `/` separated.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0, LENGTH))
    }
}

impl FromStr for Title {
    type Err = BadTitle;

    fn from_str(text: &str) -> Result<Self, BadTitle> {
        match broken_rule(text) {
            Some(rule) => Err(refuse(text, rule)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    if text.len() > LENGTH {
        return Some("is longer than 1024 bytes");
    }
    if text.starts_with('/') {
        return Some("is an absolute path; titles are relative to the project");
    }
    if text.chars().any(char::is_control) {
        return Some("has control characters");
    }
    text.split('/').find_map(|part| match part {
        "" => Some("has an empty part"),
        "." | ".." => Some("has a `.` or `..` part"),
        _ if part.len() > PART_LENGTH => Some("has a part longer than 255 bytes"),
        _ if part.starts_with(TEMPORARY) => Some("has a part that begins like our own temporary files"),
        _ => None,
    })
}

/// The paths of one release, none of which needs a name that another has.
#[derive(Debug, Default)]
pub struct Claimed {
    files: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl Claimed {
    /// Takes the path for a file and its parents for directories.
    pub fn claim(&mut self, title: &Title) -> Result<(), BadTitle> {
        let text = title.as_str();
        if self.files.contains(text) {
            return Err(refuse(text, "is used twice"));
        }
        if self.directories.contains(text) {
            return Err(refuse(text, "is a file here and a directory in another title"));
        }
        let parents = text.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &text[..at]);
        for parent in parents {
            if self.files.contains(parent) {
                return Err(refuse(text, "lies below another title, which is a file"));
            }
            self.directories.insert(parent.to_owned());
        }
        self.files.insert(text.to_owned());
        Ok(())
    }
}

fn refuse(title: &str, rule: &'static str) -> BadTitle {
    BadTitle { title: printable(title, 120), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_stay_below_the_project() {
        for good in ["nginx.conf", "conf/nginx.conf", ".env.prod", "a b/ü", "..a", "a..", "...", &"x".repeat(255)] {
            assert!(good.parse::<Title>().is_ok(), "{good}");
        }
        for (bad, rule) in [
            ("", "is empty"),
            ("/etc/passwd", "absolute"),
            ("../x", "`..` part"),
            ("a/../../x", "`..` part"),
            ("a/..", "`..` part"),
            ("./x", "`.` or"),
            ("a//b", "empty part"),
            ("a/", "empty part"),
            ("a\nb", "control"),
            ("a\0b", "control"),
            ("a/\u{1b}[2J", "control"),
            (".tmp-1", "temporary"),
            (&"x".repeat(256), "255"),
            (&"x/".repeat(600), "1024"),
        ] {
            let error = bad.parse::<Title>().expect_err(bad).to_string();
            assert!(error.contains(rule), "{bad}: {error}");
            assert!(!error.chars().any(char::is_control), "{bad}");
        }
    }

    #[test]
    fn no_two_titles_need_the_same_name() {
        for (titles, valid) in [
            (vec!["a", "b", "c/a", "c/b"], true),
            (vec!["a/b/c", "a/d", "a/b/e"], true),
            (vec!["a-b", "a/b"], true),
            (vec!["a", "a"], false),
            (vec!["a", "a/b"], false),
            (vec!["a/b", "a"], false),
            (vec!["a/b/c", "a/b"], false),
            (vec!["a/b", "a/b/c"], false),
        ] {
            let mut claimed = Claimed::default();
            let all = titles.iter().try_for_each(|t| claimed.claim(&t.parse().unwrap()));
            assert_eq!(all.is_ok(), valid, "{titles:?}");
        }
    }
}
