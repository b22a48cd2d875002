//! Where secrets come from: the small trait that every source is, and what it answers. Nothing here asks anybody.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;

use crate::value::Value;

/// What [`Source::fetch`] gives.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// A vault that can be asked.
pub trait Source: fmt::Debug + Send + Sync {
    /// One secret, of this version or the newest. It comes back within [`ATTEMPT`] or little more, and asks once: when it is asked
    /// again is for others to decide.
    fn fetch<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> Fetching<'a>;
}

/// How long one attempt may take.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// A secret as it was given.
#[derive(Debug)]
pub struct Fetched {
    /// What goes into the file.
    pub value: Value,
    /// Which version it is: letters and digits.
    pub version: String,
    /// It may not be used before.
    pub not_before: Option<Timestamp>,
    /// It may not be used from then on.
    pub expires: Option<Timestamp>,
}

/// Why a secret was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FetchError {
    /// What happened, to what, and what to do next. It says the same each time for the same reason.
    pub problem: String,
    /// Whom it concerns.
    pub scope: Scope,
    /// What it says of what this machine may have.
    pub verdict: Verdict,
}

/// What a failure says of what this machine may have: what was sealed before stands in for silence, never for a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: nobody answered who could know.
    Silent,
    /// Not this version, or not what is newest.
    This,
    /// No version of the secret.
    Secret,
    /// Nothing of the vault.
    Vault,
}

/// Whom a failure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This secret alone.
    Secret,
    /// The whole vault: nothing more is asked of it before the pause is over.
    Vault(Pause),
}

/// When a vault is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Soon, and more rarely with each failure.
    BackOff,
    /// When it said, within our bounds.
    Asked(Duration),
    /// When it would have been anyway: asking sooner does not help.
    Refresh,
}

impl FetchError {
    /// Of this secret alone: an answer, to what was asked.
    pub fn of_secret(problem: String) -> Self {
        Self { problem, scope: Scope::Secret, verdict: Verdict::This }
    }

    /// Of the vault, which is out of reach.
    pub fn of_vault(problem: String, pause: Pause) -> Self {
        Self { problem, scope: Scope::Vault(pause), verdict: Verdict::Silent }
    }

    /// With another verdict.
    #[must_use]
    pub fn that_is(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

/// What the service leaves to us: a secret is used only in its time. Its version may be used in file names and lines.
pub fn accept(name: &str, fetched: Fetched, now: Timestamp) -> Result<Fetched, FetchError> {
    if let Some(at) = fetched.not_before.filter(|at| now < *at) {
        let next = "next: correct its activation date, or wait";
        return Err(FetchError::of_secret(format!(
            "`{name}` is not valid before {at} (version `{}`); {next}",
            fetched.version
        )));
    }
    if let Some(at) = fetched.expires.filter(|at| *at <= now) {
        let next = "next: make a new version of it";
        return Err(FetchError::of_secret(format!("`{name}` expired at {at} (version `{}`); {next}", fetched.version)));
    }
    Ok(fetched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_used_in_its_time_only() {
        let at = |second| Timestamp::from_second(second).ok();
        for (not_before, expires, wanted) in [
            (None, None, None),
            (at(100), at(101), None),
            (at(101), None, Some("not valid before")),
            (None, at(100), Some("expired")),
        ] {
            let fetched = Fetched { value: Value::new(Vec::new()), version: "1".to_owned(), not_before, expires };
            let refused = accept("db", fetched, at(100).unwrap()).err().map(|error| error.problem);
            assert_eq!(refused.is_some(), wanted.is_some(), "{not_before:?} {expires:?}");
            assert!(refused.is_none_or(|text| text.contains(wanted.unwrap())));
        }
    }
}
