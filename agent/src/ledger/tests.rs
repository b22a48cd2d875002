use super::*;

fn app() -> AppName {
    "web".parse().unwrap()
}

fn held(why: &str) -> AppState {
    AppState { hold: Some(why.to_owned()), ..AppState::default() }
}

fn line(format: u32, why: &str) -> String {
    let state = serde_json::to_value(held(why)).unwrap();
    serde_json::json!({ "format": format, "app": "web", "state": state }).to_string()
}

#[test]
fn the_last_line_is_the_truth_and_a_torn_one_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger/web.jsonl");
    let mut opened = Ledger::open(&path, &app()).unwrap();
    assert_eq!(opened.state, AppState::default());
    opened.ledger.append(&held("one")).unwrap();
    opened.ledger.append(&held("two")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..40 {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let mut opened = Ledger::open(&path, &app()).unwrap();
        assert_eq!((opened.state, opened.damage), (held("one"), None), "cut {cut}");
        opened.ledger.append(&held("three")).unwrap();
        assert_eq!(Ledger::open(&path, &app()).unwrap().state, held("three"));
    }
    assert_eq!(names(dir.path()), ["web.jsonl"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("ledger")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Damage, what is supervised, what is said, and under which name the file is kept.
#[test]
fn damage_gives_the_last_readable_state_and_loses_nothing() {
    let (one, two, bad) = (line(1, "one"), line(1, "two"), "\0\0not json");
    let newer = line(2, "newer");
    let strange = r#"{"format":3,"app":"web","state":[]}"#;
    let foreign = one.replace("\"web\"", "\"shop\"");
    let table = [
        (format!("{bad}\n{one}\n{two}\n"), Some("two"), "line 1 of the ledger", "garbled"),
        (format!("{one}\n{bad}\n{two}\n"), Some("two"), "line 2 of the ledger", "garbled"),
        (format!("{one}\n{two}\n{bad}\n"), Some("two"), "line 3 of the ledger", "garbled"),
        (format!("{one}\n{two}\n{bad}\n{{\"torn"), Some("two"), "line 3 of the ledger", "garbled"),
        (format!("{bad}\n"), None, "line 1 of the ledger", "garbled"),
        (format!("{one}\n{foreign}\n"), Some("one"), "it is of app `shop`", "garbled"),
        (format!("{one}\n{newer}\n"), Some("newer"), "has format 2", "newer"),
        (format!("{one}\n{strange}\n"), Some("one"), "has format 3", "newer"),
        (format!("{strange}\n"), None, "has format 3", "newer"),
    ];
    for (text, supervised, said, word) in table {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger/web.jsonl");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
        let state = supervised.map_or_else(AppState::default, held);
        // Looking changes nothing, however often.
        for _ in 0..2 {
            let opened = Ledger::open(&path, &app()).unwrap();
            assert_eq!(opened.state, state, "{text}");
            let damage = opened.damage.unwrap();
            assert!(damage.contains(said) && damage.contains(&format!("web.jsonl.{word}-1")), "{damage}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let mut opened = Ledger::open(&path, &app()).unwrap();
        opened.ledger.append(&held("three")).unwrap();
        opened.ledger.append(&held("four")).unwrap();
        let again = Ledger::open(&path, &app()).unwrap();
        assert_eq!((again.state, again.damage), (held("four"), None), "{text}");
        let kept = path.with_file_name(format!("web.jsonl.{word}-1"));
        assert_eq!(std::fs::read_to_string(kept).unwrap(), text);
        assert_eq!(names(dir.path()).len(), 2);
    }
}

#[test]
fn a_kill_between_keeping_and_writing_keeps_the_file_once_and_a_second_damage_beside_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger/web.jsonl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "bad\n").unwrap();
    std::fs::hard_link(&path, path.with_file_name("web.jsonl.garbled-1")).unwrap();
    Ledger::open(&path, &app()).unwrap().ledger.append(&held("one")).unwrap();
    assert_eq!(names(dir.path()), ["web.jsonl", "web.jsonl.garbled-1"]);
    std::fs::write(&path, "bad again\n").unwrap();
    Ledger::open(&path, &app()).unwrap().ledger.append(&held("two")).unwrap();
    assert_eq!(names(dir.path()), ["web.jsonl", "web.jsonl.garbled-1", "web.jsonl.garbled-2"]);
}
