//! What the agent wants of every app: reads `wanted/<app>.json` where it changed. A file that cannot be read is never taken for an
//! absent one: what was wanted stays wanted.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::directory_watch::{Change, DirectoryWatch};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;

/// How a file looked.
type Look = (i64, i64, u64, u64);

/// The files, and the watch on their directory.
#[derive(Debug)]
pub struct Wanted {
    layout: Layout,
    watch: Option<DirectoryWatch>,
    known: BTreeMap<AppName, Look>,
}

/// What changed.
#[derive(Debug)]
pub enum News {
    /// An app wants this now.
    Asked(Box<WantedFile>),
    /// It wants nothing any more: its file is gone.
    Gone(AppName),
}

impl Wanted {
    /// Knows nothing yet.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), watch: None, known: BTreeMap::new() }
    }

    /// Whether changes are told; otherwise look more often.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Resolves when the directory changed; never where it is not there yet, and never for a file that was removed.
    pub async fn changed(&mut self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        match watch.changed().await {
            Change::Published => {}
            Change::Gone => self.watch = None,
        }
    }

    /// What is new since the last look.
    pub fn look(&mut self) -> Vec<News> {
        // Before the reading: a change in between is told.
        if self.watch.is_none() {
            self.watch = DirectoryWatch::open(&self.layout.wanted_dir()).ok();
        }
        let found = match self.list() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("cannot list `{}`: {error}; check its owner", self.layout.wanted_dir().display());
                return Vec::new();
            }
        };
        let gone: Vec<AppName> = self.known.keys().filter(|app| !found.contains_key(*app)).cloned().collect();
        self.known.retain(|app, _| found.contains_key(app));
        let mut news: Vec<News> = gone.into_iter().map(News::Gone).collect();
        for (app, look) in found {
            if self.known.insert(app.clone(), look) == Some(look) {
                continue;
            }
            let path = self.layout.wanted(&app);
            match contract::read::<WantedFile>(&path) {
                Read::Found(wanted) if wanted.app == app => news.push(News::Asked(Box::new(wanted))),
                Read::Found(wanted) => {
                    tracing::warn!(LANDFALL_APP = %app, "`{}` is of `{}`; what was wanted stays", path.display(), wanted.app);
                }
                Read::NewerFormat(format) => {
                    tracing::warn!(LANDFALL_APP = %app, format, "`{}` is of a newer version; update this program", path.display());
                }
                Read::Garbled(why) => {
                    tracing::warn!(LANDFALL_APP = %app, "cannot use what is wanted: {why}; what was stays");
                }
                // Removed in between: the next look tells.
                Read::Absent => {}
            }
        }
        news
    }

    fn list(&self) -> io::Result<BTreeMap<AppName, Look>> {
        let entries = match std::fs::read_dir(self.layout.wanted_dir()) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let look = |data: Metadata| (data.mtime(), data.mtime_nsec(), data.len(), data.ino());
        let file = |entry: &std::fs::DirEntry| {
            let app = entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok()?;
            Some((app, look(entry.metadata().ok()?)))
        };
        Ok(entries.iter().filter_map(file).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use landfall_core::publish;

    use super::*;

    fn show(news: &[News]) -> Vec<String> {
        let one = |news: &News| match news {
            News::Asked(wanted) => format!("{} {}", wanted.app, wanted.poll),
            News::Gone(app) => format!("{app} gone"),
        };
        news.iter().map(one).collect()
    }

    #[tokio::test]
    async fn what_changed_is_told_once_and_a_torn_file_is_not_an_absent_one() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let app: AppName = "web".parse().unwrap();
        let write = |poll| {
            let (releases, tags, secrets, request) = (Vec::new(), BTreeMap::new(), Vec::new(), String::new());
            let live = BTreeMap::new();
            let file = WantedFile { format: 1, app: app.clone(), releases, poll, tags, secrets, live, request };
            publish::write_json(&layout.wanted(&app), &file).unwrap();
        };
        let mut wanted = Wanted::new(&layout);
        assert!(wanted.look().is_empty());
        write(1);
        assert_eq!(show(&wanted.look()), ["web 1"]);
        assert!(wanted.look().is_empty());
        write(2);
        tokio::time::timeout(Duration::from_secs(10), wanted.changed()).await.unwrap();
        assert_eq!(show(&wanted.look()), ["web 2"]);
        publish::write(&layout.wanted(&app), b"{\"format\":1", 0o644).unwrap();
        publish::write(&layout.wanted_dir().join("No App.json"), b"{}", 0o644).unwrap();
        assert!(wanted.look().is_empty());
        std::fs::remove_file(layout.wanted(&app)).unwrap();
        assert_eq!(show(&wanted.look()), ["web gone"]);
    }
}
