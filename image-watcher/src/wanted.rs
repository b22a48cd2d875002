//! Poll now: the agent raises a counter in `wanted/<app>.json`, or names other tags to follow. The kernel tells when that directory
//! changes; where it is not there yet, looking now and then must do.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use landfall_core::config::Channel;
use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::directory_watch::{Change, DirectoryWatch};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;

/// The counters, and the watch on their directory.
#[derive(Debug)]
pub struct Wanted {
    layout: Layout,
    watch: Option<DirectoryWatch>,
    known: BTreeMap<AppName, (u64, BTreeMap<String, Channel>)>,
    /// How each file looked when it was read: the same file again costs one look.
    stamps: BTreeMap<AppName, Stamp>,
}

type Stamp = (u64, SystemTime);

/// Two files may have the same number and time, one after the other within a tick of the kernel's clock. Once a file is this old,
/// none that looks the same can come.
const AGE: Duration = Duration::from_secs(1);

impl Wanted {
    /// Watches nothing yet.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), watch: None, known: BTreeMap::new(), stamps: BTreeMap::new() }
    }

    /// Begins to watch where it does not and can.
    pub fn arm(&mut self) {
        if self.watch.is_none() {
            self.watch = DirectoryWatch::open(&self.layout.wanted_dir()).ok();
        }
    }

    /// Resolves when the directory changed; never where it is not watched.
    pub async fn changed(&mut self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        match watch.changed().await {
            Change::Published => {}
            Change::Gone => self.watch = None,
        }
    }

    /// Which of these apps want a poll now: their counter or their tags changed, or are there when they are seen first.
    pub fn raised<'a>(&mut self, apps: impl Iterator<Item = &'a AppName>) -> Vec<AppName> {
        let mut raised = Vec::new();
        for app in apps {
            let path = self.layout.wanted(app);
            // Before the reading: a change in between is seen by the next look.
            let stamp = std::fs::metadata(&path).and_then(|file| Ok((file.ino(), file.modified()?))).ok();
            if stamp.is_some() && stamp.as_ref() == self.stamps.get(app) {
                continue;
            }
            // Absent, torn or newer: keep what was known.
            let Read::Found(wanted) = contract::read::<WantedFile>(&path) else { continue };
            let aged = stamp.filter(|(_, written)| written.elapsed().is_ok_and(|age| age > AGE));
            self.stamps.extend(aged.map(|stamp| (app.clone(), stamp)));
            let asked = (wanted.poll, wanted.tags);
            if self.known.insert(app.clone(), asked.clone()).unwrap_or_default() != asked {
                raised.push(app.clone());
            }
        }
        raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_raised_counter_is_seen_at_once_and_once() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let app: AppName = "web".parse().unwrap();
        let write = |poll| {
            let (releases, tags, request) = (Vec::new(), BTreeMap::new(), String::new());
            let file = WantedFile {
                format: 1,
                app: app.clone(),
                releases,
                poll,
                tags,
                secrets: Vec::new(),
                live: BTreeMap::new(),
                request,
            };
            landfall_core::publish::write_json(&layout.wanted(&app), &file).unwrap();
        };
        let mut wanted = Wanted::new(&layout);
        wanted.arm();
        assert!(wanted.watch.is_none());
        write(0);
        wanted.arm();
        assert!(wanted.raised([&app].into_iter()).is_empty());
        write(1);
        tokio::time::timeout(Duration::from_secs(10), wanted.changed()).await.unwrap();
        assert_eq!(wanted.raised([&app].into_iter()).len(), 1);
        assert!(wanted.raised([&app].into_iter()).is_empty());

        // A file that has aged is read once more, then not before it is another one.
        let age = |by| {
            let file = std::fs::File::options().write(true).open(layout.wanted(&app)).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        };
        age(AGE * 2);
        assert!(wanted.raised([&app].into_iter()).is_empty());
        assert_eq!(wanted.stamps.len(), 1);
        write(2);
        age(AGE * 3);
        assert_eq!(wanted.raised([&app].into_iter()).len(), 1);
        assert!(wanted.raised([&app].into_iter()).is_empty());

        std::fs::remove_dir_all(layout.wanted_dir()).unwrap();
        while wanted.watch.is_some() {
            tokio::time::timeout(Duration::from_secs(10), wanted.changed()).await.unwrap();
        }
    }
}
