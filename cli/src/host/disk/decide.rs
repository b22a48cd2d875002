//! What to do with the disk that is there, by what lies on it and what this machine took before. Pure. A disk is formatted only where it
//! is blank and this machine never had another one.

use landfall_core::config::DataDisk;
use landfall_core::ids::printable;

use super::content::{Content, LABEL};
use super::device::{Device, refuse};
use super::record::Known;
use crate::failure::Failed;

const ACCEPT: &str = "`sudo landfall host disk --accept`";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a file system on it.
    Format,
    /// Take the one that is there.
    Take {
        /// Which one.
        uuid: String,
    },
}

/// Decides. The error is why the disk is not taken.
pub fn decide(content: &Content, known: &Known, disk: &DataDisk, device: &Device) -> Result<Step, Failed> {
    let path = device.path.display();
    match (content, known) {
        (Content::Blank | Content::Unfinished, Known::Nothing) => Ok(Step::Format),
        (Content::Blank | Content::Unfinished, Known::Unreadable) => Err(refuse(
            format!("data disk: {disk} (`{path}`) is blank, and this machine had one that it cannot name any more"),
            format!("attach the disk with the data; {ACCEPT} begins with this blank one"),
        )),
        (Content::Blank | Content::Unfinished, Known::Disk { uuid, .. }) => Err(refuse(
            format!("data disk: {disk} (`{path}`) is blank, and this machine's has UUID {}", printable(uuid, 40)),
            format!("attach the disk with the data; {ACCEPT} begins with this blank one"),
        )),
        (Content::Ours { uuid }, Known::Nothing | Known::Unreadable) => Ok(Step::Take { uuid: uuid.clone() }),
        (Content::Ours { uuid }, Known::Disk { uuid: before, .. }) if uuid == before => {
            Ok(Step::Take { uuid: uuid.clone() })
        }
        (Content::Ours { uuid }, Known::Disk { uuid: before, .. }) => Err(refuse(
            format!(
                "data disk: {disk} (`{path}`) is another one: its UUID is {uuid}, this machine's has {}",
                printable(before, 40)
            ),
            format!("attach the disk of before; {ACCEPT} takes this one in its place"),
        )),
        (Content::Other { what }, Known::Nothing | Known::Unreadable | Known::Disk { .. }) => Err(refuse(
            format!("data disk: on {disk} (`{path}`) there is {what}, so it is somebody's, and stays as it is"),
            format!(
                "attach the right disk, or a blank one; an ext4 that is meant to be it is taken with the label `{LABEL}` (`e2label {path} {LABEL}`)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_blank_disk_of_a_machine_that_had_none_is_formatted() {
        let disk: DataDisk = serde_json::from_value(serde_json::json!({ "lun": 0 })).unwrap();
        let device = Device { path: "/dev/sdc".into(), number: (8, 32), size: 1 << 30 };
        let ours = |uuid: &str| Content::Ours { uuid: uuid.to_owned() };
        let other = Content::Other { what: "gpt".to_owned() };
        let known = Known::Disk { uuid: "a".to_owned(), disk: disk.clone() };
        let take = |uuid: &str| Ok(Step::Take { uuid: uuid.to_owned() });
        for (content, known, wanted) in [
            (Content::Blank, &Known::Nothing, Ok(Step::Format)),
            (Content::Unfinished, &Known::Nothing, Ok(Step::Format)),
            (Content::Blank, &Known::Unreadable, Err("is blank")),
            (Content::Unfinished, &Known::Unreadable, Err("is blank")),
            (Content::Blank, &known, Err("this machine's has UUID a")),
            (Content::Unfinished, &known, Err("this machine's has UUID a")),
            (ours("a"), &Known::Nothing, take("a")),
            (ours("a"), &Known::Unreadable, take("a")),
            (ours("a"), &known, take("a")),
            (ours("b"), &known, Err("is another one: its UUID is b")),
            (other.clone(), &Known::Nothing, Err("there is gpt")),
            (other.clone(), &Known::Unreadable, Err("there is gpt")),
            (other, &known, Err("stays as it is")),
        ] {
            let decided = decide(&content, known, &disk, &device);
            match (&decided, &wanted) {
                (Ok(step), Ok(wanted)) => assert_eq!(step, wanted),
                (Err(failed), Err(words)) => {
                    assert!(failed.message.contains(words) && failed.next.is_some(), "{failed:?}");
                }
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("{content:?}, {known:?}: {decided:?}"),
            }
        }
    }
}
