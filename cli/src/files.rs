//! The project directory as [`crate::bundle`] sees it: one trait, so that collecting is tested without a disk. Links are
//! reported as what they are, at every part of a path: a bundle must not reach out of its project.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Nothing.
    Missing,
    /// A regular file. At most one byte more than the limit of [`Files::look`] is in `bytes`.
    File {
        /// The content.
        bytes: Vec<u8>,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A directory, with the sorted names in it.
    Directory(Vec<String>),
    /// What a bundle cannot carry: `a symbolic link`, `a socket`.
    Other(&'static str),
}

/// A project directory.
pub trait Files {
    /// What lies at `path`: relative, `/` separated, without `.` and `..`; empty for the directory itself. Of a file at
    /// most `limit` bytes and one more are read.
    fn look(&self, path: &str, limit: usize) -> io::Result<Node>;
}

/// A project directory on a disk.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// The project in this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl Files for Disk {
    fn look(&self, path: &str, limit: usize) -> io::Result<Node> {
        let mut at = self.root.clone();
        // The root itself may be reached by a link: that is the caller's own choice.
        let mut kind = fs::metadata(&at)?.file_type();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at.push(part);
            kind = match fs::symlink_metadata(&at) {
                Ok(found) => found.file_type(),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(Node::Missing);
                }
                Err(error) => return Err(error),
            };
            if kind.is_symlink() {
                return Ok(Node::Other("a symbolic link"));
            }
        }
        if kind.is_dir() {
            let names = fs::read_dir(&at)?.map(|entry| entry.and_then(|e| name_of(&e))).collect::<io::Result<Vec<_>>>();
            return names.map(|mut names| {
                names.sort_unstable();
                Node::Directory(names)
            });
        }
        if !kind.is_file() {
            return Ok(Node::Other(match () {
                () if kind.is_socket() => "a socket",
                () if kind.is_fifo() => "a named pipe",
                () => "a device",
            }));
        }
        let file = fs::File::open(&at)?;
        let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Node::File { bytes, executable })
    }
}

fn name_of(entry: &fs::DirEntry) -> io::Result<String> {
    entry.file_name().into_string().map_err(|name| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the name `{}` is not UTF-8", name.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_disk_is_seen_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        fs::create_dir(root.join("conf")).expect("created");
        fs::write(root.join("conf/a"), "12345").expect("written");
        fs::write(root.join("run.sh"), "").expect("written");
        fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
        symlink("/etc", root.join("link")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("bound");
        let disk = Disk::new(root);
        let table = [
            ("", Node::Directory(vec!["conf".into(), "link".into(), "run.sh".into(), "socket".into()])),
            ("conf", Node::Directory(vec!["a".into()])),
            ("conf/a", Node::File { bytes: b"1234".to_vec(), executable: false }),
            ("run.sh", Node::File { bytes: Vec::new(), executable: true }),
            ("link", Node::Other("a symbolic link")),
            ("link/passwd", Node::Other("a symbolic link")),
            ("socket", Node::Other("a socket")),
            ("nothing", Node::Missing),
            ("run.sh/below", Node::Missing),
        ];
        for (path, expected) in table {
            assert_eq!(disk.look(path, 3).expect(path), expected, "{path}");
        }
    }
}
