//! The words of a values file, judged where they are read: those of landfall.yaml by the daemons' own reader, the rest by rules that lie here.

use landfall_core::config::Config;
use landfall_core::ids::printable;
use serde::Deserialize;
use serde_json::json;

/// The vault that a reference without a name means.
pub const DEFAULT_VAULT: &str = "default";

/// Texts that are judged where they are read.
macro_rules! judged {
    ($($name:ident = $judge:expr;)*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub String);

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let judge: fn(&str) -> Result<(), String> = $judge;
                judge(&text).map(|()| Self(text))
            }
        }
    )*};
}

judged! {
    RegistryHost = |t| settings(&json!({ "registries": { t: {} } }));
    Username = |t| settings(&json!({ "registries": { "ghcr.io": { "username": t } } }));
    SecretName = |t| settings(&json!({ "registries": { "ghcr.io": { "secret": t } } }));
    VaultUrl = |t| settings(&json!({ "vaults": { DEFAULT_VAULT: { "url": t } } }));
    Allowed = |t| settings(&json!({ "vaults": { DEFAULT_VAULT: { "allow": [t] } } }));
    Profile = |t| settings(&json!({ "apps": { "web": { "profiles": [t] } } }));
    Variable = |t| settings(&json!({ "apps": { "web": { "vars": { t: "" } } } }));
    Ports = |t| settings(&json!({ "previews": { "web": { "ports": t } } }));
    Memory = |t| settings(&json!({ "previews": { "web": { "caps": { "memory": t } } } }));
    TimeToLive = |t| settings(&json!({ "previews": { "web": { "ttl": t } } }));
    UnitName = |t| settings(&json!({ "units": { t: {} } }));
    CredentialId = |t| settings(&json!({ "units": { "x.service": { t: "x" } } }));
    UnitSecret = |t| settings(&json!({ "units": { "x.service": { "X": t } } }));
    PushUrl = |t| rule(is_push_url(t), "address to push to", t, "expected `https://` and a host, without a user; its password comes from the vault");
    RemoteUser = |t| rule(is_remote_user(t), "user", t, "use letters, digits, `_`, `.`, `-` and `@`");
    RoleName = |t| rule(is_role(t), "role", t, "use lower-case letters, digits and `-`");
    AdminName = |t| rule(is_admin(t), "name of an admin", t, "use lower-case letters, digits, `_` and `-`, and no name of a user or group that Debian or Landfall has");
    PlainText = plain_text;
    PublicKey = public_key;
}

/// What the daemons' reader says of a document with this value.
fn settings(document: &serde_json::Value) -> Result<(), String> {
    serde_json::from_value::<Config>(document.clone()).map(drop).map_err(|error| error.to_string())
}

fn rule(valid: bool, what: &str, text: &str, rule: &str) -> Result<(), String> {
    if valid { Ok(()) } else { Err(format!("`{}` is not a valid {what}: {rule}", printable(text, 80))) }
}

fn is_role(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 40
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Without what systemd or a shell would read as something else.
fn is_push_url(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"/:.-_~%?&=+[]".contains(&b);
    text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.bytes().all(letter)
}

fn is_remote_user(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-@".contains(&b);
    !text.is_empty() && text.len() <= 80 && text.bytes().all(letter)
}

/// Users and groups of the image. `useradd` makes nobody by the name of a group, cloud-init says so in its log, and nobody could log in.
const TAKEN: [&str; 49] = [
    "_ssh",
    "adm",
    "audio",
    "backup",
    "bin",
    "cdrom",
    "clock",
    "daemon",
    "dialout",
    "dip",
    "disk",
    "docker",
    "fax",
    "floppy",
    "games",
    "input",
    "irc",
    "kmem",
    "kvm",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "news",
    "nobody",
    "nogroup",
    "operator",
    "plugdev",
    "proxy",
    "render",
    "root",
    "sasl",
    "sgx",
    "shadow",
    "src",
    "sshd",
    "staff",
    "sudo",
    "sync",
    "sys",
    "tape",
    "tty",
    "users",
    "utmp",
    "uucp",
    "video",
    "voice",
    "www-data",
];

/// What `useradd` takes.
fn is_admin(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.len() <= 32
        && text.bytes().all(letter)
        && !TAKEN.contains(&text)
        && !["landfall", "systemd-"].iter().any(|prefix| text.starts_with(prefix))
}

/// What is shown in no error: it may be a secret that somebody put there.
fn plain_text(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')) {
        return Err("the value of a variable is one line of text without control characters".to_owned());
    }
    if text.contains("-----BEGIN") || has_password(text) {
        return Err("this has a secret in it, and user-data is no place for one; put it into the vault, and its name below `secrets:` \
                    of the compose file"
            .to_owned());
    }
    Ok(())
}

/// `scheme://user:password@host`.
fn has_password(text: &str) -> bool {
    let authority = |rest: &str| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    text.split("://").skip(1).map(authority).any(|authority| {
        authority
            .rsplit_once('@')
            .and_then(|(user, _)| user.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty())
    })
}

/// Not shown either, for people take the wrong file of the two.
fn public_key(text: &str) -> Result<(), String> {
    if text.contains("PRIVATE KEY") {
        return Err("this is a private key; write the line of its `.pub` file".to_owned());
    }
    let mut words = text.split(' ');
    let kind = words.next().unwrap_or_default();
    let kind =
        ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|known| kind.starts_with(known));
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let key = words.next().is_some_and(|key| key.starts_with("AAAA") && key.len() >= 64 && key.bytes().all(base64));
    if kind && key && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err("expected a public key as the line of a `.pub` file, `ssh-ed25519 AAAA… name`".to_owned())
    }
}
