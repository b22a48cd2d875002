//! Whether the settings files have changed, without reading them: cheap, and enough for editors that write in place and those that
//! rename.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::config_files;
use crate::layout::Layout;

/// How the files looked. Take it before they are read: a change in between is then seen by the next look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, i64, i64, u64, u64)>);

impl Stamp {
    /// As they are now; files that cannot be looked at are left out.
    pub fn take(layout: &Layout) -> Self {
        let look = |path: PathBuf| {
            let data = std::fs::metadata(&path).ok()?;
            Some((path, data.mtime(), data.mtime_nsec(), data.len(), data.ino()))
        };
        Self(config_files(layout).unwrap_or_default().into_iter().filter_map(look).collect())
    }
}
