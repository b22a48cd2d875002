//! One pacer per registry: its requests go one after another, and none before the time that it asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::Instant;

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
pub(super) struct Pacer {
    turn: tokio::sync::Mutex<()>,
    not_before: Mutex<Option<Instant>>,
}

impl Pacer {
    /// Waits until it is this caller's turn and the registry may be asked.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(not_before) = not_before {
            tokio::time::sleep_until(not_before).await;
        }
        turn
    }

    /// No request before `delay` is over.
    pub(super) fn leave_alone_for(&self, delay: Duration) {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_asks_for_peace_is_left_alone_by_everyone() {
        let pacers = Pacers::default();
        let begin = Instant::now();
        drop(pacers.of("a").turn().await);
        pacers.of("a").leave_alone_for(Duration::from_secs(30));
        drop(pacers.of("b").turn().await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        drop(pacers.of("a").turn().await);
        assert_eq!(begin.elapsed(), Duration::from_secs(30));
    }
}
