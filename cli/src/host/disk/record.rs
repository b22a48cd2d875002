//! Which disk this machine took (on its own disk, for the next boot), and what became of it in this boot (in memory, for `status`,
//! `verify` and the timer). A record that cannot be read is not "none".

use std::fs;
use std::io;

use landfall_core::config::DataDisk;
use landfall_core::layout::Layout;
use landfall_core::publish;
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const MODE: u32 = 0o644;

/// What this machine knows of its data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It never had one.
    Nothing,
    /// It had one, and nobody can read which.
    Unreadable,
    /// This one.
    Disk {
        /// The UUID of its file system.
        uuid: String,
        /// How it was found.
        disk: DataDisk,
    },
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    uuid: String,
    disk: DataDisk,
}

/// What became of the data disk in this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// What was asked for.
    pub disk: Option<DataDisk>,
    /// What became of it.
    pub standing: Standing,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is where volumes are.
    Mounted {
        /// The UUID of its file system.
        uuid: String,
    },
    /// It was not there.
    Absent {
        /// What was said.
        said: String,
        /// What to do.
        next: String,
    },
    /// It was not taken.
    Refused {
        /// What was said.
        said: String,
        /// What to do.
        next: String,
    },
}

impl State {
    /// Of now.
    pub fn new(disk: Option<&DataDisk>, standing: Standing) -> Self {
        Self { format: FORMAT, disk: disk.cloned(), standing }
    }
}

/// What this machine took before.
pub fn known(layout: &Layout) -> Known {
    match fs::read(layout.data_disk_record()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Known::Nothing,
        Err(_) => Known::Unreadable,
        Ok(bytes) => match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.format == FORMAT => Known::Disk { uuid: record.uuid, disk: record.disk },
            Ok(_) | Err(_) => Known::Unreadable,
        },
    }
}

/// Remembers it. Writes nothing where it is known.
pub fn remember(layout: &Layout, uuid: &str, disk: &DataDisk) -> io::Result<()> {
    let now = Known::Disk { uuid: uuid.to_owned(), disk: disk.clone() };
    if known(layout) == now {
        return Ok(());
    }
    let record = Record { format: FORMAT, uuid: uuid.to_owned(), disk: disk.clone() };
    publish::write_json(&layout.data_disk_record(), &record)
}

/// Forgets it for good: whatever is there next is taken as on a new machine.
pub fn forget(layout: &Layout) -> io::Result<()> {
    let path = layout.data_disk_record();
    match fs::remove_file(&path) {
        Ok(()) => path.parent().map_or(Ok(()), publish::sync_directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What became of it in this boot, if anybody looked and can be understood.
pub fn state(layout: &Layout) -> Option<State> {
    let bytes = fs::read(layout.data_disk_state()).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|state: &State| state.format == FORMAT)
}

/// Tells the others.
pub fn tell(layout: &Layout, state: &State) -> io::Result<()> {
    let line = serde_json::to_vec(state)?;
    publish::write_volatile(&layout.data_disk_state(), &line, MODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_nothing() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let disk: DataDisk = serde_json::from_value(serde_json::json!({ "lun": 3 })).unwrap();
        assert_eq!(known(&layout), Known::Nothing);
        remember(&layout, "a", &disk).unwrap();
        let wanted = Known::Disk { uuid: "a".to_owned(), disk: disk.clone() };
        assert_eq!(known(&layout), wanted);
        for garbled in ["", "{", "{\"format\":2,\"uuid\":\"a\",\"disk\":{\"lun\":3}}"] {
            fs::write(layout.data_disk_record(), garbled).unwrap();
            assert_eq!(known(&layout), Known::Unreadable, "{garbled}");
        }
        remember(&layout, "a", &disk).unwrap();
        assert_eq!(known(&layout), wanted);
        forget(&layout).unwrap();
        forget(&layout).unwrap();
        assert_eq!(known(&layout), Known::Nothing);
    }

    #[test]
    fn the_state_is_read_as_it_was_told() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert_eq!(state(&layout), None);
        let absent = Standing::Absent { said: "gone".to_owned(), next: "attach it".to_owned() };
        for standing in [Standing::Mounted { uuid: "a".to_owned() }, absent] {
            let told = State::new(None, standing);
            tell(&layout, &told).unwrap();
            assert_eq!(state(&layout), Some(told));
        }
    }
}
