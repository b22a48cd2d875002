//! What must hold whatever a stranger sends: the invariants that the targets share. A broken one is a panic, which libFuzzer
//! takes for a crash and keeps the input of.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfall_core::contract::{self, Read, StagedRelease, StagedSource};
use landfall_core::ids::{AppName, Digest};
use landfall_core::publish::TEMPORARY;
use landfall_image_watcher::manifest::{Artifact, Blob, Kind, Layer, Role, parse};
use landfall_image_watcher::release::{Staging, assemble, identity};
use serde_json::{Value, json};

/// The limits of the artifact, as docs/architecture.md states them.
const LAYERS: usize = 64;
const DOCUMENT: u64 = 256 << 10;
const FILE: u64 = 1 << 20;
const TOTAL: u64 = 16 << 20;
/// Characters of an error: what it quotes of a stranger's text is cut, and escaping makes ten of one.
const ERROR: usize = 4000;
/// Characters of an annotation that is kept: 500, each escaped.
const ANNOTATION: usize = 5001;

/// An error is for a person's terminal, and for a journal that is not to be filled.
pub fn check_error(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(text.chars().count() <= ERROR, "{} characters", text.chars().count());
    check_printable(&text);
}

fn check_printable(text: &str) {
    let is_bad = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(is_bad), "{text:?}");
}

/// What is accepted is within the limits, its titles stay below the project, and written by us it is the same artifact.
pub fn check_artifact(artifact: &Artifact) {
    match &artifact.kind {
        Kind::Pointer(blob) => check_blob(blob, DOCUMENT),
        Kind::Bundle(layers) => {
            assert!(layers.len() <= LAYERS);
            assert!(layers.iter().any(|layer| matches!(layer.role, Role::Compose(_))));
            assert!(layers.iter().map(|layer| layer.blob.size).sum::<u64>() <= TOTAL);
            for layer in layers {
                check_blob(&layer.blob, if is_file(layer) { FILE } else { DOCUMENT });
            }
            check_paths(layers.iter().filter_map(title));
        }
    }
    assert_eq!(parse(written(artifact).to_string().as_bytes()).as_ref(), Ok(artifact));
}

fn check_blob(blob: &Blob, limit: u64) {
    assert!(blob.size <= limit);
    if let Some(bytes) = &blob.inline {
        assert_eq!((bytes.len() as u64, Digest::of(bytes)), (blob.size, blob.digest.clone()));
    }
}

/// Relative, nothing that climbs or hides, and none needs a name that another has.
fn check_paths<'a>(paths: impl Iterator<Item = &'a str>) {
    let mut files = BTreeSet::new();
    let mut directories = BTreeSet::new();
    for path in paths {
        assert!(path.len() <= 1024 + "project/".len() && !path.contains(char::is_control), "{path:?}");
        for part in path.split('/') {
            assert!(!matches!(part, "" | "." | "..") && part.len() <= 255 && !part.starts_with(TEMPORARY), "{path:?}");
        }
        directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        assert!(files.insert(path), "{path:?} twice");
    }
    assert!(files.is_disjoint(&directories), "{files:?}");
}

/// What is laid down of a bundle is all of its content, at safe paths; its identity is in its manifest, and the order of files
/// is not in it.
pub fn check_bundle(artifact: &Artifact, layers: &[Layer], content: &BTreeMap<Digest, Vec<u8>>) {
    let staging = stage(artifact, content).expect("a bundle whose manifest was accepted is never refused");
    assert_eq!(identity(artifact).as_ref(), Some(&staging.record.release));
    check_record(&staging.record);
    check_paths(staging.tree.iter().map(|file| file.path.as_str()));
    assert_eq!(staging.tree.len(), layers.len());
    for (file, layer) in staging.tree.iter().zip(layers) {
        assert!(file.path.starts_with("compose/") || file.path.starts_with("project/"));
        assert_eq!(Some(&file.bytes), content.get(&layer.blob.digest));
    }
    let StagedSource::Bundle { files, compose } = &staging.record.source else { panic!("a bundle became a pointer") };
    assert_eq!(
        files.len() + compose.len(),
        layers.iter().filter(|l| matches!(l.role, Role::Compose(_) | Role::File { .. })).count()
    );
    assert!(files.is_sorted_by(|a, b| a.title < b.title));

    let other = Artifact { kind: Kind::Bundle(files_turned_round(layers)), annotations: artifact.annotations.clone() };
    assert_eq!(stage(&other, content).expect("only the order is another").record, staging.record);
}

/// Puts an artifact together for an app.
pub fn stage(
    artifact: &Artifact,
    content: &BTreeMap<Digest, Vec<u8>>,
) -> Result<Staging, landfall_image_watcher::release::BadPointer> {
    let app: AppName = "web".parse().expect("a name");
    assemble(&app, artifact, content)
}

/// The record is what the agent will read.
pub fn check_record(record: &StagedRelease) {
    for (key, value) in &record.provenance {
        for text in [key, value] {
            check_printable(text);
            assert!(text.chars().count() <= ANNOTATION);
        }
    }
    let text = serde_json::to_vec(record).expect("it has JSON's types only");
    match contract::parse::<StagedRelease>(&text) {
        Read::Found(read) => assert_eq!(&read, record),
        other => panic!("{other:?}"),
    }
}

/// The file layers in the opposite order, the others where they are.
fn files_turned_round(layers: &[Layer]) -> Vec<Layer> {
    let mut files = layers.iter().filter(|layer| is_file(layer)).rev();
    let turned = layers.iter().map(|layer| if is_file(layer) { files.next().unwrap_or(layer) } else { layer });
    turned.cloned().collect()
}

fn is_file(layer: &Layer) -> bool {
    title(layer).is_some() && matches!(layer.role, Role::File { .. })
}

fn title(layer: &Layer) -> Option<&str> {
    match &layer.role {
        Role::Compose(_) => None,
        Role::Extends(title) | Role::Env(title) | Role::File { title, .. } => Some(title.as_str()),
    }
}

/// The artifact as a publisher would write it.
pub fn written(artifact: &Artifact) -> Value {
    let (kind, layers) = match &artifact.kind {
        Kind::Pointer(blob) => {
            ("application/vnd.landfall.pointer.v1", vec![descriptor("application/json", json!({}), blob)])
        }
        Kind::Bundle(layers) => ("application/vnd.docker.compose.project", layers.iter().map(layer).collect()),
    };
    json!({ "schemaVersion": 2, "artifactType": kind, "layers": layers, "annotations": artifact.annotations })
}

fn layer(layer: &Layer) -> Value {
    let compose = "application/vnd.docker.compose.file+yaml";
    let (media_type, annotations) = match &layer.role {
        Role::Compose(name) => (compose, json!({ "com.docker.compose.file": name })),
        Role::Extends(title) => {
            (compose, json!({ "com.docker.compose.file": title.as_str(), "com.docker.compose.extends": "true" }))
        }
        Role::Env(title) => {
            ("application/vnd.docker.compose.envfile", json!({ "com.docker.compose.envfile": title.as_str() }))
        }
        Role::File { title, executable } => {
            let mode = if *executable { "0755" } else { "0644" };
            let annotations =
                json!({ "org.opencontainers.image.title": title.as_str(), "io.landfall.file.mode": mode });
            ("application/vnd.landfall.file.v1", annotations)
        }
    };
    descriptor(media_type, annotations, &layer.blob)
}

fn descriptor(media_type: &str, annotations: Value, blob: &Blob) -> Value {
    let mut descriptor =
        json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size, "annotations": annotations });
    // Empty `data` is as good as none.
    if let Some(bytes) = &blob.inline {
        descriptor["data"] = json!(STANDARD.encode(bytes));
    }
    descriptor
}
