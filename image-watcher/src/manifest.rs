//! A manifest's bytes become an [`Artifact`]: what kind of release it is and which layers make it. Pure, and all limits
//! are applied here, on what the manifest declares, before a single layer is fetched. Nothing here trusts a name.

use std::collections::BTreeMap;

use base64::Engine as _;
use landfall_core::ids::{Digest, printable};
use serde::Deserialize;

use crate::titles::{BadTitle, Claimed, Title};

/// No manifest is larger.
pub const MANIFEST_LIMIT: usize = 1 << 20;
/// No manifest has more layers.
const LAYERS_LIMIT: usize = 64;
/// Compose, extends and env layers, and pointer documents.
const DOCUMENT_LIMIT: u64 = 256 << 10;
/// File layers.
const FILE_LIMIT: u64 = 1 << 20;
/// All layers together.
const TOTAL_LIMIT: u64 = 16 << 20;

/// Media types of the two artifacts and their layers.
const BUNDLE: &str = "application/vnd.docker.compose.project";
const BUNDLE_CONFIG_1_0: &str = "application/vnd.docker.compose.config.empty.v1+json";
const POINTER: &str = "application/vnd.landfall.pointer.v1";
const COMPOSE_LAYER: &str = "application/vnd.docker.compose.file+yaml";
const ENV_LAYER: &str = "application/vnd.docker.compose.envfile";
const FILE_LAYER: &str = "application/vnd.landfall.file.v1";
const EMPTY_LAYER: &str = "application/vnd.oci.empty.v1+json";
/// How a container image's configuration is called.
const IMAGE_CONFIGS: &[&str] =
    &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Annotations that say what a layer is called.
const OCI_TITLE: &str = "org.opencontainers.image.title";
const COMPOSE_FILE: &str = "com.docker.compose.file";
const COMPOSE_ENV_FILE: &str = "com.docker.compose.envfile";
const COMPOSE_EXTENDS: &str = "com.docker.compose.extends";
const FILE_MODE: &str = "io.landfall.file.mode";

/// A release as its manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What kind, with its layers.
    pub kind: Kind,
    /// Of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The kinds of release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Compose files and what belongs to them, in manifest order.
    Bundle(Vec<Layer>),
    /// One JSON document.
    Pointer(Blob),
}

/// A layer of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is for.
    pub role: Role,
    /// Its content.
    pub blob: Blob,
}

/// What a layer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A document to merge, with the name that its publisher gave it (it is in the identity, and no path here).
    Compose(String),
    /// A file that compose documents extend.
    Extends(Title),
    /// An `env_file`.
    Env(Title),
    /// Any other file of the project.
    File {
        /// Where it lies in the project.
        title: Title,
        /// Whether its mode is 0755.
        executable: bool,
    },
}

/// Content by digest: to be fetched, or already here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Of the content.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// From the descriptor's `data`, size and digest checked.
    pub inline: Option<Vec<u8>>,
}

/// Why a manifest is not a release. All of these are final: the same bytes are wrong the next time too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// It does not parse.
    #[error("the manifest does not parse: {0}; publish it again")]
    Garbled(String),
    /// It is something else.
    #[error("the channel points at {0}; publish a release there with `landfall publish`")]
    NotARelease(String),
    /// It is larger than allowed.
    #[error("{what} has {size} {unit}, and at most {limit} are accepted; make the release smaller")]
    TooLarge {
        /// What of it.
        what: String,
        /// How large it says it is.
        size: u64,
        /// Of what.
        unit: &'static str,
        /// What is allowed.
        limit: u64,
    },
    /// A layer is wrong.
    #[error("layer {number}: {why}; publish the release again without it or with a newer tool")]
    Layer {
        /// From 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// A title is wrong.
    #[error("layer {number}: {rule}; rename that file in the project")]
    Title {
        /// From 1.
        number: usize,
        /// Which rule it breaks.
        rule: BadTitle,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<ConfigDescriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<serde::de::IgnoredAny>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDescriptor {
    #[serde(default)]
    media_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    data: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest.
pub fn parse(bytes: &[u8]) -> Result<Artifact, BadManifest> {
    at_most("the manifest", as_u64(bytes.len()), "bytes", as_u64(MANIFEST_LIMIT))?;
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| BadManifest::Garbled(printable(&error.to_string(), 200)))?;
    let is_bundle = is_bundle(&manifest)?;
    let layers = manifest.layers.unwrap_or_default();
    at_most("the manifest", as_u64(layers.len()), "layers", as_u64(LAYERS_LIMIT))?;
    let mut content: Vec<(usize, Descriptor)> =
        (1..).zip(layers).filter(|(_, l)| l.media_type != EMPTY_LAYER).collect();
    let total = content.iter().fold(0_u64, |sum, (_, layer)| sum.saturating_add(layer.size));
    at_most("the release", total, "bytes", TOTAL_LIMIT)?;
    let kind = if is_bundle {
        Kind::Bundle(bundle_layers(&content)?)
    } else {
        match (content.pop(), content.is_empty()) {
            (Some((number, layer)), true) => Kind::Pointer(pointer_blob(number, &layer)?),
            (last, _) => {
                let count = content.len() + usize::from(last.is_some());
                return Err(BadManifest::NotARelease(format!("a pointer with {count} documents in place of one")));
            }
        }
    };
    Ok(Artifact { kind, annotations: manifest.annotations.unwrap_or_default() })
}

/// Whether it is a bundle; else it is a pointer.
fn is_bundle(manifest: &Manifest) -> Result<bool, BadManifest> {
    let not = |what: &str| Err(BadManifest::NotARelease(what.to_owned()));
    let media_type = manifest.media_type.as_deref().unwrap_or_default();
    if manifest.manifests.is_some() || media_type.contains("manifest.list") || media_type.contains("image.index") {
        return not("an image index (a list of manifests), not a release");
    }
    if manifest.schema_version != 2 {
        return Err(BadManifest::Garbled("its `schemaVersion` is not 2".to_owned()));
    }
    let config = manifest.config.as_ref().map_or("", |config| config.media_type.as_str());
    // Absent or empty, the configuration's media type says what it is (OCI image specification).
    let declared = manifest.artifact_type.as_deref().filter(|text| !text.is_empty()).unwrap_or(config);
    match declared {
        BUNDLE | BUNDLE_CONFIG_1_0 => Ok(true),
        POINTER => Ok(false),
        _ if IMAGE_CONFIGS.contains(&declared) => not("a container image, not a release"),
        "" => not("an artifact without a type, not a release"),
        other => not(&format!("an artifact of type `{}`, not a release", printable(other, 120))),
    }
}

fn bundle_layers(content: &[(usize, Descriptor)]) -> Result<Vec<Layer>, BadManifest> {
    let mut claimed = Claimed::default();
    let mut layers = Vec::with_capacity(content.len());
    for (number, descriptor) in content {
        let number = *number;
        let (role, limit) = role(number, descriptor)?;
        match &role {
            Role::Compose(_) => {}
            Role::Extends(title) | Role::Env(title) | Role::File { title, .. } => {
                claimed.claim(title).map_err(|rule| BadManifest::Title { number, rule })?;
            }
        }
        layers.push(Layer { role, blob: blob(number, descriptor, limit)? });
    }
    if layers.iter().any(|layer| matches!(layer.role, Role::Compose(_))) {
        Ok(layers)
    } else {
        Err(BadManifest::NotARelease("a bundle without a compose file".to_owned()))
    }
}

fn role(number: usize, descriptor: &Descriptor) -> Result<(Role, u64), BadManifest> {
    let annotation = |key: &str| descriptor.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let title = |key: &str| {
        let text = annotation(key).or_else(|| annotation(OCI_TITLE)).unwrap_or_default();
        text.parse::<Title>().map_err(|rule| BadManifest::Title { number, rule })
    };
    match descriptor.media_type.as_str() {
        COMPOSE_LAYER if annotation(COMPOSE_EXTENDS).is_some() => {
            Ok((Role::Extends(title(COMPOSE_FILE)?), DOCUMENT_LIMIT))
        }
        COMPOSE_LAYER => {
            let name = annotation(COMPOSE_FILE).or_else(|| annotation(OCI_TITLE)).unwrap_or_default();
            Ok((Role::Compose(name.to_owned()), DOCUMENT_LIMIT))
        }
        ENV_LAYER => Ok((Role::Env(title(COMPOSE_ENV_FILE)?), DOCUMENT_LIMIT)),
        FILE_LAYER => {
            let executable = match annotation(FILE_MODE) {
                None | Some("0644") => false,
                Some("0755") => true,
                Some(other) => {
                    let why = format!("its mode is `{}`, and files are 0644 or 0755", printable(other, 40));
                    return Err(BadManifest::Layer { number, why });
                }
            };
            Ok((Role::File { title: title(OCI_TITLE)?, executable }, FILE_LIMIT))
        }
        other => {
            let why = format!("its type `{}` is not known here", printable(other, 120));
            Err(BadManifest::Layer { number, why })
        }
    }
}

fn pointer_blob(number: usize, descriptor: &Descriptor) -> Result<Blob, BadManifest> {
    if descriptor.media_type.ends_with("json") || descriptor.media_type == POINTER {
        return blob(number, descriptor, DOCUMENT_LIMIT);
    }
    let why = format!("a pointer document is JSON, not `{}`", printable(&descriptor.media_type, 120));
    Err(BadManifest::Layer { number, why })
}

fn blob(number: usize, descriptor: &Descriptor, limit: u64) -> Result<Blob, BadManifest> {
    let wrong = |why: String| BadManifest::Layer { number, why };
    let digest: Digest = descriptor.digest.parse().map_err(|error| wrong(format!("{error}")))?;
    at_most(&name(number, descriptor), descriptor.size, "bytes", limit)?;
    let inline = match descriptor.data.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|_| wrong("its inline data is not base64".to_owned()))?;
            if as_u64(bytes.len()) != descriptor.size || Digest::of(&bytes) != digest {
                return Err(wrong("its inline data is not what its digest and size say".to_owned()));
            }
            Some(bytes)
        }
    };
    Ok(Blob { digest, size: descriptor.size, inline })
}

/// What a person finds the layer by.
fn name(number: usize, descriptor: &Descriptor) -> String {
    let titles = [OCI_TITLE, COMPOSE_FILE, COMPOSE_ENV_FILE];
    let title = descriptor.annotations.as_ref().and_then(|all| titles.iter().find_map(|key| all.get(*key)));
    title.map_or_else(|| format!("layer {number}"), |title| format!("layer {number} (`{}`)", printable(title, 120)))
}

fn at_most(what: &str, size: u64, unit: &'static str, limit: u64) -> Result<(), BadManifest> {
    if size > limit { Err(BadManifest::TooLarge { what: what.to_owned(), size, unit, limit }) } else { Ok(()) }
}

fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
