//! Previews: one app for each tag that matches a pattern, with its own name, ports and caps. Which tags there are is the
//! watcher's word ([`crate::contract::PreviewsFile`]); what an app of one looks like is said here, for both daemons alike.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::{Channel, is_registry, is_repository, is_tag};
use super::settings::{App, Source, milliseconds};
use super::values::InvalidValue;
use crate::ids::{AppName, sha256_hex};

/// How many hex digits tell apart two apps whose tags look alike in a name.
const TELLING: usize = 6;
/// The longest app name.
const NAME_LENGTH: usize = 40;

/// One entry of `previews`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previews {
    /// Which tags have an app.
    pub channel: TagPattern,
    /// What such a tag points at.
    pub source: Source,
    /// How often the registry is asked for tags, and each tag for news.
    #[serde(with = "milliseconds")]
    pub poll: Duration,
    /// How long a preview stays after its last publication.
    #[serde(with = "milliseconds")]
    pub ttl: Duration,
    /// The ports that may be published; none where no preview publishes any.
    pub ports: Option<PortRange>,
    /// The memory caps.
    pub caps: PreviewCaps,
    /// Compose profiles that are on.
    pub profiles: Vec<String>,
    /// Variables for interpolation, beside those that each preview has of its own.
    pub vars: BTreeMap<String, String>,
}

/// Host ports, cut into blocks of which each preview has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// How many a preview has.
    pub each: u16,
}

/// Memory caps that replace those of the compose file: who opens a pull request does not decide what it may use here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreviewCaps {
    /// Of every service, bytes; none leaves what the file says.
    pub memory: Option<u64>,
    /// Of single services, bytes.
    pub services: BTreeMap<String, u64>,
}

/// What an app is that stands for one tag of [`Previews`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Its entry's name: the compose file on this machine, where there is one, lies under it.
    pub of: AppName,
    /// What it may publish.
    pub ports: Ports,
    /// Its memory caps.
    pub caps: PreviewCaps,
}

/// The host ports of one preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// None: its entry has no range.
    None,
    /// All blocks of the range are taken.
    AllTaken(PortRange),
    /// From the first to the last.
    Block(u16, u16),
}

/// `registry/repository:PATTERN`, where the tag has one `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagPattern {
    registry: String,
    repository: String,
    before: String,
    after: String,
}

impl Previews {
    /// The app of a tag. `block` is its number among the blocks of ports.
    pub fn app(&self, of: &AppName, name: &AppName, channel: &Channel, block: Option<u16>) -> App {
        let ports = match (self.ports, block) {
            (None, _) => Ports::None,
            (Some(range), Some(block)) if block < range.blocks() => range.block(block),
            (Some(range), _) => Ports::AllTaken(range),
        };
        let mut vars = self.vars.clone();
        vars.insert("LANDFALL_APP".to_owned(), name.to_string());
        vars.insert("LANDFALL_TAG".to_owned(), channel.tag.clone());
        if let Ports::Block(first, last) = ports {
            for (index, port) in (first..=last).enumerate() {
                let name = if index == 0 { "LANDFALL_PORT".to_owned() } else { format!("LANDFALL_PORT_{}", index + 1) };
                vars.insert(name, port.to_string());
            }
        }
        App {
            channel: channel.clone(),
            source: self.source,
            poll: self.poll,
            profiles: self.profiles.clone(),
            vars,
            preview: Some(Preview { of: of.clone(), ports, caps: self.caps.clone() }),
        }
    }
}

/// The name of the app of a tag: `web-pr-42`. A tag that cannot stand in a name as it is gets some digits of its hash, so that two
/// tags never share a name.
pub fn preview_name(of: &AppName, tag: &str) -> AppName {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let whole = format!("{of}-{tag}");
    if tag.chars().all(plain)
        && let Ok(name) = whole.parse()
    {
        return name;
    }
    let text: String = whole.chars().map(|c| c.to_ascii_lowercase()).map(|c| if plain(c) { c } else { '-' }).collect();
    let hash = sha256_hex(tag.as_bytes());
    let kept: String = text.chars().take(NAME_LENGTH - TELLING - 1).collect();
    let name = format!("{kept}-{}", &hash[..TELLING]);
    // It begins as the entry's name does, and has nothing but what a name may have.
    name.parse().unwrap_or_else(|_| of.clone())
}

impl PortRange {
    /// How many previews have ports of their own.
    pub fn blocks(self) -> u16 {
        (self.last - self.first + 1) / self.each
    }

    fn block(self, number: u16) -> Ports {
        let first = self.first + number * self.each;
        Ports::Block(first, first + self.each - 1)
    }
}

impl PreviewCaps {
    /// The cap of a service, bytes; none leaves what the file says.
    pub fn of(&self, service: &str) -> Option<u64> {
        self.services.get(service).copied().or(self.memory)
    }
}

impl TagPattern {
    /// Whether a tag has an app.
    pub fn matches(&self, tag: &str) -> bool {
        let between = tag.strip_prefix(&self.before).and_then(|rest| rest.strip_suffix(&self.after));
        is_tag(tag) && between.is_some_and(|between| !between.is_empty())
    }

    /// A channel as one of them may be.
    pub fn example(&self) -> Channel {
        self.channel(&format!("{}1{}", self.before, self.after))
    }

    /// The channel of a tag.
    pub fn channel(&self, tag: &str) -> Channel {
        Channel { registry: self.registry.clone(), repository: self.repository.clone(), tag: tag.to_owned() }
    }
}

const RULE: &str = "expected `registry/repository:tag` with one `*` in the tag, as in `ghcr.io/acme/deploy:pr-*`";

impl FromStr for TagPattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue::new("channel of previews", text, RULE);
        let (registry, rest) = text.split_once('/').ok_or_else(refuse)?;
        let (repository, tag) = rest.rsplit_once(':').ok_or_else(refuse)?;
        let (before, after) = tag.split_once('*').ok_or_else(refuse)?;
        // Any letter in the place of the star makes a tag of it.
        let is_valid = is_registry(registry) && is_repository(repository) && is_tag(&format!("{before}a{after}"));
        if !is_valid {
            return Err(refuse());
        }
        let [registry, repository, before, after] = [registry, repository, before, after].map(str::to_owned);
        Ok(Self { registry, repository, before, after })
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}*{}", self.registry, self.repository, self.before, self.after)
    }
}

impl TryFrom<String> for TagPattern {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<TagPattern> for String {
    fn from(pattern: TagPattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let pattern: TagPattern = "ghcr.io/acme/deploy:pr-*".parse().unwrap();
        assert_eq!(pattern.to_string(), "ghcr.io/acme/deploy:pr-*");
        assert!(pattern.matches(&pattern.example().tag));
        for (tag, wanted) in [("pr-42", true), ("pr-", false), ("prod", false), ("xpr-1", false), ("pr-a_B.c", true)] {
            assert_eq!(pattern.matches(tag), wanted, "{tag}");
        }
        let both: TagPattern = "localhost:5000/a:pr-*-web".parse().unwrap();
        assert!(both.matches("pr-1-web") && !both.matches("pr--web") && !both.matches("pr-web"));
        assert!("r.io/a:*".parse::<TagPattern>().unwrap().matches("main"));
        for bad in [
            "",
            "ghcr.io/a:prod",
            "ghcr.io/a",
            "a:pr-*",
            "ghcr.io/A:pr-*",
            "ghcr.io/a:*-*",
            "ghcr.io/a:-*",
            "ghcr.io/*:a",
        ] {
            assert!(bad.parse::<TagPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_tag_has_a_name_of_its_own() {
        let web: AppName = "web".parse().unwrap();
        assert_eq!(preview_name(&web, "pr-42").as_str(), "web-pr-42");
        let odd = ["pr_42", "PR-42", "pr.42", "pr-42.", &"x".repeat(128), &format!("{}y", "x".repeat(127))];
        let names: std::collections::BTreeSet<String> =
            odd.iter().map(|tag| preview_name(&web, tag).to_string()).collect();
        assert_eq!(names.len(), odd.len(), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("web-") && name.len() <= NAME_LENGTH), "{names:?}");
        let long: AppName = "w".repeat(40).parse().unwrap();
        assert_ne!(preview_name(&long, "pr-1"), preview_name(&long, "pr-2"));
    }

    #[test]
    fn a_preview_has_ports_and_says_which() {
        let previews = Previews {
            channel: "ghcr.io/acme/deploy:pr-*".parse().unwrap(),
            source: Source::Bundle,
            poll: Duration::from_secs(5),
            ttl: Duration::from_hours(24),
            ports: Some(PortRange { first: 8100, last: 8104, each: 2 }),
            caps: PreviewCaps { memory: Some(1), services: [("db".to_owned(), 2)].into() },
            profiles: Vec::new(),
            vars: [("LANDFALL_TAG".to_owned(), "not this".to_owned()), ("A".to_owned(), "b".to_owned())].into(),
        };
        let [web, name]: [AppName; 2] = ["web", "web-pr-1"].map(|name| name.parse().unwrap());
        let app = |block| previews.app(&web, &name, &previews.channel.channel("pr-1"), block);
        let second = app(Some(1));
        let vars: Vec<String> = second.vars.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let wanted =
            ["A=b", "LANDFALL_APP=web-pr-1", "LANDFALL_PORT=8102", "LANDFALL_PORT_2=8103", "LANDFALL_TAG=pr-1"];
        assert_eq!(vars, wanted);
        let preview = second.preview.unwrap();
        assert_eq!(preview.ports, Ports::Block(8102, 8103));
        assert_eq!([preview.caps.of("api"), preview.caps.of("db")], [Some(1), Some(2)]);
        // The fifth port is half a block.
        let range = previews.ports.unwrap();
        assert!([None, Some(2)].into_iter().all(|block| app(block).preview.unwrap().ports == Ports::AllTaken(range)));
    }
}
