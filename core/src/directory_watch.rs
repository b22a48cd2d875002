//! What the kernel says of one directory: something in it was published, or the directory went away. The one place
//! that wraps inotify; what a change means is for the reader of the directory to find out.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A watch on a directory that others publish into by rename (see [`crate::publish`]).
#[derive(Debug)]
pub struct DirectoryWatch(AsyncFd<Descriptor>);

/// What happened to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// One file or more were published: look at all of them.
    Published,
    /// It is gone, and so is this watch: open another where the directory is made again.
    Gone,
}

impl DirectoryWatch {
    /// Begins to watch. What was published before is not told: look once after this call.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Whatever happens to a temporary file is nobody's business: only the rename counts.
        inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR)?;
        asynchronous(inotify).map(Self)
    }

    /// Resolves when something happened since the last call. Can be dropped and called again without losing anything.
    pub async fn changed(&self) -> Change {
        match self.0.async_io(Interest::READABLE, |inotify| Ok(inotify.0.read_events()?)).await {
            Ok(events) if !events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED)) => {
                Change::Published
            }
            // A watch that cannot be read is as good as none.
            Ok(_) | Err(_) => Change::Gone,
        }
    }
}

/// tokio asks for a raw descriptor; nix gives a borrowed one.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[expect(deprecated, reason = "its successor is unsafe because an AsRawFd could lie; ours owns its descriptor")]
fn asynchronous(inotify: Inotify) -> io::Result<AsyncFd<Descriptor>> {
    AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn told(watch: &DirectoryWatch) -> Option<Change> {
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.ok()
    }

    #[tokio::test]
    async fn a_publication_is_told_once_and_the_end_of_the_directory_too() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("watched");
        assert!(DirectoryWatch::open(&directory).is_err(), "it is not there yet");
        std::fs::create_dir(&directory).unwrap();
        let watch = DirectoryWatch::open(&directory).unwrap();
        crate::publish::write_json_volatile(&directory.join("a.json"), &1).unwrap();
        assert_eq!(told(&watch).await, Some(Change::Published));
        // Had the temporary file been told too, this would be told at once.
        assert!(tokio::time::timeout(Duration::from_millis(50), watch.changed()).await.is_err());
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(told(&watch).await, Some(Change::Gone));
    }

    #[tokio::test]
    async fn a_file_is_no_directory() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(DirectoryWatch::open(&file).is_err());
    }
}
