//! The one atomic publish: write-temp, fsync, rename, fsync-dir. Readers see all of a file or none of it, before and
//! after a power cut. Nothing here decides what to write; nobody else renames into a directory that others read.
//!
//! A temporary name starts with [`TEMPORARY`]: readers skip it, and the writer of a directory may delete it at start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What the name of an unfinished file or directory starts with.
pub const TEMPORARY: &str = ".tmp-";

/// The mode of directories that are made on the way.
const DIRECTORY_MODE: u32 = 0o755;

/// Writes `bytes` to `path` so that it survives a power cut: whole, or as it was before. Makes the parent directories.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode, Durability::Durable)
}

/// As [`write()`], where nothing is there yet: what is there stays, whoever was first. Says whether it was written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<bool> {
    let parent = parent_of(path)?;
    make_directories(parent)?;
    let temporary = temporary_beside(path);
    let done = fill(&temporary, bytes, mode, Durability::Durable).and_then(|()| fs::hard_link(&temporary, path));
    // Its other name, or unfinished; what is left is swept at the next start.
    let _ = fs::remove_file(&temporary);
    match done {
        Ok(()) => sync_directory(parent).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`write()`], but a power cut may take it back: for what is only worth having while the machine runs.
pub fn write_volatile(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode, Durability::Volatile)
}

/// Writes `value` as one line of JSON, mode 0644.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write(path, &json_line(value)?, 0o644)
}

/// As [`write_json()`], but a power cut may take it back.
pub fn write_json_volatile<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_volatile(path, &json_line(value)?, 0o644)
}

/// Moves a finished directory to its final name: the whole tree is on disk before the name is. An existing `target` is
/// the same content by contract (names are identities), so `staging` is removed and that is success.
pub fn publish_dir(staging: &Path, target: &Path) -> io::Result<()> {
    if target.exists() {
        return fs::remove_dir_all(staging);
    }
    sync_tree(staging)?;
    let parent = parent_of(target)?;
    make_directories(parent)?;
    match fs::rename(staging, target) {
        Ok(()) => sync_directory(parent),
        // Someone published the same between our look and our rename.
        Err(_) if target.exists() => fs::remove_dir_all(staging),
        Err(error) => Err(error),
    }
}

/// As [`publish_dir()`] for what lies in memory: nothing is synced, and the parent must be there, with whatever mode it has.
pub fn publish_dir_volatile(staging: &Path, target: &Path) -> io::Result<()> {
    if target.exists() {
        return fs::remove_dir_all(staging);
    }
    fs::rename(staging, target)
}

/// Gives what was built beside `path`, and lies in memory, its name, in place of what had it.
pub fn replace_volatile(staging: &Path, path: &Path) -> io::Result<()> {
    fs::rename(staging, path).inspect_err(|_| {
        // The first error is the one that tells; what is left is swept at the next start.
        let _ = fs::remove_file(staging);
    })
}

/// A name beside `path` that nobody uses: where to build what is then published at `path`.
pub fn temporary_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Short on purpose: the real name may already be as long as the filesystem takes.
    path.with_file_name(format!("{TEMPORARY}{}-{number}", std::process::id()))
}

/// Makes a directory and its parents, each new one fsynced into its parent.
pub fn make_directories(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directories(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => sync_directory(parent_of(path)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what a killed writer left unfinished below `directory`. For the one writer of that tree, before it writes.
pub fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let unfinished = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        match (entry.file_type()?.is_dir(), unfinished) {
            (true, true) => fs::remove_dir_all(entry.path())?,
            (true, false) => remove_temporaries(&entry.path())?,
            (false, true) => fs::remove_file(entry.path())?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// Puts what a directory names on disk: after a rename or a removal that must outlive a power cut.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[derive(Clone, Copy)]
enum Durability {
    Durable,
    Volatile,
}

fn put(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let parent = parent_of(path)?;
    make_directories(parent)?;
    let temporary = temporary_beside(path);
    let done = fill(&temporary, bytes, mode, durability).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = done {
        // The first error is the one that tells; a left-over temporary is swept at the next start.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match durability {
        Durability::Durable => sync_directory(parent),
        Durability::Volatile => Ok(()),
    }
}

fn fill(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask takes bits from the mode of `open`; a contract file's mode is part of the contract.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    match durability {
        // Before the rename: else a power cut can leave the new name on empty content.
        Durability::Durable => file.sync_all(),
        Durability::Volatile => Ok(()),
    }
}

fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(path)
}

fn parent_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "has no parent directory")),
    }
}

fn json_line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_beside() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c.json");
        write_json(&path, &1).unwrap();
        write(&path, b"two", 0o440).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o440);
        write_volatile(&path, b"three", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(names(path.parent().unwrap()), ["c.json"]);
    }

    #[test]
    fn what_is_there_is_not_replaced_where_it_must_not_be() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/key");
        assert!(write_new(&path, b"first", 0o600).unwrap());
        assert!(!write_new(&path, b"second", 0o644).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(path.parent().unwrap()), ["key"]);
        assert!(write_new(&path.join("below"), b"x", 0o600).is_err());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("taken");
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(write(&path, b"x", 0o644).is_err());
        assert_eq!(names(root.path()), ["taken"]);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("apps/web/current/compose.yaml");
        write(&path, b"kept", 0o644).unwrap();
        for left in [temporary_beside(&path), temporary_beside(&root.path().join("apps/web"))] {
            fs::create_dir(&left).unwrap();
            fs::write(left.join("half"), b"a file").unwrap();
        }
        fs::write(temporary_beside(&path), b"half").unwrap();
        remove_temporaries(root.path()).unwrap();
        assert_eq!(names(&root.path().join("apps")), ["web"]);
        assert_eq!(names(path.parent().unwrap()), ["compose.yaml"]);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
    }

    #[test]
    fn a_directory_is_published_once_and_the_second_time_is_a_success() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("releases/web/id");
        for content in ["first", "second"] {
            let staging = root.path().join("staging");
            write(&staging.join("compose/0.yaml"), content.as_bytes(), 0o444).unwrap();
            publish_dir(&staging, &target).unwrap();
            assert!(!staging.exists());
            assert_eq!(fs::read(target.join("compose/0.yaml")).unwrap(), b"first");
        }
    }
}
