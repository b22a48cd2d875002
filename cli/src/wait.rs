//! `--wait-url`: after a publication, ask a store what became of it until there is an outcome or the time is over. What is
//! believed: a document about this release, and about this publication of it. All else is asked again: a store that answers
//! garbage today may be one that is being restarted.

use std::time::Duration;

use jiff::Timestamp;
use landfall_core::backoff::Backoff;
use landfall_core::contract::{self, Read};
use landfall_core::ids::{ReleaseId, printable};
use landfall_core::outcome::{Outcome, Verdict};
use tokio::time::{Instant, sleep};

use crate::arguments::Wait;
use crate::failure::{Exit, Failed};
use crate::outcome_store::{Answer, Store, StoreUrl, TOKEN};
use crate::terminal;

/// Between two questions to a store that is well.
const PACE: Duration = Duration::from_secs(1);
/// Between two questions to one that is not.
const TROUBLE: Backoff = Backoff { first: PACE, most: Duration::from_secs(30) };
/// The longest text of a document that is shown.
const TEXT: usize = 1000;

/// What was published.
#[derive(Debug)]
pub struct Publication {
    /// Its identity.
    pub release: ReleaseId,
    /// The sequence of this publication.
    pub sequence: u64,
    /// When, by this machine's clock.
    pub at: Timestamp,
}

/// A store, and how long to ask it.
#[derive(Debug)]
pub struct Waiter {
    store: Store,
    timeout: Duration,
}

/// What an answer means for us.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing final yet.
    NotYet(String),
    /// No answer that can be used; it is asked again.
    Trouble(String, Option<Duration>),
    /// Asking again is of no use.
    Useless(String),
    /// The end.
    Final(Outcome),
}

impl Waiter {
    /// What the arguments ask for. Before anything is published: a mistake in them must not leave a release behind.
    pub fn new(arguments: &Wait, get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failed> {
        let Some(url) = &arguments.wait_url else { return Ok(None) };
        let token = get(TOKEN).filter(|token| !token.is_empty());
        Ok(Some(Self { store: Store::new(url, token.as_deref())?, timeout: arguments.wait_timeout }))
    }

    /// Asks until there is an outcome, and prints it.
    pub async fn wait(&self, publication: &Publication, json: bool) -> Result<Exit, Failed> {
        let deadline = Instant::now() + self.timeout;
        let short = publication.release.short();
        let mut told = format!("waiting for the outcome of release {short} at {}", self.store.url());
        eprintln!("{told}");
        let mut failures = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = judge(self.store.ask(&publication.release, left).await, publication);
            let (news, pause) = match seen {
                Seen::Final(outcome) => return end(&outcome, json),
                Seen::Useless(why) => return Err(out_of_reach(publication, self.store.url(), &why)),
                Seen::NotYet(news) => {
                    failures = 0;
                    (news, PACE)
                }
                Seen::Trouble(why, asked) => {
                    failures += 1;
                    (format!("the store is asked again: {why}"), asked.unwrap_or(TROUBLE.after(failures)).max(PACE))
                }
            };
            if news != told {
                eprintln!("{news}");
                told = news;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            sleep(pause.min(left)).await;
            if Instant::now() >= deadline {
                return Err(if failures > 0 {
                    out_of_reach(publication, self.store.url(), &told)
                } else {
                    self.timed_out(publication, &told)
                });
            }
        }
    }

    fn timed_out(&self, publication: &Publication, told: &str) -> Failed {
        let seconds = i64::try_from(self.timeout.as_secs()).unwrap_or(i64::MAX);
        let what = format!("no outcome of release {} within {}", publication.release.short(), terminal::span(seconds));
        Failed::new(Exit::Waiting, format!("{what}; {told}"))
            .next("the release is published: see `landfall status` on the machine, or give it more time with `--wait-timeout`")
    }
}

fn out_of_reach(publication: &Publication, url: &StoreUrl, why: &str) -> Failed {
    let what = format!("the store at {url} did not tell the outcome of release {}", publication.release.short());
    Failed::new(Exit::Unreachable, format!("{what}: {why}"))
        .next("the release is published: see `landfall status` on the machine; then see to the store")
}

fn judge(answer: Answer, publication: &Publication) -> Seen {
    let bytes = match answer {
        Answer::NotYet => return Seen::NotYet("the store has no outcome yet".to_owned()),
        Answer::Trouble(why, pause) => return Seen::Trouble(why, pause),
        Answer::Closed(why) => return Seen::Useless(why),
        Answer::Document(bytes) => bytes,
    };
    let trouble = |why: String| Seen::Trouble(why, None);
    match contract::parse::<Outcome>(&bytes) {
        Read::NewerFormat(format) => Seen::Useless(format!("its document has format {format}; upgrade `landfall`")),
        Read::Absent => trouble("it sent nothing".to_owned()),
        Read::Garbled(why) => trouble(format!("what it sent is no outcome: {}", printable(&why, TEXT))),
        Read::Found(outcome) if outcome.release != publication.release => {
            trouble(format!("what it sent is about release {}", outcome.release.short()))
        }
        Read::Found(outcome) => match is_earlier(&outcome, publication) {
            Err(why) => trouble(why),
            Ok(true) => {
                Seen::NotYet(format!("the store has only `{}` of an earlier publication", outcome.outcome.word()))
            }
            Ok(false) => match outcome.verdict() {
                Verdict::Live | Verdict::Failed | Verdict::Refused => Seen::Final(outcome),
                Verdict::UnderWay => Seen::NotYet(line(&outcome)),
            },
        },
    }
}

/// Whether it is about an earlier publication of the same content.
fn is_earlier(outcome: &Outcome, publication: &Publication) -> Result<bool, String> {
    if let Some(sequence) = outcome.sequence {
        return Ok(sequence < publication.sequence);
    }
    let at: Timestamp =
        outcome.at.parse().map_err(|_| format!("the time of its outcome is `{}`", printable(&outcome.at, 40)))?;
    Ok(at < publication.at)
}

fn line(outcome: &Outcome) -> String {
    format!("{} on `{}` (app `{}`)", outcome.outcome.word(), printable(&outcome.machine, 80), outcome.app)
}

/// Prints the outcome; one that is not good is an error too, with its reason.
fn end(outcome: &Outcome, json: bool) -> Result<Exit, Failed> {
    if json {
        terminal::out(&format!("{}\n", serde_json::json!(outcome)));
    } else {
        terminal::out(&format!("outcome {}\n", outcome.outcome.word()));
    }
    let reason = outcome.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let failed = |exit, next: &str| Err(Failed::new(exit, format!("{}{reason}", line(outcome))).next(next));
    match outcome.verdict() {
        Verdict::Live => {
            eprintln!("{}", line(outcome));
            Ok(Exit::Done)
        }
        Verdict::Refused => failed(Exit::Refused, "fix what the reason names, then publish again"),
        Verdict::Failed | Verdict::UnderWay => {
            failed(Exit::Failed, "see `landfall history` on that machine, then publish a better release")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_document_about_this_publication_counts() {
        let publication = Publication {
            release: "ab".repeat(32).parse().expect("an id"),
            sequence: 1000,
            at: "2030-01-01T00:00:00Z".parse().expect("a time"),
        };
        let document = |outcome: &str, more: &str| {
            format!(
                r#"{{"format":1,"app":"web","machine":"vm\u001b","seq":1,"at":"2030-01-01T00:00:01Z","release":"{}","outcome":"{outcome}"{more}}}"#,
                publication.release
            )
        };
        for (text, expected) in [
            (document("live", ""), "Final"),
            (document("good", r#","sequence":1000,"more":{}"#), "Final"),
            (document("refused", r#","sequence":1001"#), "Final"),
            (document("held", ""), "Final"),
            (document("live", r#","sequence":999"#), "NotYet(\"the store has only `live` of an earlier publication"),
            (document("live", "").replace("00:00:01", "00:00:00").replace("2030", "2029"), "of an earlier publication"),
            (document("live", "").replace("2030-01", "soon"), "Trouble(\"the time of its outcome is `soon"),
            (document("rollout-started", ""), "NotYet(\"rollout-started on `vm\\\\u{1b}` (app `web`)"),
            (document("rollback-started", ""), "NotYet"),
            (document("live", "").replace("abab", "cdcd"), "Trouble(\"what it sent is about release cdcd"),
            (document("eaten", ""), "Trouble(\"what it sent is no outcome"),
            (document("live", "").replace("\"format\":1", "\"format\":2"), "Useless(\"its document has format 2"),
            ("<html>".to_owned(), "Trouble(\"what it sent is no outcome"),
            (String::new(), "Trouble(\"what it sent is no outcome"),
        ] {
            let seen = format!("{:?}", judge(Answer::Document(text.clone().into_bytes()), &publication));
            assert!(seen.contains(expected), "{text}: {seen}");
        }
    }
}
