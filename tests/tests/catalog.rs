//! The journal's catalog (`packaging/usr/lib/systemd/catalog/landfall.catalog`) against the code: one entry for each event and
//! none else, made only of fields that the code writes, naming a section of the documentation that is there, and taken by
//! systemd. It reads the sources as text, because what an entry of the journal has is decided there, place by place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_core::journal::event;

const CATALOG: &str = "packaging/usr/lib/systemd/catalog/landfall.catalog";
const DOCUMENTS: &str = "file:///usr/share/doc/landfall/";

struct Entry {
    headers: BTreeMap<String, String>,
    body: String,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn catalog() -> BTreeMap<String, Entry> {
    let text = fs::read_to_string(repository().join(CATALOG)).unwrap();
    let mut entries = BTreeMap::new();
    for part in text.split("\n-- ").skip(1) {
        let (id, rest) = part.split_once('\n').unwrap();
        let (head, body) = rest.split_once("\n\n").unwrap_or_else(|| panic!("{id} has no text"));
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{id}: `{line}`"));
            (name.to_owned(), value.to_owned())
        };
        let entry = Entry { headers: head.lines().map(header).collect(), body: body.to_owned() };
        assert!(entries.insert(id.to_owned(), entry).is_none(), "{id} is there twice");
    }
    entries
}

/// The ids and names of all events, by their constants.
fn events() -> BTreeMap<String, (&'static str, &'static str)> {
    event::ALL.iter().map(|(id, name)| (name.to_uppercase().replace('-', "_"), (*id, *name))).collect()
}

#[test]
fn every_event_has_an_entry_and_every_entry_an_event() {
    let catalog = catalog();
    let known: BTreeSet<&str> = event::ALL.iter().map(|(id, _)| *id).collect();
    for (id, name) in event::ALL {
        assert!(catalog.contains_key(*id), "event {name} has no entry; next: add `-- {id}` to {CATALOG}");
    }
    for id in catalog.keys() {
        assert!(
            known.contains(id.as_str()),
            "`-- {id}` is no event of core/src/journal/event.rs; next: remove it from {CATALOG}"
        );
    }
}

#[test]
fn every_entry_says_what_happened_what_to_do_and_where_it_is_explained() {
    for (id, entry) in catalog() {
        let header = |name: &str| entry.headers.get(name).unwrap_or_else(|| panic!("{id} has no `{name}:`"));
        assert_eq!(entry.headers.len(), 3, "{id}: {:?}", entry.headers.keys());
        assert!(!header("Subject").ends_with('.'), "{id}");
        assert_eq!(header("Defined-By"), "Landfall", "{id}");
        let command = entry.body.lines().any(|line| line.starts_with("    "));
        assert!(command || entry.body.contains("Nothing is to be done"), "{id} says nothing of what to do");
        let address =
            header("Documentation").strip_prefix(DOCUMENTS).unwrap_or_else(|| panic!("{id}: not in {DOCUMENTS}"));
        let (file, section) = address.split_once('#').unwrap_or_else(|| panic!("{id}: `{address}` names no section"));
        assert!(sections(file).contains(section), "{id}: {file} has no section `#{section}`");
    }
}

/// The sections of a document as addresses name them: small letters, without punctuation, with `-` for spaces.
fn sections(file: &str) -> BTreeSet<String> {
    let places = [repository().join(file), repository().join("docs").join(file)];
    let path = places.iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("no document {file}"));
    let text = fs::read_to_string(path).unwrap();
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let name = |title: &str| title.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
    text.lines().filter_map(|line| line.strip_prefix('#')).map(|title| name(title.trim_start_matches('#'))).collect()
}

#[test]
fn every_field_in_an_entry_is_written_wherever_the_event_is_logged() {
    let (catalog, events, logged) = (catalog(), events(), logged());
    for (constant, places) in &logged {
        let (id, _) = events.get(constant).unwrap_or_else(|| panic!("`event::{constant}` is not in event.rs"));
        let Some(entry) = catalog.get(*id) else { continue };
        let text = format!("{}\n{}", entry.headers["Subject"], entry.body);
        for field in text.split('@').skip(1).step_by(2) {
            assert!(field.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{constant}: `@{field}@`");
            for (place, fields) in places {
                assert!(
                    fields.contains(field),
                    "{constant} is logged in {place} without {field}, which the catalog shows"
                );
            }
        }
    }
    let silent: Vec<&String> = events.keys().filter(|constant| !logged.contains_key(*constant)).collect();
    assert!(silent.is_empty(), "nothing logs {silent:?}");
}

type Places = Vec<(String, BTreeSet<String>)>;

/// Each place that logs an event, by the event's constant: its file, and the fields of the entry.
fn logged() -> BTreeMap<String, Places> {
    let mut found = BTreeMap::<String, Places>::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("event::") {
            let constant: String = text[at + 7..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            if constant.is_empty() || text[..at].ends_with(|c: char| c.is_alphanumeric()) {
                continue;
            }
            let fields = fields(&text, at);
            found.entry(constant).or_default().push((path.display().to_string(), fields));
        }
    }
    found
}

/// The fields of the macro call around `at`: those before its message. `line!` stands for the call in its definition.
fn fields(text: &str, at: usize) -> BTreeSet<String> {
    let Some(open) = text[..at].rfind("!(") else { return BTreeSet::new() };
    let (start, end) = if text[..open].ends_with("line") {
        let definition = text.find("MESSAGE_ID = $id").unwrap();
        (definition, definition + text[definition..].find("$($text)").unwrap())
    } else {
        (open + 2, at + text[at..].find('"').unwrap_or(0))
    };
    // Commas within a value (`a.b(c, d)`) make words that are no field's name, and do no harm.
    let name =
        |part: &str| part.split('=').next().unwrap_or_default().trim_matches(['%', '?', ' ', '\n']).to_uppercase();
    text[start..end].split(',').map(name).collect()
}

fn sources() -> Vec<PathBuf> {
    let mut left: Vec<PathBuf> = ["agent", "cli", "core", "image-watcher", "secrets-fetcher"]
        .map(|name| repository().join(name).join("src"))
        .into();
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("journal/event.rs") {
            files.push(path);
        }
    }
    assert!(files.len() > 100, "the sources are elsewhere");
    files
}

#[test]
fn systemd_takes_the_catalog() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
    fs::copy(repository().join(CATALOG), directory.join("landfall.catalog")).unwrap();
    let journalctl = |argument: &str| {
        let mut command = Command::new("journalctl");
        let output = command.arg(argument).arg("--root").arg(root.path()).output();
        let output = output.expect("`journalctl` cannot be run; next: run `make test`");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "journalctl {argument}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    for (id, name) in event::ALL {
        assert!(listed.contains(id), "systemd does not list {name}:\n{listed}");
    }
}
