//! What is sealed, for whom, for how long, and what takes it away: on a disk of its own, without a vault.

use landfall_core::config::Identity;
use landfall_core::layout::CACHE_KEY;
use landfall_core::secrets::NeededFile;

use super::*;
use crate::source::FetchError;

const HOUR: i64 = 3600;

struct World {
    root: tempfile::TempDir,
    layout: Layout,
    app: AppName,
    vaults: Vaults,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn vault(cache: CacheMode) -> Vault {
    Vault {
        source: VaultSource::KeyVault { url: "https://kv.vault.azure.net".to_owned(), identity: Identity::System },
        refresh: Duration::from_mins(1),
        allow: Vec::new(),
        cache,
        cache_age: Duration::from_hours(24),
    }
}

fn need(secrets: &[&str]) -> SecretNeed {
    let file = |secret: &&str| NeededFile { secret: secret.parse().unwrap(), uid: None, gid: None, mode: None };
    let files = secrets.iter().map(|secret| (secret.to_uppercase().replace(['/', '@'], "_"), file(secret))).collect();
    SecretNeed { service: "api".to_owned(), files, live: None }
}

fn given_of(secrets: &[(&str, &str, Option<Timestamp>)]) -> Given {
    let one = |(secret, version, expires): &(&str, &str, Option<Timestamp>)| {
        let value = Value::new(format!("value of {secret}").into_bytes());
        let fetched = Fetched { value, version: (*version).to_owned(), not_before: None, expires: *expires };
        (secret.parse().unwrap(), Ok(fetched))
    };
    secrets.iter().map(one).collect()
}

impl World {
    fn new(cache: CacheMode) -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        publish::write(&layout.machine_id(), b"3d1219c7c4c5404aaa1f6d2a48adfda4\n", 0o444).unwrap();
        std::fs::write(root.path().join(CACHE_KEY), [7; 32]).unwrap();
        let vaults = [("default".to_owned(), vault(cache)), ("kv2".to_owned(), vault(CacheMode::On))].into();
        Self { app: "web".parse().unwrap(), layout, root, vaults }
    }

    /// As a fetcher that was just started has it.
    fn cache(&self) -> Cache {
        let mut cache = Cache::open(&self.layout, Some(self.root.path().as_os_str()));
        cache.apply(&self.vaults);
        cache
    }

    fn sealed(&self) -> usize {
        let apps = list(&self.layout.secrets_cache()).unwrap();
        apps.iter().map(|app| list(app).unwrap().len()).sum()
    }

    fn take(&self, need: &SecretNeed, now: i64) -> Option<Result<(Timestamp, Vec<String>), String>> {
        let values = |taken: Taken| {
            let text = |given: &Result<Fetched, FetchError>| {
                String::from_utf8(given.as_ref().unwrap().value.bytes().to_vec()).unwrap()
            };
            (taken.sealed_at, taken.given.values().map(text).collect())
        };
        self.cache().take(&self.vaults, &self.app, need, at(now)).map(|taken| taken.map(values))
    }
}

#[test]
fn what_is_sealed_comes_back_for_the_newest_and_for_its_versions() {
    let world = World::new(CacheMode::On);
    let (open, given) = (need(&["db", "kv2/key"]), given_of(&[("db", "1", None), ("kv2/key", "2", None)]));
    world.cache().keep(&world.vaults, &world.app, &open, &given, at(HOUR));
    let pinned = open.pinned(&versions(&open, &given)).unwrap();
    let values = vec!["value of db".to_owned(), "value of kv2/key".to_owned()];
    for need in [&open, &pinned] {
        assert_eq!(world.take(need, HOUR + 5), Some(Ok((at(HOUR), values.clone()))));
    }
    assert_eq!(world.sealed(), 2);
    assert_eq!(world.take(&need(&["db"]), HOUR), None, "another need");
}

#[test]
fn it_is_written_when_it_changed_or_has_become_old_and_not_with_each_refresh() {
    let world = World::new(CacheMode::On);
    let (open, mut cache) = (need(&["db"]), world.cache());
    let path = world.layout.sealed_need(&world.app, &open.id());
    let mut bytes = Vec::new();
    for (name, version, expires, now, is_written) in [
        ("the first", "1", None, 0, true),
        ("the same", "1", None, 10, false),
        ("the same, an hour later", "1", None, HOUR, true),
        ("the same, the clock was set back", "1", None, HOUR - 1, true),
        ("a rotation", "2", None, HOUR, true),
        ("it ends now", "2", Some(at(9 * HOUR)), HOUR, true),
        ("it ends as before", "2", Some(at(9 * HOUR)), HOUR + 1, false),
    ] {
        cache.keep(&world.vaults, &world.app, &open, &given_of(&[("db", version, expires)]), at(now));
        let now = std::fs::read(&path).unwrap();
        assert_eq!(now != bytes, is_written, "{name}");
        bytes = now;
    }
    std::fs::remove_file(&path).unwrap();
    cache.keep(&world.vaults, &world.app, &open, &given_of(&[("db", "2", Some(at(9 * HOUR)))]), at(HOUR + 2));
    assert!(path.exists(), "somebody removed it");
}

#[test]
fn each_reason_not_to_use_it_is_told() {
    type Spoil = fn(&mut World);
    let table: [(&str, Spoil, i64, Option<&str>); 10] = [
        ("nothing", |_| (), HOUR, None),
        ("it ended", |_| (), 5 * HOUR, Some("`db` expired at 1970-01-01T05:00:00Z")),
        ("too old", |_| (), 26 * HOUR, Some("longer ago than `cache_age` allows")),
        (
            "another age",
            |w| w.vaults.get_mut("default").unwrap().cache_age = Duration::from_secs(9),
            HOUR,
            Some("(0 h)"),
        ),
        ("before it was sealed", |_| (), -100, Some("set the clock")),
        (
            "another vault",
            |w| {
                let source = &mut w.vaults.get_mut("default").unwrap().source;
                *source = VaultSource::KeyVault { url: "https://x.y".to_owned(), identity: Identity::System };
            },
            HOUR,
            Some("is another place than the one that `db` was sealed from"),
        ),
        ("no key", |w| std::fs::remove_file(w.root.path().join(CACHE_KEY)).unwrap(), HOUR, Some("`landfall host`")),
        ("another key", |w| std::fs::write(w.root.path().join(CACHE_KEY), [8; 32]).unwrap(), HOUR, Some("another key")),
        (
            "another machine",
            |w| publish::write(&w.layout.machine_id(), b"4d1219c7c4c5404aaa1f6d2a48adfda4\n", 0o444).unwrap(),
            HOUR,
            Some("another machine"),
        ),
        (
            "cut off",
            |w| {
                let path = w.layout.sealed_need(&w.app, &need(&["db"]).id());
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            },
            HOUR,
            Some("next: "),
        ),
    ];
    for (name, spoil, now, wanted) in table {
        let mut world = World::new(CacheMode::On);
        let given = given_of(&[("db", "1", Some(at(5 * HOUR)))]);
        world.cache().keep(&world.vaults, &world.app, &need(&["db"]), &given, at(0));
        spoil(&mut world);
        let refused = world.take(&need(&["db"]), now).unwrap().err();
        assert_eq!(refused.is_some(), wanted.is_some(), "{name}: {refused:?}");
        assert!(
            refused.as_ref().is_none_or(|why| why.contains(wanted.unwrap()) && why.contains("next: ")),
            "{refused:?}"
        );
    }
}

#[test]
fn only_what_the_settings_let_be_sealed_is() {
    let directory = VaultSource::Directory("/srv".into());
    for (cache, source, has_tpm2, wanted) in [
        (CacheMode::Auto, None, false, 0),
        (CacheMode::Auto, None, true, 2),
        (CacheMode::On, None, false, 2),
        (CacheMode::Off, None, true, 0),
        (CacheMode::On, Some(&directory), true, 0),
    ] {
        let mut world = World::new(cache);
        if let Some(source) = source {
            world.vaults.get_mut("default").unwrap().source = source.clone();
        }
        if has_tpm2 {
            std::fs::create_dir_all(world.layout.tpm2()).unwrap();
        }
        // One of its vaults is always cached: all of them count.
        let given = given_of(&[("db", "1", None), ("kv2/key", "2", None)]);
        world.cache().keep(&world.vaults, &world.app, &need(&["db", "kv2/key"]), &given, at(0));
        assert_eq!(world.sealed(), wanted, "{cache:?} {source:?} {has_tpm2}");
    }
}

#[test]
fn what_may_not_be_cached_any_more_goes_at_once_and_nothing_else() {
    let mut world = World::new(CacheMode::On);
    for secrets in [vec!["db"], vec!["kv2/db"], vec!["db", "kv2/db"]] {
        let given: Vec<_> = secrets.iter().map(|secret| (*secret, "1", None)).collect();
        world.cache().keep(&world.vaults, &world.app, &need(&secrets), &given_of(&given), at(0));
    }
    std::fs::write(world.layout.sealed_need(&world.app, "garbled"), b"x").unwrap();
    assert_eq!(world.sealed(), 7);
    world.cache();
    assert_eq!(world.sealed(), 7);
    world.vaults.get_mut("default").unwrap().cache = CacheMode::Off;
    world.cache();
    assert_eq!(world.sealed(), 3, "those of the other vault, and the one that says nothing");
    assert!(world.take(&need(&["kv2/db"]), 0).unwrap().is_ok());
    world.vaults.get_mut("kv2").unwrap().cache = CacheMode::Off;
    world.cache();
    assert_eq!(world.sealed(), 0);
}

#[test]
fn what_is_older_than_what_is_used_does_not_stay() {
    let world = World::new(CacheMode::On);
    let open = need(&["db"]);
    let mut cache = world.cache();
    cache.keep(&world.vaults, &world.app, &open, &given_of(&[("db", "1", None)]), at(0));
    // Sealing fails: the newest is laid down all the same.
    let mut keyless = Cache::open(&world.layout, None);
    keyless.apply(&world.vaults);
    keyless.keep(&world.vaults, &world.app, &open, &given_of(&[("db", "2", None)]), at(1));
    assert_eq!(world.take(&open, 2), None);
    assert!(world.take(&need(&["db@1"]), 2).is_none(), "it has another file name here");
    let first = open.pinned(&[("DB".to_owned(), "1".to_owned())].into()).unwrap();
    assert!(world.take(&first, 2).unwrap().is_ok(), "the way back stays");
}

#[test]
fn what_was_refused_or_is_not_needed_goes() {
    let world = World::new(CacheMode::On);
    let (open, given) = (need(&["db"]), given_of(&[("db", "1", None)]));
    let mut cache = world.cache();
    cache.keep(&world.vaults, &world.app, &open, &given, at(0));
    let versions = versions(&open, &given);
    cache.withdraw(&world.app, &open, &versions);
    assert_eq!(world.sealed(), 0);
    // It is good again: it is sealed again.
    cache.keep(&world.vaults, &world.app, &open, &given, at(1));
    assert_eq!(world.sealed(), 2);
    let named: BTreeSet<PathBuf> = cache.paths(&world.app, &open, &versions).into_iter().collect();
    let start = Instant::now();
    cache.sweep(&named, start).unwrap();
    cache.sweep(&BTreeSet::new(), start).unwrap();
    cache.sweep(&BTreeSet::new(), start + crate::sets::KEEP - Duration::from_secs(1)).unwrap();
    assert_eq!(world.sealed(), 2);
    cache.sweep(&BTreeSet::new(), start + crate::sets::KEEP).unwrap();
    assert_eq!(world.sealed(), 0);
    assert!(!world.layout.sealed_need(&world.app, "x").parent().unwrap().exists());
}
