//! How the watcher gets in where a registry wants to know who asks: which requests that costs, what is shown to whom.

mod support;

use landfall_core::config::{Channel, Registry, Settings};
use landfall_core::ids::Digest;
use landfall_image_watcher::manifest::Blob;
use landfall_image_watcher::registry::{AskError, Registries};
use support::Bundle;
use support::fake::{Fake, Says};

const SCOPE: &str = "/token?service=a%20b&scope=repository%3Adeploy%3Apull";

fn bundle() -> Bundle {
    Bundle::new("services: { a: {} }\n")
}

/// The registry with a bundle, its settings and channel. The credential, where there is one, is `bot:p`.
fn registries(fake: &Fake, credential: Option<&std::path::Path>) -> (Registries, Channel) {
    let registry = Registry { credential: credential.map(Into::into), ..Registry::default() };
    let settings = Settings { registries: [(fake.address.clone(), registry)].into(), ..Settings::default() };
    (Registries::new(&settings), fake.channel().parse().unwrap())
}

fn wants_token(fake: &Fake, token: &str) {
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"a b\"", fake.address);
    fake.wants(&format!("Bearer {token}"), &challenge);
}

fn paths(fake: &Fake) -> Vec<String> {
    fake.shown().into_iter().map(|(path, _)| path).collect()
}

#[tokio::test]
async fn a_token_is_fetched_once_kept_and_fetched_anew_when_refused() {
    let fake = Fake::start();
    let digest = fake.serve_bundle(&bundle());
    wants_token(&fake, "t1");
    fake.says_at("/token", Says::ok(br#"{"token":"t1","expires_in":300}"#));
    let (registries, channel) = registries(&fake, None);
    for _ in 0..3 {
        assert_eq!(registries.head(&channel).await, Ok(Some(digest.clone())));
    }
    let head = "/v2/deploy/manifests/prod";
    assert_eq!(paths(&fake), [head, SCOPE, head, head, head], "one request a poll once the token is there");

    wants_token(&fake, "t2");
    fake.says_at("/token", Says::ok(br#"{"access_token":"t2"}"#));
    assert_eq!(registries.head(&channel).await, Ok(Some(digest)));
    assert_eq!(paths(&fake)[5..], [head, SCOPE, head], "evicted by its 401");
    assert_eq!(fake.shown()[7].1.as_deref(), Some("Bearer t2"));
}

/// As ghcr.io does: each 401 names the scope of its repository.
#[tokio::test]
async fn two_repositories_of_one_registry_keep_a_token_each() {
    let fake = Fake::start();
    let challenge = |repository: &str| {
        let realm = format!("http://{}/token", fake.address);
        format!("Bearer realm=\"{realm}\",service=\"r\",scope=\"repository:{repository}:pull\"")
    };
    let (registries, channel) = registries(&fake, None);
    let other: Channel = format!("{}/other:prod", fake.address).parse().unwrap();
    fake.says_at("/token", Says::ok(br#"{"token":"t","expires_in":300}"#));
    let digest = fake.serve_bundle(&bundle());
    fake.says_at("/v2/other/manifests/prod", Says::ok(b"").header("Docker-Content-Digest", digest.as_str()));
    for (channel, repository) in [(&channel, "deploy"), (&other, "other")] {
        // The second is not asked for the first's scope: its own request has no token yet.
        fake.wants("Bearer t", &challenge(repository));
        assert_eq!(registries.head(channel).await, Ok(Some(digest.clone())));
    }
    let before = paths(&fake).len();
    for _ in 0..3 {
        for channel in [&channel, &other] {
            assert_eq!(registries.head(channel).await, Ok(Some(digest.clone())));
        }
    }
    let after = paths(&fake).split_off(before);
    assert!(after.iter().all(|path| path.starts_with("/v2/")) && after.len() == 6, "{after:?}");
    let asked: Vec<String> = paths(&fake).into_iter().filter(|path| path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].ends_with("scope=repository%3Adeploy%3Apull"), "{asked:?}");
    assert!(asked[1].ends_with("scope=repository%3Aother%3Apull"), "{asked:?}");
}

#[tokio::test]
async fn the_credential_goes_to_the_token_service_and_a_wrong_one_rests() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credential");
    std::fs::write(&file, "bot:p").unwrap();
    let fake = Fake::start();
    let digest = fake.serve_bundle(&bundle());
    wants_token(&fake, "t1");
    fake.says_at("/token", Says::ok(br#"{"token":"t1","expires_in":0}"#));
    let (registries, channel) = registries(&fake, Some(&file));
    assert_eq!(registries.head(&channel).await, Ok(Some(digest)));
    let basic = Some("Basic Ym90OnA=".to_owned());
    assert_eq!(fake.shown()[1], (SCOPE.to_owned(), basic));

    fake.says_at("/token", Says::status(401));
    let before = paths(&fake).len();
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(registries.head(&channel).await.unwrap_err().to_string());
    }
    assert_eq!(paths(&fake).len(), before + 1, "it is shown once and then rests");
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
    for word in ["user `bot`", &file.display().to_string(), "is not accepted any more", "it was last at 20"] {
        assert!(said[0].contains(word), "no `{word}`: {}", said[0]);
    }
    assert!(!registries.credentials_changed());
    std::fs::write(&file, "bot:better").unwrap();
    assert!(registries.credentials_changed());
    assert!(registries.head(&channel).await.is_err());
    assert_eq!(paths(&fake).len(), before + 3, "another credential is tried at once, where the registry now wants it");
}

#[tokio::test]
async fn a_registry_that_never_lets_us_in_is_asked_twice() {
    let fake = Fake::start();
    fake.serve_bundle(&bundle());
    wants_token(&fake, "another");
    fake.says_at("/token", Says::ok(br#"{"token":"t1"}"#));
    let (registries, channel) = registries(&fake, None);
    let error = registries.head(&channel).await.unwrap_err();
    assert!(matches!(&error, AskError::Denied { why, .. } if why.contains("no credential is set")), "{error}");
    assert_eq!(paths(&fake).len(), 3, "{:?}", paths(&fake));
}

#[tokio::test]
async fn what_gets_us_in_is_shown_to_nobody_else() {
    let (fake, store) = (Fake::start(), Fake::start());
    let content = b"services: { a: {} }\n";
    let digest = Digest::of(content);
    let path = format!("blobs/{digest}");
    fake.says(&path, Says::status(307).header("Location", format!("http://{}/stored?signed=x", store.address)));
    store.says_at("/stored", Says::ok(content));
    wants_token(&fake, "t1");
    fake.says_at("/token", Says::ok(br#"{"token":"t1","expires_in":300}"#));
    let plain = Registry { plain_http: true, ..Registry::default() };
    let settings = Settings { registries: [(store.address.clone(), plain)].into(), ..Settings::default() };
    let registries = Registries::new(&settings);
    let channel: Channel = fake.channel().parse().unwrap();
    let blob = Blob { digest, size: content.len() as u64, inline: None };
    assert_eq!(registries.blob(&channel, &blob).await, Ok(content.to_vec()));
    assert_eq!(store.shown(), [("/stored?signed=x".to_owned(), None)]);
}

#[tokio::test]
async fn a_token_service_that_is_no_good_is_told() {
    let fake = Fake::start();
    fake.serve_bundle(&bundle());
    for (realm, answer, word) in [
        ("ftp://x/token", Says::status(404), "is not reached by TLS"),
        ("http://127.0.0.1:1/token", Says::status(404), "is not reached by TLS"),
        ("", Says::ok(b"<html>"), "sent no token"),
        ("", Says::status(302), "answered 302"),
        ("", Says::status(503), "answered 503"),
        ("", Says::ok(&vec![b'x'; 70_000]), "sent no whole answer"),
    ] {
        let realm = if realm.is_empty() { format!("http://{}/token", fake.address) } else { realm.to_owned() };
        fake.wants("Bearer t", &format!("Bearer realm=\"{realm}\""));
        fake.says_at("/token", answer);
        let (registries, channel) = registries(&fake, None);
        let error = registries.head(&channel).await.unwrap_err().to_string();
        assert!(error.contains(word), "{realm}: no `{word}`: {error}");
    }
}
