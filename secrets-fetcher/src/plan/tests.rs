use std::time::Duration;

use landfall_core::config::{Config, Identity, Settings};

use super::*;

fn vaults() -> Vaults {
    let text = "\
vaults:
  default: { url: 'https://kv.vault.azure.net', allow: ['stage-*', 'db'] }
  other: { url: 'https://other.vault.azure.net', refresh: 5s }
  none: { directory: /srv/secrets, allow: [] }
";
    let config = Config::parse(std::path::Path::new("landfall.yaml"), text).unwrap();
    let settings: Settings = config.settle().unwrap();
    assert_eq!(settings.vaults["other"].refresh, Duration::from_secs(5));
    let system = VaultSource::KeyVault { url: "https://kv.vault.azure.net".to_owned(), identity: Identity::System };
    assert_eq!(settings.vaults["default"].source, system);
    settings.vaults
}

fn need(files: &[(&str, &str)]) -> SecretNeed {
    let file = |reference: &str| {
        let (path, version) = reference.split_once('@').map_or((reference, None), |(p, v)| (p, Some(v.to_owned())));
        let (vault, name) = path.split_once('/').unwrap_or(("default", path));
        let secret = SecretReference { vault: vault.to_owned(), name: name.to_owned(), version };
        NeededFile { secret, uid: None, gid: None, mode: None }
    };
    let files = files.iter().map(|(name, reference)| ((*name).to_owned(), file(reference))).collect();
    SecretNeed { service: "api".to_owned(), files, live: None }
}

fn fetched(lookup: Lookup) -> Vec<String> {
    match lookup {
        Lookup::Fetch(references) => references.iter().map(ToString::to_string).collect(),
        other => vec![format!("{other:?}")],
    }
}

#[test]
fn what_a_need_asks_for() {
    let vaults = vaults();
    let newest = need(&[("A", "db"), ("B", "other/x"), ("C", "db")]);
    assert_eq!(fetched(look(&newest, &vaults, |_| true)), ["db", "other/x"], "each once, whatever is there");
    let mixed = need(&[("A", "db@1"), ("B", "other/x")]);
    assert_eq!(fetched(look(&mixed, &vaults, |_| true)), ["db@1", "other/x"]);
    let pinned = need(&[("A", "db@1"), ("B", "other/x@2")]);
    assert_eq!(fetched(look(&pinned, &vaults, |_| false)), ["db@1", "other/x@2"]);
    let set = pinned_set(&pinned, &vaults).unwrap();
    assert_eq!(look(&pinned, &vaults, |laid| laid == set), Lookup::Laid(set.clone()));
    let versions = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())].into();
    assert_eq!(set_of(&mixed, &vaults, &versions), Some(set), "the same versions are the same set");
    assert_eq!(pinned_set(&mixed, &vaults), None);
}

#[test]
fn what_is_not_allowed_is_not_asked_for() {
    let vaults = vaults();
    for (file, reference, wanted) in [
        ("A", "prod-db", "`vaults.default.allow` in landfall.yaml has `stage-*`, `db`"),
        ("A", "none/db", "`vaults.none.allow` in landfall.yaml has nothing"),
        ("A", "absent/db", "add `vaults.absent` to landfall.yaml"),
        ("../A", "db", "cannot be a file name"),
        ("A", "default/..", "names no secret"),
        ("A", "db@../1", "names no secret"),
        ("A", "db@", "names no secret"),
    ] {
        let Lookup::Impossible(problem) = look(&need(&[(file, reference)]), &vaults, |_| true) else {
            panic!("{reference} is asked for");
        };
        assert!(problem.contains(wanted) && problem.contains("next: "), "{reference}: {problem}");
    }
    assert!(matches!(look(&need(&[]), &vaults, |_| true), Lookup::Impossible(_)));
    let service = SecretNeed { service: "../x".to_owned(), ..need(&[("A", "db")]) };
    assert!(matches!(look(&service, &vaults, |_| true), Lookup::Impossible(_)));
}

#[test]
fn needs_that_share_a_vault_are_one_round() {
    let due = |number: usize, references: &[&str]| {
        let app: AppName = "web".parse().unwrap();
        ((app, number.to_string()), references.iter().map(|r| r.parse().unwrap()).collect())
    };
    let show = |rounds: Vec<Round>| -> Vec<String> {
        let one = |round: Round| {
            let needs: Vec<String> = round.needs.into_iter().map(|(_, id)| id).collect();
            let secrets: Vec<String> = round.secrets.values().flatten().map(ToString::to_string).collect();
            format!("{}: {}", needs.join(" "), secrets.join(" "))
        };
        rounds.into_iter().map(one).collect()
    };
    assert_eq!(show(rounds([], [due(1, &["a", "b"]), due(2, &["a"]), due(3, &["kv/a"])])), ["1 2: a b", "3: kv/a"]);
    // The last brings the two before it together.
    assert_eq!(
        show(rounds([], [due(1, &["a"]), due(2, &["kv/a"]), due(3, &["a@1", "kv/b"])])),
        ["1 2 3: a a@1 kv/a kv/b"]
    );
    assert_eq!(rounds([], []), []);
    // What the machine itself needs is of the round of its vault, and of one of its own where nobody else asks.
    let first = ["pull", "kv/token"].map(|reference| reference.parse().unwrap());
    let found = rounds(first, [due(1, &["a"])]);
    let vaults: Vec<_> =
        found.iter().map(|round| (round.vaults().len(), round.first.len(), round.needs.len())).collect();
    assert_eq!(vaults, [(1, 1, 0), (1, 1, 1)]);
}
