//! Images without a build daemon: one static binary as one tar layer, and a configuration. All images share the layer,
//! so another version is another configuration: a new digest in milliseconds.

use anyhow::{Context as _, Result};
use landfall_core::ids::Digest;
use serde_json::json;

use crate::programs;
use crate::registry::Registry;

/// The label that says for which app an image was made.
pub const OWNER: &str = "io.landfall.test";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_BLOCK: usize = 512;

/// What an image holds beside the sample's binary.
#[derive(Debug, Clone, Default)]
pub struct Image<'a> {
    /// Repository in the registry, such as `sample/api`.
    pub repository: &'a str,
    /// Its tag.
    pub tag: &'a str,
    /// The role and its arguments; the entrypoint is the binary.
    pub command: &'a [&'a str],
    /// Variables.
    pub environment: &'a [(&'a str, &'a str)],
    /// Paths of image volumes.
    pub volumes: &'a [&'a str],
    /// What it says that it was built from.
    pub revision: Option<&'a str>,
    /// A layer more, which nothing reads: makes a pull as long as is wanted, where no other image has it.
    pub padding: &'a [u8],
    /// Makes images of different tests different images, so that one can be removed without the other.
    pub owner: &'a str,
}

/// Pushes an image and says its manifest's digest.
pub fn push(registry: &Registry, image: &Image<'_>) -> Result<Digest> {
    let path = programs::sample()?;
    let binary = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let padding = (!image.padding.is_empty()).then(|| tar(&[("padding", image.padding)]));
    let mut layers = Vec::new();
    for layer in [tar(&[("landfall-sample", &binary)])].into_iter().chain(padding) {
        layers.push((registry.push_blob(image.repository, &layer)?, layer.len()));
    }
    let diff_ids: Vec<&Digest> = layers.iter().map(|(digest, _)| digest).collect();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let environment: Vec<String> = image.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let volumes: serde_json::Map<_, _> = image.volumes.iter().map(|path| ((*path).to_owned(), json!({}))).collect();
    let mut labels = json!({ OWNER: image.owner });
    if let Some(revision) = image.revision {
        labels["org.opencontainers.image.revision"] = json!(revision);
    }
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/landfall-sample"],
            "Cmd": image.command,
            "Env": environment,
            "Volumes": volumes,
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let config_digest = registry.push_blob(image.repository, config.as_bytes())?;
    let layer = |(digest, size): &(Digest, usize)| json!({ "mediaType": LAYER, "digest": digest, "size": size });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config_digest, "size": config.len() },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    })
    .to_string();
    registry.push_manifest(image.repository, image.tag, MANIFEST, manifest.as_bytes())
}

/// A tar archive of executable files, the same bytes for the same content.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0_u8; TAR_BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000755");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar");
        put(263, "00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(TAR_BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * TAR_BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_archive_is_whole_blocks_with_a_right_checksum() {
        let archive = tar(&[("a", b"x"), ("b", &[7; 600])]);
        assert_eq!(archive.len(), TAR_BLOCK * (2 + 3 + 2));
        let sum: u32 = archive[..TAR_BLOCK]
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        assert_eq!(archive[148..156], *format!("{sum:06o}\0 ").as_bytes());
    }
}
