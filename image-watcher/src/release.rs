//! From an [`Artifact`] and the content of its layers to what is laid down: identity, record and tree. Pure; the edge
//! that writes ([`crate::stage`]) decides nothing.

use std::collections::BTreeMap;

use landfall_core::contract::{FORMAT, StagedFile, StagedRelease, StagedSource};
use landfall_core::ids::{
    AppName, Digest, LayerLine, ReleaseId, printable, release_id_of_bundle, release_id_of_images,
};
use serde::Deserialize;

use crate::manifest::{Artifact, Kind, Layer, Role};

/// How much of an annotation is kept for people.
const PROVENANCE_LENGTH: usize = 500;
/// Annotations that are kept for people.
const PROVENANCE: &[&str] = &["org.opencontainers.image.", "io.landfall."];

/// A verified release, ready to be laid down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// Becomes `release.json`.
    pub record: StagedRelease,
    /// Files below the release's directory.
    pub tree: Vec<StagedContent>,
    /// Files below `files/`, by content.
    pub content: Vec<(StagedFile, Vec<u8>)>,
}

/// One file of a release's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedContent {
    /// Relative, checked by [`crate::titles`] or made here.
    pub path: String,
    /// Whether it may be executed.
    pub executable: bool,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Why a pointer document is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPointer {
    /// It does not parse.
    #[error(
        "the pointer document does not parse: {0}; it is `{{\"format\":1,\"images\":{{\"service\":\"repository@sha256:…\"}}}}`"
    )]
    Garbled(String),
    /// Written for a newer watcher.
    #[error("the pointer document has format {0}, and this version reads 1; upgrade Landfall on this machine")]
    Newer(u32),
    /// It names nothing.
    #[error("the pointer document names no image; add one for each service")]
    Empty,
    /// An image is not pinned.
    #[error("service `{service}`: `{image}` is not `repository@sha256:…`; pin the image by its digest")]
    Image {
        /// Whose.
        service: String,
        /// What it says.
        image: String,
    },
}

/// Puts a release together. `content` gives the verified bytes of a digest; it has all that the artifact names.
pub fn assemble(
    app: &AppName,
    artifact: &Artifact,
    content: &BTreeMap<Digest, Vec<u8>>,
) -> Result<Staging, BadPointer> {
    let mut provenance: BTreeMap<String, String> = artifact
        .annotations
        .iter()
        .filter(|(key, _)| PROVENANCE.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (printable(key, PROVENANCE_LENGTH), printable(value, PROVENANCE_LENGTH)))
        .collect();
    let bytes_of = |digest: &Digest| content.get(digest).cloned().unwrap_or_default();
    let (release, source, tree, files) = match &artifact.kind {
        Kind::Bundle(layers) => bundle(layers, &bytes_of),
        Kind::Pointer(blob) => {
            let pointer = pointer(&bytes_of(&blob.digest))?;
            provenance.extend(pointer.provenance);
            (pointer.release, StagedSource::Pointer { images: pointer.images }, Vec::new(), Vec::new())
        }
    };
    let record = StagedRelease { format: FORMAT, app: app.clone(), release, source, provenance };
    Ok(Staging { record, tree, content: files })
}

type Bundle = (ReleaseId, StagedSource, Vec<StagedContent>, Vec<(StagedFile, Vec<u8>)>);

fn bundle(layers: &[Layer], bytes_of: &dyn Fn(&Digest) -> Vec<u8>) -> Bundle {
    let mut compose = Vec::new();
    let mut tree = Vec::new();
    let mut files = Vec::new();
    for layer in layers {
        let bytes = bytes_of(&layer.blob.digest);
        match &layer.role {
            Role::Compose(_) => {
                let name = format!("{}.yaml", compose.len());
                tree.push(StagedContent { path: format!("compose/{name}"), executable: false, bytes });
                compose.push(name);
            }
            Role::Extends(title) | Role::Env(title) => {
                tree.push(StagedContent { path: format!("project/{}", title.as_str()), executable: false, bytes });
            }
            Role::File { title, executable } => {
                let file = StagedFile {
                    title: title.as_str().to_owned(),
                    executable: *executable,
                    digest: layer.blob.digest.clone(),
                };
                let path = format!("project/{}", title.as_str());
                tree.push(StagedContent { path, executable: *executable, bytes: bytes.clone() });
                files.push((file, bytes));
            }
        }
    }
    files.sort_by(|(a, _), (b, _)| a.title.cmp(&b.title));
    let staged = files.iter().map(|(file, _)| file.clone()).collect();
    (identity_of_bundle(layers), StagedSource::Bundle { compose, files: staged }, tree, files)
}

/// The identity of a release, where the manifest alone tells it: a pointer's is in its document.
pub fn identity(artifact: &Artifact) -> Option<ReleaseId> {
    match &artifact.kind {
        Kind::Bundle(layers) => Some(identity_of_bundle(layers)),
        Kind::Pointer(_) => None,
    }
}

fn identity_of_bundle(layers: &[Layer]) -> ReleaseId {
    let counted = |layer| -> LayerLine<'_> {
        let layer: &Layer = layer;
        let (kind, mode, title) = match &layer.role {
            Role::Compose(name) => ("compose", "0644", name.as_str()),
            Role::Extends(title) => ("extends", "0644", title.as_str()),
            Role::Env(title) => ("env", "0644", title.as_str()),
            Role::File { title, executable: false } => ("file", "0644", title.as_str()),
            Role::File { title, executable: true } => ("file", "0755", title.as_str()),
        };
        LayerLine { kind, mode, title, digest: &layer.blob.digest }
    };
    release_id_of_bundle(&layers.iter().map(counted).collect::<Vec<_>>())
}

struct Pointer {
    release: ReleaseId,
    images: BTreeMap<String, String>,
    provenance: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Document {
    format: u32,
    images: BTreeMap<String, String>,
    #[serde(default)]
    provenance: BTreeMap<String, serde_json::Value>,
}

fn pointer(bytes: &[u8]) -> Result<Pointer, BadPointer> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let garbled = |error: serde_json::Error| BadPointer::Garbled(printable(&error.to_string(), 200));
    let head: Head = serde_json::from_slice(bytes).map_err(garbled)?;
    if head.format > FORMAT {
        return Err(BadPointer::Newer(head.format));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(garbled)?;
    if document.format == 0 || document.images.is_empty() {
        return Err(BadPointer::Empty);
    }
    let digests = document
        .images
        .iter()
        .map(|(service, image)| match pinned(service, image) {
            Some(digest) => Ok((service.as_str(), digest)),
            None => Err(BadPointer::Image { service: printable(service, 80), image: printable(image, 200) }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let release = release_id_of_images(digests.iter().map(|(service, digest)| (*service, digest)));
    let provenance = document.provenance.iter().map(|(key, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (printable(key, PROVENANCE_LENGTH), printable(&text, PROVENANCE_LENGTH))
    });
    Ok(Pointer { release, provenance: provenance.collect(), images: document.images })
}

/// The digest of `repository@sha256:…`, where both the service and the repository are plain names.
fn pinned(service: &str, image: &str) -> Option<Digest> {
    let is_plain = |text: &str, more: &[u8]| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 255
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-') || more.contains(&b))
    };
    let (repository, digest) = image.split_once('@')?;
    (is_plain(service, b"") && is_plain(repository, b"/:")).then_some(())?;
    digest.parse().ok()
}

#[cfg(test)]
mod tests;
