//! What gets us in at one registry: the credential in its file, the way it wants to see it, the tokens it gave for it. A
//! credential that was refused is not shown again until its file changes or a growing time has passed, whoever asks.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::backoff::Backoff;
use landfall_core::config::{Registry, Settings};
use landfall_core::credential::Credential;
use tokio::time::Instant;

use super::challenge::{Challenge, Token};
use crate::chain::chain;

/// Between two tries of a credential that was refused.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(10), most: Duration::from_mins(10) };
/// A token is not used in the last part of its life, so that it does not end on its way.
const RENEWED_AT: u32 = 9;
const PARTS: u32 = 10;

/// The access to all registries.
#[derive(Debug, Default)]
pub(super) struct Accesses(Mutex<BTreeMap<String, Arc<Access>>>);

impl Accesses {
    pub(super) fn of(&self, registry: &str, settings: &Settings) -> Arc<Access> {
        let mut accesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let settings = settings.registries.get(registry).cloned().unwrap_or_default();
            Arc::new(Access { registry: registry.to_owned(), settings, state: Mutex::default() })
        };
        Arc::clone(accesses.entry(registry.to_owned()).or_insert_with(make))
    }

    /// Whether the credential of a registry that was asked has changed since this was asked last.
    pub(super) fn have_news(&self) -> bool {
        let accesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each is looked at: `any` would stop at the first.
        accesses.values().filter(|access| access.has_news()).count() > 0
    }
}

/// The access to one registry.
#[derive(Debug)]
pub(super) struct Access {
    registry: String,
    settings: Registry,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How the file looked when it was last read.
    stamp: Option<Stamp>,
    /// Somebody must be told that it changed.
    news: bool,
    wanted: Option<Challenge>,
    /// What each repository's challenge named.
    scopes: BTreeMap<String, String>,
    /// By scope.
    tokens: BTreeMap<String, (String, Instant)>,
    accepted_at: Option<Timestamp>,
    refused: Option<Refused>,
}

#[derive(Debug)]
struct Refused {
    times: u32,
    until: Instant,
    why: String,
}

type Stamp = Option<(i64, i64, u64, u64)>;

/// What to do before a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Ask with this `Authorization`, or without.
    Ask(Option<String>),
    /// Fetch a token first.
    Fetch { realm: String, service: Option<String>, scope: String },
}

impl Access {
    /// How to ask for something of a repository; the error says why that would be of no use now.
    pub(super) fn way(&self, repository: &str) -> Result<Way, String> {
        self.renew();
        let state = self.state();
        if let Some(refused) = state.refused.as_ref().filter(|refused| Instant::now() < refused.until) {
            return Err(refused.why.clone());
        }
        match &state.wanted {
            None => Ok(Way::Ask(None)),
            Some(Challenge::Basic) => {
                drop(state);
                Ok(Way::Ask(self.credential()?.map(|credential| credential.basic())))
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                let scope = scope_of(state.scopes.get(repository).map(String::as_str), repository);
                match state.tokens.get(&scope) {
                    Some((token, until)) if Instant::now() < *until => Ok(Way::Ask(Some(format!("Bearer {token}")))),
                    _ => Ok(Way::Fetch { realm: realm.clone(), service: service.clone(), scope }),
                }
            }
        }
    }

    /// The registry wants this. False where it was shown just that.
    pub(super) fn challenged(&self, challenge: Challenge, repository: &str, shown: Option<&str>) -> bool {
        let mut state = self.state();
        if let Challenge::Bearer { scope, .. } = &challenge {
            let scope = scope_of(scope.as_deref(), repository);
            state.tokens.remove(&scope);
            state.scopes.insert(repository.to_owned(), scope);
        }
        // A token may have ended, or its service changed.
        let again = challenge != Challenge::Basic || !shown.is_some_and(|shown| shown.starts_with("Basic "));
        state.wanted = Some(challenge);
        again
    }

    /// The token service gave none: the registry is asked first the next time, for it may want something else by now.
    pub(super) fn ask_anew(&self) {
        self.state().wanted = None;
    }

    /// A token for a scope.
    pub(super) fn keep(&self, scope: String, token: Token) {
        let until = Instant::now() + token.lives * RENEWED_AT / PARTS;
        self.state().tokens.insert(scope, (token.value, until));
    }

    /// The registry, or its token service, let us in with the credential.
    pub(super) fn accepted(&self) {
        let mut state = self.state();
        state.accepted_at = Some(Timestamp::now());
        state.refused = None;
    }

    /// The credential was refused, or that there is none: says why, for people. It is not shown again for a while.
    pub(super) fn refused(&self, status: u16) -> String {
        let why = self.why_refused(status);
        if self.settings.credential.is_some() {
            let mut state = self.state();
            let times = state.refused.as_ref().map_or(0, |refused| refused.times) + 1;
            state.tokens.clear();
            state.refused = Some(Refused { times, until: Instant::now() + REFUSED.after(times), why: why.clone() });
        }
        why
    }

    /// The credential as its file has it now.
    pub(super) fn credential(&self) -> Result<Option<Credential>, String> {
        self.settings.read_credential(&self.registry).map_err(|error| chain(&error))
    }

    /// Why a repository stays closed to the credential, or without one.
    pub(super) fn why_refused(&self, status: u16) -> String {
        let registry = &self.registry;
        let Some(place) = self.settings.credential_place() else {
            return format!(
                "no credential is set: write `user:password` into a file and name it as `registries.{registry}.credential` in \
                 landfall.yaml, or make the repository public"
            );
        };
        let credential = match self.credential() {
            Ok(credential) => credential,
            Err(why) => return why,
        };
        let user = credential.as_ref().map_or("", |credential| credential.username.as_str());
        let expired = credential.as_ref().and_then(Credential::expires).filter(|at| *at <= Timestamp::now());
        let what = match (status, expired, self.state().accepted_at) {
            (_, Some(at), _) => format!("expired at {at:.0}"),
            (403, None, _) => "may not read this repository".to_owned(),
            (_, None, Some(at)) => format!("is not accepted any more, it was last at {at:.0}"),
            (_, None, None) => "is not accepted".to_owned(),
        };
        let when = if self.settings.secret.is_some() { "when it is fetched" } else { "at once" };
        format!("the credential of user `{user}` in {place} {what}: put a good one there, it is tried {when}")
    }

    fn has_news(&self) -> bool {
        self.renew();
        std::mem::take(&mut self.state().news)
    }

    /// Forgets what came of a credential that is not the one in the file.
    fn renew(&self) {
        let stamp = self.settings.credential.as_deref().map(stamp);
        let mut state = self.state();
        if state.stamp.replace(stamp.flatten()).is_some_and(|before| before != stamp.flatten()) {
            (state.refused, state.accepted_at, state.news) = (None, None, true);
            state.tokens.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> Stamp {
    let data = std::fs::metadata(path).ok()?;
    Some((data.mtime(), data.mtime_nsec(), data.len(), data.ino()))
}

/// What a token is asked for: what the registry named, where that is reading one repository, else reading this one.
fn scope_of(named: Option<&str>, repository: &str) -> String {
    let reading = |scope: &&str| scope.strip_prefix("repository:").is_some_and(|rest| rest.ends_with(":pull"));
    let one = |scope: &&str| scope.bytes().all(|byte| byte.is_ascii_graphic()) && scope.matches(':').count() == 2;
    named.filter(reading).filter(one).map_or_else(|| format!("repository:{repository}:pull"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn bearer(scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: "https://t".into(), service: None, scope: scope.map(str::to_owned) }
    }

    fn access(credential: Option<PathBuf>) -> Access {
        let settings = Registry { credential, ..Registry::default() };
        Access { registry: "r.example".into(), settings, state: Mutex::default() }
    }

    #[test]
    fn scopes_are_for_reading_one_repository() {
        let ours = "repository:a/b:pull";
        for (named, expected) in [
            (None, ours),
            (Some("repository:library/b:pull"), "repository:library/b:pull"),
            (Some("repository:a/b:pull,push"), ours),
            (Some("registry:catalog:*"), ours),
            (Some("repository:a/b:push repository:c:pull"), ours),
        ] {
            assert_eq!(scope_of(named, "a/b"), expected, "{named:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_until_shortly_before_its_end_and_dropped_when_refused() {
        let access = access(None);
        assert_eq!(access.way("a"), Ok(Way::Ask(None)));
        assert!(access.challenged(bearer(None), "a", None));
        let fetch = Way::Fetch { realm: "https://t".into(), service: None, scope: "repository:a:pull".into() };
        assert_eq!(access.way("a"), Ok(fetch));
        let token = || Token { value: "x".into(), lives: Duration::from_secs(100) };
        access.keep("repository:a:pull".into(), token());
        assert_eq!(access.way("a"), Ok(Way::Ask(Some("Bearer x".into()))));
        assert!(matches!(access.way("b"), Ok(Way::Fetch { .. })), "a token is for one repository");
        tokio::time::advance(Duration::from_secs(91)).await;
        assert!(matches!(access.way("a"), Ok(Way::Fetch { .. })));
        access.keep("repository:a:pull".into(), token());
        assert!(access.challenged(bearer(None), "a", Some("Bearer x")));
        assert!(matches!(access.way("a"), Ok(Way::Fetch { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_rests_until_its_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credential");
        std::fs::write(&path, "bot:wrong").unwrap();
        let access = access(Some(path.clone()));
        assert!(access.challenged(Challenge::Basic, "a", None));
        let Ok(Way::Ask(Some(shown))) = access.way("a") else { panic!("no credential") };
        assert!(!access.challenged(Challenge::Basic, "a", Some(&shown)), "it has seen just that");
        let why = access.refused(401);
        assert!(why.contains("user `bot`") && why.contains("is not accepted:") && !why.contains("wrong"), "{why}");
        assert_eq!(access.way("a"), Err(why));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(access.way("a").is_ok());
        access.refused(401);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(access.way("a").is_err(), "longer each time");
        std::fs::write(&path, "bot:better").unwrap();
        assert!(access.way("a").is_ok(), "another file is another credential");
        std::fs::remove_file(&path).unwrap();
        assert!(access.way("a").is_err_and(|why| why.contains("cannot be read")));
    }
}
