//! Releases made by hand and pushed by plain HTTP, as anybody who may write to the channel can: past all that
//! `landfall publish` checks. Knows the format from its specification, not from the code under test.

use anyhow::{Context as _, Result};
use landfall_core::ids::Digest;
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::vm::Vm;

/// The media types of the artifact.
pub const BUNDLE: &str = "application/vnd.docker.compose.project";
/// Of a compose file.
pub const COMPOSE: &str = "application/vnd.docker.compose.file+yaml";
/// Of any other file.
pub const FILE: &str = "application/vnd.landfall.file.v1";
/// Of manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Of lists of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Where a release is pushed.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// To which registry.
    pub registry: &'a Registry,
    /// In which repository; the tag is `prod`.
    pub repository: String,
    /// What follows it there.
    pub channel: String,
}

impl<'a> Place<'a> {
    /// A repository.
    pub fn new(registry: &'a Registry, repository: &str) -> Self {
        let channel = format!("{}/{repository}:prod", registry.address());
        Self { registry, repository: repository.to_owned(), channel }
    }

    fn of(vm: &'a Vm) -> Self {
        Self::new(&vm.registry, &format!("deploy/{}", vm.app))
    }
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Layer {
    media_type: String,
    title: String,
    bytes: Vec<u8>,
}

impl Layer {
    /// Any layer.
    pub fn new(media_type: &str, title: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type: media_type.to_owned(), title: title.to_owned(), bytes: bytes.into() }
    }

    /// A compose file.
    pub fn compose(text: &str) -> Self {
        Self::new(COMPOSE, "compose.yaml", text)
    }

    /// The digest of its content.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// Pushes layers and a manifest over them to the channel of a VM, with the next sequence.
pub fn push(vm: &Vm, artifact_type: &str, layers: &[Layer]) -> Result<Digest> {
    push_to(&Place::of(vm), artifact_type, layers)
}

/// As [`push`], to any place.
pub fn push_to(place: &Place<'_>, artifact_type: &str, layers: &[Layer]) -> Result<Digest> {
    let empty = place.registry.push_blob(&place.repository, b"{}")?;
    let mut listed = Vec::new();
    for layer in layers {
        let digest = place.registry.push_blob(&place.repository, &layer.bytes)?;
        listed.push(json!({
            "mediaType": layer.media_type, "digest": digest, "size": layer.bytes.len(),
            "annotations": { "org.opencontainers.image.title": layer.title },
        }));
    }
    push_manifest_to(
        place,
        MANIFEST,
        json!({
            "artifactType": artifact_type,
            "config": { "mediaType": EMPTY, "digest": empty, "size": 2 },
            "layers": listed,
        }),
    )
}

/// Pushes a manifest, to which the version of its schema, its media type and the next sequence are added.
pub fn push_manifest(vm: &Vm, media_type: &str, manifest: Value) -> Result<Digest> {
    push_manifest_to(&Place::of(vm), media_type, manifest)
}

fn push_manifest_to(place: &Place<'_>, media_type: &str, mut manifest: Value) -> Result<Digest> {
    let sequence = jiff::Timestamp::now().as_millisecond();
    manifest["schemaVersion"] = json!(2);
    manifest["mediaType"] = json!(media_type);
    manifest["annotations"] =
        json!({ "io.landfall.channel": place.channel, "io.landfall.sequence": sequence.to_string() });
    place.registry.push_manifest(&place.repository, "prod", media_type, manifest.to_string().as_bytes())
}

/// The compose file of the project as it would be published.
pub fn compose_text(vm: &Vm) -> Result<String> {
    let path = vm.project.compose_file();
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
