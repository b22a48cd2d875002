//! Who we are to a registry, from a file that may change at any moment. Nothing here shows a password.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::Deserialize;

use crate::secrets::SecretReference;

/// No such file is larger.
const LIMIT: u64 = 64 << 10;
/// The user that an Azure registry takes for an identity token.
pub const AZURE_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error(
        "the credential file `{path}` cannot be read: put one line `user:password` there, readable for Landfall's users"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something else.
    #[error(
        "`{path}` has no credential of `{registry}`: {why}; put one line `user:password` there, or what `docker login` writes"
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// For which registry.
        registry: String,
        /// What is wrong; never a part of the content.
        why: &'static str,
    },
    /// The fetcher has not written it yet.
    #[error(
        "waits for the registry's credential from the vault (secret `{secret}` for `{registry}`); see `landfall secrets` and `journalctl -u landfall-secrets-fetcher`"
    )]
    Awaited {
        /// For which registry.
        registry: String,
        /// Where it is.
        secret: SecretReference,
    },
}

impl Credential {
    /// Reads a file: one line `user:password`, or a Docker config file with the registry in `auths`.
    pub fn read(path: &Path, registry: &str) -> Result<Self, CredentialError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
            .map_err(|source| CredentialError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, registry).map_err(|why| CredentialError::Unusable {
            path: path.to_owned(),
            registry: registry.to_owned(),
            why,
        })
    }

    fn parse(text: &str, registry: &str) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct DockerConfig {
            auths: BTreeMap<String, AuthEntry>,
        }
        let text = text.trim();
        if !text.starts_with('{') {
            return match text.split_once(':') {
                _ if text.lines().count() > 1 => Err("it has several lines"),
                Some((username, password)) if !username.is_empty() && !password.is_empty() => {
                    Ok(Self { username: username.to_owned(), password: password.to_owned() })
                }
                Some(_) | None => Err("it is not `user:password`"),
            };
        }
        // The parser's error is not shown: it could hold a piece of the secret.
        let config: DockerConfig =
            serde_json::from_str(text).map_err(|_| "it begins with `{` and is not a Docker config file")?;
        AuthEntry::of(&config.auths, registry)
            .ok_or("its `auths` does not name that registry")?
            .credential(registry)?
            .ok_or("its entry for that registry is empty: a credential store is of no use to a daemon")
    }

    /// When it expires, where the password says so itself: a JSON web token with `exp`.
    pub fn expires(&self) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Claims {
            exp: i64,
        }
        let mut parts = self.password.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let claims = GeneralPurpose::new(&URL_SAFE, lenient()).decode(claims).ok()?;
        let Claims { exp } = serde_json::from_slice(&claims).ok()?;
        Timestamp::from_second(exp).ok()
    }

    /// The value of an `Authorization` header.
    pub fn basic(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

/// An entry of `auths` in a Docker config file.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl fmt::Debug for AuthEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthEntry").field("username", &self.username).finish_non_exhaustive()
    }
}

impl AuthEntry {
    /// The entry of a registry: the exact name first, for `auths` may hold several paths of one host.
    pub fn of<'a>(auths: &'a BTreeMap<String, Self>, registry: &str) -> Option<&'a Self> {
        let host = host_of(registry);
        auths.get(registry).or_else(|| auths.iter().find(|(key, _)| host_of(key) == host).map(|(_, entry)| entry))
    }

    /// What it says; none where it is empty, which means that a store has it.
    pub fn credential(&self, registry: &str) -> Result<Option<Credential>, &'static str> {
        if !self.identitytoken.is_empty() {
            return of_token(registry, &self.identitytoken).map(Some);
        }
        if self.auth.is_empty() {
            let both = !self.username.is_empty() && !self.password.is_empty();
            return Ok(both.then(|| Credential { username: self.username.clone(), password: self.password.clone() }));
        }
        let decoded = GeneralPurpose::new(&STANDARD, lenient()).decode(self.auth.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (username, password) = pair.ok_or("its `auth` cannot be decoded")?;
        Ok(Some(Credential { username: username.to_owned(), password: password.to_owned() }))
    }
}

/// An identity token as a password.
pub fn of_token(registry: &str, token: &str) -> Result<Credential, &'static str> {
    if host_of(registry).ends_with(".azurecr.io") {
        return Ok(Credential { username: AZURE_TOKEN_USER.to_owned(), password: token.to_owned() });
    }
    Err("it is an identity token, which only Azure registries take as a password")
}

/// The host that a key of a Docker config file means; all names of Docker Hub are one.
pub fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// The registry of an image reference: its first part where that is a host, else Docker Hub.
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) | None => "docker.io",
    }
}

fn lenient() -> GeneralPurposeConfig {
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(username: &str, password: &str) -> Credential {
        Credential { username: username.into(), password: password.into() }
    }

    #[test]
    fn a_file_is_one_line_or_what_docker_login_writes() {
        let docker = r#"{ "auths": { "ghcr.io": { "auth": "Ym90OnA6YSsv" }, "acme.azurecr.io": { "identitytoken": "t" },
            "https://index.docker.io/v1/": { "auth": "aHViOnB3" }, "u.example:5000": { "username": "u", "password": "p" },
            "bad.example": { "auth": "!" }, "store.example": {}, "token.example": { "identitytoken": "t" } }, "credsStore": "x" }"#;
        for (text, registry, expected) in [
            ("bot:p:a+/\n", "any", Ok(credential("bot", "p:a+/"))),
            ("bot", "any", Err("it is not `user:password`")),
            (":p", "any", Err("it is not `user:password`")),
            ("", "any", Err("it is not `user:password`")),
            ("a:b\nc:d", "any", Err("it has several lines")),
            ("{", "any", Err("it begins with `{` and is not a Docker config file")),
            (docker, "ghcr.io", Ok(credential("bot", "p:a+/"))),
            (docker, "docker.io", Ok(credential("hub", "pw"))),
            (docker, "u.example:5000", Ok(credential("u", "p"))),
            (docker, "acme.azurecr.io", Ok(credential(AZURE_TOKEN_USER, "t"))),
            (docker, "bad.example", Err("its `auth` cannot be decoded")),
            (docker, "none.example", Err("its `auths` does not name that registry")),
            (
                docker,
                "store.example",
                Err("its entry for that registry is empty: a credential store is of no use to a daemon"),
            ),
            (docker, "token.example", Err("it is an identity token, which only Azure registries take as a password")),
        ] {
            assert_eq!(Credential::parse(text, registry), expected, "{registry}: {text}");
        }
    }

    #[test]
    fn the_registry_of_an_image_is_its_first_part_where_that_is_a_host() {
        for (image, registry) in [
            ("ghcr.io/acme/api:1", "ghcr.io"),
            ("localhost/api", "localhost"),
            ("host:5000/api@sha256:00", "host:5000"),
            ("acme/api", "docker.io"),
            ("nginx:1", "docker.io"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }

    #[test]
    fn a_credential_says_when_it_expires_and_never_what_it_is() {
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1900000000}"#);
        let token = credential("bot", &format!("h.{claims}.s"));
        assert_eq!(token.expires(), Some("2030-03-17T17:46:40Z".parse().unwrap()));
        assert_eq!(credential("bot", "h.e.s").expires(), None);
        assert_eq!(credential("bot", "ghp_abc").expires(), None);
        let text = format!("{:?}", credential("bot", "hidden"));
        assert!(text.contains("bot") && !text.contains("hidden"), "{text}");
        assert_eq!(credential("Aladdin", "open sesame").basic(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
