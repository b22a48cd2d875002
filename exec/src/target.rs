//! A URL to what is asked of whom. Pure, and no more of a URL than a probe needs: no user, no fragment, no TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest URL: what is sent is small, and fits into a socket's buffer at once.
const URL_LIMIT: usize = 2048;
const HTTP_PORT: u16 = 80;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    pub port: u16,
    pub question: Question,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Does it take a connection?
    Connect,
    /// What status has this path, with its query?
    Get(String),
}

impl Target {
    /// `host:port`, as messages have it.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Name(name) => name.clone(),
        };
        format!("{host}:{}", self.port)
    }

    /// The header `Host`: without the port where it is HTTP's own.
    pub fn host_header(&self) -> String {
        let authority = self.authority();
        authority.strip_suffix(":80").unwrap_or(&authority).to_owned()
    }
}

/// The error is the rule that the URL breaks.
pub fn parse(url: &str) -> Result<Target, &'static str> {
    // Also what keeps a second header out of the request.
    if url.len() > URL_LIMIT || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it is longer than 2048 characters, or some are spaces, control characters or not ASCII");
    }
    if url.contains(['@', '#']) {
        return Err("a user or a fragment has no place in it");
    }
    if let Some(rest) = url.strip_prefix("http://") {
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        return Ok(Target { host, port: port.unwrap_or(HTTP_PORT), question: Question::Get(path) });
    }
    let authority = url.strip_prefix("tcp://").ok_or("it begins with neither `http://` nor `tcp://`")?;
    let (host, port) = host_and_port(authority)?;
    Ok(Target { host, port: port.ok_or("`tcp://` needs a port")?, question: Question::Connect })
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), &'static str> {
    let (host, rest) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or("a bracket is not closed")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "what is in brackets is no IPv6 address")?;
        (Host::Address(address.into()), rest)
    } else {
        let (name, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        (parse_host(name)?, rest)
    };
    match rest.strip_prefix(':') {
        Some(digits) => Ok((host, Some(parse_port(digits)?))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err("behind the brackets comes no port"),
    }
}

fn parse_host(name: &str) -> Result<Host, &'static str> {
    if name.is_empty() {
        return Ok(Host::Address(Ipv4Addr::LOCALHOST.into()));
    }
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if plain { Ok(Host::Name(name.to_owned())) } else { Err("its host is neither a name nor an address") }
}

fn parse_port(digits: &str) -> Result<u16, &'static str> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = if plain { digits.parse().ok() } else { None };
    port.filter(|port| *port > 0).ok_or("its port is not a number from 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_whom() {
        let table = [
            ("http://:3000/health", "127.0.0.1:3000", Some("/health")),
            ("http://", "127.0.0.1:80", Some("/")),
            ("http://127.0.0.1", "127.0.0.1:80", Some("/")),
            ("http://10.0.0.5:8080/a/b?c=d:e", "10.0.0.5:8080", Some("/a/b?c=d:e")),
            ("http://:80?deep", "127.0.0.1:80", Some("/?deep")),
            ("http://api_1.internal:65535/", "api_1.internal:65535", Some("/")),
            ("http://[::1]:3000/health", "[::1]:3000", Some("/health")),
            ("http://[fd00::5]", "[fd00::5]:80", Some("/")),
            ("tcp://:5432", "127.0.0.1:5432", None),
            ("tcp://db:5432", "db:5432", None),
            ("tcp://[::1]:5432", "[::1]:5432", None),
        ];
        for (url, authority, path) in table {
            let target = parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            let question = path.map_or(Question::Connect, |path| Question::Get(path.to_owned()));
            assert_eq!((target.authority(), target.question), (authority.to_owned(), question), "{url}");
        }
    }

    #[test]
    fn the_usual_port_is_left_out_of_the_header() {
        for (url, header) in [("http://", "127.0.0.1"), ("http://[::1]/", "[::1]"), ("http://api:8080", "api:8080")] {
            assert_eq!(parse(url).map(|target| target.host_header()), Ok(header.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_probed() {
        let long = format!("http://:80/{}", "a".repeat(URL_LIMIT));
        let refused = [
            "",
            ":3000/health",
            "https://example/",
            "unix:///run/x",
            "HTTP://:80/",
            "http://:0/",
            "http://:65536/",
            "http://:+80/",
            "http://:/",
            "http://a:b:80/",
            "http://::1/",
            "http://[::1/",
            "http://[::1]80/",
            "http://[localhost]:80/",
            "http://user@host/",
            "http://:80/#top",
            "http://:80/a b",
            "http://:80/a\r\nX: y",
            "http://b\u{fc}cher/",
            "http://a%b/",
            "tcp://db",
            "tcp://:5432/",
            "tcp://",
            &long,
        ];
        for url in refused {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
