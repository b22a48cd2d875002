//! Who the Engine is to a registry when it pulls for us: the credential of the settings, read anew for each image.

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use landfall_core::config::Settings;
use landfall_core::credential::{Credential, registry_of};

/// What goes with a request for this image; none where its registry has no credential in the settings.
pub fn login(settings: &Settings, image: &str) -> Result<Option<DockerCredentials>> {
    let registry = registry_of(image);
    let Some(known) = settings.registries.get(registry) else { return Ok(None) };
    let Some(Credential { username, password }) = known.read_credential(registry)? else { return Ok(None) };
    let login = DockerCredentials {
        username: Some(username),
        password: Some(password),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    // The library writes the header in the other alphabet of base64 than the Engine reads: with a `+` or `/` in it the Engine
    // would pull as nobody, without a word.
    if STANDARD.encode(serde_json::to_string(&login)?).contains(['+', '/']) {
        bail!(
            "the credential in {} cannot be handed to the Engine because of its special characters; use a token or a \
             password of letters, digits, `-` and `_`",
            known.credential_place().unwrap_or_default()
        );
    }
    Ok(Some(login))
}

#[cfg(test)]
mod tests {
    use landfall_core::config::Registry;

    use super::*;

    #[test]
    fn a_credential_is_for_its_registry_and_never_dropped_in_silence() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credential");
        let registry = Registry { credential: Some(file.clone()), ..Registry::default() };
        let registries = [("ghcr.io".to_owned(), registry)].into();
        let settings = Settings { registries, ..Settings::default() };
        assert_eq!(login(&settings, "docker.io/library/x").unwrap(), None);
        assert!(login(&settings, "ghcr.io/a/b:1").is_err_and(|error| format!("{error:#}").contains("cannot be read")));
        std::fs::write(&file, "bot:ghp_abc-123").unwrap();
        let found = login(&settings, "ghcr.io/a/b@sha256:00").unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("bot"), Some("ghp_abc-123")));
        let refused = (0..3).filter(|shift| {
            std::fs::write(&file, format!("bot:{}???", "a".repeat(*shift))).unwrap();
            login(&settings, "ghcr.io/a/b:1").is_err()
        });
        assert_eq!(refused.count(), 3, "`?` is a `/` in base64 at one of three places, and three of them are at all");
    }
}
