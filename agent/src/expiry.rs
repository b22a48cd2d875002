//! When the credentials of an app's registries end, for `status`: a machine whose credential has ended serves on and gets nothing
//! new, which nobody notices until a release is missed. Only some credentials say so themselves (JSON web tokens); of the others
//! nothing is shown. What is read is told by its date, never by its content.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use landfall_core::config::{App, Settings};
use landfall_core::credential::registry_of;
use landfall_core::protocol::CredentialStatus;

/// From then on it is something to do.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Those of the channel's registry and of the images that run, as their files are now.
pub fn credentials<'a>(
    settings: &Settings,
    app: Option<&'a App>,
    images: impl Iterator<Item = &'a str>,
) -> Vec<CredentialStatus> {
    let channel = app.map(|app| app.channel.registry.as_str());
    let registries: BTreeSet<&str> = channel.into_iter().chain(images.map(registry_of)).collect();
    let ends = |registry: &str| {
        let known = settings.registries.get(registry)?;
        // What is wrong with the file is told by whoever needs it.
        let expires = known.read_credential(registry).ok()??.expires()?;
        Some(CredentialStatus {
            registry: registry.to_owned(),
            file: known.credential.as_ref()?.display().to_string(),
            secret: known.secret.as_ref().map(|of| of.secret.to_string()),
            expires: format!("{expires:.3}"),
        })
    };
    registries.into_iter().filter_map(ends).collect()
}

/// What a person should do about them.
pub fn to_do(credentials: &[CredentialStatus], now: Timestamp) -> Option<String> {
    let due = |credential: &CredentialStatus| {
        let CredentialStatus { registry, file, secret, expires } = credential;
        let at: Timestamp = expires.parse().ok()?;
        (at.duration_since(now) <= SOON).then(|| {
            let word = if at <= now { "expired" } else { "expires" };
            let place = match secret {
                Some(secret) => format!("the vault, as secret `{secret}`"),
                None => format!("`{file}`"),
            };
            format!("renew the credential of `{registry}` in {place}: it {word} at {at:.0}")
        })
    };
    let all: Vec<String> = credentials.iter().filter_map(due).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use landfall_core::config::Registry;

    use super::*;

    #[test]
    fn only_what_says_when_it_ends_is_shown_and_only_what_ends_soon_is_to_be_done() {
        let directory = tempfile::tempdir().unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1900000000}"#);
        let registry = |name: &str, text: &str| {
            let file = directory.path().join(name);
            std::fs::write(&file, text).unwrap();
            (name.to_owned(), Registry { credential: Some(file), ..Registry::default() })
        };
        let registries = [
            registry("a.example", &format!("bot:h.{claims}.s")),
            registry("b.example", "bot:ghp_abc"),
            registry("c.example", &format!("bot:h.{claims}.s")),
            registry("d.example", "garbled"),
        ];
        let settings = Settings { registries: registries.into(), ..Settings::default() };
        let images = ["a.example/api:1", "b.example/api:1", "d.example/api:1", "a.example/web:1", "nginx"];
        let found = credentials(&settings, None, images.into_iter());
        let file = directory.path().join("a.example").display().to_string();
        let (registry, expires) = ("a.example".to_owned(), "2030-03-17T17:46:40.000Z".to_owned());
        assert_eq!(found, [CredentialStatus { registry, file, secret: None, expires }], "of what this app uses, once");

        for (now, word) in [
            ("2030-03-10T17:46:39Z", None),
            ("2030-03-10T17:46:40Z", Some("it expires at 2030-03-17T17:46:40Z")),
            ("2030-03-17T17:46:40Z", Some("it expired at")),
            ("2040-01-01T00:00:00Z", Some("renew the credential of `a.example` in")),
        ] {
            let said = to_do(&found, now.parse().unwrap());
            assert_eq!(said.is_some(), word.is_some(), "{now}: {said:?}");
            assert!(word.is_none_or(|word| said.as_ref().unwrap().contains(word)), "{now}: {said:?}");
        }
    }
}
