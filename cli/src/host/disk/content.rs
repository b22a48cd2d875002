//! What lies on a disk. Blank is only what was read and is empty; nothing is taken for blank because a program could not tell. Between
//! the first byte that is written to a blank disk and its whole file system a mark says that we are at it: it lies in the last block, which
//! the file system does not have yet. Reads only, but for that mark.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use landfall_core::ids::printable;
use serde::Deserialize;

use super::device::{Device, refuse, unreadable};
use super::tools::{self, Tools};
use crate::failure::Failed;

/// The label of our file system: what has it is taken for a data disk of Landfall.
pub const LABEL: &str = "landfall-data";
/// The file system that we make.
pub const TYPE: &str = "ext4";
/// The size of its blocks, and of what is read or marked at once.
pub const BLOCK: u64 = 4096;
/// What the last block of a disk begins with while it is formatted.
const MARK: &[u8] = b"landfall: this disk was blank, and is being formatted\n";

/// What must be empty at both ends of a blank disk: partition tables, and what RAID and volume managers leave there.
const END: u64 = 16 << 20;
/// A group of ext4's blocks: a smaller rest of a disk stays unused.
const GROUP: u64 = 128 << 20;
/// Where ext4's superblock lies.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_SIZE: usize = 1024;
/// In it: the count of blocks in two halves, their size as a power of two above 1 KiB, and whether the second half counts.
const BLOCKS_LOW: usize = 0x4;
const BLOCKS_HIGH: usize = 0x150;
const BLOCK_SIZE: usize = 0x18;
const FEATURES: usize = 0x60;
const IS_64BIT: u64 = 0x80;
/// Between them one block is read at this many places.
const PLACES: u64 = 256;
/// To list signatures is to read a few hundred blocks.
const LISTING: Duration = Duration::from_mins(1);

/// What lies on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Blank,
    /// A disk that was blank, and that we did not come to the end with.
    Unfinished,
    /// Our file system.
    Ours {
        /// Which one.
        uuid: String,
    },
    /// Something else.
    Other {
        /// In words.
        what: String,
    },
}

/// What marks a place on a disk as somebody's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Signature {
    /// Of what.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of which one.
    pub uuid: Option<String>,
    /// Its name.
    pub label: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    signatures: Vec<Signature>,
}

/// Looks. `file` is the disk.
pub async fn look(tools: &Tools, device: &Device, file: &File) -> Result<Content, Failed> {
    let signatures = signatures(tools, device).await?;
    let failed = |error: io::Error| unreadable(&device.path, &error);
    let marked = is_marked(file, device.size).map_err(failed)?;
    if !signatures.is_empty() || marked {
        return Ok(judge(&signatures, marked));
    }
    Ok(match first_byte(file, device.size).map_err(failed)? {
        None => Content::Blank,
        Some(at) => Content::Other { what: format!("something without a name (byte {at} is not empty)") },
    })
}

/// By what was found on a disk that is not empty.
fn judge(signatures: &[Signature], marked: bool) -> Content {
    match signatures {
        [] if marked => Content::Unfinished,
        [Signature { kind, uuid: Some(uuid), label: Some(label) }] if kind == TYPE && label == LABEL => {
            // Nobody mounts it before the mark is gone.
            if marked { Content::Unfinished } else { Content::Ours { uuid: uuid.clone() } }
        }
        others => {
            let shown = |one: &Signature| match &one.label {
                Some(label) => format!("{} with the label `{}`", printable(&one.kind, 40), printable(label, 40)),
                None => printable(&one.kind, 40),
            };
            Content::Other { what: others.iter().map(shown).collect::<Vec<_>>().join(", ") }
        }
    }
}

/// All signatures, wherever they are.
async fn signatures(tools: &Tools, device: &Device) -> Result<Vec<Signature>, Failed> {
    let path = device.path.to_string_lossy();
    let output = tools::run(&tools.wipefs, &["--no-act", "--json", &path], LISTING).await?;
    let failed =
        |why: String| refuse(format!("data disk: cannot tell what lies on `{path}`: {why}"), "see `journalctl -k`");
    if !output.success() {
        return Err(failed(format!("wipefs ended with {}: {}", output.code, tools::last_words(&output))));
    }
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let listed: Listed = serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("wipefs: {error}")))?;
    Ok(listed.signatures)
}

/// Where the first byte is that is not zero, of those that are looked at.
fn first_byte(file: &File, size: u64) -> io::Result<Option<u64>> {
    let ends = [0, size.saturating_sub(END)].map(|from| (from, END.min(size)));
    let places = (1..PLACES).map(|place| (size / PLACES * place / BLOCK * BLOCK, BLOCK));
    let mut bytes = vec![0; usize::try_from(BLOCK).unwrap_or(4096)];
    for (from, length) in ends.into_iter().chain(places) {
        let to = (from + length).min(size);
        let mut at = from;
        while at < to {
            let count = usize::try_from(to - at).unwrap_or(usize::MAX).min(bytes.len());
            file.read_exact_at(&mut bytes[..count], at)?;
            if let Some(byte) = bytes[..count].iter().position(|byte| *byte != 0) {
                return Ok(Some(at + byte as u64));
            }
            at += count as u64;
        }
    }
    Ok(None)
}

/// By how much the disk is larger than the ext4 on it; none where it is used as far as it can be.
pub fn unused(file: &File, size: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; SUPERBLOCK_SIZE];
    file.read_exact_at(&mut bytes, SUPERBLOCK)?;
    let used = filesystem_size(&bytes);
    Ok(size.checked_sub(used).filter(|rest| *rest >= GROUP))
}

fn filesystem_size(superblock: &[u8; SUPERBLOCK_SIZE]) -> u64 {
    let number = |at: usize| {
        let bytes = superblock.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_le_bytes))
    };
    let high = if number(FEATURES) & IS_64BIT == 0 { 0 } else { number(BLOCKS_HIGH) };
    let shift = 10 + u32::try_from(number(BLOCK_SIZE)).unwrap_or_default().min(6);
    ((high << 32) | number(BLOCKS_LOW)) << shift
}

fn mark_at(size: u64) -> u64 {
    (size / BLOCK).saturating_sub(1) * BLOCK
}

fn is_marked(file: &File, size: u64) -> io::Result<bool> {
    let mut bytes = vec![0; MARK.len()];
    file.read_exact_at(&mut bytes, mark_at(size))?;
    Ok(bytes == MARK)
}

/// Says on the disk that it was blank and is ours to format. On the disk before anything else is.
pub fn mark(file: &File, size: u64) -> io::Result<()> {
    file.write_all_at(MARK, mark_at(size))?;
    file.sync_all()
}

/// Takes that back: the file system is whole. After all of it is on the disk.
pub fn unmark(file: &File, size: u64) -> io::Result<()> {
    file.sync_all()?;
    file.write_all_at(&vec![0; MARK.len()], mark_at(size))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const SIZE: u64 = 128 << 20;

    /// A disk that is a file: what reads it does not mind.
    struct Disk(tempfile::NamedTempFile);

    impl Disk {
        fn blank() -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(SIZE).unwrap();
            Self(file)
        }

        fn with(program: &str, arguments: &[&str]) -> Self {
            let disk = Self::blank();
            #[expect(clippy::disallowed_methods, reason = "a test's own child")]
            let output = Command::new(program).args(arguments).arg(disk.0.path()).output().unwrap();
            assert!(output.status.success(), "{program}: {output:?}");
            disk
        }

        fn byte(at: u64) -> Self {
            let disk = Self::blank();
            disk.0.as_file().write_all_at(&[1], at).unwrap();
            disk
        }

        async fn content(&self) -> Result<Content, Failed> {
            let device = Device { path: self.0.path().to_owned(), number: (0, 0), size: SIZE };
            look(&Tools::default(), &device, self.0.as_file()).await
        }
    }

    fn ours(arguments: &[&str]) -> Disk {
        Disk::with("/usr/sbin/mkfs.ext4", &[&["-q", "-F", "-L", LABEL], arguments].concat())
    }

    #[tokio::test]
    async fn only_what_is_empty_all_over_is_blank() {
        assert_eq!(Disk::blank().content().await.unwrap(), Content::Blank);
        let middle = SIZE / PLACES * 100;
        for at in [0, 511, END - 1, middle, SIZE - END, SIZE - 1] {
            match Disk::byte(at).content().await.unwrap() {
                Content::Other { what } => assert!(what.contains(&format!("byte {at} ")), "{what}"),
                content @ (Content::Blank | Content::Unfinished | Content::Ours { .. }) => panic!("{at}: {content:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_somebodys_is_named() {
        for (disk, word) in [
            (Disk::with("/usr/sbin/mkfs.ext4", &["-q", "-F", "-L", "photos"]), "ext4 with the label `photos`"),
            (Disk::with("/usr/sbin/mkfs.ext3", &["-q", "-F", "-L", LABEL]), "ext3"),
            (Disk::with("/usr/sbin/mkswap", &[]), "swap"),
        ] {
            match disk.content().await.unwrap() {
                Content::Other { what } => assert!(what.contains(word), "{what}"),
                content @ (Content::Blank | Content::Unfinished | Content::Ours { .. }) => {
                    panic!("{word}: {content:?}")
                }
            }
        }
        let uuid = "11111111-2222-3333-4444-555555555555".to_owned();
        let disk = ours(&["-U", &uuid]);
        assert_eq!(disk.content().await.unwrap(), Content::Ours { uuid });
        // Ours, and a partition table over it: nobody knows what it is.
        disk.0.as_file().write_all_at(&[0x55, 0xaa], 510).unwrap();
        disk.0.as_file().write_all_at(&[0, 0, 2, 0, 0x83, 1, 1, 1, 0, 8, 0, 0, 0, 16, 0, 0], 446).unwrap();
        assert!(matches!(disk.content().await.unwrap(), Content::Other { what } if what.contains("dos")));
    }

    #[tokio::test]
    async fn what_was_begun_is_known_until_it_is_whole() {
        let disk = Disk::blank();
        mark(disk.0.as_file(), SIZE).unwrap();
        assert_eq!(disk.content().await.unwrap(), Content::Unfinished);
        disk.0.as_file().write_all_at(&[7; 4096], 40 << 20).unwrap();
        assert_eq!(disk.content().await.unwrap(), Content::Unfinished);

        let whole = ours(&["-b", "4096"]);
        mark(whole.0.as_file(), SIZE).unwrap();
        assert_eq!(whole.content().await.unwrap(), Content::Unfinished);
        unmark(whole.0.as_file(), SIZE).unwrap();
        assert!(matches!(whole.content().await.unwrap(), Content::Ours { .. }));
        // A mark does not make foreign what it is not on.
        let photos = Disk::with("/usr/sbin/mkfs.ext4", &["-q", "-F", "-L", "photos"]);
        mark(photos.0.as_file(), SIZE).unwrap();
        assert!(matches!(photos.content().await.unwrap(), Content::Other { .. }));
    }

    #[test]
    fn what_is_unused_is_what_no_group_of_blocks_is_in() {
        let disk = ours(&["-b", "4096"]);
        for (size, rest) in [(SIZE, None), (SIZE + GROUP - 1, None), (SIZE + GROUP, Some(GROUP))] {
            assert_eq!(unused(disk.0.as_file(), size).unwrap(), rest, "{size}");
        }
        let mut superblock = [0; SUPERBLOCK_SIZE];
        superblock[BLOCKS_HIGH] = 1;
        superblock[BLOCK_SIZE] = 2;
        assert_eq!(filesystem_size(&superblock), 0, "without 64bit there is no second half");
        superblock[FEATURES] = 0x80;
        assert_eq!(filesystem_size(&superblock), 1 << 44);
    }

    #[tokio::test]
    async fn a_program_that_cannot_tell_makes_no_disk_blank() {
        let disk = Disk::blank();
        let device = Device { path: disk.0.path().to_owned(), number: (0, 0), size: SIZE };
        for program in ["/usr/bin/false", "/nobody/is/here", "/usr/bin/echo"] {
            let tools = Tools { wipefs: Path::new(program).to_owned(), ..Tools::default() };
            assert!(look(&tools, &device, disk.0.as_file()).await.is_err(), "{program}");
        }
        // Nor does a disk that cannot be read to its end.
        let device = Device { size: SIZE + BLOCK, ..device };
        assert!(look(&Tools::default(), &device, disk.0.as_file()).await.is_err());
    }
}
