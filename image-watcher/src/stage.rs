//! Lays a verified release down so that readers see all of it or nothing: first the files by content, then the release's
//! directory, whole. Decides nothing, and deletes nothing but unfinished work of an earlier life.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use landfall_core::contract::StagedFile;
use landfall_core::ids::{AppName, Digest};
use landfall_core::layout::Layout;
use landfall_core::publish::{self, TEMPORARY};

use crate::release::Staging;

const READ_ONLY: u32 = 0o444;
const EXECUTABLE: u32 = 0o555;

/// Lays a release down. Repeating it is cheap and changes nothing.
pub fn lay_down(layout: &Layout, app: &AppName, staging: &Staging) -> io::Result<()> {
    for (file, bytes) in &staging.content {
        place_content(layout, file, bytes)?;
    }
    let target = layout.release(app, &staging.record.release);
    if target.exists() {
        return Ok(());
    }
    publish::make_directories(&layout.releases(app))?;
    let building = publish::temporary_beside(&target);
    let built = build(&building, staging).and_then(|()| publish::publish_dir(&building, &target));
    if built.is_err() {
        // The first error is the one that tells; what stays is swept at the next start.
        let _ = fs::remove_dir_all(&building);
    }
    built
}

/// The content of a file that an earlier release had too, if it is there and whole.
pub fn known_content(layout: &Layout, file: &StagedFile) -> Option<Vec<u8>> {
    let bytes = fs::read(content_path(layout, file)).ok()?;
    (Digest::of(&bytes) == file.digest).then_some(bytes)
}

/// Removes what a kill left unfinished. Only before anything is staged.
pub fn sweep(layout: &Layout) -> io::Result<()> {
    remove_unfinished(&layout.watcher())?;
    remove_unfinished(&layout.channels())?;
    remove_unfinished(&layout.previews_dir())?;
    for parent in [layout.watcher().join("releases"), layout.watcher_files()] {
        for entry in entries(&parent)? {
            if entry.file_type()?.is_dir() {
                remove_unfinished(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn place_content(layout: &Layout, file: &StagedFile, bytes: &[u8]) -> io::Result<()> {
    if known_content(layout, file).is_some() {
        return Ok(());
    }
    publish::write(&content_path(layout, file), bytes, mode(file.executable))
}

fn content_path(layout: &Layout, file: &StagedFile) -> std::path::PathBuf {
    layout.watcher_files().join(file.content_dir()).join(file.name())
}

fn build(building: &Path, staging: &Staging) -> io::Result<()> {
    for directory in ["compose", "project"] {
        fs::create_dir_all(building.join(directory))?;
    }
    for content in &staging.tree {
        let path = building.join(&content.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        write_new(&path, &content.bytes, mode(content.executable))?;
    }
    let mut record = serde_json::to_vec(&staging.record)?;
    record.push(b'\n');
    write_new(&building.join("release.json"), &record, READ_ONLY)
}

/// Without fsync: the directory is synced as a whole before it gets its name.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)
}

fn mode(executable: bool) -> u32 {
    if executable { EXECUTABLE } else { READ_ONLY }
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in entries(directory)? {
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What a directory has; nothing where there is none.
pub(crate) fn entries(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
