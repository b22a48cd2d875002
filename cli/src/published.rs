//! A release as it stands at a channel: what `promote` copies and `diff` compares with. Read, never trusted: sizes are bounded and
//! every byte is verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfall_core::config::Channel;
use landfall_core::ids::{Digest, printable};
use serde_json::Value;

use crate::bundle::{FILE_LIMIT, LAYER_LIMIT, TOTAL_LIMIT};
use crate::failure::{Exit, Failed};
use crate::manifest::{BUNDLE_TYPE, POINTER_TYPE, TITLE};
use crate::registry::Registries;

/// Docker Compose's artifact before artifact types (OCI 1.0).
const FALLBACK_CONFIG: &str = "application/vnd.docker.compose.config.empty.v1+json";

/// What a channel points at.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Of the manifest as it came.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Value,
    /// Its config and layers, in order.
    pub blobs: Vec<Remote>,
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its media type.
    pub media_type: String,
    /// The path or file name, where it has one.
    pub title: String,
    /// `io.landfall.file.mode`, where it has one.
    pub mode: String,
    /// Of the content.
    pub digest: Digest,
    size: u64,
    inline: Option<Vec<u8>>,
}

impl Published {
    /// Asks the registry.
    pub async fn read(registries: &mut Registries, channel: &Channel) -> Result<Self, Failed> {
        let bytes = registries.manifest(channel).await?;
        Self::parse(&bytes).map_err(|why| {
            Failed::new(Exit::Usage, format!("`{channel}` is not a release: {why}"))
                .next("name a channel that `landfall publish`, `oras push` or `docker compose publish` wrote")
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
        let config = &manifest["config"];
        let kind =
            manifest["artifactType"].as_str().or_else(|| config["mediaType"].as_str()).unwrap_or("nothing known");
        if ![BUNDLE_TYPE, POINTER_TYPE, FALLBACK_CONFIG].contains(&kind) {
            return Err(format!("it is `{}`", printable(kind, 100)));
        }
        let layers = manifest["layers"].as_array().ok_or("it has no layers")?;
        if layers.len() > LAYER_LIMIT {
            return Err(format!("it has {} layers, and {LAYER_LIMIT} are allowed", layers.len()));
        }
        let blobs: Vec<_> = std::iter::once(config).chain(layers).map(Remote::parse).collect::<Result<_, _>>()?;
        let total: u64 = blobs.iter().map(|blob| blob.size).sum();
        if usize::try_from(total).is_ok_and(|total| total <= TOTAL_LIMIT) {
            Ok(Self { digest: Digest::of(bytes), manifest, blobs })
        } else {
            Err(format!("its layers have {total} bytes, and {TOTAL_LIMIT} are allowed"))
        }
    }

    /// The layers: all blobs but the config.
    pub fn layers(&self) -> &[Remote] {
        self.blobs.get(1..).unwrap_or_default()
    }
}

impl Remote {
    fn parse(descriptor: &Value) -> Result<Self, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let digest: Digest = text(&descriptor["digest"]).parse().map_err(|error| format!("a layer: {error}"))?;
        let size = descriptor["size"].as_u64().filter(|size| *size <= FILE_LIMIT as u64);
        let size = size.ok_or_else(|| format!("layer `{digest}` has no size, or more than {FILE_LIMIT} bytes"))?;
        let inline = match descriptor["data"].as_str().filter(|data| !data.is_empty()) {
            Some(data) => {
                Some(STANDARD.decode(data).map_err(|_| format!("the data of layer `{digest}` is not base64"))?)
            }
            None => None,
        };
        let annotations = &descriptor["annotations"];
        Ok(Self {
            media_type: text(&descriptor["mediaType"]),
            title: text(&annotations[TITLE]),
            mode: text(&annotations["io.landfall.file.mode"]),
            digest,
            size,
            inline,
        })
    }

    /// Its bytes, verified.
    pub async fn fetch(&self, registries: &mut Registries, channel: &Channel) -> Result<Vec<u8>, Failed> {
        let bytes = match &self.inline {
            Some(bytes) => bytes.clone(),
            None => registries.blob(channel, &self.digest, self.size).await?,
        };
        if Digest::of(&bytes) == self.digest {
            return Ok(bytes);
        }
        let what = format!("blob `{}` of `{channel}` came with other content", self.digest);
        Err(Failed::new(Exit::Failed, what).next("see whether the registry is sound, then try again"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_release_is_told_from_what_is() {
        let layer = |size: u64| json!({ "mediaType": "t", "digest": Digest::of(b"x"), "size": size, "data": "eA==" });
        let of = |kind: &str, layers: Value| json!({ "artifactType": kind, "config": layer(2), "layers": layers });
        let image = json!({ "config": { "mediaType": "application/vnd.oci.image.config.v1+json" }, "layers": [] });
        for (manifest, word) in [
            (of(BUNDLE_TYPE, json!([layer(1)])), ""),
            (of(POINTER_TYPE, json!([layer(1)])), ""),
            (
                json!({ "config": { "mediaType": FALLBACK_CONFIG, "digest": Digest::of(b"{}"), "size": 2 }, "layers": [] }),
                "",
            ),
            (image, "it is `application/vnd.oci.image.config.v1+json`"),
            (json!({ "manifests": [] }), "nothing known"),
            (of(BUNDLE_TYPE, json!(vec![layer(1); 65])), "65 layers"),
            (of(BUNDLE_TYPE, json!(vec![layer(1 << 20); 17])), "bytes, and"),
            (of(BUNDLE_TYPE, json!([layer((1 << 20) + 1)])), "more than"),
            (of(BUNDLE_TYPE, json!([{ "digest": "md5:1", "size": 1 }])), "a layer"),
        ] {
            let parsed = Published::parse(manifest.to_string().as_bytes());
            match (parsed, word) {
                (Ok(_), "") => {}
                (Err(why), word) if !word.is_empty() => assert!(why.contains(word), "no `{word}`: {why}"),
                (parsed, _) => panic!("{manifest}: {parsed:?}"),
            }
        }
    }
}
