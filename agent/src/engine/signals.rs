//! Signals to containers that run. Nothing here knows what a signal means to them.

use anyhow::{Result, anyhow};
use bollard::query_parameters::KillContainerOptionsBuilder;

use super::{CALL, Engine, late, status};

impl Engine {
    /// Sends a signal. One that does not run, or is gone, has nothing to be told.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = tokio::time::timeout(CALL, self.door.docker().kill_container(id, Some(options))).await;
        match sent.map_err(|_| late("signal a container", CALL))? {
            Ok(()) => Ok(()),
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("cannot send {signal} to a container"))),
        }
    }
}
