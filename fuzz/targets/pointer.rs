//! Any bytes as a pointer document.

#![no_main]

use std::collections::BTreeMap;

use landfall_core::contract::StagedSource;
use landfall_core::ids::{Digest, ReleaseId, release_id_of_images};
use landfall_fuzz::{check_error, check_record, stage};
use landfall_image_watcher::manifest::{Artifact, Blob, Kind};
use landfall_image_watcher::release::{Staging, identity};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let staging = match staged(bytes) {
        Ok(staging) => staging,
        Err(error) => return check_error(&error),
    };
    assert!(staging.tree.is_empty() && staging.content.is_empty());
    check_record(&staging.record);
    let StagedSource::Pointer { images } = &staging.record.source else { panic!("a pointer became a bundle") };
    assert_eq!(staging.record.release, by_hand(images));
    // Written by us it is the same release.
    let document = json!({ "provenance": staging.record.provenance, "images": images, "format": 1 });
    let again = staged(document.to_string().as_bytes()).expect("what was accepted").record;
    assert_eq!((again.release, again.source), (staging.record.release, staging.record.source));
});

fn staged(bytes: &[u8]) -> Result<Staging, landfall_image_watcher::release::BadPointer> {
    let digest = Digest::of(bytes);
    let blob = Blob { digest: digest.clone(), size: bytes.len() as u64, inline: None };
    let artifact = Artifact { kind: Kind::Pointer(blob), annotations: BTreeMap::new() };
    assert_eq!(identity(&artifact), None);
    stage(&artifact, &BTreeMap::from([(digest, bytes.to_vec())]))
}

/// The identity in another order; every image is pinned and every service a plain name.
fn by_hand(images: &BTreeMap<String, String>) -> ReleaseId {
    assert!(!images.is_empty());
    let pinned: Vec<(&str, Digest)> =
        images.iter().rev().map(|(service, image)| (service.as_str(), digest(image))).collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    assert!(images.keys().all(|service| !service.is_empty() && service.len() <= 255 && service.chars().all(is_plain)));
    release_id_of_images(pinned.iter().map(|(service, digest)| (*service, digest)))
}

fn digest(image: &str) -> Digest {
    let (repository, digest) = image.split_once('@').expect("a pinned image");
    assert!(!repository.is_empty() && repository.chars().all(|c| c.is_ascii_graphic()));
    digest.parse().expect("a digest")
}
