//! Image references, as Docker reads them, without the regular expression of the usual crate (12 MB of memory for one
//! parse). Also the defaults of `${…}` in them: a variable without a default is the VM's, and unknown here.

use std::fmt;
use std::str::FromStr;

use landfall_core::config::Channel;
use landfall_core::ids::{Digest, printable};

/// The registry that a name without one means.
const DOCKER_HUB: &str = "docker.io";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Host and, where one is named, port.
    pub registry: String,
    /// The repository in it.
    pub repository: String,
    /// What in it.
    pub version: Version,
}

/// Which one of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// A tag, which moves.
    Tag(String),
    /// A digest, which does not. A tag beside it says nothing and is dropped.
    Digest(Digest),
}

/// Why a reference was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {rule}")]
pub struct InvalidImage {
    text: String,
    rule: String,
}

impl Image {
    /// `registry/repository@digest`.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl FromStr for Image {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let refuse = |rule: String| InvalidImage { text: printable(text, 120), rule };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|e| refuse(e.to_string()))?)),
            None => (text, None),
        };
        // Docker takes the first part for a host where it has a dot or a port, or is `localhost`.
        let full = match name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
            Some(_) => format!("{DOCKER_HUB}/{name}"),
            None => format!("{DOCKER_HUB}/library/{name}"),
        };
        let tagged = full.rsplit_once('/').is_some_and(|(_, last)| last.contains(':'));
        let full = if tagged { full } else { format!("{full}:latest") };
        let Channel { registry, repository, tag } = full
            .parse()
            .map_err(|_| refuse("expected `registry/repository:tag` or `registry/repository@sha256:…`".to_owned()))?;
        Ok(Self { registry, repository, version: digest.map_or(Version::Tag(tag), Version::Digest) })
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}/{}:{tag}", self.registry, self.repository),
            Version::Digest(digest) => f.write_str(&self.pinned(digest)),
        }
    }
}

/// `text` with `${NAME:-default}` and `${NAME-default}` replaced by their defaults and `$$` by `$`; the name of the
/// first variable that has none.
pub fn with_defaults(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            return Err(after[..end].to_owned());
        };
        let close = closing_brace(inner).ok_or_else(|| inner.to_owned())?;
        let (expression, tail) = (&inner[..close], &inner[close + 1..]);
        let end = expression.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(expression.len());
        let (name, operator) = expression.split_at(end);
        let default = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-'));
        out.push_str(&with_defaults(default.ok_or(name)?)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace closes that was opened just before `text`.
pub(crate) fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1_u32;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("nginx", Some("docker.io/library/nginx:latest".to_owned())),
            ("nginx:1.27", Some("docker.io/library/nginx:1.27".to_owned())),
            ("acme/api:v1", Some("docker.io/acme/api:v1".to_owned())),
            ("ghcr.io/acme/api", Some("ghcr.io/acme/api:latest".to_owned())),
            ("localhost/api:v1", Some("localhost/api:v1".to_owned())),
            ("127.0.0.1:5000/api:v1", Some("127.0.0.1:5000/api:v1".to_owned())),
            ("registry:5000/api", Some("registry:5000/api:latest".to_owned())),
            (&format!("ghcr.io/acme/api:v1@{digest}"), Some(format!("ghcr.io/acme/api@{digest}"))),
            (&format!("nginx@{digest}"), Some(format!("docker.io/library/nginx@{digest}"))),
            ("", None),
            ("Nginx", None),
            ("ghcr.io/acme/api:", None),
            ("ghcr.io/acme/api@sha256:00", None),
            ("https://ghcr.io/acme/api", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Image>().ok().map(|i| i.to_string()), expected, "{text}");
        }
    }

    #[test]
    fn only_defaults_are_filled_in() {
        let table = [
            ("api:v1", Ok("api:v1")),
            ("api:${TAG:-v1}", Ok("api:v1")),
            ("${R-ghcr.io}/api:${TAG:-${OTHER:-v2}}", Ok("ghcr.io/api:v2")),
            ("a$$b", Ok("a$b")),
            ("api:${TAG}", Err("TAG")),
            ("api:$TAG", Err("TAG")),
            ("api:${TAG:?say which}", Err("TAG")),
            ("api:${TAG:-${OTHER}}", Err("OTHER")),
            ("api:${TAG:+x}", Err("TAG")),
            ("api:${TAG", Err("TAG")),
        ];
        for (text, expected) in table {
            let got = with_defaults(text);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
