//! A release as layers: compose documents byte for byte, env files, and every file that the project refers to. Pure: the
//! project directory is a trait. What a bundle cannot carry is refused with all its places at once; nothing is left out
//! in silence, and a file of `secrets:` is never added.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::ids::{Digest, LayerLine, ReleaseId, release_id_of_bundle};
use landfall_core::publish::TEMPORARY;

use crate::compose::View;
use crate::failure::{Exit, Failed};
use crate::files::{Files, Node};

/// The largest file of a bundle.
pub const FILE_LIMIT: usize = 1 << 20;
/// The largest compose document or env file: what the watcher accepts.
pub const DOCUMENT_LIMIT: usize = 256 << 10;
/// All layers together.
pub const TOTAL_LIMIT: usize = 16 << 20;
/// The most layers: what the watcher accepts.
pub const LAYER_LIMIT: usize = 64;
/// The document that pins images, named as Compose names its own.
pub const IMAGE_DIGESTS: &str = "image-digests.yaml";

/// A compose document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file's name.
    pub title: String,
    /// Byte for byte.
    pub bytes: Vec<u8>,
}

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A compose document to merge.
    Compose,
    /// An `env_file`.
    Env,
    /// A file that the project refers to.
    File,
}

impl Kind {
    /// The word in the release id.
    pub fn word(self) -> &'static str {
        match self {
            Self::Compose => "compose",
            Self::Env => "env",
            Self::File => "file",
        }
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub kind: Kind,
    /// The file's name, or the path in the project.
    pub title: String,
    /// Mode 0755 where true, 0644 where not.
    pub executable: bool,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Layer {
    /// As the annotation and the release id have it.
    pub fn mode(&self) -> &'static str {
        if self.executable { "0755" } else { "0644" }
    }
}

/// The layers in manifest order: compose, env, then files by title.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// See the type.
    pub layers: Vec<Layer>,
}

impl Bundle {
    /// Adds the document that pins images, as the last of the compose documents.
    pub fn pin(&mut self, images: &BTreeMap<String, String>) {
        if images.is_empty() {
            return;
        }
        let at = self.layers.iter().take_while(|l| l.kind == Kind::Compose).count();
        let bytes = image_digests(images).into_bytes();
        self.layers
            .insert(at, Layer { kind: Kind::Compose, title: IMAGE_DIGESTS.to_owned(), executable: false, bytes });
    }

    /// Its identity.
    pub fn release_id(&self) -> ReleaseId {
        let digests: Vec<Digest> = self.layers.iter().map(|l| Digest::of(&l.bytes)).collect();
        let line = |(layer, digest)| -> LayerLine<'_> {
            let layer: &Layer = layer;
            LayerLine { kind: layer.kind.word(), mode: layer.mode(), title: &layer.title, digest }
        };
        release_id_of_bundle(&self.layers.iter().zip(&digests).map(line).collect::<Vec<_>>())
    }

    /// Refuses what the watcher would refuse.
    pub fn check_limits(&self) -> Result<(), Failed> {
        let total: usize = self.layers.iter().map(|l| l.bytes.len()).sum();
        if let Some(large) = self.layers.iter().find(|l| l.kind == Kind::Compose && l.bytes.len() > DOCUMENT_LIMIT) {
            return Err(too_much(format!("`{}` is larger than {} KiB", large.title, DOCUMENT_LIMIT >> 10)));
        }
        if self.layers.len() > LAYER_LIMIT {
            return Err(too_much(format!(
                "the bundle would have {} layers, one for each file; {LAYER_LIMIT} are allowed",
                self.layers.len()
            )));
        }
        if total > TOTAL_LIMIT {
            return Err(too_much(format!("the bundle is larger than {} MiB in all", TOTAL_LIMIT >> 20)));
        }
        Ok(())
    }
}

fn too_much(message: String) -> Failed {
    Failed::new(Exit::Usage, message)
        .next("refer to fewer or smaller files, or put them into an image: a bundle carries configuration, not data")
}

/// The document that pins images. Everything is quoted, so that no service name turns into a number.
pub fn image_digests(images: &BTreeMap<String, String>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    images.iter().fold("services:\n".to_owned(), |text, (service, image)| {
        format!("{text}  {}:\n    image: {}\n", quoted(service), quoted(image))
    })
}

/// The documents and all that they refer to, as layers.
pub fn collect(documents: Vec<Document>, view: &View, files: &impl Files) -> Result<Bundle, Failed> {
    let mut collector = Collector::new(view, files);
    for (name, service) in &view.services {
        for (target, source) in &service.binds {
            collector.add(&format!("service `{name}`, volume `{target}`"), source, Use::Mount);
        }
        for env_file in &service.env_files {
            let how = if env_file.required { Use::Env } else { Use::OptionalEnv };
            collector.add(&format!("service `{name}`, env_file"), &env_file.path, how);
        }
    }
    for (name, path) in &view.configs {
        collector.add(&format!("config `{name}`"), path, Use::Mount);
    }
    if !collector.problems.is_empty() {
        return Err(Failed::usage(collector.problems.join("\n")));
    }
    let compose = documents.into_iter().map(|document| Layer {
        kind: Kind::Compose,
        title: document.title,
        executable: false,
        bytes: document.bytes,
    });
    // What is both is one layer: a file lies in the project directory just as an env file does.
    collector.env.retain(|path, _| !collector.mounted.contains_key(path));
    let bundle =
        Bundle { layers: compose.chain(collector.env.into_values()).chain(collector.mounted.into_values()).collect() };
    bundle.check_limits()?;
    Ok(bundle)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Mount,
    Env,
    OptionalEnv,
}

struct Collector<'a, F> {
    files: &'a F,
    secrets: BTreeSet<String>,
    /// A secret's path that depends on variables.
    unknown_secret: Option<&'a str>,
    env: BTreeMap<String, Layer>,
    mounted: BTreeMap<String, Layer>,
    problems: Vec<String>,
}

impl<'a, F: Files> Collector<'a, F> {
    fn new(view: &'a View, files: &'a F) -> Self {
        let secrets = view.secrets.iter().filter_map(|path| inside(path).ok().flatten()).collect();
        let unknown_secret = view.secrets.iter().find(|path| path.contains('$')).map(String::as_str);
        Self { files, secrets, unknown_secret, env: BTreeMap::new(), mounted: BTreeMap::new(), problems: Vec::new() }
    }

    /// Adds what lies at a path as the compose file writes it.
    fn add(&mut self, place: &str, written: &str, how: Use) {
        let added = match inside(written) {
            Ok(None) => Ok(()),
            Ok(Some(path)) => self.add_path(&path, how),
            Err(why) => Err(why.to_owned()),
        };
        if let Err(why) = added {
            self.problems.push(format!("{place}: `{written}` {why}"));
        }
    }

    fn add_path(&mut self, path: &str, how: Use) -> Result<(), String> {
        if self.is_secret(path) {
            return Err(
                "is the file of a secret, and secrets are never published: refer to it by `secrets:` only".into()
            );
        }
        match (self.look(path)?, how) {
            (Node::Missing, Use::OptionalEnv) => Ok(()),
            (Node::Missing, Use::Env) => Err("is not there; write it, or set `required: false`".into()),
            (Node::Missing, Use::Mount) => Err(NO_DATA.replace("{}", "is not there")),
            (Node::Other(what), _) => Err(format!("is or goes through {what}; a bundle carries regular files only")),
            (Node::File { bytes, executable }, how) => self.keep(path, bytes, executable, how),
            (Node::Directory(_), Use::Env | Use::OptionalEnv) => Err("is a directory; an env_file is a file".into()),
            (Node::Directory(names), Use::Mount) => self.add_directory(path, names),
        }
    }

    fn add_directory(&mut self, path: &str, names: Vec<String>) -> Result<(), String> {
        if let Some(secret) = self.unknown_secret {
            return Err(format!(
                "is a directory, and whether the secret's file `{secret}` lies below it cannot be known here; \
                 write that path without variables"
            ));
        }
        let mut found = false;
        // Names still to look at, last first.
        let mut waiting: Vec<String> = names.into_iter().rev().map(|name| join(path, &name)).collect();
        while let Some(below) = waiting.pop() {
            if self.is_secret(&below) {
                continue;
            }
            match self.look(&below)? {
                Node::Directory(names) => waiting.extend(names.into_iter().rev().map(|name| join(&below, &name))),
                Node::File { bytes, executable } => {
                    found = true;
                    self.keep(&below, bytes, executable, Use::Mount)
                        .map_err(|why| format!("has `{below}`, which {why}"))?;
                }
                Node::Other(what) => return Err(format!("has `{below}`, {what}; a bundle carries regular files only")),
                Node::Missing => return Err(format!("had `{below}`, which has just gone; try again")),
            }
        }
        if found { Ok(()) } else { Err(NO_DATA.replace("{}", "is a directory without a file that could be published")) }
    }

    fn keep(&mut self, path: &str, bytes: Vec<u8>, executable: bool, how: Use) -> Result<(), String> {
        if path.chars().any(char::is_control) {
            return Err("has a control character in its name".into());
        }
        if path.split('/').any(|part| part.starts_with(TEMPORARY)) {
            return Err(format!("has a name that begins like a temporary file, `{TEMPORARY}`; rename it"));
        }
        let limit = if how == Use::Mount { FILE_LIMIT } else { DOCUMENT_LIMIT };
        if bytes.len() > limit {
            return Err(format!("is larger than {} KiB; put it into an image", limit >> 10));
        }
        let kept = self.env.len() + self.mounted.len();
        let held: usize = self.env.values().chain(self.mounted.values()).map(|l| l.bytes.len()).sum();
        if kept > LAYER_LIMIT || held > TOTAL_LIMIT {
            return Err(format!(
                "is one file too many: a bundle has at most {LAYER_LIMIT} files and {} MiB in all; refer to fewer, or \
                 put them into an image",
                TOTAL_LIMIT >> 20
            ));
        }
        let (map, kind) = match how {
            Use::Mount => (&mut self.mounted, Kind::File),
            Use::Env | Use::OptionalEnv => (&mut self.env, Kind::Env),
        };
        let executable = executable && kind == Kind::File;
        map.insert(path.to_owned(), Layer { kind, title: path.to_owned(), executable, bytes });
        Ok(())
    }

    fn look(&self, path: &str) -> Result<Node, String> {
        self.files.look(path, FILE_LIMIT).map_err(|error| format!("cannot be read: {error}"))
    }

    fn is_secret(&self, path: &str) -> bool {
        self.secrets.iter().any(|secret| {
            path.strip_prefix(secret.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

const NO_DATA: &str = "{}; a bundle carries files, not data: use a named volume, or an absolute path that the host's \
                       `allow_binds` allows";

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// A path as written, made relative to the project: without `.` and `..`; nothing where it is the VM's own.
fn inside(written: &str) -> Result<Option<String>, &'static str> {
    if written.starts_with(['/', '~']) {
        return Ok(None);
    }
    if written.contains('$') {
        return Err("depends on variables, which only the VM knows; write the path without them");
    }
    let mut parts = Vec::new();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts
                    .pop()
                    .ok_or("lies outside of the project directory; move it inside, or see `--project-directory`")?;
            }
            part => parts.push(part),
        }
    }
    Ok(Some(parts.join("/")))
}

#[cfg(test)]
mod tests;
