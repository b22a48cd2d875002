//! The release id of what a channel has, whoever published it: what the watcher computes from the same manifest. Pure. Where the
//! watcher would refuse the manifest there is none.

use std::collections::BTreeMap;

use landfall_core::ids::{Digest, LayerLine, ReleaseId, release_id_of_bundle, release_id_of_images};
use serde::Deserialize;
use serde_json::Value;

use crate::manifest::{COMPOSE_TYPE, EMPTY_TYPE, ENV_TYPE, FILE_TYPE, POINTER_TYPE, TITLE};

const COMPOSE_FILE: &str = "com.docker.compose.file";
const COMPOSE_ENV_FILE: &str = "com.docker.compose.envfile";
const COMPOSE_EXTENDS: &str = "com.docker.compose.extends";
const FILE_MODE: &str = "io.landfall.file.mode";

/// A layer as it counts.
struct Line {
    kind: &'static str,
    mode: &'static str,
    title: String,
    digest: Digest,
}

impl Line {
    fn counted(&self) -> LayerLine<'_> {
        LayerLine { kind: self.kind, mode: self.mode, title: &self.title, digest: &self.digest }
    }
}

/// The identity of a manifest; `contents` are those of its layers.
pub fn of_manifest(manifest: &Value, contents: &[Vec<u8>]) -> Option<ReleaseId> {
    let declared = manifest["artifactType"].as_str().filter(|text| !text.is_empty());
    let layers = manifest["layers"].as_array()?.iter().zip(contents);
    let mut layers = layers.filter(|(layer, _)| layer["mediaType"] != EMPTY_TYPE);
    if declared.or(manifest["config"]["mediaType"].as_str()) == Some(POINTER_TYPE) {
        return of_pointer(layers.next()?.1);
    }
    let lines = layers.map(|(layer, _)| line(layer)).collect::<Option<Vec<Line>>>()?;
    Some(release_id_of_bundle(&lines.iter().map(Line::counted).collect::<Vec<_>>()))
}

fn line(layer: &Value) -> Option<Line> {
    let annotation = |key: &str| layer["annotations"][key].as_str();
    let named = |key: &str| annotation(key).or_else(|| annotation(TITLE)).unwrap_or_default().to_owned();
    let (kind, mode, title) = match layer["mediaType"].as_str()? {
        COMPOSE_TYPE if annotation(COMPOSE_EXTENDS).is_some() => ("extends", "0644", named(COMPOSE_FILE)),
        COMPOSE_TYPE => ("compose", "0644", named(COMPOSE_FILE)),
        ENV_TYPE => ("env", "0644", named(COMPOSE_ENV_FILE)),
        FILE_TYPE => ("file", if annotation(FILE_MODE) == Some("0755") { "0755" } else { "0644" }, named(TITLE)),
        _ => return None,
    };
    Some(Line { kind, mode, title, digest: layer["digest"].as_str()?.parse().ok()? })
}

fn of_pointer(document: &[u8]) -> Option<ReleaseId> {
    #[derive(Deserialize)]
    struct Document {
        images: BTreeMap<String, String>,
    }
    let Document { images } = serde_json::from_slice(document).ok()?;
    let digest = |image: &str| image.split_once('@')?.1.parse::<Digest>().ok();
    let digests = images.iter().map(|(service, image)| Some((service.as_str(), digest(image)?)));
    let digests = digests.collect::<Option<Vec<_>>>()?;
    Some(release_id_of_images(digests.iter().map(|(service, digest)| (*service, digest))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bundle::{Bundle, Kind, Layer};
    use crate::manifest::{Publication, of_bundle, of_pointer as manifest_of_pointer, pointer};

    #[test]
    fn what_we_publish_is_known_again() {
        let layer =
            |kind, title: &str, executable| Layer { kind, title: title.into(), executable, bytes: title.into() };
        let layers = vec![
            layer(Kind::Compose, "compose.yaml", false),
            layer(Kind::Env, "web.env", false),
            layer(Kind::File, "a/run", true),
            layer(Kind::File, "b.conf", false),
        ];
        let channel = "ghcr.io/acme/deploy:prod".parse().expect("a channel");
        let publication = Publication { channel: &channel, sequence: 7, annotations: BTreeMap::new() };
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).expect("JSON");
        let mut manifest = read(of_bundle(&layers, &publication));
        let id = Bundle { layers }.release_id();
        let contents = vec![Vec::new(); 5];
        assert_eq!(of_manifest(&manifest, &contents), Some(id.clone()));
        // As stock tools have it: another order of files, layers that are empty.
        let listed = manifest["layers"].as_array_mut().expect("layers");
        listed.swap(2, 3);
        listed.push(json!({ "mediaType": EMPTY_TYPE, "digest": Digest::of(b"{}"), "size": 2 }));
        assert_eq!(of_manifest(&manifest, &contents), Some(id));
        manifest["layers"][0]["mediaType"] = json!("text/plain");
        assert_eq!(of_manifest(&manifest, &contents), None);

        let digest = Digest::of(b"image");
        let document = pointer(&BTreeMap::from([("api".to_owned(), format!("r/a@{digest}"))]), &BTreeMap::new());
        let manifest = read(manifest_of_pointer(&document, &publication));
        assert_eq!(
            of_manifest(&manifest, std::slice::from_ref(&document)),
            Some(release_id_of_images([("api", &digest)]))
        );
        assert_eq!(of_manifest(&manifest, &[b"{}".to_vec()]), None);
    }
}
