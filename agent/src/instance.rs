//! One agent per root: two would undo each other's steps.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use tokio::time::Instant;

/// How long another agent may hold the lock before this one gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried.
const AGAIN: Duration = Duration::from_millis(20);

/// The lock, held until it is dropped. One that was killed may hold it for a moment after its end, in a child that was about to
/// become another program.
pub async fn alone(path: &Path) -> Result<Flock<File>> {
    let unusable = || format!("cannot open the lock `{}`", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(path)).with_context(unusable)?;
    let mut file = File::options().write(true).create(true).truncate(false).open(path).with_context(unusable)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, _)) if Instant::now() < deadline => file,
            Err((_, error)) => {
                bail!("another agent holds `{}` ({error}): stop it first, or leave it the work", path.display())
            }
        };
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CI once killed an agent while its child was between fork and exec: the next one found the lock held and gave up.
    #[tokio::test(start_paused = true)]
    async fn a_lock_that_a_dying_agent_still_holds_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent/lock");
        let other = alone(&path).await.unwrap();
        let dies = async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(other);
        };
        let (lock, ()) = tokio::join!(alone(&path), dies);
        lock.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn beside_another_agent_it_gives_up_and_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _other = alone(&path).await.unwrap();
        let began = Instant::now();
        let said = alone(&path).await.unwrap_err().to_string();
        assert!(
            said.starts_with("another agent holds `") && said.ends_with("stop it first, or leave it the work"),
            "{said}"
        );
        assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
    }
}
