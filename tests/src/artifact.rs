//! Releases made by hand and pushed by plain HTTP, as anybody who may write to the channel can: past all that
//! `landfall publish` checks. Knows the format from its specification, not from the code under test.

use anyhow::{Context as _, Result};
use landfall_core::ids::Digest;
use serde_json::{Value, json};

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
    let repository = repository(vm);
    let empty = vm.registry.push_blob(&repository, b"{}")?;
    let mut listed = Vec::new();
    for layer in layers {
        let digest = vm.registry.push_blob(&repository, &layer.bytes)?;
        listed.push(json!({
            "mediaType": layer.media_type, "digest": digest, "size": layer.bytes.len(),
            "annotations": { "org.opencontainers.image.title": layer.title },
        }));
    }
    push_manifest(
        vm,
        MANIFEST,
        json!({
            "artifactType": artifact_type,
            "config": { "mediaType": EMPTY, "digest": empty, "size": 2 },
            "layers": listed,
        }),
    )
}

/// Pushes a manifest, to which the version of its schema, its media type and the next sequence are added.
pub fn push_manifest(vm: &Vm, media_type: &str, mut manifest: Value) -> Result<Digest> {
    let sequence = jiff::Timestamp::now().as_millisecond();
    manifest["schemaVersion"] = json!(2);
    manifest["mediaType"] = json!(media_type);
    manifest["annotations"] =
        json!({ "io.landfall.channel": vm.channel(), "io.landfall.sequence": sequence.to_string() });
    vm.registry.push_manifest(&repository(vm), "prod", media_type, manifest.to_string().as_bytes())
}

/// The compose file of the project as it would be published.
pub fn compose_text(vm: &Vm) -> Result<String> {
    let path = vm.project.compose_file();
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn repository(vm: &Vm) -> String {
    format!("deploy/{}", vm.app)
}
