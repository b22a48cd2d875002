//! What an image says that it was built from: its `org.opencontainers.image.revision`, an annotation of the manifest or a label of
//! its configuration. Reads only; an image that says nothing is no error.

use std::collections::BTreeMap;

use landfall_core::config::Channel;
use landfall_core::ids::Digest;
use serde::Deserialize;

use crate::manifest::Blob;
use crate::registry::Registries;
use crate::tags::REVISION;

/// No configuration of an image is read that is larger.
const CONFIG_LIMIT: u64 = 1 << 20;
/// How Go, and so every registry, calls this machine.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    annotations: Option<BTreeMap<String, String>>,
    config: Option<Descriptor>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Configuration {
    config: Option<Labels>,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

/// The revision of the image with this digest; none where it says none, or cannot be asked now.
pub async fn of(registries: &Registries, tag: &Channel, digest: &Digest) -> Option<String> {
    let (_, bytes) = registries.manifest(tag, Some(digest)).await.ok()?;
    let mut manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    if let Some(said) = annotated(&manifest) {
        return Some(said);
    }
    if let Some(inner) = manifest.manifests.take().and_then(|all| all.into_iter().find(is_ours)) {
        let (_, bytes) = registries.manifest(tag, Some(&inner.digest.parse().ok()?)).await.ok()?;
        manifest = serde_json::from_slice(&bytes).ok()?;
        if let Some(said) = annotated(&manifest) {
            return Some(said);
        }
    }
    let config = manifest.config.filter(|config| config.size <= CONFIG_LIMIT)?;
    let blob = Blob { digest: config.digest.parse().ok()?, size: config.size, inline: None };
    let bytes = registries.blob(tag, &blob).await.ok()?;
    labelled(&bytes)
}

fn annotated(manifest: &Manifest) -> Option<String> {
    manifest.annotations.as_ref()?.get(REVISION).cloned()
}

fn is_ours(one: &Descriptor) -> bool {
    one.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == ARCHITECTURE)
}

fn labelled(configuration: &[u8]) -> Option<String> {
    let configuration: Configuration = serde_json::from_slice(configuration).ok()?;
    configuration.config?.labels?.remove(REVISION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_where_there_is_one() {
        for (configuration, wanted) in [
            (r#"{"config":{"Labels":{"org.opencontainers.image.revision":"c0ffee","a":"b"}}}"#, Some("c0ffee")),
            (r#"{"config":{"Labels":null}}"#, None),
            (r#"{"config":{}}"#, None),
            ("{}", None),
            ("[", None),
        ] {
            assert_eq!(labelled(configuration.as_bytes()).as_deref(), wanted, "{configuration}");
        }
    }
}
