//! Lock files in containers that are down, by what the Engine says of a path: it sees volumes and binds, and no file is read.

use anyhow::{Result, anyhow};
use bollard::container::PathStatResponse;
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;

use super::{CALL, Engine, late, status};
use crate::repairs::{Examination, Verdict};

/// Of Go's file modes, which the Engine answers: a symbolic link.
const LINK: u32 = 1 << 27;

impl Engine {
    /// What a lock file is like before its container starts. A link counts as what it leads to.
    pub async fn examine(&self, examination: &Examination) -> Verdict {
        match self.try_examine(examination).await {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Unknown(format!("cannot be looked at: {error:#}")),
        }
    }

    async fn try_examine(&self, examination: &Examination) -> Result<Verdict> {
        let Examination { id, file, repair } = examination;
        if self.inspect(repair).await?.is_some_and(|container| container.runs()) {
            return Ok(Verdict::Repairing);
        }
        let mut found = self.path(id, file).await?;
        if let Some(link) = found.take_if(|found| found.file_mode & LINK != 0) {
            found = self.path(id, &link.link_target).await?;
        }
        Ok(if found.is_none_or(|found| found.size == 0) { Verdict::Clean } else { Verdict::Left })
    }

    async fn path(&self, id: &str, path: &str) -> Result<Option<PathStatResponse>> {
        let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
        let look = self.door.docker().get_container_archive_info(id, Some(options));
        match tokio::time::timeout(CALL, look).await.map_err(|_| late("look at a file", CALL))? {
            Ok(found) => Ok(Some(found)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(anyhow!(error).context("cannot look at a file in a container")),
        }
    }
}
