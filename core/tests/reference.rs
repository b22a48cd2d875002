//! Every key that landfall.yaml may have is in README's reference, and the reverse. The keys are asked of the parser itself: it
//! names the ones that it knows when it meets one that it does not.

use std::collections::BTreeSet;
use std::path::Path;

use landfall_core::config::Config;
use serde_json::{Value, json};

/// Keys that hold a map by names of the user's choice: as README writes such a name, and one that is valid there.
const MAPS: [(&str, &str, &str); 6] = [
    ("vaults", "<name>", "default"),
    ("registries", "<host[:port]>", "ghcr.io"),
    ("apps", "<app>", "web"),
    ("previews", "<entry>", "pr"),
    ("services", "<service>", "api"),
    ("units", "<unit>", "a.service"),
];
const NO_KEY: &str = "no-such-key";

/// The keys that are known where `path` leads; none where it leads to a value.
fn known(path: &[String]) -> Option<Vec<String>> {
    let sample = |key: &String| MAPS.iter().find(|(_, name, _)| name == key).map_or(key.clone(), |m| m.2.to_owned());
    let document = path.iter().rev().fold(json!({ NO_KEY: 1 }), |inner, key| json!({ sample(key): inner }));
    let said = serde_json::from_value::<Config>(document).err()?.to_string();
    let (_, expected) = said.split_once(&format!("unknown field `{NO_KEY}`, expected "))?;
    Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

fn of_the_parser(path: &[String], found: &mut BTreeSet<String>) {
    let Some(keys) = known(path) else {
        found.insert(path.join("."));
        return;
    };
    for key in keys {
        let map = MAPS.iter().find(|(name, _, _)| *name == key).map(|m| m.1.to_owned());
        of_the_parser(&[path, &[key], map.as_slice()].concat(), found);
    }
}

/// The first cells of the table: `` `a.b.c`, `.d` `` are the keys `a.b.c` and `a.b.d`.
fn of_readme() -> BTreeSet<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let rows = readme.lines().skip_while(|line| !line.starts_with("| key | type")).skip(2);
    let mut keys = BTreeSet::new();
    for row in rows.map_while(|row| row.strip_prefix("| ")) {
        let mut parent = String::new();
        for key in row.split(" |").next().unwrap_or_default().split('`').skip(1).step_by(2) {
            let key = if key.starts_with('.') { format!("{parent}{key}") } else { key.to_owned() };
            parent = key.rsplit_once('.').map_or(String::new(), |(parent, _)| parent.to_owned());
            assert!(keys.insert(key.clone()), "`{key}` is in README twice");
        }
    }
    keys
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let mut parser = BTreeSet::new();
    of_the_parser(&[], &mut parser);
    // A unit's map is by the ids of its credentials.
    assert!(parser.remove("units.<unit>") && parser.insert("units.<unit>.<id>".to_owned()));
    let readme = of_readme();
    let missing: Vec<_> = parser.difference(&readme).collect();
    assert!(missing.is_empty(), "README's reference lacks {missing:?}");
    let unknown: Vec<_> = readme.difference(&parser).collect();
    assert!(unknown.is_empty(), "README's reference has {unknown:?}, which landfall.yaml may not have");
}

#[test]
fn the_parser_is_asked_as_this_test_believes() {
    assert!(known(&[]).is_some_and(|keys| keys.contains(&"apps".to_owned())));
    assert_eq!(known(&["apps".to_owned(), "<app>".to_owned(), "poll".to_owned()]), None);
    assert!(serde_json::from_value::<Config>(Value::Null).is_err());
}
