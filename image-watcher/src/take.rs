//! Taking what a channel points at: read the manifest, judge it, fetch its layers, lay it down, remember its sequence, and
//! only then show it. Each of these steps can be repeated after a kill, and nothing is shown before it is on disk.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use landfall_core::config::{App, Source};
use landfall_core::contract::StagedFile;
use landfall_core::ids::{AppName, Digest, ReleaseId};
use landfall_core::layout::Layout;

use crate::manifest::{self, Artifact, BadManifest, Blob, Kind, Role};
use crate::memory::{self, MemoryError};
use crate::registry::{AskError, Registries};
use crate::release::{self, BadPointer};
use crate::sequence::{self, Stale};
use crate::stage;

/// Why a manifest was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// For good: the same manifest would be refused again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The registry, this time.
    #[error(transparent)]
    Registry(#[from] AskError),
    /// This machine, this time.
    #[error("cannot write `{path}`; check the disk and its permissions")]
    Disk {
        /// Where.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was seen before is not known.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Why a manifest is never taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no release.
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    /// It is one, but not the one to take.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// Its document is wrong.
    #[error(transparent)]
    Pointer(#[from] BadPointer),
    /// The settings expect the other kind.
    #[error("the channel has a {found} and landfall.yaml says `source: {expected}` for this app; change one of them")]
    Source {
        /// What it is.
        found: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its identity.
    pub release: ReleaseId,
    /// Of its manifest.
    pub sequence: Option<u64>,
}

/// Where and for whom.
#[derive(Debug)]
pub struct Taker<'a> {
    /// Whose channel.
    pub app: &'a AppName,
    /// Its settings.
    pub settings: &'a App,
    /// Where to lay it down.
    pub layout: &'a Layout,
    /// Where to fetch it.
    pub registries: &'a Registries,
}

impl Taker<'_> {
    /// Stages the release of a manifest whose digest was verified. `shown` is the sequence of what is shown now.
    pub async fn take(&self, manifest: &[u8], shown: Option<u64>, now: Timestamp) -> Result<Staged, NotTaken> {
        let artifact = manifest::parse(manifest).map_err(Refusal::from)?;
        self.check_source(&artifact)?;
        let channel = self.settings.channel.to_string();
        // What is shown counts too: its sequence outlives a record that a person had to remove.
        let seen = memory::highest(self.layout, &channel)?.max(shown);
        let sequence = sequence::judge(&artifact.annotations, &channel, seen, now).map_err(Refusal::from)?;
        let release = match self.already_staged(&artifact) {
            Some(release) => release,
            None => self.fetch_and_stage(&artifact).await?,
        };
        if let Some(sequence) = sequence {
            memory::remember(self.layout, &channel, sequence)?;
        }
        Ok(Staged { release, sequence })
    }

    fn check_source(&self, artifact: &Artifact) -> Result<(), Refusal> {
        match (&artifact.kind, self.settings.source) {
            (Kind::Bundle(_), Source::Bundle) | (Kind::Pointer(_), Source::Pointer) => Ok(()),
            (Kind::Bundle(_), Source::Pointer | Source::Tags) => {
                Err(Refusal::Source { found: "bundle", expected: "pointer" })
            }
            (Kind::Pointer(_), Source::Bundle | Source::Tags) => {
                Err(Refusal::Source { found: "pointer document", expected: "bundle" })
            }
        }
    }

    /// A bundle's identity is in its manifest: the same content needs no fetching, whoever published it again.
    fn already_staged(&self, artifact: &Artifact) -> Option<ReleaseId> {
        let release = release::identity(artifact)?;
        self.layout.release(self.app, &release).is_dir().then_some(release)
    }

    async fn fetch_and_stage(&self, artifact: &Artifact) -> Result<ReleaseId, NotTaken> {
        let mut content = BTreeMap::new();
        match &artifact.kind {
            Kind::Bundle(layers) => {
                for layer in layers {
                    self.fetch(&layer.blob, self.known(&layer.role, &layer.blob), &mut content).await?;
                }
            }
            Kind::Pointer(blob) => self.fetch(blob, None, &mut content).await?,
        }
        let staging = release::assemble(self.app, artifact, &content).map_err(Refusal::from)?;
        drop(content);
        stage::lay_down(self.layout, self.app, &staging)
            .map_err(|source| NotTaken::Disk { path: self.layout.watcher().display().to_string(), source })?;
        Ok(staging.record.release)
    }

    fn known(&self, role: &Role, blob: &Blob) -> Option<Vec<u8>> {
        match role {
            Role::Compose(_) | Role::Extends(_) | Role::Env(_) => None,
            Role::File { title, executable } => {
                let title = title.as_str().to_owned();
                stage::known_content(
                    self.layout,
                    &StagedFile { title, executable: *executable, digest: blob.digest.clone() },
                )
            }
        }
    }

    async fn fetch(
        &self,
        blob: &Blob,
        known: Option<Vec<u8>>,
        content: &mut BTreeMap<Digest, Vec<u8>>,
    ) -> Result<(), AskError> {
        if !content.contains_key(&blob.digest) {
            let bytes = match known {
                Some(bytes) => bytes,
                None => self.registries.blob(&self.settings.channel, blob).await?,
            };
            content.insert(blob.digest.clone(), bytes);
        }
        Ok(())
    }
}
