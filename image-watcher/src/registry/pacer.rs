//! One pacer per registry: its requests go one after another, and none before the time that it asked for. Whoever comes
//! before that is told so and does not wait here: those who waited would ask the moment the time is over, and where it is one
//! date for everybody, so would every other machine. When to come again is each channel's own [`crate::schedule`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::AskError;

/// The pacers of all registries.
#[derive(Debug, Default)]
pub(super) struct Pacers(Mutex<BTreeMap<String, Arc<Pacer>>>);

impl Pacers {
    pub(super) fn of(&self, registry: &str) -> Arc<Pacer> {
        let mut pacers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pacers.entry(registry.to_owned()).or_default())
    }
}

/// The pacer of one registry.
#[derive(Debug, Default)]
pub struct Pacer(tokio::sync::Mutex<Option<Peace>>);

/// What a registry asked for.
#[derive(Debug)]
struct Peace {
    until: Instant,
    registry: String,
    status: u16,
}

impl Pacer {
    /// Asks when it is this caller's turn; does not ask, and repeats what the registry said, where it wants to be left alone.
    pub async fn ask<T>(&self, question: impl Future<Output = Result<T, AskError>>) -> Result<T, AskError> {
        let mut peace = self.0.lock().await;
        if let Some(error) = peace.as_ref().and_then(Peace::kept) {
            return Err(error);
        }
        let answer = question.await;
        *peace = answer.as_ref().err().and_then(Peace::asked_for);
        answer
    }
}

impl Peace {
    fn asked_for(error: &AskError) -> Option<Self> {
        match error {
            AskError::Busy { registry, status, retry_after: Some(delay) } => {
                Some(Self { until: Instant::now() + *delay, registry: registry.clone(), status: *status })
            }
            AskError::Busy { retry_after: None, .. }
            | AskError::Unreachable { .. }
            | AskError::NotFound { .. }
            | AskError::Denied { .. }
            | AskError::Wrong { .. } => None,
        }
    }

    /// What whoever comes now is told; nothing when the time is over.
    fn kept(&self) -> Option<AskError> {
        let rest = self.until.saturating_duration_since(Instant::now());
        let error = AskError::Busy { registry: self.registry.clone(), status: self.status, retry_after: Some(rest) };
        (rest > Duration::ZERO).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_asks_for_peace_is_left_alone_by_everyone() {
        let (pacers, began) = (Pacers::default(), Instant::now());
        let seconds = Duration::from_secs;
        let busy = |rest| AskError::Busy { registry: "a".to_owned(), status: 429, retry_after: Some(seconds(rest)) };
        let mut asked = Vec::new();
        for (registry, at, says, told) in [
            ("a", 0, Ok(()), Ok(())),
            ("a", 0, Err(busy(30)), Err(busy(30))),
            ("a", 10, Ok(()), Err(busy(20))),
            ("b", 10, Ok(()), Ok(())),
            ("a", 29, Ok(()), Err(busy(1))),
            ("a", 30, Ok(()), Ok(())),
        ] {
            tokio::time::sleep(seconds(at).saturating_sub(began.elapsed())).await;
            let question = async {
                asked.push((registry, at));
                says
            };
            assert_eq!(pacers.of(registry).ask(question).await, told, "{registry} after {at} s");
        }
        assert_eq!(asked, [("a", 0), ("a", 0), ("b", 10), ("a", 30)]);
    }
}
