//! Live directories: one for each service that sees rotations while it runs, mounted whole by its containers. In it lie sets, as
//! `..<set>`, a link `..data` to one of them, and for each file a link through `..data`; the name of a file never changes what it is,
//! the one rename of `..data` changes all of them at once. So at any moment containers see one whole set, or, before the first, none.
//!
//! Which set they see is the agent's word (`live` in `wanted`); nothing here decides it. Only the directory and its sets can be looked
//! into by others than the owner, and only containers get as far: all above them is closed.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::publish;
use landfall_core::secrets::{SecretNeed, is_live_directory, is_set};

use crate::app::App;
use crate::sets::{LayError, Room};

/// The link that says which set is seen.
const DATA: &str = "..data";
/// Before the name of a set in a live directory: hidden from `ls`, and no name of a file.
const HIDDEN: &str = "..";

/// Where the sets of this need are laid down is made ready; says who may look into them.
pub fn make_room(layout: &Layout, app: &AppName, need: &SecretNeed) -> Result<Room, LayError> {
    let Some(directory) = &need.live else { return Ok(Room::Closed) };
    let path = layout.live_secrets(app, &need.service, directory);
    furnish(&path, need).map_err(|source| LayError::Write { path, source })?;
    Ok(Room::Open)
}

fn furnish(path: &Path, need: &SecretNeed) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for name in need.files.keys() {
        match symlink(Path::new(DATA).join(name), path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Has containers see what is wanted, where it is laid down, and notes what they see.
pub fn follow(layout: &Layout, name: &AppName, app: &mut App) {
    app.live.clear();
    for need in app.needs.values().map(|need| &need.need) {
        let Some(directory) = need.live.as_ref().filter(|directory| is_live_directory(directory)) else { continue };
        if app.live.contains_key(directory) {
            continue;
        }
        let path = layout.live_secrets(name, &need.service, directory);
        let wanted = app.wanted_live.get(directory).filter(|set| is_set(set));
        if let Some(set) = wanted.filter(|set| seen(&path).as_ref() != Some(set) && laid(&path, set))
            && let Err(error) = show(&path, set)
        {
            let service = &need.service;
            tracing::error!(LANDFALL_APP = %name, LANDFALL_SERVICE = %service, "cannot switch the secrets of `{service}` in `{}`: {error}; check its owner and the space there", path.display());
        }
        if let Some(set) = seen(&path) {
            app.live.insert(directory.clone(), set);
        }
    }
}

/// What must stay: the directories of its needs, and the sets that are seen or shall be.
pub fn named(layout: &Layout, name: &AppName, app: &App) -> Vec<PathBuf> {
    let mut named = Vec::new();
    for need in app.needs.values().map(|need| &need.need) {
        let Some(directory) = &need.live else { continue };
        let sets = [app.live.get(directory), app.wanted_live.get(directory)];
        named.extend(sets.into_iter().flatten().map(|set| layout.set_of(name, need, set)));
        named.push(layout.live_secrets(name, &need.service, directory));
    }
    named
}

/// The sets in those of these directories that are live ones, but for those that are seen.
pub fn sets_unseen(directories: &[PathBuf]) -> Vec<PathBuf> {
    let is_live = |path: &&PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_live_directory);
    let mut unseen = Vec::new();
    for directory in directories.iter().filter(is_live) {
        let seen = seen(directory);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let set = name.to_str().and_then(|name| name.strip_prefix(HIDDEN)).filter(|set| is_set(set));
            if set.is_some_and(|set| seen.as_deref() != Some(set)) {
                unseen.push(entry.path());
            }
        }
    }
    unseen
}

/// The set that containers see in this directory; none where it is not there.
fn seen(directory: &Path) -> Option<String> {
    let link = fs::read_link(directory.join(DATA)).ok()?;
    let set = link.to_str()?.strip_prefix(HIDDEN).filter(|set| is_set(set))?;
    laid(directory, set).then(|| set.to_owned())
}

fn laid(directory: &Path, set: &str) -> bool {
    directory.join(format!("{HIDDEN}{set}")).is_dir()
}

fn show(directory: &Path, set: &str) -> io::Result<()> {
    let link = directory.join(DATA);
    let new = publish::temporary_beside(&link);
    symlink(format!("{HIDDEN}{set}"), &new)?;
    publish::replace_volatile(&new, &link)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    use landfall_core::secrets::NeededFile;
    use tokio::time::Instant;

    use super::*;
    use crate::sets::{KEEP, Unnamed, lay_in};
    use crate::value::Value;

    const OLD: &str = "00000000000000000000000000000001";
    const NEW: &str = "00000000000000000000000000000002";

    fn lay(layout: &Layout, app: &AppName, need: &SecretNeed, set: &str, value: &str) {
        let room = make_room(layout, app, need).unwrap();
        let value = Value::new(value.as_bytes().to_vec());
        let files = need.files.iter().map(|(name, file)| (name.as_str(), file, &value));
        lay_in(room, &layout.set_of(app, need, set), &layout.owner_socket(), files).unwrap();
    }

    #[test]
    fn containers_see_one_whole_set_and_what_is_seen_is_never_removed() {
        let root = tempfile::tempdir().unwrap();
        let (layout, name): (_, AppName) = (Layout::new(root.path()), "web".parse().unwrap());
        let file = NeededFile { secret: "db".parse().unwrap(), uid: None, gid: None, mode: None };
        let files = [("DB".to_owned(), file.clone()), ("KEY".to_owned(), file)].into();
        let need = SecretNeed { service: "api".to_owned(), files, live: None }.served_live();
        let directory = need.live.clone().unwrap();
        let path = layout.live_secrets(&name, "api", &directory);
        let mut app = App::default();
        let wanted = |set: &str| landfall_core::contract::WantedFile {
            format: 1,
            app: name.clone(),
            releases: Vec::new(),
            poll: 0,
            tags: std::collections::BTreeMap::new(),
            secrets: vec![need.clone()],
            live: [(directory.clone(), set.to_owned())].into(),
            request: String::new(),
        };
        app.ask(wanted(OLD), |_, _| false);
        follow(&layout, &name, &mut app);
        assert!(app.live.is_empty() && !path.exists(), "nothing is laid down");

        lay(&layout, &name, &need, OLD, "old");
        follow(&layout, &name, &mut app);
        assert_eq!(app.live.get(&directory).map(String::as_str), Some(OLD));
        assert_eq!(fs::read_to_string(path.join("KEY")).unwrap(), "old");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&path.join(DATA)), mode(path.parent().unwrap())), (0o755, 0o755, 0o700));

        // What is wanted and not there changes nothing.
        app.ask(wanted(NEW), |_, _| false);
        follow(&layout, &name, &mut app);
        assert_eq!(fs::read_to_string(path.join("DB")).unwrap(), "old");
        lay(&layout, &name, &need, NEW, "new");
        assert_eq!(fs::read_to_string(path.join("DB")).unwrap(), "old");
        follow(&layout, &name, &mut app);
        assert_eq!(
            (fs::read_to_string(path.join("DB")).unwrap().as_str(), app.live[&directory].as_str()),
            ("new", NEW)
        );
        for bad in ["../..", "..", ""] {
            app.ask(wanted(bad), |_, _| false);
            follow(&layout, &name, &mut app);
            assert_eq!(app.live[&directory], NEW, "{bad}");
        }

        // The old one goes after an hour; what is seen stays, also where nobody wants it.
        let (mut unnamed, start) = (Unnamed::default(), Instant::now());
        let kept: BTreeSet<PathBuf> = [path.clone()].into();
        assert!(unnamed.sweep(&layout, &kept, start).unwrap().is_empty());
        let over = unnamed.sweep(&layout, &kept, start + KEEP).unwrap();
        assert_eq!(over, [layout.set_of(&name, &need, OLD)]);
        assert_eq!(fs::read_to_string(path.join("DB")).unwrap(), "new");
        // Nobody needs the directory any more.
        unnamed.sweep(&layout, &BTreeSet::new(), start + KEEP).unwrap();
        unnamed.sweep(&layout, &BTreeSet::new(), start + 2 * KEEP + Duration::from_secs(1)).unwrap();
        assert!(!path.exists());
    }
}
