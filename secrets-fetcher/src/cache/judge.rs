//! When what was sealed may stand in for a vault, and what a vault's refusal takes away. Pure.
//!
//! Only silence lets it be used: nobody answered who could know. Whoever says no (a vault that lets this machine not in, IMDS that knows
//! no such identity, a secret that is not there any more) is believed, also after the next boot.

use landfall_core::secrets::{SecretNeed, SecretReference};

use crate::settle::Given;
use crate::source::{FetchError, Verdict};

/// Whether all that kept a need from being had is that nobody answered.
pub fn is_out_of_reach(need: &SecretNeed, given: &Given) -> bool {
    let mut errors = need.files.values().filter_map(|file| given.get(&file.secret)?.as_ref().err()).peekable();
    errors.peek().is_some() && errors.all(|error| error.verdict == Verdict::Silent)
}

/// Whether something was refused that this need takes.
pub fn is_withdrawn(need: &SecretNeed, given: &Given) -> bool {
    let errors = || given.iter().filter_map(|(asked, given)| Some((asked, given.as_ref().err()?)));
    need.files.values().any(|file| errors().any(|(asked, error)| concerns(error, asked, &file.secret)))
}

fn concerns(error: &FetchError, asked: &SecretReference, other: &SecretReference) -> bool {
    match error.verdict {
        Verdict::Silent => false,
        Verdict::This => asked == other,
        Verdict::Secret => (&asked.vault, &asked.name) == (&other.vault, &other.name),
        Verdict::Vault => asked.vault == other.vault,
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::secrets::NeededFile;

    use super::*;
    use crate::source::{Fetched, Pause};
    use crate::value::Value;

    fn need(secrets: &[&str]) -> SecretNeed {
        let file = |secret: &&str| NeededFile { secret: secret.parse().unwrap(), uid: None, gid: None, mode: None };
        let files = secrets.iter().enumerate().map(|(number, secret)| (format!("F{number}"), file(secret))).collect();
        SecretNeed { service: "api".to_owned(), files, live: None }
    }

    fn given(answers: &[(&str, Option<Verdict>)]) -> Given {
        let good = || {
            let (value, version) = (Value::new(Vec::new()), "1".to_owned());
            Fetched { value, version, not_before: None, expires: None }
        };
        let refused = |verdict| FetchError::of_vault("no".to_owned(), Pause::BackOff).that_is(verdict);
        let answer = |verdict: Option<Verdict>| verdict.map(refused).map_or_else(|| Ok(good()), Err);
        answers.iter().map(|(secret, verdict)| (secret.parse().unwrap(), answer(*verdict))).collect()
    }

    #[test]
    fn silence_alone_lets_it_be_used() {
        let both = need(&["db", "kv2/key"]);
        let silent = Some(Verdict::Silent);
        for (answers, wanted) in [
            ([("db", silent), ("kv2/key", silent)], true),
            ([("db", silent), ("kv2/key", None)], true),
            ([("db", None), ("kv2/key", None)], false),
            ([("db", silent), ("kv2/key", Some(Verdict::This))], false),
            ([("db", Some(Verdict::Secret)), ("kv2/key", silent)], false),
            ([("db", Some(Verdict::Vault)), ("kv2/key", None)], false),
            ([("other", silent), ("kv2/other", silent)], false),
        ] {
            assert_eq!(is_out_of_reach(&both, &given(&answers)), wanted, "{answers:?}");
        }
    }

    #[test]
    fn a_refusal_takes_what_it_is_about() {
        for (asked, verdict, hit, missed) in [
            ("db", Verdict::Silent, vec![], vec!["db", "db@1", "key"]),
            ("db", Verdict::This, vec!["db"], vec!["db@1", "key", "kv2/db"]),
            ("db@1", Verdict::This, vec!["db@1"], vec!["db", "db@2"]),
            ("db", Verdict::Secret, vec!["db", "db@1"], vec!["key", "kv2/db"]),
            ("db", Verdict::Vault, vec!["db", "db@1", "key"], vec!["kv2/db"]),
        ] {
            let given = given(&[(asked, Some(verdict))]);
            for (names, wanted) in [(hit, true), (missed, false)] {
                for name in names {
                    assert_eq!(is_withdrawn(&need(&["kv3/x", name]), &given), wanted, "{asked} {verdict:?} {name}");
                }
            }
        }
    }
}
