//! Pulls. What comes is told as it comes; nothing is kept here.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use futures_util::StreamExt as _;
use landfall_core::config::Settings;
use landfall_core::ids::{AppName, printable};

use super::{CALL, Engine, LocalImage, late, within};
use crate::login::login;
use crate::pulls::Piece;

/// A pull may be slow, but never endless.
pub(super) const PULL: Duration = Duration::from_mins(30);
/// Where images are tagged so that nobody prunes them: a repository for each app, a tag for each digest.
pub(super) const KEEPER: &str = "landfall.local";

impl Engine {
    /// Pulls an image by digest. What comes is told meanwhile; an answer that is an error ends the pull.
    pub async fn download<E: Into<anyhow::Error>>(
        &self,
        settings: &Settings,
        pinned: &str,
        on_piece: impl FnMut(&Piece<'_>) -> Result<(), E>,
    ) -> Result<LocalImage> {
        tokio::time::timeout(PULL, self.follow(settings, pinned, on_piece))
            .await
            .map_err(|_| late("pull an image", PULL))??;
        self.local_image(pinned).await?.with_context(|| format!("`{pinned}` was pulled and is not here"))
    }

    /// Gives an image its keeper tag: without one the usual `docker image prune` deletes what was pulled by digest.
    pub async fn keep(&self, app: &AppName, pinned: &str, local: &LocalImage) -> Result<()> {
        let digest = pinned.rsplit_once("@sha256:").map_or(pinned, |(_, hex)| hex);
        let repository = format!("{KEEPER}/{app}");
        if local.tags.contains(&format!("{repository}:{digest}")) {
            return Ok(());
        }
        let options = TagImageOptionsBuilder::new().repo(&repository).tag(digest).build();
        within(CALL, "tag an image", self.door.docker().tag_image(pinned, Some(options))).await
    }

    async fn follow<E: Into<anyhow::Error>>(
        &self,
        settings: &Settings,
        pinned: &str,
        mut on_piece: impl FnMut(&Piece<'_>) -> Result<(), E>,
    ) -> Result<()> {
        let options = CreateImageOptionsBuilder::new().from_image(pinned).build();
        let mut progress =
            std::pin::pin!(self.door.docker().create_image(Some(options), None, login(settings, pinned)?));
        while let Some(line) = progress.next().await {
            let line = line.with_context(|| format!("cannot pull `{pinned}`"))?;
            if let Some(detail) = line.error_detail {
                bail!(
                    "cannot pull `{pinned}`: {}",
                    printable(detail.message.as_deref().unwrap_or("no reason given"), 300)
                );
            }
            if let (Some(layer), Some(said)) = (&line.id, &line.status) {
                let detail = line.progress_detail.unwrap_or_default();
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
                let piece = Piece { layer, said, done: bytes(detail.current), total: bytes(detail.total) };
                on_piece(&piece).map_err(Into::into)?;
            }
        }
        Ok(())
    }
}
