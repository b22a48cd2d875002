//! Policy, first pass: the compose files as they are written, before the translator sees them. Judges what vanishes in canonical output
//! (`env_file`, `extends`, `include`, `provider`) and would make the translator read, run or fetch something of the host. Spends a
//! budget of events and aliases on each file, so that a bomb never reaches a parser without one.
//!
//! It reads the sources and not `config --no-interpolate`: there `extends` and `include` have already been followed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::refusal::{Problem, Rule};

/// No compose file is larger (the watcher's limit for a compose layer).
pub const FILE_LIMIT: u64 = 256 << 10;
/// How many files a project may be made of.
const MOST_FILES: usize = 64;

/// Judges the sources of a project: the compose documents and every file of the project that they extend or include.
pub fn judge(compose: &[PathBuf], project: &Path) -> Vec<Problem> {
    let mut scan = Scan { project, problems: Vec::new(), next: Vec::new(), seen: BTreeSet::new() };
    for (path, number) in compose.iter().zip(1..) {
        // Compose reads a compose document's relative paths from the project directory, wherever the document lies.
        scan.file(path, Path::new(""), &name_of(path, number));
    }
    while let Some(relative) = scan.next.pop() {
        if !scan.seen.insert(relative.clone()) {
            continue;
        }
        if scan.seen.len() > MOST_FILES {
            let what = format!("more than {MOST_FILES} files extend or include each other");
            scan.problems.push(Problem::new(Rule::Unreadable, "include", what));
            break;
        }
        let base = relative.parent().unwrap_or(Path::new("")).to_owned();
        scan.file(&project.join(&relative), &base, &relative.display().to_string());
    }
    scan.problems
}

/// What a person knows a compose document by. The watcher lays them down as `0.yaml`, `1.yaml`: those names say nothing.
fn name_of(path: &Path, number: usize) -> String {
    let is_numbered = path.file_stem().is_some_and(|stem| stem.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    if is_numbered {
        format!("compose file {number}")
    } else {
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Reads a file as YAML documents, within limits.
pub fn read_documents(path: &Path, title: &str) -> Result<Vec<Value>, Problem> {
    let unreadable = |what: String| Problem::new(Rule::Unreadable, title, what);
    let size = fs::metadata(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?.len();
    if size > FILE_LIMIT {
        return Err(unreadable(format!("{size} bytes; a compose file has at most {FILE_LIMIT}")));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    parse_documents(&text).map_err(|error| unreadable(format!("does not parse: {error}")))
}

/// Parses YAML documents, within a budget.
pub(crate) fn parse_documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! {
            max_aliases: 1000,
            max_nodes: 100_000,
            max_depth: 64,
            max_events: 400_000,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let text = error.to_string();
        // The parser's words for each of the limits above.
        if text.contains("budget") {
            format!("with its aliases followed it is larger or deeper than any project ({text})")
        } else {
            text
        }
    })
}

struct Scan<'a> {
    project: &'a Path,
    problems: Vec<Problem>,
    next: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl Scan<'_> {
    fn file(&mut self, path: &Path, base: &Path, title: &str) {
        match read_documents(path, title) {
            Ok(documents) => documents.iter().for_each(|document| self.document(document, base)),
            Err(problem) => self.problems.push(problem),
        }
    }

    fn document(&mut self, document: &Value, base: &Path) {
        for entry in each(document.get("include")) {
            let paths = entry.get("path").unwrap_or(entry);
            for path in each(Some(paths)) {
                self.follow(Rule::Include, "include", None, base, path);
            }
            for path in each(entry.get("env_file")).chain(each(entry.get("project_directory"))) {
                self.inside(Rule::Include, "include", None, base, path);
            }
        }
        let Some(services) = document.get("services").and_then(Value::as_object) else { return };
        for (name, service) in services {
            self.service(name, service, base);
        }
    }

    fn service(&mut self, name: &str, service: &Value, base: &Path) {
        if let Some(file) = service.get("extends").and_then(|extends| extends.get("file")) {
            self.follow(Rule::Extends, "extends.file", Some(name), base, file);
        }
        for key in ["env_file", "label_file"] {
            for entry in each(service.get(key)) {
                self.inside(Rule::EnvFile, key, Some(name), base, entry.get("path").unwrap_or(entry));
            }
        }
        // Older versions of Compose do not know these and would only say "additional property".
        for (key, rule, what) in [
            ("provider", Rule::Provider, "a provider is a program that Compose runs on the host"),
            ("use_api_socket", Rule::UseApiSocket, "the Docker socket would be in the container"),
            ("gpus", Rule::Devices, "GPUs of the host"),
            ("models", Rule::NotSupported, "models"),
            ("pre_start", Rule::Hook, "a lifecycle hook"),
            ("post_start", Rule::Hook, "a lifecycle hook"),
            ("pre_stop", Rule::Hook, "a lifecycle hook"),
        ] {
            if service.get(key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))) {
                self.problems.push(Problem::new(rule, key, what).of(name));
            }
        }
    }

    /// A file that Compose will read as a compose file: it must be in the project, and is judged in turn.
    fn follow(&mut self, rule: Rule, key: &str, service: Option<&str>, base: &Path, path: &Value) {
        let Some(relative) = self.inside(rule, key, service, base, path) else { return };
        if self.project.join(&relative).is_file() {
            self.next.push(relative);
        } else {
            self.problem(rule, key, service, &format!("`{}` is not in the project", relative.display()));
        }
    }

    fn inside(&mut self, rule: Rule, key: &str, service: Option<&str>, base: &Path, path: &Value) -> Option<PathBuf> {
        let Some(path) = path.as_str() else {
            self.problem(rule, key, service, "expected a path");
            return None;
        };
        let inside = inside_project(base, path);
        if inside.is_none() {
            let what = format!("`{path}` is not a plain relative path inside the project");
            self.problem(rule, key, service, &what);
        }
        inside
    }

    fn problem(&mut self, rule: Rule, key: &str, service: Option<&str>, what: &str) {
        let problem = Problem::new(rule, key, what);
        self.problems.push(match service {
            Some(service) => problem.of(service),
            None => problem,
        });
    }
}

/// A path from `base` that stays in the project, without `.` and `..`; nothing that Compose could take for a variable, a home
/// directory or a remote resource.
fn inside_project(base: &Path, path: &str) -> Option<PathBuf> {
    let plain = |c: char| c.is_alphanumeric() || " ._-/+,=".contains(c);
    let remote = path.starts_with("github.com/") || path.strip_suffix(".git").is_some();
    if path.is_empty() || remote || !path.chars().all(plain) {
        return None;
    }
    let mut inside = base.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => inside.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !inside.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

/// The entries of a list, or the one value.
fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (list, one) = match value {
        Some(Value::Array(items)) => (items.as_slice(), None),
        Some(Value::Null) | None => (&[][..], None),
        Some(other) => (&[][..], Some(other)),
    };
    list.iter().chain(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_project() {
        for (base, path, inside) in [
            ("", "a.env", Some("a.env")),
            ("", "./conf/a.env", Some("conf/a.env")),
            ("sub", "../a.env", Some("a.env")),
            ("", "a/../b", Some("b")),
            ("", "../a.env", None),
            ("sub", "../../a.env", None),
            ("", "/etc/passwd", None),
            ("", "${HOME}/x", None),
            ("", "~/x", None),
            ("", "oci://registry/x", None),
            ("", "git@host:x", None),
            ("", "github.com/x/y", None),
            ("", "x.git", None),
            ("", "", None),
        ] {
            assert_eq!(inside_project(Path::new(base), path), inside.map(PathBuf::from), "{base} {path}");
        }
    }

    #[test]
    fn yaml_as_compose_files_have_it() {
        let text = "x-a: &a {restart: 'no', init: yes}\nservices:\n  web:\n    <<: *a\n    image: x\n    ports: !override [80]\n    command: !reset null\n    extra: {80: x, yes: .inf, 1.5: 2001-01-01}\n    merged: {<<: [*a, *a], b: 1}\n---\nservices: {}\n";
        let documents = parse_documents(text).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0]["services"]["web"]["restart"], "no");
        assert_eq!(documents[0]["services"]["web"]["ports"][0], 80);
    }

    #[test]
    fn a_bomb_is_refused_within_the_budget() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let aliases = format!("*a{},", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse_documents(&text).is_err());
        assert!(parse_documents(&format!("a: {}{}", "[".repeat(300), "]".repeat(300))).is_err());
    }
}
