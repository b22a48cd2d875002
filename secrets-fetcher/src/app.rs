//! What one app needs and what became of it: the state behind its index file. Pure: whether a set is there, and the time, are
//! parameters. A failure never takes a set out of an answer while it is there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use landfall_core::contract::{FORMAT, WantedFile};
use landfall_core::ids::AppName;
use landfall_core::journal::event;
use landfall_core::secrets::{FetchedFile, NeedAnswer, SecretNeed, SecretsFile};

use crate::schedule::Eagerness;

/// An app.
#[derive(Debug, Default)]
pub struct App {
    /// The `request` of the last `wanted`.
    request: String,
    /// By [`SecretNeed::id`].
    pub needs: BTreeMap<String, Need>,
    /// By live directory: the set that containers shall see there.
    pub wanted_live: BTreeMap<String, String>,
    /// By live directory: the set that they see.
    pub live: BTreeMap<String, String>,
    /// What is in the index file.
    pub written: Option<SecretsFile>,
}

/// One need.
#[derive(Debug)]
pub struct Need {
    /// What is needed.
    pub need: SecretNeed,
    /// None before the first look.
    pub answer: Option<NeedAnswer>,
    /// How much it wants to be looked at.
    pub eagerness: Eagerness,
}

impl App {
    /// An app with the index file that an earlier fetcher wrote, if there is one.
    pub fn new(written: Option<SecretsFile>) -> Self {
        Self { written, ..Self::default() }
    }

    /// Takes over what is wanted now. What was needed before keeps its answer; `is_there` says which sets of which need there are.
    pub fn ask(&mut self, wanted: WantedFile, is_there: impl Fn(&SecretNeed, &str) -> bool) {
        self.request = wanted.request;
        self.wanted_live = wanted.live;
        let mut before = std::mem::take(&mut self.needs);
        for need in wanted.secrets {
            let id = need.id();
            let kept = before.remove(&id).unwrap_or_else(|| {
                let told = self.written.as_ref().and_then(|file| file.needs.get(&id)).cloned();
                let answer = told.map(|answer| standing(answer, |set| is_there(&need, set)));
                Need {
                    need,
                    answer: answer.filter(|answer| *answer != NeedAnswer::default()),
                    eagerness: Eagerness::Now,
                }
            });
            self.needs.insert(id, kept);
        }
    }

    /// Sets that were sealed before a boot and that no vault has confirmed since, with their service.
    pub fn unconfirmed(&self) -> BTreeSet<(String, String)> {
        let unconfirmed = self.needs.values().filter(|need| need.is_from_cache());
        unconfirmed.filter_map(|need| Some((need.need.service.clone(), need.set()?.clone()))).collect()
    }

    /// The index file as it should be.
    pub fn file(&self, app: &AppName) -> SecretsFile {
        let answer = |(id, need): (&String, &Need)| Some((id.clone(), need.answer.clone()?));
        let needs = self.needs.iter().filter_map(answer).collect();
        SecretsFile { format: FORMAT, app: app.clone(), request: self.request.clone(), needs, live: self.live.clone() }
    }
}

/// What is left of an answer: nothing of a set that is not there.
fn standing(answer: NeedAnswer, is_there: impl Fn(&str) -> bool) -> NeedAnswer {
    if answer.set.as_ref().is_some_and(|set| is_there(set)) {
        return answer;
    }
    NeedAnswer { problem: answer.problem, ..NeedAnswer::default() }
}

/// One file of a set, as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name in the set.
    pub name: String,
    /// Its version at the source.
    pub version: String,
    /// When it ends; `None` also where nobody was asked.
    pub expires: Option<Timestamp>,
}

impl Need {
    /// It could not be had: what is there stays.
    pub fn failed(&mut self, app: &AppName, problem: String, is_there: impl Fn(&str) -> bool) {
        let before = self.answer.clone().unwrap_or_default();
        self.answer(app, NeedAnswer { problem: Some(problem), ..standing(before, is_there) });
    }

    /// All of it was seen to be right, and is laid down as `set` since `laid_at`.
    pub fn found(&mut self, app: &AppName, set: String, files: Vec<Seen>, laid_at: Timestamp, now: Timestamp) {
        let before = self.answer.clone().filter(|answer| answer.set.as_ref() == Some(&set));
        let known = before.map(|answer| answer.files).unwrap_or_default();
        let file = |seen: Seen| {
            let known = known.get(&seen.name).filter(|file| file.version == seen.version);
            let fetched_at = known.map_or_else(|| written(laid_at), |file| file.fetched_at.clone());
            let expires = seen.expires.map(written).or_else(|| known.and_then(|file| file.expires.clone()));
            (seen.name, FetchedFile { version: seen.version, fetched_at, expires })
        };
        let files = files.into_iter().map(file).collect();
        let checked_at = Some(written(now));
        self.answer(app, NeedAnswer { set: Some(set), files, checked_at, problem: None, from_cache_at: None });
    }

    /// The vault is out of reach: what was sealed at `sealed_at` is laid down as `set`.
    pub fn stood_in(
        &mut self,
        app: &AppName,
        set: String,
        files: Vec<Seen>,
        (sealed_at, now): (Timestamp, Timestamp),
        problem: String,
    ) {
        let at = written(sealed_at);
        let minutes = now.duration_since(sealed_at).as_secs().max(0) / 60;
        tracing::warn!(MESSAGE_ID = event::SECRETS_FROM_CACHE, LANDFALL_APP = %app, LANDFALL_SERVICE = %self.need.service, minutes, "the service has its secrets as they were sealed at {at}, {minutes} min ago, and the vault is asked on: {problem}");
        let file = |seen: Seen| {
            let expires = seen.expires.map(written);
            (seen.name, FetchedFile { version: seen.version, fetched_at: at.clone(), expires })
        };
        let files = files.into_iter().map(file).collect();
        let (checked_at, from_cache_at) = (Some(at.clone()), Some(at.clone()));
        self.answer(app, NeedAnswer { set: Some(set), files, checked_at, problem: Some(problem), from_cache_at });
    }

    /// Whether what it has was sealed before a boot, and no vault has confirmed it since.
    pub fn is_from_cache(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.from_cache_at.is_some())
    }

    /// The set that it has.
    pub fn set(&self) -> Option<&String> {
        self.answer.as_ref().and_then(|answer| answer.set.as_ref())
    }

    /// The versions that it has, by file name.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let files = self.answer.iter().flat_map(|answer| &answer.files);
        files.map(|(name, file)| (name.clone(), file.version.clone())).collect()
    }

    /// Takes an answer, and the journal is told what is new in it.
    fn answer(&mut self, app: &AppName, answer: NeedAnswer) {
        let before = self.answer.take().unwrap_or_default();
        self.tell(app, &before, &answer);
        self.answer = Some(answer);
    }

    /// Names and versions, never a value.
    fn tell(&self, app: &AppName, before: &NeedAnswer, answer: &NeedAnswer) {
        let service = &self.need.service;
        match (&before.problem, &answer.problem) {
            // That is told by itself.
            (_, Some(_)) if before.from_cache_at.is_none() && answer.from_cache_at.is_some() => {}
            (before, Some(problem)) if before.as_ref() != Some(problem) => {
                tracing::warn!(MESSAGE_ID = event::SECRETS_MISSING, LANDFALL_APP = %app, LANDFALL_SERVICE = %service, "secrets of the service cannot be had: {problem}");
            }
            (Some(_), None) => {
                tracing::info!(MESSAGE_ID = event::SECRETS_BACK, LANDFALL_APP = %app, LANDFALL_SERVICE = %service, "all secrets of the service can be had again");
            }
            (_, Some(_)) | (None, None) => {}
        }
        if let (Some(old), Some(new)) = (&before.set, &answer.set)
            && old != new
        {
            let changed = rotated(&self.need, before, answer);
            tracing::info!(MESSAGE_ID = event::SECRETS_ROTATED, LANDFALL_APP = %app, LANDFALL_SERVICE = %service, set = %new, "secrets have new versions: {changed}");
        }
    }
}

/// `db 1 -> 2, key 7 -> 8`.
fn rotated(need: &SecretNeed, before: &NeedAnswer, now: &NeedAnswer) -> String {
    let version =
        |answer: &NeedAnswer, name: &str| answer.files.get(name).map_or("-".to_owned(), |file| file.version.clone());
    let changed = need.files.iter().filter_map(|(name, file)| {
        let (old, new) = (version(before, name), version(now, name));
        (old != new).then(|| format!("{} {old} -> {new}", file.secret.name))
    });
    changed.collect::<Vec<_>>().join(", ")
}

/// As in all files: UTC, milliseconds.
fn written(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(secrets: &[&str]) -> WantedFile {
        let need = |name: &&str| {
            let secret = name.parse().unwrap();
            let file = landfall_core::secrets::NeededFile { secret, uid: None, gid: None, mode: None };
            SecretNeed { service: "api".to_owned(), files: [("DB".to_owned(), file)].into(), live: None }
        };
        let (releases, tags, request) = (Vec::new(), BTreeMap::new(), "request".to_owned());
        let secrets = secrets.iter().map(need).collect();
        let live = BTreeMap::new();
        WantedFile { format: 1, app: "web".parse().unwrap(), releases, poll: 0, tags, secrets, live, request }
    }

    fn seen(version: &str) -> Vec<Seen> {
        vec![Seen { name: "DB".to_owned(), version: version.to_owned(), expires: None }]
    }

    #[test]
    fn an_answer_outlives_failures_restarts_and_other_wishes_but_not_its_set() {
        let app: AppName = "web".parse().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut state = App::new(None);
        state.ask(wanted(&["db"]), |_, _| false);
        let id = state.needs.keys().next().unwrap().clone();
        assert!(state.file(&app).needs.is_empty(), "not looked at yet");
        let need = state.needs.get_mut(&id).unwrap();
        need.found(&app, "one".to_owned(), seen("1"), at(1), at(2));
        need.failed(&app, "down".to_owned(), |_| true);
        let answer = need.answer.clone().unwrap();
        assert_eq!((answer.set.as_deref(), answer.problem.as_deref()), (Some("one"), Some("down")));
        assert_eq!(answer.checked_at.as_deref(), Some("1970-01-01T00:00:02.000Z"));
        need.found(&app, "one".to_owned(), seen("1"), at(9), at(3));
        let answer = need.answer.clone().unwrap();
        assert_eq!((answer.problem, answer.checked_at.as_deref()), (None, Some("1970-01-01T00:00:03.000Z")));
        assert_eq!(answer.files["DB"].fetched_at, "1970-01-01T00:00:01.000Z");

        state.ask(wanted(&["db", "db@1"]), |_, _| false);
        assert_eq!(state.file(&app).needs.len(), 1, "the other one is new");
        let file = state.file(&app);
        for (is_there, set) in [(true, Some("one")), (false, None)] {
            let mut next = App::new(Some(file.clone()));
            next.ask(wanted(&["db"]), |need, set| is_there && (need.service.as_str(), set) == ("api", "one"));
            assert_eq!(next.needs[&id].answer.as_ref().and_then(|answer| answer.set.as_deref()), set);
        }
    }

    #[test]
    fn a_rotation_is_told_by_name_and_version() {
        let mut state = App::new(None);
        state.ask(wanted(&["db"]), |_, _| false);
        let need = state.needs.values_mut().next().unwrap();
        let answer = |version: &str| {
            let file = FetchedFile { version: version.to_owned(), fetched_at: String::new(), expires: None };
            NeedAnswer { files: [("DB".to_owned(), file)].into(), ..NeedAnswer::default() }
        };
        assert_eq!(rotated(&need.need, &answer("1"), &answer("2")), "db 1 -> 2");
    }
}
