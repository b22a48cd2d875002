//! Any text as the `WWW-Authenticate` headers of an answer, one a line, and any bytes as the answer of a token service.

#![no_main]

use std::time::Duration;

use landfall_image_watcher::registry::challenge::{Challenge, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(token) = Token::parse(bytes) {
        assert!(!token.value.is_empty() && token.value.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(token.lives <= Duration::from_hours(12));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let challenge = Challenge::of(text.lines());
    // What can be met is found behind anything, and never replaces what came first.
    let with = |last| Challenge::of(text.lines().chain([last]));
    assert_eq!(with("Basic"), challenge.clone().or(Some(Challenge::Basic)));
    if !matches!(challenge, Some(Challenge::Bearer { .. })) {
        let bearer = Challenge::Bearer { realm: "r".to_owned(), service: None, scope: None };
        assert_eq!(with("Bearer realm=r"), Some(bearer));
    }
    if let Some(Challenge::Bearer { realm, service, scope }) = &challenge {
        let parts = [Some(realm), service.as_ref(), scope.as_ref()];
        assert!(parts.iter().flatten().map(|part| part.len()).sum::<usize>() < bytes.len());
        // Written by us, in another order, it is the same.
        let keys = ["realm", "service", "scope"].iter().zip(parts).rev();
        let written: Vec<String> = keys.filter_map(|(key, part)| Some(format!("{key}={}", quoted(part?)))).collect();
        assert_eq!(Challenge::of([format!("Bearer {}", written.join(", ")).as_str()].into_iter()), challenge);
    }
});

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
