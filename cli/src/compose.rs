//! The little of a compose file that `publish` must see: images, and the files that it refers to. This is no reading of
//! the Compose Specification: all else passes through untouched, and what it means is for Compose on the VM to say.
//! Scalars are strings only, because untyped YAML turns `no` into false.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::bundle::Document;
use crate::failure::Failed;

/// What all documents together say, merged as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// By name.
    pub services: BTreeMap<String, ServiceView>,
    /// `configs.*.file`, by the config's name.
    pub configs: BTreeMap<String, String>,
    /// `secrets.*.file`: never added.
    pub secrets: BTreeSet<String>,
    /// Where `extends` or `include` is used: the first place.
    pub composed: Option<String>,
}

/// What of a service matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// As written.
    pub image: Option<String>,
    /// Whether it has a `build`.
    pub build: bool,
    /// Host side of each bind, by the container's path.
    pub binds: BTreeMap<String, String>,
    /// In order.
    pub env_files: Vec<EnvFile>,
}

/// An entry of `env_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// As written.
    pub path: String,
    /// Whether it may be missing.
    pub required: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    services: Option<BTreeMap<String, Option<Service>>>,
    #[serde(default)]
    configs: Option<BTreeMap<String, Option<FileSource>>>,
    #[serde(default)]
    secrets: Option<BTreeMap<String, Option<FileSource>>>,
    #[serde(default)]
    include: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    build: Option<IgnoredAny>,
    #[serde(default)]
    extends: Option<IgnoredAny>,
    #[serde(default)]
    env_file: OneOrMany<EnvEntry>,
    #[serde(default)]
    volumes: OneOrMany<Mount>,
}

#[derive(Deserialize)]
struct FileSource {
    #[serde(default)]
    file: Option<String>,
}

#[derive(Deserialize)]
struct EnvEntry {
    path: String,
    #[serde(default = "yes")]
    required: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Mount {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    target: Option<String>,
}

/// A text, a mapping, or a sequence of those: the short and the long syntax.
#[derive(Debug)]
struct OneOrMany<T>(Vec<Entry<T>>);

#[derive(Debug)]
enum Entry<T> {
    Short(String),
    Long(T),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct EntryVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntryVisitor<T> {
    type Value = Entry<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a mapping")
    }
    fn visit_str<E>(self, text: &str) -> Result<Entry<T>, E> {
        Ok(Entry::Short(text.to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Entry::Long)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = OneOrMany<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a sequence")
    }
    fn visit_unit<E>(self) -> Result<OneOrMany<T>, E> {
        Ok(OneOrMany::default())
    }
    fn visit_str<E>(self, text: &str) -> Result<OneOrMany<T>, E> {
        Ok(OneOrMany(vec![Entry::Short(text.to_owned())]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<OneOrMany<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = sequence.next_element()? {
            entries.push(entry);
        }
        Ok(OneOrMany(entries))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

/// Reads what matters of the documents, in merge order.
pub fn read(documents: &[Document]) -> Result<View, Failed> {
    let mut view = View::default();
    for document in documents {
        let text = std::str::from_utf8(&document.bytes)
            .map_err(|_| Failed::usage(format!("`{}` is not UTF-8 text", document.title)))?;
        let files: Vec<File> = serde_saphyr::from_multiple(text).map_err(|error| {
            Failed::usage(format!("`{}` cannot be read as a compose file: {error}", document.title))
                .next("see what Compose says: `docker compose config`")
        })?;
        for file in files {
            view.merge(file, &document.title);
        }
    }
    if view.services.is_empty() {
        return Err(Failed::usage("the compose files have no services").next("add `services:`"));
    }
    Ok(view)
}

impl View {
    /// Makes absolute paths of secrets' files relative where they lie in this directory.
    pub fn secrets_below(&mut self, directory: &Path) {
        self.secrets = std::mem::take(&mut self.secrets)
            .into_iter()
            .map(|path| match Path::new(&path).strip_prefix(directory) {
                Ok(below) => below.to_string_lossy().into_owned(),
                Err(_) => path,
            })
            .collect();
    }

    fn merge(&mut self, file: File, title: &str) {
        if file.include.is_some() {
            self.composed.get_or_insert_with(|| format!("`include` in `{title}`"));
        }
        for (name, service) in file.services.into_iter().flatten() {
            if service.as_ref().is_some_and(|s| s.extends.is_some()) {
                self.composed.get_or_insert_with(|| format!("`extends` of service `{name}` in `{title}`"));
            }
            let merged = self.services.entry(name).or_default();
            if let Some(service) = service {
                merged.merge(service);
            }
        }
        let sources = |map: Option<BTreeMap<String, Option<FileSource>>>| {
            map.into_iter().flatten().filter_map(|(name, source)| Some((name, source?.file?)))
        };
        self.configs.extend(sources(file.configs));
        self.secrets.extend(sources(file.secrets).map(|(_, path)| path));
    }
}

impl ServiceView {
    fn merge(&mut self, service: Service) {
        self.image = service.image.or(self.image.take());
        self.build |= service.build.is_some();
        self.env_files.extend(service.env_file.0.into_iter().map(|entry| match entry {
            Entry::Short(path) => EnvFile { path, required: true },
            Entry::Long(EnvEntry { path, required }) => EnvFile { path, required },
        }));
        for entry in service.volumes.0 {
            let (target, source) = match entry {
                Entry::Short(text) => match short_mount(&text) {
                    Some(parts) => parts,
                    None => continue,
                },
                Entry::Long(Mount { kind, source, target }) => {
                    let bind = kind.as_deref() == Some("bind");
                    (target.unwrap_or_default(), source.filter(|_| bind))
                }
            };
            match source {
                Some(source) => self.binds.insert(target, source),
                // A later file puts a volume or a tmpfs where the bind was.
                None => self.binds.remove(&target),
            };
        }
    }
}

/// The container's path of a short mount, and its host path where it is a bind; nothing of an anonymous volume.
fn short_mount(text: &str) -> Option<(String, Option<String>)> {
    let colon = first_colon(text)?;
    let (source, rest) = (&text[..colon], &text[colon + 1..]);
    let target = first_colon(rest).map_or(rest, |end| &rest[..end]);
    let path = source.starts_with(['.', '/', '~', '$']);
    Some((target.to_owned(), path.then(|| source.to_owned())))
}

/// The first colon that is not inside `${…}`.
fn first_colon(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == ':' {
            return Some(at);
        }
        at += match text[at..].strip_prefix("${") {
            Some(inner) => 2 + crate::image::closing_brace(inner).map_or(inner.len(), |close| close + 1),
            None => c.len_utf8(),
        };
    }
    None
}

#[cfg(test)]
mod tests;
