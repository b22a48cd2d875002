//! Data directories that were not shut down cleanly: looks where the plan asks, and has the container of a repair created. That
//! it runs, ends and goes is the plan's, as with any other.

use std::time::Duration;

use anyhow::Result;

use super::{AGAIN, AppLoop};
use crate::clock::now;
use crate::create;
use crate::repairs::{self, Examination};

impl AppLoop {
    pub(super) async fn examine(&mut self, examination: &Examination) {
        let verdict = self.shared.engine.examine(examination).await;
        self.runtime.note_examined(&examination.id, verdict, now());
    }

    /// As with a release's containers: what is there by now is taken, whatever the call said.
    pub(super) async fn repair(&mut self, service: &str) -> Result<Option<Duration>> {
        let made = create::create_repair(&self.shared, &self.app, &self.state, service, self.newest.ahead()).await;
        self.drain_mail();
        self.look.find_new(&self.shared.engine).await?;
        let Err(error) = made else {
            self.step_failures = 0;
            return Ok(None);
        };
        self.step_failures += 1;
        if self.step_failures < 3 {
            return Ok(Some(AGAIN.after(self.step_failures)));
        }
        self.step_failures = 0;
        let what = repairs::cannot_repair(&self.state, service, &format!("{error:#}"));
        let (state, note) = repairs::remembered(&self.state, what);
        self.move_to(state, note).await?;
        Ok(None)
    }
}
