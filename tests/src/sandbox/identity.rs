//! Managed identities and the tokens that IMDS gives them. Pure: the time is a parameter.
//!
//! A token has the form of the real one (a JWT), so that a search for tokens in logs finds it; nobody could verify it, and
//! nobody but this module looks into it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landfall_core::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The directory that all identities belong to.
pub const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
/// What a token is good for, as Key Vault wants it, to the letter.
pub const VAULT_RESOURCE: &str = "https://vault.azure.net";
/// The life of a token unless a test says otherwise.
pub const TOKEN_LIFE_SECONDS: i64 = 86_400;

/// Whether it belongs to the VM or was assigned to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The VM's own.
    System,
    /// One of its own life.
    User,
}

/// An identity of the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// For tests and the log.
    pub name: String,
    /// Whose.
    pub kind: Kind,
    /// Also called application id.
    pub client_id: String,
    /// Also called principal id.
    pub object_id: String,
    /// The path of the resource.
    pub resource_id: String,
}

impl Identity {
    /// The VM's own, named `system`.
    pub fn system() -> Self {
        let path = "Microsoft.Compute/virtualMachines/vm";
        Self::new("system", Kind::System, path)
    }

    /// One that was assigned to the VM.
    pub fn user(name: &str) -> Self {
        Self::new(name, Kind::User, &format!("Microsoft.ManagedIdentity/userAssignedIdentities/{name}"))
    }

    fn new(name: &str, kind: Kind, path: &str) -> Self {
        let subscription = uuid("subscription");
        Self {
            name: name.to_owned(),
            kind,
            client_id: uuid(&format!("client {name}")),
            object_id: uuid(&format!("object {name}")),
            resource_id: format!("/subscriptions/{subscription}/resourceGroups/sandbox/providers/{path}"),
        }
    }
}

/// An id that is the same in every run.
fn uuid(of: &str) -> String {
    let hex = hex(of.as_bytes());
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
}

/// The sha256 in hex.
pub fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex().to_owned()
}

/// By which the log names a token.
pub fn fingerprint(token: &str) -> String {
    hex(token.as_bytes())[..12].to_owned()
}

/// What the sandbox knows of a token that it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the client shows.
    pub text: String,
    /// Whose: the name.
    pub identity: String,
    /// For which service.
    pub resource: String,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub expires_on: i64,
    is_revoked: bool,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Nobody gave it.
    Unknown,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// It is for another service.
    OtherResource,
}

/// All tokens that were given.
#[derive(Debug)]
pub struct Tokens {
    given: BTreeMap<String, Token>,
    /// Of the tokens to come.
    pub life_seconds: i64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { given: BTreeMap::new(), life_seconds: TOKEN_LIFE_SECONDS }
    }
}

impl Tokens {
    /// As IMDS does: the same again while more than half of its life is left, else a new one.
    pub fn give(&mut self, identity: &Identity, resource: &str, now: i64) -> Token {
        let fresh = |t: &&Token| t.identity == identity.name && t.resource == resource && !t.is_revoked;
        let lasts = |t: &&Token| t.not_before <= now && t.expires_on - now > (t.expires_on - t.not_before) / 2;
        if let Some(token) = self.given.values().find(|token| fresh(token) && lasts(token)) {
            return token.clone();
        }
        let expires_on = now + self.life_seconds;
        let claims = json!({
            "aud": resource, "iss": format!("https://sts.windows.net/{TENANT}/"), "iat": now, "nbf": now, "exp": expires_on,
            "appid": identity.client_id, "oid": identity.object_id, "tid": TENANT, "xms_mirid": identity.resource_id,
            // Makes each one another.
            "uti": self.given.len(),
        });
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed =
            format!("{}.{}", part(r#"{"typ":"JWT","alg":"RS256","kid":"sandbox"}"#), part(&claims.to_string()));
        let text = format!("{signed}.{}", part(&hex(signed.as_bytes())));
        let token = Token {
            text: text.clone(),
            identity: identity.name.clone(),
            resource: resource.to_owned(),
            not_before: now,
            expires_on,
            is_revoked: false,
        };
        self.given.insert(text, token.clone());
        token
    }

    /// From now on no token of this identity is taken; IMDS gives a new one.
    pub fn revoke(&mut self, identity: &str) {
        for token in self.given.values_mut().filter(|token| token.identity == identity) {
            token.is_revoked = true;
        }
    }

    /// The identity's name if Key Vault takes the token.
    pub fn judge(&self, text: &str, now: i64) -> Result<&Token, Unfit> {
        let token = self.given.get(text).ok_or(Unfit::Unknown)?;
        if token.is_revoked {
            Err(Unfit::Revoked)
        } else if token.expires_on <= now {
            Err(Unfit::Expired)
        } else if token.resource == VAULT_RESOURCE {
            Ok(token)
        } else {
            Err(Unfit::OtherResource)
        }
    }

    /// Whose it is, taken or not.
    pub fn owner(&self, text: &str) -> Option<&str> {
        self.given.get(text).map(|token| token.identity.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_well_formed_and_differ() {
        let one = Identity::user("one");
        assert_eq!(one.client_id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(one.client_id, one.object_id);
        assert_ne!(one.client_id, Identity::system().client_id);
        assert_eq!(one, Identity::user("one"));
    }

    #[test]
    fn a_token_is_given_again_for_half_of_its_life() {
        let (mut tokens, system) = (Tokens { life_seconds: 100, ..Tokens::default() }, Identity::system());
        let first = tokens.give(&system, VAULT_RESOURCE, 1000);
        assert_eq!(tokens.give(&system, VAULT_RESOURCE, 1049), first);
        let second = tokens.give(&system, VAULT_RESOURCE, 1050);
        assert_ne!(second.text, first.text);
        assert_eq!((second.not_before, second.expires_on), (1050, 1150));
        assert!(second.text.starts_with("eyJ"));
    }

    #[test]
    fn what_is_revoked_expired_or_for_another_service_is_not_taken() {
        let (mut tokens, system) = (Tokens::default(), Identity::system());
        let good = tokens.give(&system, VAULT_RESOURCE, 0).text;
        // With a slash it is another resource, to the real service too.
        let slash = tokens.give(&system, "https://vault.azure.net/", 0).text;
        assert_eq!(tokens.judge(&good, 86_399).unwrap().identity, "system");
        assert_eq!(tokens.judge(&good, 86_400), Err(Unfit::Expired));
        assert_eq!(tokens.judge(&slash, 0), Err(Unfit::OtherResource));
        assert_eq!(tokens.judge("eyJ", 0), Err(Unfit::Unknown));
        tokens.revoke("other");
        assert!(tokens.judge(&good, 0).is_ok());
        tokens.revoke("system");
        assert_eq!(tokens.judge(&good, 0), Err(Unfit::Revoked));
        assert_eq!(tokens.owner(&good), Some("system"));
        assert_ne!(tokens.give(&system, VAULT_RESOURCE, 0).text, good);
    }
}
