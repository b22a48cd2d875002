//! What is written, file by file: every field optional, every value checked where it stands, so that an error has the
//! file, the line and the column. Merging and defaults come after, in [`Config::merge`] and [`Config::settle`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::channel::{Channel, is_registry};
use super::data_disk::DataDisk;
use super::error::{ConfigError, explain};
use super::previews::{PortRange, PreviewCaps, Previews, TagPattern};
use super::registries::WrittenRegistry;
use super::settings::{App, Host, Settings, Source};
use super::units::{self, WrittenUnits};
use super::values::{InvalidValue, checked, parse_duration, parse_size};
use super::vaults::{Vaults, WrittenVault};
use crate::ids::AppName;
use crate::secrets::is_vault_name;

/// How often a channel is asked unless the app says.
const POLL: Duration = Duration::from_secs(5);
/// A registry is not asked more often than this.
const POLL_LEAST: Duration = Duration::from_millis(200);
/// More than a day between polls is a mistake in the unit.
const POLL_MOST: Duration = Duration::from_hours(24);

/// How long a preview stays after its last publication unless its entry says.
const TTL: Duration = Duration::from_hours(7 * 24);
/// A preview that lives for less would go while CI still pushes.
const TTL_LEAST: Duration = Duration::from_mins(1);
/// One that stays for more is no preview.
const TTL_MOST: Duration = Duration::from_hours(366 * 24);

/// Reads what a person wrote into a type of the caller's, with errors as landfall.yaml has them. `path` is only for the error.
pub fn parse_written<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(path, text, &error))
}

/// One settings file, or several merged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    host: Option<WrittenHost>,
    vaults: Option<BTreeMap<VaultName, WrittenVault>>,
    registries: Option<BTreeMap<RegistryHost, WrittenRegistry>>,
    apps: Option<BTreeMap<AppName, WrittenApp>>,
    previews: Option<BTreeMap<AppName, WrittenPreviews>>,
    units: Option<WrittenUnits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHost {
    reserve: Option<Reserve>,
    require_caps: Option<bool>,
    default_caps: Option<DefaultCaps>,
    allow_binds: Option<Vec<BindRoot>>,
    publish: Option<Publish>,
    guard: Option<Guard>,
    imds_users: Option<Vec<ImdsUser>>,
    data_disk: Option<DataDisk>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reserve {
    memory: Option<Size>,
    disk: Option<Share>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultCaps {
    memory: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenApp {
    channel: Option<Channel>,
    source: Option<WrittenSource>,
    poll: Option<Poll>,
    profiles: Option<Vec<Profile>>,
    vars: Option<BTreeMap<Variable, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPreviews {
    channel: Option<TagPattern>,
    source: Option<WrittenSource>,
    poll: Option<Poll>,
    ttl: Option<TimeToLive>,
    ports: Option<PortText>,
    ports_each: Option<u16>,
    caps: Option<WrittenPreviewCaps>,
    profiles: Option<Vec<Profile>>,
    vars: Option<BTreeMap<Variable, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPreviewCaps {
    memory: Option<Size>,
    services: Option<BTreeMap<String, DefaultCaps>>,
}

impl Config {
    /// Parses one file. `path` is only for the error.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        parse_written(path, text)
    }

    /// Lays `over` on this: maps merge by key, all else is replaced.
    pub fn merge(&mut self, over: Self) {
        merge_with(&mut self.host, over.host, WrittenHost::merge);
        merge_with(&mut self.vaults, over.vaults, |under, over| merge_maps(under, over, WrittenVault::merge));
        merge_with(&mut self.registries, over.registries, |under, over| {
            merge_maps(under, over, WrittenRegistry::merge);
        });
        merge_with(&mut self.apps, over.apps, |under, over| merge_maps(under, over, WrittenApp::merge));
        merge_with(&mut self.previews, over.previews, |under, over| merge_maps(under, over, WrittenPreviews::merge));
        merge_with(&mut self.units, over.units, |under, over| merge_maps(under, over, Extend::extend));
    }

    /// Adds the defaults. The error says what is missing.
    pub fn settle(self) -> Result<Settings, String> {
        let host = self.host.unwrap_or_default();
        let reserve = host.reserve.unwrap_or_default();
        let defaults = Host::default();
        let mut apps = BTreeMap::new();
        for (name, app) in self.apps.unwrap_or_default() {
            let channel = app.channel.ok_or_else(|| {
                format!("app `{name}` has no `channel`; add `channel: registry/repository:tag` below `apps.{name}`")
            })?;
            let app = App {
                channel,
                source: app.source.map_or_else(Source::default, |source| source.0),
                poll: app.poll.map_or(POLL, |poll| poll.0),
                profiles: app.profiles.unwrap_or_default().into_iter().map(|p| p.0).collect(),
                vars: app.vars.unwrap_or_default().into_iter().map(|(key, value)| (key.0, value)).collect(),
                preview: None,
            };
            apps.insert(name, app);
        }
        let previews = self.previews.unwrap_or_default().into_iter();
        let previews = previews.map(|(name, entry)| entry.settle(&name).map(|entry| (name, entry)));
        let previews = previews.collect::<Result<_, String>>()?;
        let vaults = self.vaults.unwrap_or_default().into_iter();
        let vaults = vaults.map(|(name, vault)| vault.settle(&name.0).map(|vault| (name.0, vault)));
        let vaults = vaults.collect::<Result<Vaults, String>>()?;
        let registries = self.registries.unwrap_or_default().into_iter();
        let registries =
            registries.map(|(host, registry)| registry.settle(&host.0, &vaults).map(|registry| (host.0, registry)));
        let registries = registries.collect::<Result<_, String>>()?;
        let units = units::settle(self.units.unwrap_or_default(), &vaults)?;
        Ok(Settings {
            host: Host {
                reserve_memory: reserve.memory.map_or(defaults.reserve_memory, |size| size.0),
                reserve_disk: reserve.disk.map_or(defaults.reserve_disk, |share| share.0),
                require_caps: host.require_caps.unwrap_or(defaults.require_caps),
                default_memory: host.default_caps.and_then(|caps| caps.memory).map(|s| s.0),
                allow_binds: host.allow_binds.unwrap_or_default().into_iter().map(|bind| bind.0).collect(),
                publish_loopback_only: matches!(host.publish, Some(Publish::Loopback)),
                guard: host.guard.map_or(defaults.guard, |guard| guard.0),
                imds_users: host.imds_users.unwrap_or_default().into_iter().map(|user| user.0).collect(),
                data_disk: host.data_disk,
            },
            vaults,
            registries,
            apps,
            previews,
            units,
        })
    }
}

impl WrittenHost {
    fn merge(&mut self, over: Self) {
        merge_with(&mut self.reserve, over.reserve, |under, over| {
            replace(&mut under.memory, over.memory);
            replace(&mut under.disk, over.disk);
        });
        replace(&mut self.require_caps, over.require_caps);
        merge_with(&mut self.default_caps, over.default_caps, |under, over| replace(&mut under.memory, over.memory));
        replace(&mut self.allow_binds, over.allow_binds);
        replace(&mut self.publish, over.publish);
        replace(&mut self.guard, over.guard);
        replace(&mut self.imds_users, over.imds_users);
        replace(&mut self.data_disk, over.data_disk);
    }
}

impl WrittenApp {
    fn merge(&mut self, over: Self) {
        replace(&mut self.channel, over.channel);
        replace(&mut self.source, over.source);
        replace(&mut self.poll, over.poll);
        replace(&mut self.profiles, over.profiles);
        merge_with(&mut self.vars, over.vars, Extend::extend);
    }
}

impl WrittenPreviews {
    fn merge(&mut self, over: Self) {
        replace(&mut self.channel, over.channel);
        replace(&mut self.source, over.source);
        replace(&mut self.poll, over.poll);
        replace(&mut self.ttl, over.ttl);
        replace(&mut self.ports, over.ports);
        replace(&mut self.ports_each, over.ports_each);
        merge_with(&mut self.caps, over.caps, |under, over| {
            replace(&mut under.memory, over.memory);
            merge_with(&mut under.services, over.services, Extend::extend);
        });
        replace(&mut self.profiles, over.profiles);
        merge_with(&mut self.vars, over.vars, Extend::extend);
    }

    fn settle(self, name: &AppName) -> Result<Previews, String> {
        let channel = self.channel.ok_or_else(|| {
            format!("`previews.{name}` has no `channel`; add `channel: registry/repository:pr-*` below it")
        })?;
        let each = self.ports_each.unwrap_or(1);
        let ports = match self.ports {
            None if self.ports_each.is_some() => {
                return Err(format!("`previews.{name}` has `ports_each` and no `ports`; add `ports: 8100-8199`"));
            }
            None => None,
            Some(PortText((first, last))) if each >= 1 && each <= last - first + 1 => {
                Some(PortRange { first, last, each })
            }
            Some(PortText((first, last))) => {
                return Err(format!("`previews.{name}.ports_each` is {each}: expected 1 to {}", last - first + 1));
            }
        };
        let caps = self.caps.unwrap_or_default();
        let of_services = caps.services.unwrap_or_default().into_iter();
        let of_services = of_services.filter_map(|(service, caps)| Some((service, caps.memory?.0))).collect();
        Ok(Previews {
            channel,
            source: self.source.map_or_else(Source::default, |source| source.0),
            poll: self.poll.map_or(POLL, |poll| poll.0),
            ttl: self.ttl.map_or(TTL, |ttl| ttl.0),
            ports,
            caps: PreviewCaps { memory: caps.memory.map(|size| size.0), services: of_services },
            profiles: self.profiles.unwrap_or_default().into_iter().map(|profile| profile.0).collect(),
            vars: self.vars.unwrap_or_default().into_iter().map(|(key, value)| (key.0, value)).collect(),
        })
    }
}

pub(super) fn replace<T>(under: &mut Option<T>, over: Option<T>) {
    if over.is_some() {
        *under = over;
    }
}

fn merge_with<T>(under: &mut Option<T>, over: Option<T>, merge: impl FnOnce(&mut T, T)) {
    match (under.as_mut(), over) {
        (Some(under), Some(over)) => merge(under, over),
        (None, over) => *under = over,
        (Some(_), None) => {}
    }
}

fn merge_maps<K: Ord, V: Default>(under: &mut BTreeMap<K, V>, over: BTreeMap<K, V>, merge: impl Fn(&mut V, V)) {
    for (key, value) in over {
        merge(under.entry(key).or_default(), value);
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Publish {
    Any,
    Loopback,
}

checked! {
    Size(u64) = parse_size;
    Share(u8) = parse_share;
    Poll(Duration) = parse_poll;
    TimeToLive(Duration) = parse_ttl;
    PortText((u16, u16)) = parse_ports;
    WrittenSource(Source) = parse_source;
    RegistryHost(String) = |t| keep(t, is_registry(t), "registry", "expected a host, as in `ghcr.io` or `10.0.0.4:5000`");
    BindRoot(String) = |t| keep(t, is_bind_root(t), "path to bind", "expected an absolute path without `..`, not `/`");
    VaultName(String) = |t| keep(t, is_vault_name(t), "vault", "use lower-case letters, digits and `-`, at most 40");
    Guard(bool) = parse_guard;
    ImdsUser(String) = |t| keep(t, is_user(t), "user", "expected the name of a user of this machine, or its number");
    AbsoluteFile(String) = |t| keep(t, is_bind_root(t), "file", "expected an absolute path without `..`");
    Profile(String) = |t| keep(t, is_profile(t), "profile", "use letters, digits, `_`, `.` and `-`");
    Variable(String) = parse_variable;
}

pub(super) fn keep(text: &str, valid: bool, what: &'static str, rule: &'static str) -> Result<String, InvalidValue> {
    if valid { Ok(text.to_owned()) } else { Err(InvalidValue::new(what, text, rule)) }
}

fn parse_share(text: &str) -> Result<u8, InvalidValue> {
    let number = text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let share = number.and_then(|digits| digits.parse().ok()).filter(|share| *share < 100);
    share.ok_or_else(|| InvalidValue::new("share of a disk", text, "expected `0%` to `99%`"))
}

fn parse_poll(text: &str) -> Result<Duration, InvalidValue> {
    let poll = parse_duration(text)?;
    if (POLL_LEAST..=POLL_MOST).contains(&poll) {
        Ok(poll)
    } else {
        Err(InvalidValue::new("poll interval", text, "expected `200ms` to `24h`"))
    }
}

fn parse_ttl(text: &str) -> Result<Duration, InvalidValue> {
    let ttl = parse_duration(text)?;
    if (TTL_LEAST..=TTL_MOST).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(InvalidValue::new("time to live", text, "expected `1m` to `8784h`"))
    }
}

fn parse_ports(text: &str) -> Result<(u16, u16), InvalidValue> {
    let range = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let valid = range.filter(|(first, last)| *first > 0 && first <= last);
    valid.ok_or_else(|| InvalidValue::new("range of ports", text, "expected the first and the last, as in `8100-8199`"))
}

fn parse_source(text: &str) -> Result<Source, InvalidValue> {
    match text {
        "bundle" => Ok(Source::Bundle),
        "pointer" => Ok(Source::Pointer),
        "tags" => Ok(Source::Tags),
        _ => Err(InvalidValue::new("source", text, "expected `bundle`, `pointer` or `tags`")),
    }
}

fn parse_guard(text: &str) -> Result<bool, InvalidValue> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(InvalidValue::new("guard", text, "expected `on` or `off`")),
    }
}

fn parse_variable(text: &str) -> Result<String, InvalidValue> {
    // Compose and Docker read these themselves: one would redirect the child that translates the release.
    if text.starts_with("COMPOSE_") || text.starts_with("DOCKER_") {
        return Err(InvalidValue::new(
            "variable",
            text,
            "names that begin with `COMPOSE_` or `DOCKER_` are not for releases",
        ));
    }
    let valid = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    keep(text, valid, "variable", "use letters, digits and `_`, and do not start with a digit")
}

fn is_profile(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A number, or what `useradd` takes for a name and no more.
fn is_user(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let number = text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok();
    let name = text.len() <= 32 && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    number || (name && text.bytes().all(letter))
}

pub(super) fn is_bind_root(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && !text.chars().any(char::is_control)
        && text[1..].trim_end_matches('/').split('/').all(|part| !matches!(part, "" | "." | ".."))
}
