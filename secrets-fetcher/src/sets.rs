//! Sets on disk that is memory: laid down whole or not at all, never changed, and removed when nobody has named them for
//! [`KEEP`]. Nothing here knows what a value is for, and no name of a file comes from a vault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::layout::Layout;
use landfall_core::secrets::{DEFAULT_MODE, NeededFile};
use landfall_core::{publish, secrets_mount};
use tokio::time::Instant;

use crate::live;
use crate::owner;
use crate::value::Value;

/// How long a set lies that nobody names.
pub const KEEP: Duration = Duration::from_hours(1);
/// Directories are the owner's alone, but for a live one and what is in it.
const DIRECTORY_MODE: u32 = 0o700;
/// No bit beyond these is given to a file.
const MODE_MASK: u32 = 0o777;

/// Why a set was not laid down.
#[derive(Debug, thiserror::Error)]
pub enum LayError {
    /// A file or directory cannot be written.
    #[error(
        "cannot write the set `{path}` ({source}); next: see that the memory there is mounted, not full, and the fetcher's own"
    )]
    Write {
        /// The set.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The fetcher may not give files away.
    #[error(
        "cannot give `{name}` to {owner} ({source}); next: `systemctl status landfall-secrets-owner.socket`, or remove `uid` and `gid`"
    )]
    Owner {
        /// The file.
        name: String,
        /// Whose it was to be.
        owner: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Who may look into the directory of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The owner alone: containers get its files.
    Closed,
    /// Everybody who gets as far: containers get the directory above it.
    Open,
}

impl Room {
    fn mode(self) -> u32 {
        match self {
            Self::Closed => DIRECTORY_MODE,
            Self::Open => 0o755,
        }
    }
}

/// Lays down a set. One that is there is right as it is: its name says what is in it. `owner` is who gives files away ([`owner::give`]).
pub fn lay_in<'a>(
    room: Room,
    target: &Path,
    owner: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a NeededFile, &'a Value)>,
) -> Result<(), LayError> {
    if target.exists() {
        return Ok(());
    }
    let failed = |source| LayError::Write { path: target.to_owned(), source };
    let staging = publish::temporary_beside(target);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE).create(&staging).map_err(failed)?;
    let laid = files
        .into_iter()
        .try_for_each(|(name, file, value)| write(&staging, name, file, value, (target, owner)))
        .and_then(|()| fs::set_permissions(&staging, Permissions::from_mode(room.mode())).map_err(failed))
        .and_then(|()| publish::publish_dir_volatile(&staging, target).map_err(failed));
    if laid.is_err() {
        // The first error is the one that tells; what is left is swept at the next start.
        let _ = fs::remove_dir_all(&staging);
    }
    laid
}

fn write(
    staging: &Path,
    name: &str,
    file: &NeededFile,
    value: &Value,
    (target, owner): (&Path, &Path),
) -> Result<(), LayError> {
    let failed = |source| LayError::Write { path: target.to_owned(), source };
    let mut open = OpenOptions::new();
    let mut opened = open.write(true).create_new(true).mode(0o600).open(staging.join(name)).map_err(failed)?;
    opened.write_all(value.bytes()).map_err(failed)?;
    // While it is still ours: who gives a file away may not change its mode any more.
    let mode = file.mode.unwrap_or(DEFAULT_MODE) & MODE_MASK;
    opened.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    if file.uid.is_none() && file.gid.is_none() {
        return Ok(());
    }
    owner::give(&opened, file.uid, file.gid, owner).map_err(|source| {
        let number = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
        LayError::Owner { name: name.to_owned(), owner: format!("{}:{}", number(file.uid), number(file.gid)), source }
    })
}

/// Why nothing may be written to the memory, told once.
pub fn fitness(layout: &Layout, before: Option<&String>) -> Option<String> {
    let unfit = secrets_mount::check(&layout.secrets()).err().map(|error| error.to_string());
    match &unfit {
        Some(problem) if before != Some(problem) => tracing::error!("no secret is fetched: {problem}"),
        None if before.is_some() => tracing::info!("the memory for secrets can be used"),
        Some(_) | None => {}
    }
    unfit
}

/// When a set was laid down.
pub fn laid_at(set: &Path) -> Option<Timestamp> {
    fs::metadata(set).and_then(|data| data.modified()).ok().and_then(|time| time.try_into().ok())
}

/// Removes what a killed fetcher left unfinished. For the start.
pub fn remove_unfinished(layout: &Layout) -> io::Result<()> {
    for directory in [layout.secrets(), layout.secrets_index_dir()] {
        match publish::remove_temporaries(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Since when nobody names what.
#[derive(Debug, Default)]
pub struct Unnamed(BTreeMap<PathBuf, Instant>);

impl Unnamed {
    /// Removes what nobody has named for [`KEEP`]: sets, and index files of apps that are gone. `named` has the paths of both.
    pub fn sweep(&mut self, layout: &Layout, named: &BTreeSet<PathBuf>, now: Instant) -> io::Result<Vec<PathBuf>> {
        let services: Vec<PathBuf> =
            list(&layout.secrets())?.iter().map(|app| list(app)).collect::<io::Result<Vec<_>>>()?.concat();
        let mut paths = services.iter().map(|service| list(service)).collect::<io::Result<Vec<_>>>()?.concat();
        paths.extend(list(&layout.secrets_index_dir())?);
        paths.extend(live::sets_unseen(&paths));
        let over = self.over(paths, named, now);
        for path in &over {
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else if path.exists() {
                fs::remove_file(path)?;
            }
        }
        // Directories that are left empty; the others refuse.
        for service in services {
            let _ = fs::remove_dir(&service);
            let _ = service.parent().map(fs::remove_dir);
        }
        Ok(over)
    }

    /// Of these paths, what nobody has named for [`KEEP`].
    pub fn over(&mut self, paths: Vec<PathBuf>, named: &BTreeSet<PathBuf>, now: Instant) -> Vec<PathBuf> {
        let before = std::mem::take(&mut self.0);
        let unnamed = paths.into_iter().filter(|path| !named.contains(path));
        self.0 = unnamed.map(|path| (path.clone(), before.get(&path).copied().unwrap_or(now))).collect();
        let over = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= KEEP);
        over.map(|(path, _)| path.clone()).collect()
    }
}

/// What is in a directory, without what is hidden or unfinished; nothing where it is none.
pub fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let entries = entries.collect::<io::Result<Vec<_>>>()?;
    let shown = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    Ok(entries.iter().filter(|entry| shown(entry)).map(fs::DirEntry::path).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::slice;

    use super::*;

    fn lay<'a>(
        target: &Path,
        files: impl IntoIterator<Item = (&'a str, &'a NeededFile, &'a Value)>,
    ) -> Result<(), LayError> {
        lay_in(Room::Closed, target, Path::new("/absent"), files)
    }

    fn file(mode: Option<u32>) -> NeededFile {
        NeededFile { secret: "db".parse().unwrap(), uid: None, gid: None, mode }
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        (root, layout)
    }

    #[test]
    fn a_set_is_whole_with_its_modes_and_is_never_changed() {
        let (_root, layout) = layout();
        let target = layout.secret_set(&"web".parse().unwrap(), "api", "set");
        let (open, closed) = (file(None), file(Some(0o7400)));
        let value = |text: &str| Value::new(text.as_bytes().to_vec());
        let (first, second) = (value("first"), value("second"));
        lay(&target, [("OPEN", &open, &first), ("CLOSED", &closed, &first)]).unwrap();
        lay(&target, [("OPEN", &open, &second)]).unwrap();
        assert_eq!(fs::read(target.join("OPEN")).unwrap(), b"first");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&target.join("OPEN")), mode(&target.join("CLOSED"))), (0o444, 0o400));
        for directory in target.ancestors().take(3) {
            assert_eq!(mode(directory), 0o700, "{}", directory.display());
        }
        assert_eq!(list(target.parent().unwrap()).unwrap(), slice::from_ref(&target));
        assert!(laid_at(&target).is_some());
    }

    #[test]
    fn what_cannot_be_laid_down_leaves_nothing() {
        let (_root, layout) = layout();
        let target = layout.secret_set(&"web".parse().unwrap(), "api", "set");
        let value = Value::new(Vec::new());
        let file = file(None);
        assert!(lay(&target, [("A", &file, &value), ("absent/B", &file, &value)]).is_err());
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_names_goes_after_an_hour() {
        let (_root, layout) = layout();
        let app = "web".parse().unwrap();
        let (kept, left) = (layout.secret_set(&app, "api", "kept"), layout.secret_set(&app, "db", "left"));
        let (file, value) = (file(None), Value::new(Vec::new()));
        for set in [&kept, &left] {
            lay(set, [("A", &file, &value)]).unwrap();
        }
        let index = layout.secrets_index(&"gone".parse().unwrap());
        publish::write(&index, b"{}", 0o644).unwrap();
        let named: BTreeSet<PathBuf> = [kept.clone()].into();
        let (mut unnamed, start) = (Unnamed::default(), Instant::now());
        let minute = Duration::from_mins(1);
        assert!(unnamed.sweep(&layout, &named, start).unwrap().is_empty());
        // Named in between: the hour begins anew.
        assert!(unnamed.sweep(&layout, &[kept.clone(), left.clone()].into(), start + minute).unwrap().is_empty());
        assert!(unnamed.sweep(&layout, &named, start + 2 * minute).unwrap().is_empty());
        assert_eq!(unnamed.sweep(&layout, &named, start + KEEP).unwrap(), [index]);
        assert_eq!(unnamed.sweep(&layout, &named, start + KEEP + 2 * minute).unwrap(), slice::from_ref(&left));
        assert!(!left.parent().unwrap().exists() && kept.exists());
        remove_unfinished(&layout).unwrap();
        assert!(kept.exists());
    }
}
