//! `channels/<app>.json`, the watcher's word on a channel. What the agent acts on is written durably when it changes;
//! the time of the last good poll is refreshed now and then without fsync, so that an idle channel costs no disk.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use landfall_core::config::Channel;
use landfall_core::contract::{self, ChannelFile, FORMAT, Read};
use landfall_core::ids::{AppName, Digest, ReleaseId};
use landfall_core::layout::Layout;
use landfall_core::publish;

/// How old the time of the last good poll may be on disk.
const REFRESH: Duration = Duration::from_secs(10);

/// The channel file of one app.
#[derive(Debug)]
pub struct ChannelRecord {
    path: PathBuf,
    file: ChannelFile,
    written: Option<(ChannelFile, Instant)>,
}

/// A release that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its identity.
    pub release: ReleaseId,
    /// The manifest it came from, where it is one.
    pub digest: Option<Digest>,
    /// Of that manifest.
    pub sequence: Option<u64>,
    /// When that manifest was first seen, or the tag that moved last.
    pub detected_at: Timestamp,
    /// The tags it came from, by service.
    pub tags: BTreeMap<String, Channel>,
}

impl ChannelRecord {
    /// What is on disk, as far as it is about this channel and its release is still there.
    pub fn open(layout: &Layout, app: &AppName, channel: &Channel) -> Self {
        let path = layout.channel(app);
        let fresh = ChannelFile {
            format: FORMAT,
            app: app.clone(),
            channel: channel.to_string(),
            release: None,
            digest: None,
            sequence: None,
            detected_at: None,
            last_good_poll: None,
            problem: None,
            tags: BTreeMap::new(),
        };
        let file = match contract::read::<ChannelFile>(&path) {
            Read::Found(file) if file.app == *app && file.channel == fresh.channel => {
                let is_there = file.release.as_ref().is_some_and(|id| layout.release(app, id).is_dir());
                if is_there { file } else { fresh }
            }
            Read::Found(_) | Read::Absent => fresh,
            Read::NewerFormat(format) => {
                tracing::warn!(LANDFALL_APP = %app, "the channel file has format {format}; it is made anew from the registry");
                fresh
            }
            Read::Garbled(why) => {
                tracing::warn!(LANDFALL_APP = %app, "the channel file cannot be read and is made anew from the registry: {why}");
                fresh
            }
        };
        Self { path, file, written: None }
    }

    /// As it is now, on disk or about to be.
    pub fn file(&self) -> &ChannelFile {
        &self.file
    }

    /// A poll that got a valid answer, with what keeps the newest thing from being taken.
    pub fn good_poll(&mut self, now: Timestamp, problem: Option<String>) -> io::Result<()> {
        self.file.last_good_poll = Some(time_text(now));
        self.problem(problem)
    }

    /// A poll that got none.
    pub fn problem(&mut self, problem: Option<String>) -> io::Result<()> {
        self.file.problem = problem;
        match &self.written {
            None => self.write_durable(),
            Some((written, _)) if written.problem != self.file.problem => self.write_volatile(),
            Some((written, at)) if written.last_good_poll != self.file.last_good_poll && at.elapsed() >= REFRESH => {
                self.write_volatile()
            }
            Some(_) => Ok(()),
        }
    }

    /// Shows a release that is staged. On an error the file says what it said before.
    pub fn take(&mut self, taken: Taken, now: Timestamp) -> io::Result<()> {
        let before = self.file.clone();
        self.file.release = Some(taken.release);
        self.file.digest = taken.digest;
        self.file.sequence = taken.sequence;
        self.file.tags = taken.tags;
        self.file.detected_at = Some(time_text(taken.detected_at));
        self.file.last_good_poll = Some(time_text(now));
        self.file.problem = None;
        let done = self.write_durable();
        if done.is_err() {
            self.file = before;
        }
        done
    }

    fn write_durable(&mut self) -> io::Result<()> {
        publish::write_json(&self.path, &self.file)?;
        self.written = Some((self.file.clone(), Instant::now()));
        Ok(())
    }

    fn write_volatile(&mut self) -> io::Result<()> {
        publish::write_json_volatile(&self.path, &self.file)?;
        self.written = Some((self.file.clone(), Instant::now()));
        Ok(())
    }
}

/// A time as contract files write it: RFC 3339, UTC, milliseconds.
fn time_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(layout: &Layout, channel: &str) -> ChannelRecord {
        ChannelRecord::open(layout, &"web".parse().unwrap(), &channel.parse().unwrap())
    }

    #[test]
    fn idle_polls_do_not_write_and_a_change_does() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let app: AppName = "web".parse().unwrap();
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let read = || match contract::read::<ChannelFile>(&layout.channel(&app)) {
            Read::Found(file) => file,
            other => panic!("{other:?}"),
        };
        let mut record = open(&layout, "a.b/c:1");
        record.good_poll(now, None).unwrap();
        assert_eq!(read().last_good_poll.as_deref(), Some("2030-01-01T00:00:00.000Z"));
        record.good_poll(now + Duration::from_secs(5), None).unwrap();
        assert_eq!(read().last_good_poll.as_deref(), Some("2030-01-01T00:00:00.000Z"));
        record.good_poll(now + Duration::from_secs(5), Some("why".into())).unwrap();
        assert_eq!(
            (read().last_good_poll.as_deref(), read().problem.as_deref()),
            (Some("2030-01-01T00:00:05.000Z"), Some("why"))
        );
        let digest = Digest::of(b"manifest");
        let release: ReleaseId = digest.hex().parse().unwrap();
        let digest = Some(digest);
        let taken =
            Taken { release: release.clone(), digest, sequence: Some(7), detected_at: now, tags: BTreeMap::new() };
        record.take(taken, now).unwrap();
        assert_eq!((read().release, read().sequence, read().problem), (Some(release.clone()), Some(7), None));

        // Without its directory the release is not there, whatever the file says.
        assert_eq!(open(&layout, "a.b/c:1").file().release, None);
        std::fs::create_dir_all(layout.release(&app, &release)).unwrap();
        assert_eq!(open(&layout, "a.b/c:1").file(), &read());
        assert_eq!(open(&layout, "a.b/c:2").file().release, None);
        std::fs::write(layout.channel(&app), "{").unwrap();
        assert_eq!(open(&layout, "a.b/c:1").file().release, None);
    }
}
