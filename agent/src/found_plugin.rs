//! The Compose plugin of this machine, looked for until there is one that can be used: it may be installed late, and a machine that has
//! just booted may be too slow to say its version in time.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use tokio::sync::Mutex;

use crate::children;
use crate::compose_plugin::ComposePlugin;

type Found = Result<Rc<ComposePlugin>, String>;

/// What was found last.
#[derive(Debug, Default)]
pub struct FoundPlugin {
    last: RefCell<Option<Found>>,
    looks: Cell<u64>,
    turn: Mutex<()>,
}

impl FoundPlugin {
    /// The plugin, or why there is none now. Who asks while somebody looks gets that answer.
    pub async fn get(&self) -> Found {
        self.get_by(|| async {
            let found = ComposePlugin::find(Some(Path::new(children::OWN_PROGRAM))).await;
            found.map(Rc::new).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
        })
        .await
    }

    async fn get_by<F: Future<Output = Found>>(&self, look: impl FnOnce() -> F) -> Found {
        let before = self.looks.get();
        let _turn = self.turn.lock().await;
        let last = self.last.borrow().clone();
        if let Some(last) = last.filter(|last| last.is_ok() || self.looks.get() != before) {
            return last;
        }
        let found = look().await;
        self.looks.set(self.looks.get() + 1);
        self.last.replace(Some(found.clone()));
        found
    }

    /// Why there is none, where one was looked for.
    pub fn problem(&self) -> Option<String> {
        self.last.borrow().as_ref().and_then(|found| found.as_ref().err().cloned())
    }

    /// Whether there is one; none before the first look.
    pub fn is_there(&self) -> Option<bool> {
        self.last.borrow().as_ref().map(Result::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_not_there_is_looked_for_again_and_two_look_once() {
        let found = FoundPlugin::default();
        let looked = Cell::new(0);
        let slow = || async {
            looked.set(looked.get() + 1);
            tokio::task::yield_now().await;
            Err("too slow".to_owned())
        };
        assert_eq!(found.is_there(), None);
        let (one, other) = tokio::join!(found.get_by(slow), found.get_by(slow));
        assert_eq!(
            (one.err(), other.err(), looked.get()),
            (Some("too slow".to_owned()), Some("too slow".to_owned()), 1)
        );
        assert_eq!((found.problem().as_deref(), found.is_there()), (Some("too slow"), Some(false)));
        assert!(found.get_by(slow).await.is_err());
        assert_eq!(looked.get(), 2, "it is looked for again");
    }
}
