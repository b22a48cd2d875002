//! Rotations that containers see while they run: does what `live_secrets` says, tells first and remembers then, so that whoever is
//! killed in between tells again.

use std::time::Duration;

use anyhow::Result;

use super::AppLoop;
use crate::clock::now;
use crate::live_secrets::{self, Line, Seen};
use crate::observed::Observed;
use crate::{report, secret_sets};

/// How long nothing else is done after a rotation was taken back: what is started again meanwhile would read what made it ill.
const SWITCH: Duration = Duration::from_secs(1);

impl AppLoop {
    /// One step of a rotation. Some where one was done, with a pause where the fetcher should come first.
    pub(super) async fn rotate(&mut self, seen: &Observed) -> Result<Option<Option<Duration>>> {
        if self.state.live_secrets.is_empty() {
            return Ok(None);
        }
        let index = secret_sets::index(&self.shared, &self.app);
        let seen = Seen { index: index.as_ref(), containers: seen, runtime: &self.runtime, now: now() };
        let Some(turn) = live_secrets::next(&self.state, seen) else { return Ok(None) };
        if let Some((signal, ids)) = &turn.tell {
            for id in ids {
                self.shared.engine.signal(id, signal).await?;
            }
        }
        self.move_to(turn.state, None).await?;
        let Some(line) = turn.line else { return Ok(Some(None)) };
        report::rotation(&self.app, &line);
        Ok(Some(matches!(line, Line::TakenBack { .. }).then_some(SWITCH)))
    }
}
