//! What was sealed comes back as it was, and each thing that is wrong with it has its own refusal.

use super::super::key::KEY_BYTES;
use super::*;

const MACHINE: &str = "3d1219c7c4c5404aaa1f6d2a48adfda4";
const DAY: Duration = Duration::from_hours(24);
const NEED: &str = "00112233";

fn key(byte: u8, machine: &str) -> Key {
    Key::derive(&[byte; KEY_BYTES], machine).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn fetched(value: &str) -> Fetched {
    let (value, version) = (Value::new(value.as_bytes().to_vec()), "1".to_owned());
    Fetched { value, version, not_before: None, expires: Some(at(2_000_000)) }
}

fn sealed() -> Vec<u8> {
    let (db, empty) = (fetched("the-value-of-db"), fetched(""));
    let entry =
        |name: &str, fetched: &Fetched| Entry::new(name.to_owned(), format!("https://kv/secrets/{name}"), fetched);
    let secrets = [(entry("db", &db), &db.value), (entry("empty", &empty), &empty.value)];
    let app = "web".parse().unwrap();
    let whose = Whose { app: &app, service: "api", need: NEED };
    seal(&key(1, MACHINE), whose, &["default".to_owned()], &secrets, at(1_000_000)).unwrap()
}

fn opened(key: &Key, (app, service, need): (&str, &str, &str), bytes: Vec<u8>, now: i64) -> Result<Opened, Unusable> {
    let app = app.parse().unwrap();
    open(key, Whose { app: &app, service, need }, bytes, DAY, at(now))
}

#[test]
fn what_was_sealed_comes_back_and_no_two_files_are_alike() {
    let bytes = sealed();
    let text = String::from_utf8_lossy(&bytes);
    for hidden in ["the-value-of-db", "kv/secrets", MACHINE] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    assert_ne!(bytes, sealed());
    let head = head(&bytes).unwrap();
    assert_eq!((head.service.as_str(), head.vaults), ("api", vec!["default".to_owned()]));
    let opened = opened(&key(1, MACHINE), ("web", "api", NEED), bytes, 1_000_001).unwrap();
    assert_eq!(opened.sealed_at, at(1_000_000));
    let seen: Vec<_> = opened.secrets.iter().map(|(e, f)| (e.secret.as_str(), f.value.bytes(), f.expires)).collect();
    let end = Some(at(2_000_000));
    assert_eq!(seen, [("db", b"the-value-of-db".as_slice(), end), ("empty", b"".as_slice(), end)]);
    assert!(!format!("{opened:?}").contains("the-value"), "{opened:?}");
}

type Change = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
/// What it is, who opens it for whom, what was done to it, when it is opened, and how that reads.
type Row = (&'static str, Key, (&'static str, &'static str, &'static str), Change, i64, &'static str);

#[test]
fn each_thing_that_is_wrong_has_its_refusal() {
    let mine = ("web", "api", NEED);
    let text = |bytes: &[u8], from: &str, to: &str| {
        let (line, rest) = split(bytes).unwrap();
        let line = String::from_utf8(line.to_vec()).unwrap();
        assert!(line.contains(from), "{line}");
        [line.replace(from, to).as_bytes(), b"\n", rest].concat()
    };
    let cut = |left: usize| -> Change { Box::new(move |bytes| bytes[..bytes.len() - left].to_vec()) };
    let same: fn() -> Change = || Box::new(|bytes| bytes);
    let edit = |from: &'static str, to: &'static str| -> Change { Box::new(move |bytes| text(&bytes, from, to)) };
    let flip = |from_end: usize| -> Change {
        Box::new(move |mut bytes| {
            let place = bytes.len() - from_end;
            bytes[place] ^= 1;
            bytes
        })
    };
    let body = sealed().len() - split(&sealed()).unwrap().0.len() - 1;
    let (own, now) = (|| key(1, MACHINE), 1_000_100);
    let other_machine = || key(1, "3d1219c7c4c5404aaa1f6d2a48adfda5");
    let table: Vec<Row> = vec![
        ("another machine", other_machine(), mine, same(), now, "sealed on another machine"),
        ("another key", key(2, MACHINE), mine, same(), now, "with another key"),
        ("empty", own(), mine, Box::new(|_| Vec::new()), now, "cut off"),
        ("half of its first line", own(), mine, Box::new(|b| b[..20].to_vec()), now, "cut off"),
        ("no line that ends", own(), mine, Box::new(|_| vec![b'x'; 1 << 20]), now, "cut off"),
        ("the first line alone", own(), mine, cut(body), now, "cut off"),
        ("half of the nonce", own(), mine, cut(body - 6), now, "cut off"),
        ("less than a tag", own(), mine, cut(body - NONCE_LEN - 3), now, "cut off"),
        ("one byte less", own(), mine, cut(1), now, "was changed"),
        ("one byte more", own(), mine, Box::new(|b| [b, vec![0]].concat()), now, "was changed"),
        ("a bit of the tag", own(), mine, flip(1), now, "was changed"),
        ("a bit of the values", own(), mine, flip(20), now, "was changed"),
        ("a bit of the nonce", own(), mine, flip(body), now, "was changed"),
        ("a later time", own(), mine, edit("1970-01-12T13:46:40Z", "1970-01-12T13:47:40Z"), now, "was changed"),
        ("another vault", own(), mine, edit("default", "kv2"), now, "was changed"),
        ("a field less", own(), mine, edit("\"service\":\"api\",", ""), now, "was changed"),
        ("a newer format", own(), mine, edit("\"format\":1", "\"format\":2"), now, "of a newer version"),
        ("an older format", own(), mine, edit("\"format\":1", "\"format\":0"), now, "was changed"),
        ("for another app", own(), ("other", "api", NEED), same(), now, "for another service"),
        ("for another service", own(), ("web", "db", NEED), same(), now, "for another service"),
        ("for another need", own(), ("web", "api", "44"), same(), now, "for another service"),
        ("renamed in its line too", own(), ("web", "db", NEED), edit("\"api\"", "\"db\""), now, "was changed"),
        ("too old", own(), mine, same(), 1_000_000 + 86_401, "longer ago than `cache_age` allows (24 h)"),
        ("of the future", own(), mine, same(), 1_000_000 - 61, "set the clock"),
    ];
    for (name, key, whose, change, now, words) in table {
        let refused = opened(&key, whose, change(sealed()), now).err().map(|refused| refused.to_string());
        let refused = refused.unwrap_or_else(|| panic!("{name}: it is used"));
        assert!(refused.contains(words) && refused.contains("next: "), "{name}: {refused}");
    }
    // The last moments in which it is good.
    for now in [1_000_000 - 60, 1_000_000, 1_000_000 + 86_400] {
        assert!(opened(&own(), mine, sealed(), now).is_ok(), "{now}");
    }
}
