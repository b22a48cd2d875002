//! Stories of an entry's tags, told in listings and a clock: when an app begins, and what it takes for one to leave.

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const POLL: Duration = Duration::from_secs(5);
const MINUTES_10: Duration = Duration::from_mins(10);

/// So many hours, but for a little.
fn almost(hours: u32, but: Duration) -> Duration {
    (hours * HOUR).saturating_sub(but)
}

/// An entry before a registry that can be made to do anything.
struct Story {
    entry: Entry,
    now: Timestamp,
    /// What each tag points at and when it was published by its annotations; what is not here is answered by 404.
    there: BTreeMap<String, (Digest, Option<Timestamp>)>,
    /// What is listed, where that is not what is there.
    listed: Option<Vec<String>>,
    asked: Vec<String>,
    changes: Vec<String>,
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn settings(channel: &str, ttl: Duration) -> Previews {
    Previews {
        channel: channel.parse().unwrap(),
        source: landfall_core::config::Source::Bundle,
        poll: POLL,
        ttl,
        ports: None,
        caps: landfall_core::config::PreviewCaps::default(),
        profiles: Vec::new(),
        vars: BTreeMap::new(),
    }
}

impl Story {
    /// An entry with a `ttl` of 72 h that knows nothing.
    fn new() -> Self {
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let settings = settings("r.example/deploy:pr-*", 72 * HOUR);
        let entry = Entry::new(&"web".parse().unwrap(), &settings, None, BTreeMap::new(), now);
        Self { entry, now, there: BTreeMap::new(), listed: None, asked: Vec::new(), changes: Vec::new() }
    }

    fn push(&mut self, tag: &str, content: &str) {
        self.there.insert(tag.to_owned(), (digest(content), Some(self.now)));
    }

    /// The watcher begins anew with what is on disk, with these settings.
    fn restart(&mut self, settings: &Previews) {
        let file = Some(self.entry.file().clone());
        self.entry = Entry::new(&"web".parse().unwrap(), settings, file, BTreeMap::new(), self.now);
    }

    /// So much later, one good listing and all that is asked for it.
    fn list_after(&mut self, pause: Duration) -> Round {
        self.now += pause;
        let listed = self.listed.clone().unwrap_or_else(|| self.there.keys().cloned().collect());
        let ended = self.entry.expire(self.now);
        let mut round = self.entry.listed(listed.into_iter().collect(), self.now);
        self.tell(ended);
        while let Some(ask) = self.entry.ask(&round, self.now) {
            self.asked.push(format!("{:?} {}", ask.why, ask.tag));
            assert!(self.asked.len() < 1000, "{:?}", self.asked);
            let answer = match self.there.get(&ask.tag) {
                Some((digest, published)) => Answer::At(digest.clone(), published.filter(|_| ask.why.needs_manifest())),
                None => Answer::NotThere,
            };
            let change = self.entry.answer(&mut round, &ask, answer, self.now);
            self.tell(change);
        }
        round
    }

    fn list_for(&mut self, time: Duration, pause: Duration) {
        for _ in 0..time.as_secs() / pause.as_secs() {
            self.list_after(pause);
        }
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.changes.extend(changes.into_iter().map(|change| format!("{:?} {}", change.what, change.tag)));
    }

    fn told(&mut self) -> String {
        std::mem::take(&mut self.changes).join(", ")
    }

    fn asked(&mut self) -> String {
        std::mem::take(&mut self.asked).join(", ")
    }

    fn missing(&self, tag: &str) -> Duration {
        Duration::from_millis(self.entry.file().tags[tag].missing_ms)
    }

    fn living(&self) -> String {
        self.entry.living().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_tag_that_is_deleted_leaves_after_a_day() {
    let mut story = Story::new();
    for tag in ["pr-1", "pr-2"] {
        story.push(tag, tag);
    }
    story.list_after(POLL);
    assert_eq!((story.told(), story.asked()), ("Began pr-2, Began pr-1".into(), "New pr-2, New pr-1".into()));
    story.there.remove("pr-1");
    story.list_after(POLL);
    assert_eq!(story.missing("pr-1"), Duration::ZERO, "one listing that lacks it is no time");
    story.list_for(almost(24, POLL), POLL);
    assert_eq!((story.missing("pr-1"), story.told().as_str()), (almost(24, POLL), ""));
    story.list_after(POLL);
    assert_eq!(
        (story.told(), story.asked(), story.living()),
        ("Gone pr-1".into(), "Gone pr-1".into(), "web-pr-2".into())
    );
    assert!(!story.entry.file().tags.contains_key("pr-1"));
}

#[test]
fn a_tag_that_comes_back_was_never_missing() {
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.list_after(POLL);
    for _ in 0..3 {
        story.listed = Some(Vec::new());
        story.list_for(10 * HOUR, MINUTES_10);
        assert_eq!(story.missing("pr-1"), almost(10, MINUTES_10));
        story.listed = None;
        story.list_after(POLL);
        assert_eq!(story.missing("pr-1"), Duration::ZERO);
    }
    assert_eq!((story.told(), story.asked()), ("Began pr-1".into(), "New pr-1".into()));
    // A list that lacks what is there does not end it: one question a day.
    story.listed = Some(Vec::new());
    story.list_for(25 * HOUR, MINUTES_10);
    assert_eq!((story.told().as_str(), story.asked().as_str(), story.living().as_str()), ("", "Gone pr-1", "web-pr-1"));
    assert!(story.missing("pr-1") < HOUR);
}

/// What is counted as missing while nobody could know.
#[test]
fn an_outage_a_restart_and_a_clock_count_little_or_nothing() {
    let days = 24 * HOUR;
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.list_after(POLL);
    story.there.clear();
    story.list_after(POLL);
    // Three days without a listing, or three days ahead by the clock.
    story.entry.problem(Some("out of reach".into()));
    story.list_after(Duration::from_secs(1));
    let before = story.missing("pr-1");
    // Within its time: else it would be over.
    story.list_after(2 * days);
    assert_eq!(story.missing("pr-1"), before + STEP);
    // The clock goes back two days.
    story.now -= 2 * days;
    story.list_after(Duration::ZERO);
    assert_eq!(story.missing("pr-1"), before + STEP);
    // A watcher that was stopped.
    let same = story.entry.settings().clone();
    for _ in 0..5 {
        story.restart(&same);
        story.list_after(2 * HOUR);
    }
    assert_eq!(story.missing("pr-1"), before + STEP);
    story.list_after(POLL);
    assert_eq!(story.missing("pr-1"), before + STEP + POLL);
    assert_eq!((story.told(), story.living()), ("Began pr-1".into(), "web-pr-1".into()));
}

#[test]
fn what_is_not_published_again_is_over_and_a_push_wakes_it() {
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.list_after(POLL);
    story.entry.heard("pr-1", story.now + 10 * HOUR);
    story.entry.heard("pr-1", story.now);
    story.list_after(almost(82, POLL));
    assert_eq!(story.living(), "web-pr-1");
    story.list_after(POLL);
    assert_eq!(story.told(), "Began pr-1, Over pr-1");
    assert_eq!(story.entry.file().tags["pr-1"].over, Some(digest("a")));
    assert!(story.entry.followed().is_empty());
    story.list_for(HOUR, POLL);
    assert_eq!((story.told().as_str(), story.living().as_str()), ("", ""));
    story.entry.heard("pr-1", story.now);
    assert_eq!(story.living(), "", "only what it points at wakes it");
    story.push("pr-1", "b");
    story.list_after(POLL);
    assert_eq!((story.told(), story.living()), ("Began pr-1".into(), "web-pr-1".into()));
    assert_eq!(story.entry.file().tags["pr-1"].published, published::text(story.now));
    // Over again, and then deleted: it leaves without a word, since it has no app.
    story.list_after(72 * HOUR);
    assert_eq!(story.told(), "Over pr-1");
    story.there.clear();
    story.list_for(25 * HOUR, MINUTES_10);
    assert_eq!((story.told().as_str(), story.entry.file().tags.len()), ("", 0));
}

#[test]
fn a_push_that_the_follower_has_not_seen_yet_counts() {
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.list_after(POLL);
    // After an outage the listing is first.
    story.now += 71 * HOUR;
    story.push("pr-1", "b");
    story.list_after(2 * HOUR);
    assert_eq!((story.told(), story.living()), ("Began pr-1".into(), "web-pr-1".into()));
    // One that was deleted and pushed again is a new one, even with the same content.
    story.list_after(almost(70, POLL));
    story.there.clear();
    story.list_after(POLL);
    assert_eq!(story.told(), "Over pr-1");
    story.push("pr-1", "b");
    story.list_after(POLL);
    assert_eq!(story.told(), "Began pr-1");
}

#[test]
fn a_new_machine_begins_no_preview_whose_time_is_over() {
    let mut story = Story::new();
    let old = story.now - 100 * HOUR;
    for tag in 1..=500 {
        story.there.insert(format!("pr-{tag}"), (digest(&tag.to_string()), Some(old)));
    }
    story.there.insert("pr-9".into(), (digest("9"), Some(story.now - 71 * HOUR)));
    story.there.insert("pr-77".into(), (digest("77"), None));
    story.list_after(POLL);
    assert_eq!(story.told(), "Began pr-77, Began pr-9");
    assert_eq!((story.asked.len(), story.entry.file().tags.len()), (500, 500));
    assert_eq!(story.asked[..3], ["New pr-500", "New pr-499", "New pr-498"]);
    // From then on one question per listing, in turn.
    story.asked();
    story.list_after(POLL);
    story.list_after(POLL);
    assert_eq!(story.asked(), "Wake pr-1, Wake pr-10");
    story.list_for(498 * POLL, POLL);
    story.asked();
    story.list_after(POLL);
    assert_eq!(story.asked(), "Wake pr-100", "around and on");
}

#[test]
fn there_are_never_more_than_so_many() {
    let mut story = Story::new();
    for tag in 1..=103 {
        story.push(&format!("pr-{tag}"), "a");
    }
    let round = story.list_after(POLL);
    assert_eq!((story.entry.living().len(), story.asked.len()), (MOST, MOST));
    let waiting = story.entry.waiting(&round).unwrap();
    assert!(waiting.starts_with("3 more tags match and wait") && waiting.contains("`previews.web`"), "{waiting}");
    assert!(
        ["pr-1", "pr-2", "pr-3"].iter().all(|tag| !story.entry.file().tags.contains_key(*tag)),
        "the highest first"
    );
    story.there.remove("pr-50");
    story.list_for(25 * HOUR, MINUTES_10);
    assert!(story.told().ends_with("Gone pr-50, Began pr-3"));
    assert_eq!(story.entry.living().len(), MOST);
}

#[test]
fn a_tag_without_a_manifest_is_asked_about_in_turn() {
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.listed = Some(["pr-1", "pr-2", "pr-3"].map(str::to_owned).to_vec());
    story.list_after(POLL);
    assert_eq!((story.told(), story.asked()), ("Began pr-1".into(), "New pr-3, New pr-2, New pr-1".into()));
    for _ in 0..3 {
        story.list_after(POLL);
    }
    assert_eq!(story.asked(), "New pr-2, New pr-3, New pr-2");
    story.push("pr-3", "c");
    story.list_after(POLL);
    assert_eq!((story.told(), story.living()), ("Began pr-3".into(), "web-pr-1 web-pr-3".into()));
    // One that answers nonsense takes no other's turn.
    let mut round = story.entry.listed(["pr-2", "pr-4", "pr-5"].map(str::to_owned).into(), story.now);
    let mut skipped = Vec::new();
    while let Some(ask) = story.entry.ask(&round, story.now) {
        story.entry.skip(&mut round, &ask);
        skipped.push(ask.tag);
    }
    assert_eq!(skipped, ["pr-2", "pr-5", "pr-4"]);
}

#[test]
fn what_another_pattern_does_not_name_stays_until_its_time_is_over() {
    for channel in ["r.example/deploy:mr-*", "r.example/other:pr-*"] {
        let mut story = Story::new();
        story.push("pr-1", "a");
        story.list_after(POLL);
        story.restart(&settings(channel, 72 * HOUR));
        assert_eq!(story.entry.file().channel, channel);
        story.there.clear();
        story.list_for(71 * HOUR, MINUTES_10);
        assert_eq!((story.living(), story.missing("pr-1")), ("web-pr-1".into(), Duration::ZERO), "{channel}");
        assert!(story.entry.followed().is_empty(), "{channel}");
        story.list_for(HOUR, MINUTES_10);
        assert_eq!((story.told(), story.asked()), ("Began pr-1, NotNamed pr-1".into(), "New pr-1".into()));
        assert_eq!(story.entry.file().tags.len(), 0);
    }
    // The same tag of another repository takes the place.
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.list_after(POLL);
    story.restart(&settings("r.example/other:pr-*", 72 * HOUR));
    story.list_after(POLL);
    let followed = story.entry.followed();
    assert_eq!(followed.values().next().unwrap().to_string(), "r.example/other:pr-1");
}

#[test]
fn without_an_entry_its_tags_stay_until_their_time_is_over() {
    let mut story = Story::new();
    story.push("pr-1", "a");
    story.list_after(POLL);
    story.push("pr-2", "b");
    story.there.insert("pr-3".into(), (digest("c"), Some(story.now - 99 * HOUR)));
    story.list_after(HOUR);
    let mut file = story.entry.file().clone();
    file.tags.get_mut("pr-2").unwrap().published = "soon".into();
    let begin = story.now;
    repair(&mut file, begin);
    for (after, left, ended) in [(0, "pr-1 pr-2", ""), (71, "pr-2", "pr-1"), (71, "pr-2", ""), (72, "", "pr-2")] {
        let changes = expire(&mut file, begin + after * HOUR, |_| false);
        let tags: Vec<&str> = changes.iter().map(|change| change.tag.as_str()).collect();
        let names: Vec<&str> = file.tags.keys().map(String::as_str).collect();
        assert_eq!((names.join(" ").as_str(), tags.join(" ").as_str()), (left, ended), "after {after} h");
    }
}

#[test]
fn without_a_file_what_is_remembered_lives() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let settings = settings("r.example/deploy:pr-*", HOUR);
    let remembered = BTreeMap::from([("pr-1".to_owned(), now)]);
    let mut entry = Entry::new(&"web".parse().unwrap(), &settings, None, remembered, now);
    assert_eq!(entry.followed().len(), 1);
    let round = entry.listed(BTreeSet::new(), now);
    assert_eq!(
        (entry.living().len(), entry.ask(&round, now)),
        (1, None),
        "the first listing that lacks it ends nothing"
    );
}
