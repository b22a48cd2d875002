//! A channel: a tag in a registry, always with the registry's host, so that nothing is looked up where nobody meant.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::values::InvalidValue;
use crate::ids::{Digest, printable};

/// What is followed: `registry/repository:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel {
    /// Host and, where one is named, port.
    pub registry: String,
    /// The repository in it.
    pub repository: String,
    /// The tag in that.
    pub tag: String,
}

/// Where Docker looks for an image whose name has no host.
const DOCKER_HUB: &str = "docker.io";
/// The machine that answers for it.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

impl Channel {
    /// The tag that an image of a compose file names, by Docker's rules for short names; none where it names a digest. A name
    /// without a tag means `latest`.
    pub fn of_image(reference: &str) -> Option<Self> {
        let (registry, rest) = match reference.split_once('/') {
            Some((host, rest)) if is_registry(host) => (host.to_owned(), rest.to_owned()),
            Some(_) => (DOCKER_HUB.to_owned(), reference.to_owned()),
            None => (DOCKER_HUB.to_owned(), format!("library/{reference}")),
        };
        let tag = if rest.rsplit('/').next().is_some_and(|name| name.contains(':')) { "" } else { ":latest" };
        format!("{registry}/{rest}{tag}").parse().ok()
    }

    /// The host (and port) that is asked: what it is called, but for Docker Hub.
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry }
    }

    /// `registry/repository@digest`.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl FromStr for Channel {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |rule| InvalidValue::new("channel", text, rule);
        if text.contains('@') {
            return Err(refuse("a channel is a tag that moves, not a digest: `registry/repository:tag`"));
        }
        let (registry, rest) = text.split_once('/').ok_or_else(|| refuse(RULE))?;
        if !is_registry(registry) {
            return Err(refuse("it must begin with the registry's host, as in `ghcr.io/acme/deploy:prod`"));
        }
        let (repository, tag) = rest.rsplit_once(':').ok_or_else(|| refuse(RULE))?;
        if !is_repository(repository) || !is_tag(tag) {
            return Err(refuse(RULE));
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag: tag.to_owned() })
    }
}

const RULE: &str = "expected `registry/repository:tag`, as in `ghcr.io/acme/deploy:prod`";

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl TryFrom<String> for Channel {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> String {
        channel.to_string()
    }
}

/// Whether a registry's host is this machine itself: those speak plain http.
pub fn is_loopback(registry: &str) -> bool {
    match split_port(registry) {
        Some(("localhost", _)) => true,
        Some((host, _)) => {
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// Host and port; `None` where it is neither a name, nor an address, nor followed by a valid port.
fn split_port(registry: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok().filter(|p| *p != 0)?)),
        _ => (registry, None),
    };
    let is_address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map(str::parse::<std::net::Ipv6Addr>);
    let is_name = host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    (is_name || matches!(is_address, Some(Ok(_)))).then_some((host, port))
}

/// As Docker tells a host from the first part of a path: it has a dot or a port, or is `localhost`.
pub(super) fn is_registry(text: &str) -> bool {
    split_port(text).is_some_and(|(host, port)| port.is_some() || host == "localhost" || host.contains(['.', ':']))
}

pub(super) fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    text.len() <= 255 && text.split('/').all(is_part)
}

pub(super) fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl InvalidValue {
    pub(super) fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: printable(value, 120), rule }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels() {
        for good in [
            "ghcr.io/acme/deploy:prod",
            "localhost:5000/web:v1",
            "localhost/web:v1",
            "127.0.0.1:5000/a/b__c/d-e:pr-42",
            "[::1]:5000/web:_x",
            "registry:443/a:b",
        ] {
            assert_eq!(good.parse::<Channel>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "web:prod",
            "acme/web:prod",
            "ghcr.io/acme/deploy",
            "ghcr.io/Acme/deploy:prod",
            "ghcr.io/acme//deploy:prod",
            "ghcr.io/../deploy:prod",
            "ghcr.io/acme/deploy:",
            "ghcr.io/acme/deploy:a b",
            "ghcr.io:0/a:b",
            "ghcr.io:99999/a:b",
            "user@ghcr.io/a:b",
            "https://ghcr.io/a:b",
            "ghcr.io/a@sha256:00",
            "gh cr.io/a:b",
        ] {
            assert!(bad.parse::<Channel>().is_err(), "{bad}");
        }
    }

    #[test]
    fn images_are_named_as_docker_names_them() {
        for (image, wanted) in [
            ("ghcr.io/acme/api:staging", Some("ghcr.io/acme/api:staging")),
            ("localhost:5000/api", Some("localhost:5000/api:latest")),
            ("acme/api:1", Some("docker.io/acme/api:1")),
            ("postgres", Some("docker.io/library/postgres:latest")),
            ("postgres:16", Some("docker.io/library/postgres:16")),
            ("ghcr.io/acme/api@sha256:00", None),
            ("ghcr.io/acme/api:1@sha256:00", None),
            ("", None),
            ("ghcr.io/Acme/api:1", None),
            ("${X}", None),
        ] {
            assert_eq!(Channel::of_image(image).map(|c| c.to_string()).as_deref(), wanted, "{image}");
        }
        let hub = Channel::of_image("postgres").unwrap();
        assert_eq!(hub.api_host(), "registry-1.docker.io");
        assert_eq!(Channel::of_image("ghcr.io/a/b:1").unwrap().api_host(), "ghcr.io");
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (registry, wanted) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("ghcr.io", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:80", false),
            ("10.0.0.1:5000", false),
            ("[fe80::1]:5000", false),
        ] {
            assert_eq!(is_loopback(registry), wanted, "{registry}");
        }
    }
}
