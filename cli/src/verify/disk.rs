//! Is the disk that volumes lie on, where the settings ask for one, the one that it should be, and used to its end?

use std::fs::File;
use std::path::Path;

use landfall_core::config::{DataDisk, Settings};

use super::finding::{Finding, Subject};
use super::machine::Machine;
use crate::host::disk::record::{self, Known, Standing};
use crate::host::disk::{content, device, mounts};
use crate::terminal::size;

const AGAIN: &str = "`sudo landfall host disk`, and see `journalctl -u landfall-data-disk`";

/// What was looked at.
#[derive(Debug, Clone)]
struct Seen {
    disk: DataDisk,
    standing: Option<Standing>,
    known: Known,
    /// The number of what is mounted where volumes are.
    mounted: Option<(u64, u64)>,
    /// The number of the disk that is asked for.
    device: Result<(u64, u64), String>,
    /// Whether Docker keeps volumes there; nobody knows where it does not answer.
    is_dockers: Option<bool>,
    /// How much of the disk is not used, where one may look.
    unused: Option<u64>,
}

/// One line where a disk is asked for, else none.
pub fn check(machine: &Machine, settings: Option<&Settings>, docker: Option<&Path>) -> Option<Finding> {
    let disk = settings?.host.data_disk.clone()?;
    let place = machine.layout.docker_volumes();
    let place = std::fs::canonicalize(&place).unwrap_or(place);
    let node = device::find(&machine.layout, &disk).and_then(|node| node.as_deref().map(device::examine).transpose());
    let device = match node {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err("it is not there".to_owned()),
        Err(failed) => Err(failed.message),
    };
    // Root may.
    let open = |device: &device::Device| File::open(&device.path).and_then(|file| content::unused(&file, device.size));
    Some(judge(&Seen {
        standing: record::state(&machine.layout).map(|state| state.standing),
        known: record::known(&machine.layout),
        mounted: mounts::list().ok().and_then(|mounts| Some(mounts::at(&mounts, &place)?.number)),
        is_dockers: docker.map(|root| root.join("volumes") == place),
        unused: device.as_ref().ok().and_then(|device| open(device).ok().flatten()),
        device: device.map(|device| device.number),
        disk,
    }))
}

fn judge(seen: &Seen) -> Finding {
    let subject = Subject::new("data-disk", format!("Docker's volumes are on the data disk, {}", seen.disk));
    match &seen.standing {
        Some(Standing::Absent { said, next } | Standing::Refused { said, next }) => return subject.fail(said, next),
        Some(Standing::Mounted { .. }) | None => {}
    }
    let number = match &seen.device {
        Ok(device) => *device,
        Err(why) => return subject.fail(why, AGAIN),
    };
    match seen.mounted {
        None => return subject.fail("nothing is mounted there", format!("stop Docker, then {AGAIN}")),
        Some(mounted) if mounted != number => {
            return subject.fail("another disk is mounted there", "see `findmnt /var/lib/docker/volumes`");
        }
        Some(_) => {}
    }
    if seen.is_dockers == Some(false) {
        return subject.fail("Docker keeps its volumes elsewhere", "take `data-root` out of /etc/docker/daemon.json");
    }
    let uuid = match (&seen.known, &seen.standing) {
        (Known::Disk { uuid, .. }, Some(Standing::Mounted { uuid: now })) if uuid != now => {
            return subject.fail(format!("its UUID is {now}, and {uuid} was remembered"), AGAIN);
        }
        (Known::Disk { uuid, .. }, _) => uuid,
        (Known::Nothing | Known::Unreadable, _) => {
            return subject.warn("it is not remembered, so another one would be taken at the next boot", AGAIN);
        }
    };
    match seen.unused {
        Some(bytes) => subject.warn(format!("{} of the disk are not used", size(bytes)), AGAIN),
        None => subject.pass(format!("UUID {uuid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    fn well() -> Seen {
        let disk: DataDisk = serde_json::from_value(serde_json::json!({ "lun": 0 })).unwrap();
        Seen {
            standing: Some(Standing::Mounted { uuid: "a".to_owned() }),
            known: Known::Disk { uuid: "a".to_owned(), disk: disk.clone() },
            mounted: Some((8, 32)),
            device: Ok((8, 32)),
            is_dockers: Some(true),
            unused: None,
            disk,
        }
    }

    #[test]
    fn volumes_are_on_the_disk_that_is_asked_for_or_it_fails() {
        let said = |said: &str| (said.to_owned(), "do it".to_owned());
        let (absent, next) = said("it is not there");
        let absent = Standing::Absent { said: absent, next };
        let (refused, next) = said("gpt");
        let refused = Standing::Refused { said: refused, next };
        let table: [(Seen, Grade, &str); 12] = [
            (well(), Grade::Pass, "UUID a"),
            (Seen { is_dockers: None, ..well() }, Grade::Pass, "UUID a"),
            (Seen { standing: Some(absent), ..well() }, Grade::Fail, "not there"),
            (Seen { standing: Some(refused), ..well() }, Grade::Fail, "gpt"),
            (Seen { device: Err("is a partition".to_owned()), ..well() }, Grade::Fail, "partition"),
            (Seen { mounted: None, ..well() }, Grade::Fail, "nothing"),
            (Seen { mounted: Some((8, 48)), ..well() }, Grade::Fail, "another disk"),
            (Seen { is_dockers: Some(false), ..well() }, Grade::Fail, "elsewhere"),
            (Seen { standing: Some(Standing::Mounted { uuid: "b".to_owned() }), ..well() }, Grade::Fail, "UUID is b"),
            (Seen { known: Known::Unreadable, ..well() }, Grade::Warn, "not remembered"),
            (Seen { standing: None, known: Known::Nothing, ..well() }, Grade::Warn, "not remembered"),
            (Seen { unused: Some(1 << 30), ..well() }, Grade::Warn, "1G of the disk"),
        ];
        for (seen, grade, words) in table {
            let found = judge(&seen);
            assert_eq!(found.grade, grade, "{seen:?}: {found:?}");
            assert!(found.seen.contains(words), "{words}: {found:?}");
            assert_eq!(found.next.is_some(), grade != Grade::Pass, "{found:?}");
        }
    }
}
