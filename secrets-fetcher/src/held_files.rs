//! Files in memory that hold one secret each: the credential of a registry, the credential of a unit. They are replaced whole and
//! only when their content is another, so that who looks at them sees a change where there is one. No text from here has a value in it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use landfall_core::layout::Layout;
use landfall_core::publish;

use crate::directory::read_value;
use crate::value::Value;

/// A unit's directory is ours alone: it gets its credentials over the socket.
const OWN: u32 = 0o700;
/// A group may look into the directory of credentials: those who pull. It is set-group-id where whoever made it wants another group.
const SHARED: u32 = 0o750;
/// No more of it may be read by others than its owner and group do.
const FILE: u32 = 0o440;

/// Makes the directory that others read from, where it is not there.
pub fn make_shared(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    directory.parent().map_or(Ok(()), publish::make_directories)?;
    DirBuilder::new().mode(SHARED).create(directory)
}

/// Lays down a value; with a user as `user:password`, as [`landfall_core::credential`] reads it.
pub fn lay(path: &Path, username: Option<&str>, value: &Value) -> Result<(), String> {
    let credential;
    let content = match username {
        Some(username) => {
            credential = of_user(username, value)?;
            &credential
        }
        None => value,
    };
    if read_value(path).is_ok_and(|before| before.bytes() == content.bytes()) {
        return Ok(());
    }
    let failed = |error: io::Error| {
        let path = path.display();
        format!("cannot write `{path}` ({error}); next: see that the memory there is not full, and the fetcher's own")
    };
    if let (None, Some(directory)) = (username, path.parent()) {
        DirBuilder::new().recursive(true).mode(OWN).create(directory).map_err(failed)?;
    }
    publish::write_volatile(path, content.bytes(), FILE).map_err(failed)
}

/// A line for the user; a password is one line, of which spaces around it are no part.
fn of_user(username: &str, value: &Value) -> Result<Value, String> {
    let wrong = |what: &str| {
        format!(
            "the secret is no password or token of `{username}`: {what}; next: put the password alone there, on one line"
        )
    };
    let password = std::str::from_utf8(value.bytes()).map_err(|_| wrong("it is no text"))?.trim();
    if password.is_empty() {
        return Err(wrong("it is empty"));
    }
    if password.chars().any(char::is_control) {
        return Err(wrong("it has several lines or control characters"));
    }
    // All at once: a vector that grows leaves copies behind.
    let mut line = Vec::with_capacity(username.len() + 1 + password.len());
    line.extend_from_slice(username.as_bytes());
    line.push(b':');
    line.extend_from_slice(password.as_bytes());
    Ok(Value::new(line))
}

/// Removes what `named` does not have, and what a killed fetcher left.
pub fn remove_others(layout: &Layout, named: &BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let units = list(&layout.unit_secrets())?;
    let mut files = list(&layout.registry_credentials())?;
    for unit in &units {
        files.extend(list(unit)?);
    }
    files.retain(|path| !named.contains(path));
    for path in &files {
        fs::remove_file(path)?;
    }
    for unit in units {
        // One that is not empty refuses.
        let _ = fs::remove_dir(unit);
    }
    Ok(files)
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_credential_is_one_line_and_is_written_only_when_it_is_another() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.b:5000");
        let lay = |text: &str| lay(&path, Some("bot"), &Value::new(text.as_bytes().to_vec()));
        let inode = || fs::metadata(&path).unwrap().ino();
        lay("p-a:ss\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"bot:p-a:ss");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o440);
        let before = inode();
        lay("p-a:ss").unwrap();
        assert_eq!(inode(), before);
        lay("other").unwrap();
        assert_ne!(inode(), before);
        for (wrong, words) in [("", "it is empty"), (" \n", "it is empty"), ("hun\nter2", "several lines")] {
            let said = lay(wrong).unwrap_err();
            assert!(said.contains(words) && !said.contains("ter2"), "{said}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"bot:other", "what was good stays");
    }

    #[test]
    fn what_nobody_names_goes() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let value = Value::new(b"x".to_vec());
        let kept = layout.unit_secret("a.service", "KEPT");
        let others = [layout.unit_secret("a.service", "GONE"), layout.unit_secret("b.service", "GONE")];
        for path in others.iter().chain([&kept]) {
            lay(path, None, &value).unwrap();
        }
        make_shared(&layout.registry_credentials()).unwrap();
        lay(&layout.registry_credential("a.b"), Some("bot"), &value).unwrap();
        fs::write(publish::temporary_beside(&layout.registry_credential("a.b")), "half").unwrap();
        assert_eq!(remove_others(&layout, &[kept.clone()].into()).unwrap().len(), 4);
        assert!(kept.is_file() && !others[1].parent().unwrap().exists());
        assert_eq!(fs::metadata(layout.unit_secrets()).unwrap().mode() & 0o7777, 0o700);
    }
}
