//! `registries`: how a registry is spoken to, and who we are to it: by a file, or by a secret in a vault, of which the fetcher
//! makes a file.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::values::{InvalidValue, checked};
use super::vaults::Vaults;
use super::written::{AbsoluteFile, replace};
use crate::credential::{Credential, CredentialError};
use crate::layout::Layout;
use crate::secrets::SecretReference;

/// How a registry is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registry {
    /// Without TLS. Loopback registries are anyway: ask [`super::Settings::plain_http`].
    pub plain_http: bool,
    /// The file that says who we are to it; see [`crate::credential`]. With `secret` it is the one that the fetcher writes.
    #[serde(default)]
    pub credential: Option<PathBuf>,
    /// Where what is in that file comes from, if it comes from a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<RegistrySecret>,
    /// PEM certificates that vouch for it, in place of the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// A credential in a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySecret {
    /// Whose it is.
    pub username: String,
    /// Where the password or token is.
    pub secret: SecretReference,
}

impl Registry {
    /// Who we are to this registry, as its file has it now; none where the settings name no credential.
    pub fn read_credential(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(path) = &self.credential else { return Ok(None) };
        match (Credential::read(path, host), &self.secret) {
            (Err(CredentialError::Unreadable { source, .. }), Some(of)) if source.kind() == io::ErrorKind::NotFound => {
                Err(CredentialError::Awaited { registry: host.to_owned(), secret: of.secret.clone() })
            }
            (read, _) => read.map(Some),
        }
    }

    /// Where a person changes the credential.
    pub fn credential_place(&self) -> Option<String> {
        let path = self.credential.as_ref()?;
        Some(
            self.secret
                .as_ref()
                .map_or_else(|| format!("`{}`", path.display()), |of| format!("the vault, as secret `{}`", of.secret)),
        )
    }

    /// Its file, where the fetcher writes it.
    pub(super) fn place(&mut self, host: &str, layout: &Layout) {
        if self.secret.is_some() {
            self.credential = Some(layout.registry_credential(host));
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRegistry {
    plain_http: Option<bool>,
    credential: Option<AbsoluteFile>,
    username: Option<Username>,
    secret: Option<Reference>,
    ca: Option<AbsoluteFile>,
}

impl WrittenRegistry {
    pub(super) fn merge(&mut self, over: Self) {
        replace(&mut self.plain_http, over.plain_http);
        replace(&mut self.credential, over.credential);
        replace(&mut self.username, over.username);
        replace(&mut self.secret, over.secret);
        replace(&mut self.ca, over.ca);
    }

    pub(super) fn settle(self, host: &str, vaults: &Vaults) -> Result<Registry, String> {
        let secret = match (self.username, self.secret) {
            (None, None) => None,
            (Some(username), Some(secret)) => Some(RegistrySecret { username: username.0, secret: secret.0 }),
            (None, Some(_)) => {
                return Err(format!(
                    "`registries.{host}` has a `secret` and no `username`; add whose password or token it is"
                ));
            }
            (Some(_), None) => {
                return Err(format!(
                    "`registries.{host}` has a `username` and no `secret`; add the name of its password or token in the vault, or remove it"
                ));
            }
        };
        if let Some(of) = &secret {
            if self.credential.is_some() {
                return Err(format!("`registries.{host}` has a `credential` and a `secret`: keep the one that it is"));
            }
            is_in_a_vault(&of.secret, vaults).map_err(|problem| format!("`registries.{host}.secret` {problem}"))?;
        }
        Ok(Registry {
            plain_http: self.plain_http.unwrap_or(false),
            credential: self.credential.map(|file| file.0.into()),
            secret,
            ca: self.ca.map(|file| file.0.into()),
        })
    }
}

/// An error where the settings have no such vault. What `allow` says is for releases: a person wrote this.
pub(super) fn is_in_a_vault(secret: &SecretReference, vaults: &Vaults) -> Result<(), String> {
    let SecretReference { vault, .. } = secret;
    if vaults.contains_key(vault) {
        return Ok(());
    }
    Err(format!("is `{secret}`, and there is no vault `{vault}`; add `vaults.{vault}` with its `url`"))
}

checked! {
    Username(String) = parse_username;
    Reference(SecretReference) = parse_reference;
}

fn parse_reference(text: &str) -> Result<SecretReference, InvalidValue> {
    let rule = "expected `name`, `vault/name` or `name@version`; a name has letters, digits and `-`, at most 127";
    text.parse().map_err(|_| InvalidValue::new("secret", text, rule))
}

/// What stands before the first `:` of a credential file.
fn parse_username(text: &str) -> Result<String, InvalidValue> {
    let valid = !text.is_empty()
        && text.len() <= 256
        && text.trim() == text
        && !text.starts_with('{')
        && !text.chars().any(|c| c == ':' || c.is_control());
    let rule = "expected a name without `:`, at most 256 bytes, that does not begin with `{`";
    if valid { Ok(text.to_owned()) } else { Err(InvalidValue::new("user", text, rule)) }
}
