//! The files that belong to a project, by content. A bundle's files lie in the watcher's store already; those beside a
//! compose file on the VM, inline configs and whole directories are laid down by the agent under the same scheme.
//!
//! Reads inside the project directory and nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use landfall_core::contract::StagedFile;
use landfall_core::ids::{Digest, sha256_hex};

use crate::refusal::{Problem, Rule};

/// No file of a release is larger.
const FILE_LIMIT: u64 = 1 << 20;
/// All files of a release together are not larger.
const TOTAL_LIMIT: u64 = 16 << 20;

/// A file of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// Of the content.
    pub digest: Digest,
    /// 0555 and not 0444.
    pub executable: bool,
    /// The content; absent where the watcher's store has it and nobody but the container needs it.
    pub bytes: Option<Vec<u8>>,
}

/// All of them, by their path in the project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFiles {
    /// The project directory.
    pub root: PathBuf,
    /// True where the watcher's store holds each single file.
    pub staged: bool,
    /// By `/` separated path.
    pub files: BTreeMap<String, ProjectFile>,
}

/// What a path in the project turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// One file.
    File(&'a ProjectFile),
    /// A directory: the files below it, by their path from there.
    Directory(BTreeMap<&'a str, &'a ProjectFile>),
    /// Nothing of the release.
    Nothing,
}

impl ProjectFiles {
    /// The files of a staged bundle.
    pub fn of_bundle(root: PathBuf, staged: &[StagedFile]) -> Self {
        let file =
            |file: &StagedFile| ProjectFile { digest: file.digest.clone(), executable: file.executable, bytes: None };
        Self { root, staged: true, files: staged.iter().map(|f| (f.title.clone(), file(f))).collect() }
    }

    /// The files beside a compose file on this machine: found when they are asked for.
    pub fn of_directory(root: PathBuf) -> Self {
        Self { root, staged: false, files: BTreeMap::new() }
    }

    /// The path in the project of an absolute one, if it is below the project directory.
    pub fn title(&self, path: &Path) -> Option<String> {
        let inside = path.strip_prefix(&self.root).ok()?;
        Some(inside.to_string_lossy().into_owned())
    }

    /// What of the release is at this path in the project.
    pub fn find(&self, title: &str) -> Found<'_> {
        if let Some(file) = self.files.get(title) {
            return Found::File(file);
        }
        let prefix = if title.is_empty() { String::new() } else { format!("{title}/") };
        let below: BTreeMap<&str, &ProjectFile> =
            self.files.iter().filter_map(|(path, file)| Some((path.strip_prefix(&prefix)?, file))).collect();
        if below.is_empty() { Found::Nothing } else { Found::Directory(below) }
    }

    /// Reads what the project refers to at `title`, as far as [`Self::find`] and the final model will need it.
    pub fn load(&mut self, title: &str) -> Result<(), Problem> {
        let unreadable = |error: io::Error| Problem::new(Rule::Unreadable, title, format!("cannot be read: {error}"));
        if self.staged {
            return self.load_staged(title).map_err(unreadable);
        }
        let mut total = self.files.values().map(|file| file.bytes.as_ref().map_or(0, |b| b.len() as u64)).sum();
        let path = if title.is_empty() { self.root.clone() } else { self.root.join(title) };
        let mut found = BTreeMap::new();
        match walk(&path, title, &mut total, &mut found) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(unreadable(error)),
            Ok(()) => {
                self.files.extend(found);
                Ok(())
            }
        }
    }

    /// Only the files below a directory are needed as bytes.
    fn load_staged(&mut self, title: &str) -> io::Result<()> {
        if self.files.contains_key(title) {
            return Ok(());
        }
        let prefix = if title.is_empty() { String::new() } else { format!("{title}/") };
        for (path, file) in self.files.iter_mut().filter(|(path, _)| path.starts_with(&prefix)) {
            let bytes = fs::read(self.root.join(path))?;
            if Digest::of(&bytes) != file.digest {
                return Err(io::Error::other(format!("`{path}` is not what was staged")));
            }
            file.bytes = Some(bytes);
        }
        Ok(())
    }
}

fn walk(path: &Path, title: &str, total: &mut u64, found: &mut BTreeMap<String, ProjectFile>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| io::Error::other("a file name is not UTF-8"))?;
            let below = if title.is_empty() { name.to_owned() } else { format!("{title}/{name}") };
            walk(&entry.path(), &below, total, found)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(io::Error::other(format!("`{title}` is not a regular file")));
    }
    *total += metadata.len();
    if metadata.len() > FILE_LIMIT || *total > TOTAL_LIMIT {
        return Err(io::Error::other(format!("`{title}` is too large: 1 MiB a file and 16 MiB in all is the limit")));
    }
    let bytes = fs::read(path)?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    found.insert(title.to_owned(), ProjectFile { digest: Digest::of(&bytes), executable, bytes: Some(bytes) });
    Ok(())
}

/// The directory name under `files/` of a single file: the watcher's scheme ([`StagedFile::content_dir`]).
pub fn content_dir(digest: &Digest, executable: bool) -> String {
    format!("{}{}", digest.hex(), if executable { "-x" } else { "" })
}

/// The directory name under `files/` of a whole directory: sha256 of its sorted `mode title sha256` lines.
pub fn directory_id(files: &BTreeMap<&str, &ProjectFile>) -> String {
    let mut lines: Vec<String> = files
        .iter()
        .map(|(title, file)| {
            let mode = if file.executable { "0755" } else { "0644" };
            format!("{mode} {} {}\n", title.replace('\\', "\\\\").replace('\n', "\\n"), file.digest.hex())
        })
        .collect();
    lines.sort_unstable();
    sha256_hex(lines.concat().as_bytes())
}
