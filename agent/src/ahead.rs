//! The create call of Compose that is started before it is known what to create. Half of its time goes by before it opens its
//! document (its own start, and what it asks of Docker): that half may as well run beside preflight.
//!
//! It must never be the cause that something is created: it is given its document by `create` alone, when the ledger says so, and
//! without one it creates nothing. Early or late, it is the same call; where there is none ahead, or it is gone, one is started then.

use std::rc::Rc;

use anyhow::{Result, anyhow};
use landfall_core::command::CommandError;
use landfall_core::ids::AppName;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::compose_plugin::ComposeFailure;
use crate::shared::Shared;

/// The create calls of one app; at most one waits.
#[derive(Debug)]
pub struct Ahead {
    app: AppName,
    shared: Rc<Shared>,
    waiting: Option<Waiting>,
}

/// A call that runs, or waits for its document. Dropped, it is killed.
#[derive(Debug)]
struct Waiting {
    give: Option<oneshot::Sender<Vec<u8>>>,
    task: JoinHandle<Result<()>>,
}

impl Ahead {
    /// None is started.
    pub fn new(app: AppName, shared: Rc<Shared>) -> Self {
        Self { app, shared, waiting: None }
    }

    /// Starts one in place of the one that waits, when preflight says that it has cores to spare. That it could not be started is
    /// told by the one that is started late.
    pub fn begin(&mut self, spare: oneshot::Receiver<()>) {
        self.waiting = Some(self.start(Some(spare)));
    }

    /// There will be nothing to create.
    pub fn let_go(&mut self) {
        self.waiting = None;
    }

    /// Has the containers of this document created.
    pub async fn create(&mut self, document: &str) -> Result<()> {
        if let Some(early) = self.waiting.take()
            && let Some(done) = early.finish(document).await
        {
            return done;
        }
        let late = self.start(None).finish(document).await;
        late.unwrap_or_else(|| Err(anyhow!("Compose ended before it was told what to create; it is tried again")))
    }

    fn start(&self, spare: Option<oneshot::Receiver<()>>) -> Waiting {
        let (give, given) = oneshot::channel();
        let (app, shared) = (self.app.clone(), Rc::clone(&self.shared));
        let task = tokio::task::spawn_local(async move {
            if let Some(spare) = spare {
                spare.await?;
            }
            let plugin = shared.plugin.get().await.map_err(anyhow::Error::msg)?;
            Ok(plugin.prepare(&app, &shared.layout.current(&app), given).await?)
        });
        Waiting { give: Some(give), task }
    }
}

impl Waiting {
    /// Gives it the document. None where it was gone before: nothing was done, and that is no failure.
    async fn finish(mut self, document: &str) -> Option<Result<()>> {
        self.give.take()?.send(document.as_bytes().to_vec()).ok()?;
        let done = (&mut self.task).await.unwrap_or_else(|error| Err(anyhow!(error)));
        let gone = |error: &anyhow::Error| {
            let failure = error.downcast_ref::<ComposeFailure>();
            matches!(failure, Some(ComposeFailure::NoAnswer(CommandError::NothingGiven { .. })))
        };
        if done.as_ref().is_err_and(gone) { None } else { Some(done) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}
