//! A bundle from layers: what its manifest says is true of the content, so that the fuzzer gets past the digests and at the
//! titles. Layers are separated by 0x1e, the parts of one by 0x1f: kind, title, content.

#![no_main]

use std::collections::BTreeMap;

use landfall_core::ids::Digest;
use landfall_fuzz::{check_artifact, check_bundle, check_error};
use landfall_image_watcher::manifest::{Kind, parse};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const TITLE: &str = "org.opencontainers.image.title";

fuzz_target!(|bytes: &[u8]| {
    let mut content = BTreeMap::new();
    let layers: Vec<Value> = bytes.split(|byte| *byte == 0x1e).map(|record| layer(record, &mut content)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "artifactType": "application/vnd.docker.compose.project",
        "layers": layers,
        // A stranger's text is in the annotations too.
        "annotations": { "io.landfall.fuzz": String::from_utf8_lossy(bytes) },
    });
    let artifact = match parse(manifest.to_string().as_bytes()) {
        Ok(artifact) => artifact,
        Err(error) => return check_error(&error),
    };
    check_artifact(&artifact);
    match &artifact.kind {
        Kind::Bundle(layers) => check_bundle(&artifact, layers, &content),
        Kind::Pointer(_) => panic!("a bundle became a pointer"),
    }
});

fn layer(record: &[u8], content: &mut BTreeMap<Digest, Vec<u8>>) -> Value {
    let mut parts = record.splitn(3, |byte| *byte == 0x1f).map(<[u8]>::to_vec);
    let kind = parts.next().unwrap_or_default();
    let title = String::from_utf8_lossy(&parts.next().unwrap_or_default()).into_owned();
    let bytes = parts.next().unwrap_or_default();
    let digest = Digest::of(&bytes);
    let size = bytes.len();
    content.insert(digest.clone(), bytes);
    let compose = "application/vnd.docker.compose.file+yaml";
    let file = "application/vnd.landfall.file.v1";
    let (media_type, annotations) = match kind.as_slice() {
        b"compose" => (compose, json!({ TITLE: title })),
        b"extends" => (compose, json!({ "com.docker.compose.file": title, "com.docker.compose.extends": "true" })),
        b"env" => ("application/vnd.docker.compose.envfile", json!({ "com.docker.compose.envfile": title })),
        b"file" => (file, json!({ TITLE: title })),
        mode => (file, json!({ TITLE: title, "io.landfall.file.mode": String::from_utf8_lossy(mode) })),
    };
    json!({ "mediaType": media_type, "digest": digest, "size": size, "annotations": annotations })
}
