//! The manifest of a release, byte for byte: Docker Compose's own artifact plus file layers, or a pointer document.
//! Pure; what it is published as (channel, sequence, provenance) comes in as values and is no part of the identity.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfall_core::config::Channel;
use landfall_core::ids::Digest;
use serde::Serialize;

use crate::bundle::{Kind, Layer};

/// The media type of every manifest that is pushed.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The config blob of an artifact.
pub const EMPTY: &[u8] = b"{}";

/// The media type of [`EMPTY`].
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The artifact type of a bundle.
pub const BUNDLE_TYPE: &str = "application/vnd.docker.compose.project";
/// The artifact type of a pointer document.
pub const POINTER_TYPE: &str = "application/vnd.landfall.pointer.v1";
/// The media type of a compose document.
pub const COMPOSE_TYPE: &str = "application/vnd.docker.compose.file+yaml";
/// The media type of an `env_file`.
pub const ENV_TYPE: &str = "application/vnd.docker.compose.envfile";
/// The media type of any other file.
pub const FILE_TYPE: &str = "application/vnd.landfall.file.v1";
const POINTER_LAYER_TYPE: &str = "application/vnd.landfall.pointer.v1+json";
/// Layers up to this size stand in the manifest too: 64 of them, the most there may be, fill a third of what a manifest may have.
const INLINE: usize = 4 << 10;
/// The annotation with a layer's file name or path.
pub const TITLE: &str = "org.opencontainers.image.title";

/// What a release is published as.
#[derive(Debug, Clone)]
pub struct Publication<'a> {
    /// Where it goes.
    pub channel: &'a Channel,
    /// Must not go down within a channel: unix milliseconds.
    pub sequence: u64,
    /// More annotations: provenance, for people.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: usize,
    /// The content itself (OCI image specification 1.1, "Descriptor: data"), which saves the watcher a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
}

impl<'a> Descriptor<'a> {
    fn of(media_type: &'a str, bytes: &[u8], annotations: BTreeMap<&'a str, &'a str>) -> Self {
        Self { media_type, digest: Digest::of(bytes), size: bytes.len(), data: None, annotations }
    }

    fn inline(mut self, bytes: &[u8]) -> Self {
        self.data = (bytes.len() <= INLINE).then(|| STANDARD.encode(bytes));
        self
    }
}

/// Media type of a layer, and its mode where the manifest says one.
pub fn described(layer: &Layer) -> (&'static str, &'static str) {
    match layer.kind {
        Kind::Compose => (COMPOSE_TYPE, ""),
        Kind::Env => (ENV_TYPE, ""),
        Kind::File => (FILE_TYPE, layer.mode()),
    }
}

/// The manifest of a bundle.
pub fn of_bundle(layers: &[Layer], publication: &Publication<'_>) -> Vec<u8> {
    let layers = layers.iter().map(|layer| {
        let title = layer.title.as_str();
        let (media_type, mode) = described(layer);
        let annotations = match layer.kind {
            Kind::Compose => [(TITLE, title), ("com.docker.compose.file", title)],
            Kind::Env => [(TITLE, title), ("com.docker.compose.envfile", title)],
            Kind::File => [(TITLE, title), ("io.landfall.file.mode", mode)],
        };
        let annotations = BTreeMap::from(annotations);
        Descriptor::of(media_type, &layer.bytes, annotations).inline(&layer.bytes)
    });
    write(BUNDLE_TYPE, layers.collect(), publication)
}

/// The manifest of a pointer document.
pub fn of_pointer(document: &[u8], publication: &Publication<'_>) -> Vec<u8> {
    let layer =
        Descriptor::of(POINTER_LAYER_TYPE, document, BTreeMap::from([(TITLE, "pointer.json")])).inline(document);
    write(POINTER_TYPE, vec![layer], publication)
}

fn write(artifact_type: &str, layers: Vec<Descriptor<'_>>, publication: &Publication<'_>) -> Vec<u8> {
    let mut annotations = publication.annotations.clone();
    annotations.insert("io.landfall.channel".to_owned(), publication.channel.to_string());
    annotations.insert("io.landfall.sequence".to_owned(), publication.sequence.to_string());
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE,
        artifact_type,
        config: Descriptor::of(EMPTY_TYPE, EMPTY, BTreeMap::new()),
        layers,
        annotations,
    };
    serde_json::to_vec(&manifest).unwrap_or_else(|_| unreachable!("text and numbers always serialize"))
}

/// A pointer document: an image by digest for each service. Its identity is of `images` alone.
pub fn pointer(images: &BTreeMap<String, String>, provenance: &BTreeMap<String, String>) -> Vec<u8> {
    serde_json::json!({ "format": 1, "images": images, "provenance": provenance }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A golden: the watcher and every other tool read this.
    #[test]
    fn the_manifest_of_a_bundle() {
        let layer =
            |kind, title: &str, executable| Layer { kind, title: title.into(), executable, bytes: b"x".to_vec() };
        let layers = [
            layer(Kind::Compose, "compose.yaml", false),
            layer(Kind::Env, "web.env", false),
            layer(Kind::File, "bin/run", true),
        ];
        let channel = "ghcr.io/acme/deploy:prod".parse().expect("a channel");
        let annotations = BTreeMap::from([("org.opencontainers.image.revision".to_owned(), "abc".to_owned())]);
        let bytes = of_bundle(&layers, &Publication { channel: &channel, sequence: 7, annotations });
        let x = Digest::of(b"x");
        let config = Digest::of(b"{}");
        let expected = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
                r#""artifactType":"application/vnd.docker.compose.project","#,
                r#""config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"#,
                r#""layers":[{{"mediaType":"application/vnd.docker.compose.file+yaml","digest":"{x}","size":1,"data":"eA==","#,
                r#""annotations":{{"com.docker.compose.file":"compose.yaml","org.opencontainers.image.title":"compose.yaml"}}}},"#,
                r#"{{"mediaType":"application/vnd.docker.compose.envfile","digest":"{x}","size":1,"data":"eA==","#,
                r#""annotations":{{"com.docker.compose.envfile":"web.env","org.opencontainers.image.title":"web.env"}}}},"#,
                r#"{{"mediaType":"application/vnd.landfall.file.v1","digest":"{x}","size":1,"data":"eA==","#,
                r#""annotations":{{"io.landfall.file.mode":"0755","org.opencontainers.image.title":"bin/run"}}}}],"#,
                r#""annotations":{{"io.landfall.channel":"ghcr.io/acme/deploy:prod","io.landfall.sequence":"7","#,
                r#""org.opencontainers.image.revision":"abc"}}}}"#,
            ),
            config = config,
            x = x,
        );
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }
}
