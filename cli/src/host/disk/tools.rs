//! The programs that know file systems, each with a deadline. What their exit codes mean is the caller's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_core::command::{Command, CommandError, Output};
use landfall_core::ids::printable;

use crate::failure::{Exit, Failed, chain};

/// The longest text of theirs that is told.
const WORDS: usize = 400;

/// Where they are.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Lists signatures: of file systems, partition tables, volume managers, RAID, swap, encryption.
    pub wipefs: PathBuf,
    /// Makes a file system.
    pub mkfs: PathBuf,
    /// Checks one.
    pub e2fsck: PathBuf,
    /// Grows one.
    pub resize2fs: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        let at = |name: &str| Path::new("/usr/sbin").join(name);
        Self { wipefs: at("wipefs"), mkfs: at("mkfs.ext4"), e2fsck: at("e2fsck"), resize2fs: at("resize2fs") }
    }
}

/// Runs one to its end. The error is that it did not come to one.
pub async fn run(program: &Path, arguments: &[&str], deadline: Duration) -> Result<Output, Failed> {
    let command = Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").deadline(deadline);
    command.run().await.map_err(|error| {
        let failed = Failed::new(Exit::Failed, chain(&error));
        match error {
            CommandError::Start { .. } => failed.next("install the packages `e2fsprogs` and `util-linux`"),
            CommandError::Deadline { .. }
            | CommandError::TooMuchOutput { .. }
            | CommandError::NothingGiven { .. }
            | CommandError::Pipe { .. } => failed.next("see the kernel's log: `journalctl -k`"),
        }
    })
}

/// The last line of its stderr, or of what it said where it complained of nothing.
pub fn last_words(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = |text: &str| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
    // e2fsck says on stdout what it found.
    last(&output.stderr)
        .or_else(|| last(&stdout))
        .map_or_else(|| "it said nothing".to_owned(), |line| printable(&line, WORDS))
}
