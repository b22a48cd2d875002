//! Any bytes as a manifest.

#![no_main]

use landfall_fuzz::{check_artifact, check_error};
use landfall_image_watcher::manifest::parse;
use landfall_image_watcher::release::identity;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let artifact = match parse(bytes) {
        Ok(artifact) => artifact,
        Err(error) => return check_error(&error),
    };
    check_artifact(&artifact);
    assert_eq!(parse(bytes).as_ref(), Ok(&artifact));
    // The same document with other white space and order of keys is the same release.
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let again = parse(value.to_string().as_bytes()).expect("only its writing is another");
        assert_eq!(again, artifact);
        assert_eq!(identity(&again), identity(&artifact));
    }
});
