//! What is done to the disk once it is known to be ours: made, checked, mounted, grown. A power cut at any instant leaves a disk that the
//! next boot takes further: what is half made is marked ([`super::content`]), and growth is the kernel's own transactions.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::mount::MsFlags;

use super::content::{self, BLOCK, LABEL, TYPE};
use super::device::{self, Device, refuse, unreadable};
use super::tools::{self, Tools};
use crate::failure::Failed;
use crate::terminal::size;

/// What is left free at the end: while the file system is made the mark lies there.
const FREE: u64 = 1 << 20;
/// Inode tables are made by the kernel later; the journal is written at once.
const MAKING: Duration = Duration::from_mins(15);
/// To play the journal takes seconds; to check a large disk whole takes longer.
const CHECKING: Duration = Duration::from_hours(1);
const GROWING: Duration = Duration::from_hours(1);
/// What e2fsck says where the file system can be mounted: nothing was wrong, or all of it was mended (2: a boot from it would be over).
const WELL: [i32; 3] = [0, 1, 2];
/// Docker's own mode of that directory.
const MODE: u32 = 0o701;

/// Makes the file system on a disk that is blank, or was when we began.
pub async fn make(tools: &Tools, device: &Device) -> Result<(), Failed> {
    let failed = |error: io::Error| unreadable(&device.path, &error);
    content::mark(&device::open_alone(device)?, device.size).map_err(failed)?;
    let (path, blocks) = (device.path.to_string_lossy(), ((device.size - FREE) / BLOCK).to_string());
    let arguments =
        ["-q", "-F", "-t", TYPE, "-L", LABEL, "-b", &BLOCK.to_string(), "-m", "1", "-E", "nodiscard", &path, &blocks];
    let output = tools::run(&tools.mkfs, &arguments, MAKING).await?;
    if !output.success() {
        let text = format!(
            "data disk: `{path}` is blank and cannot be formatted: mkfs.ext4 ended with {}: {}",
            output.code,
            tools::last_words(&output)
        );
        return Err(refuse(text, "see the kernel's log: `journalctl -k`"));
    }
    content::unmark(&device::open_alone(device)?, device.size).map_err(failed)
}

/// Plays its journal and mends what can be mended without a question.
pub async fn check(tools: &Tools, device: &Device) -> Result<(), Failed> {
    let path = device.path.to_string_lossy();
    let output = tools::run(&tools.e2fsck, &["-p", &path], CHECKING).await?;
    if WELL.contains(&output.code) {
        return Ok(());
    }
    let text = format!(
        "data disk: the file system on `{path}` is damaged and is not mounted: e2fsck ended with {}: {}",
        output.code,
        tools::last_words(&output)
    );
    Err(refuse(text, format!("make a snapshot of the disk, then `e2fsck -y {path}`, then `systemctl start docker`")))
}

/// Mounts it. A volume is a directory, and so would `lost+found` be one.
pub fn mount(device: &Device, place: &Path) -> Result<(), Failed> {
    let failed = |error: io::Error| {
        let text = format!("data disk: cannot mount `{}` at `{}` ({error})", device.path.display(), place.display());
        refuse(text, "run it as root, and see the kernel's log: `journalctl -k`")
    };
    let options = Some("errors=remount-ro");
    nix::mount::mount(Some(&device.path), place, Some(TYPE), MsFlags::empty(), options)
        .map_err(|e| failed(e.into()))?;
    // e2fsck makes it again where it needs it; one with something in it stays.
    let _ = fs::remove_dir(place.join("lost+found"));
    fs::set_permissions(place, Permissions::from_mode(MODE)).map_err(failed)
}

/// Grows what is mounted to its disk, where the disk is larger. Says from what to what. Only what is mounted is grown: the kernel does it in
/// transactions, and resize2fs on a disk that nobody has mounted does not.
pub async fn grow(tools: &Tools, device: &Device) -> Result<Option<String>, Failed> {
    let failed = |error: io::Error| unreadable(&device.path, &error);
    let unused = || File::open(&device.path).and_then(|file| content::unused(&file, device.size)).map_err(failed);
    let Some(rest) = unused()? else { return Ok(None) };
    let path = device.path.to_string_lossy();
    let output = tools::run(&tools.resize2fs, &[&path], GROWING).await?;
    if !output.success() || unused()?.is_some() {
        let text = format!(
            "`{path}` has {} more than its file system, which does not grow: resize2fs ended with {}: {}",
            size(rest),
            output.code,
            tools::last_words(&output)
        );
        return Err(refuse(text, "it serves as it is; `sudo landfall host disk` tries again"));
    }
    Ok(Some(format!("grown by {} to {}", size(rest), size(device.size))))
}
