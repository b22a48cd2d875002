//! One round: all that some needs take is asked of their vaults at the same time, each secret once. A vault that fails as a whole is
//! left alone for the rest of the round, so that an outage costs a few requests and not one for each secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use landfall_core::secrets::SecretReference;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout_at};

use crate::plan::Round;
use crate::settle::Given;
use crate::source::{FetchError, Pause, Scope, Source, accept};

/// How many requests one vault has to answer at once.
const AT_ONCE: usize = 4;
/// How long one vault may take for all of a round.
pub const ROUND: Duration = Duration::from_secs(30);

/// What became of a round.
#[derive(Debug)]
pub struct Answers {
    /// What was asked.
    pub round: Round,
    /// Each secret, or why it was not given.
    pub secrets: Given,
    /// Each vault: none, or that it is left alone.
    pub vaults: BTreeMap<String, Option<Closed>>,
}

/// A vault that failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// For how long it is left alone.
    pub pause: Pause,
    /// Why.
    pub error: FetchError,
}

/// Asks. It ends within [`ROUND`]. What the machine itself needs is asked first, and given to `early` as soon as a vault gave all of it:
/// an image cannot be pulled before, and nobody waits for a secret of an app that hangs.
pub async fn ask(round: Round, sources: BTreeMap<String, Arc<dyn Source>>, early: UnboundedSender<Given>) -> Answers {
    let none = BTreeSet::new();
    let of = |part: &'_ BTreeMap<String, BTreeSet<SecretReference>>, vault| -> Vec<SecretReference> {
        part.get(vault).unwrap_or(&none).iter().cloned().collect()
    };
    let asked = round.vaults().into_iter().filter_map(|vault| {
        let (source, early) = (Arc::clone(sources.get(vault)?), early.clone());
        let (first, secrets) = (of(&round.first, vault), of(&round.secrets, vault));
        Some(async move { (vault.clone(), ask_vault(&*source, first, secrets, &early).await) })
    });
    let mut answers = Answers { secrets: BTreeMap::new(), vaults: BTreeMap::new(), round: Round::default() };
    for (vault, (secrets, pause)) in join_all(asked).await {
        answers.secrets.extend(secrets);
        answers.vaults.insert(vault, pause);
    }
    answers.round = round;
    answers
}

async fn ask_vault(
    source: &dyn Source,
    first: Vec<SecretReference>,
    secrets: Vec<SecretReference>,
    early: &UnboundedSender<Given>,
) -> (Given, Option<Closed>) {
    let deadline = Instant::now() + ROUND;
    // What the first failure of the vault as a whole was.
    let closed: &OnceLock<FetchError> = &OnceLock::new();
    let one = |reference: SecretReference| async move {
        if let Some(error) = closed.get() {
            return (reference, Err(error.clone()));
        }
        let fetched = match timeout_at(deadline, source.fetch(&reference.name, reference.version.as_deref())).await {
            Ok(fetched) => fetched.and_then(|fetched| accept(&reference.name, fetched, Timestamp::now())),
            Err(_) => Err(too_slow()),
        };
        if let Err(error) = &fetched
            && let Scope::Vault(_) = error.scope
        {
            let _ = closed.set(error.clone());
        }
        (reference, fetched)
    };
    // Owned: a stream of borrowed items cannot be sent to another thread.
    if !first.is_empty() {
        let given: Given = stream::iter(first.into_iter().map(one)).buffer_unordered(AT_ONCE).collect().await;
        // Nobody listens where the settings changed meanwhile: then it was asked for in vain.
        let _ = early.send(given);
    }
    let given: Given = stream::iter(secrets.into_iter().map(one)).buffer_unordered(AT_ONCE).collect().await;
    let closed = closed.get().and_then(|error| match error.scope {
        Scope::Vault(pause) => Some(Closed { pause, error: error.clone() }),
        Scope::Secret => None,
    });
    (given, closed)
}

fn too_slow() -> FetchError {
    let problem = format!("the vault did not give all secrets within {} s; next: check the network", ROUND.as_secs());
    FetchError::of_vault(problem, Pause::BackOff)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;
    use crate::source::{Fetched, Fetching};
    use crate::value::Value;

    /// Answers what the name says; counts what it is asked, and how much at once.
    #[derive(Debug, Default)]
    struct Fake {
        asked: Mutex<Vec<String>>,
        at_once: Mutex<(usize, usize)>,
    }

    impl Source for Fake {
        fn fetch<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> Fetching<'a> {
            Box::pin(async move {
                self.asked.lock().unwrap().push(format!("{name}@{}", version.unwrap_or("")));
                {
                    let mut at_once = self.at_once.lock().unwrap();
                    at_once.0 += 1;
                    at_once.1 = at_once.1.max(at_once.0);
                }
                let seconds = if name.starts_with("slow") { 3600 } else { 1 };
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                self.at_once.lock().unwrap().0 -= 1;
                match name {
                    "absent" => Err(FetchError::of_secret("it is not there".to_owned())),
                    "down" => Err(FetchError::of_vault("it is down".to_owned(), Pause::Refresh)),
                    _ => {
                        let (value, version) = (Value::new(name.as_bytes().to_vec()), "1".to_owned());
                        Ok(Fetched { value, version, not_before: None, expires: None })
                    }
                }
            })
        }
    }

    async fn asked(names: &[&str]) -> (Arc<Fake>, Answers) {
        let fake = Arc::new(Fake::default());
        let secrets = names.iter().map(|name| name.parse().unwrap()).collect();
        let round = Round { secrets: [("default".to_owned(), secrets)].into(), ..Round::default() };
        let source: Arc<dyn Source> = Arc::clone(&fake) as Arc<dyn Source>;
        let (early, _) = mpsc::unbounded_channel();
        let answers = ask(round, [("default".to_owned(), source)].into(), early).await;
        (fake, answers)
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_machine_needs_is_asked_first_and_given_before_the_rest() {
        let fake = Arc::new(Fake::default());
        let source: Arc<dyn Source> = Arc::clone(&fake) as Arc<dyn Source>;
        let set = |names: &[&str]| -> BTreeMap<String, BTreeSet<SecretReference>> {
            [("default".to_owned(), names.iter().map(|name| name.parse().unwrap()).collect())].into()
        };
        let round = Round { first: set(&["pull", "token"]), secrets: set(&["a", "slow"]), ..Round::default() };
        let (sender, mut early) = mpsc::unbounded_channel();
        let started = Instant::now();
        let asked = tokio::spawn(ask(round, [("default".to_owned(), source)].into(), sender));
        let first = early.recv().await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(1), "it waits for nothing else");
        assert_eq!((first.len(), first.values().filter(|given| given.is_ok()).count()), (2, 2));
        asked.await.unwrap();
        assert_eq!(*fake.asked.lock().unwrap(), ["pull@", "token@", "a@", "slow@"]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_asked_once_four_at_once_and_one_that_is_absent_hurts_no_other() {
        let (fake, answers) = asked(&["a", "b", "c", "d", "e", "f@1", "absent"]).await;
        assert_eq!(fake.asked.lock().unwrap().len(), 7);
        assert_eq!(fake.at_once.lock().unwrap().1, AT_ONCE);
        let good = answers.secrets.values().filter(|given| given.is_ok()).count();
        assert_eq!((good, &answers.vaults["default"]), (6, &None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_is_down_is_not_asked_for_the_rest() {
        let (fake, answers) = asked(&["a", "b", "c", "down", "e", "f", "g", "h", "i"]).await;
        assert_eq!(fake.asked.lock().unwrap().len(), AT_ONCE, "nobody after those that were on their way");
        assert_eq!(answers.vaults["default"].as_ref().map(|closed| closed.pause), Some(Pause::Refresh));
        let told = answers.secrets[&"i".parse::<SecretReference>().unwrap()].as_ref().unwrap_err();
        assert_eq!(told.problem, "it is down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_ends_whatever_a_source_does() {
        let started = Instant::now();
        let (_, answers) = asked(&["a", "slow"]).await;
        assert_eq!(started.elapsed(), ROUND);
        assert!(answers.secrets[&"a".parse::<SecretReference>().unwrap()].is_ok());
        assert_eq!(answers.vaults["default"].as_ref().map(|closed| closed.pause), Some(Pause::BackOff));
    }
}
