//! Names and identities. Each is parsed once at the edge; past that the type is the proof.
//!
//! Both identities (design: two, one function each) are a sha256 over a version line and sorted or ordered
//! plain lines, so that any tool can recompute them. No YAML is parsed for either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a name or id was refused. The text names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    value: String,
    rule: &'static str,
}

/// Lower-case hex of the sha256 of `bytes`: 64 digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Text from outside made safe for a terminal or the journal: control characters escaped, at most `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == max {
            out.push('…');
            break;
        }
        // Bidirectional overrides reorder what a person reads; they are escaped like control characters.
        if c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The whole text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { what: $what, value: printable(text, 80), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// An app: one Compose project on this VM, followed from one channel.
    AppName, "app name", "use 1 to 40 of `a-z`, `0-9` and `-`, and start with a letter or digit",
    |t| t.len() <= 40
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && t.bytes().next().is_some_and(|b| b != b'-')
);

text_type!(
    /// An OCI digest, `sha256:` and 64 hex digits. Other algorithms are refused.
    Digest, "digest", "expected `sha256:` and 64 lower-case hex digits",
    |t| t.strip_prefix("sha256:").is_some_and(is_hex64)
);

text_type!(
    /// What was published: sha256 over the release's layers. 64 hex digits; people see the first 12.
    ReleaseId, "release id", "expected 64 lower-case hex digits", is_hex64
);

text_type!(
    /// What will run: sha256 over the release and all that this VM adds to it. 64 hex digits; people see the first 12.
    DeploymentId, "deployment id", "expected 64 lower-case hex digits", is_hex64
);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", sha256_hex(bytes)))
    }

    /// The 64 hex digits without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl ReleaseId {
    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl DeploymentId {
    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// One line of a [`ReleaseId`]: a layer of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerLine<'a> {
    /// `compose`, `extends`, `env` or `file`.
    pub kind: &'a str,
    /// `0644` or `0755`; compose and env layers are `0644`.
    pub mode: &'a str,
    /// The layer's title, empty where it has none.
    pub title: &'a str,
    /// Of the layer's bytes.
    pub digest: &'a Digest,
}

/// The identity of a bundle, by its layers in manifest order. File layers count last and by title: their order says nothing.
pub fn release_id_of_bundle(layers: &[LayerLine<'_>]) -> ReleaseId {
    let (mut files, ordered): (Vec<_>, Vec<_>) = layers.iter().partition(|layer| layer.kind == "file");
    files.sort_by_key(|layer| layer.title);
    let lines =
        ordered.into_iter().chain(files).map(|l| format!("{} {} {} {}", l.kind, l.mode, l.title, l.digest.hex()));
    ReleaseId(identity("landfall-release-v1", lines))
}

/// The identity of a pointer document or a set of tags: `(service, digest)` pairs, in any order.
pub fn release_id_of_images<'a>(images: impl IntoIterator<Item = (&'a str, &'a Digest)>) -> ReleaseId {
    let mut lines: Vec<String> = images.into_iter().map(|(s, d)| format!("{s} {d}")).collect();
    lines.sort_unstable();
    ReleaseId(identity("landfall-release-v1", lines))
}

/// The identity of what will run. `lines` say all that the release does not: images, variables, profiles, caps.
/// They are sorted here.
pub fn deployment_id(release: &ReleaseId, mut lines: Vec<String>) -> DeploymentId {
    lines.sort_unstable();
    lines.insert(0, format!("release {release}"));
    DeploymentId(identity("landfall-deployment-v1", lines))
}

fn identity(version: &str, lines: impl IntoIterator<Item = String>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(version.as_bytes());
    hasher.update(b"\n");
    for line in lines {
        // A line break inside a line would let two different releases share an identity.
        hasher.update(line.replace('\\', "\\\\").replace('\n', "\\n").as_bytes());
        hasher.update(b"\n");
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_are_compose_project_names() {
        for good in ["web", "a", "0", "pr-42", &"x".repeat(40)] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "-web", "Web", "we_b", "a/b", "..", &"x".repeat(41), "wéb"] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_other_than_sha256_are_refused() {
        assert!("sha512:00".parse::<Digest>().is_err());
        assert!(format!("sha256:{}", "A".repeat(64)).parse::<Digest>().is_err());
        assert_eq!(Digest::of(b"").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    /// A golden: these identities are a contract, a change here breaks every VM in the field.
    #[test]
    fn identities_do_not_move() {
        let digest = Digest::of(b"services: {}\n");
        let line = LayerLine { kind: "compose", mode: "0644", title: "compose.yaml", digest: &digest };
        let release = release_id_of_bundle(std::slice::from_ref(&line));
        let by_hand = format!("landfall-release-v1\ncompose 0644 compose.yaml {}\n", digest.hex());
        assert_eq!(release.as_str(), sha256_hex(by_hand.as_bytes()));
        let deployment = deployment_id(&release, vec!["var B=2".into(), "var A=1".into()]);
        let by_hand = format!("landfall-deployment-v1\nrelease {release}\nvar A=1\nvar B=2\n");
        assert_eq!(deployment.as_str(), sha256_hex(by_hand.as_bytes()));
    }

    #[test]
    fn the_order_of_files_is_not_in_the_identity_and_that_of_documents_is() {
        let digest = Digest::of(b"");
        let id = |layers: [(&str, &str); 4]| {
            let line = |(kind, title)| LayerLine { kind, mode: "0644", title, digest: &digest };
            release_id_of_bundle(&layers.map(line))
        };
        let one = id([("compose", "b"), ("env", "a"), ("file", "c"), ("file", "d")]);
        assert_eq!(one, id([("file", "d"), ("compose", "b"), ("file", "c"), ("env", "a")]));
        assert_ne!(one, id([("env", "a"), ("compose", "b"), ("file", "c"), ("file", "d")]));
    }

    #[test]
    fn a_line_break_in_a_title_cannot_forge_a_line() {
        let d = Digest::of(b"");
        let forged = format!("a {}\nfile 0644 b", d.hex());
        let one = release_id_of_bundle(&[LayerLine { kind: "file", mode: "0644", title: &forged, digest: &d }]);
        let two = release_id_of_bundle(&[
            LayerLine { kind: "file", mode: "0644", title: "a", digest: &d },
            LayerLine { kind: "file", mode: "0644", title: "b", digest: &d },
        ]);
        assert_ne!(one, two);
    }

    #[test]
    fn untrusted_text_is_escaped_and_capped() {
        assert_eq!(printable("a\x1b[31m\nb", 80), "a\\u{1b}[31m\\nb");
        assert_eq!(printable("\u{202e}x", 80), "\\u{202e}x");
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
