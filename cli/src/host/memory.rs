//! The memory that secrets lie in in plain text, and whose it is: the fetcher writes there, and nobody else. What is mounted stays, with
//! what is in it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use landfall_core::layout::Layout;
use landfall_core::secrets_mount::{self, MountError, Mounted};

use super::accounts::{FETCHER, READERS};
use super::step::{Said, Step};
use crate::failure::{Exit, Failed};

/// Docker mounts from it as root; nobody else but its owner looks into it.
const SECRETS: u32 = 0o700;
/// Whoever is in the group reads, and what is written there is the group's.
const CREDENTIALS: u32 = 0o2750;

/// Memory for the secrets of containers and units.
pub fn secrets(layout: &Layout, fetcher: Option<u32>) -> Step {
    let path = layout.secrets();
    let mounted = secrets_mount::ensure(&path).map_err(|error| unfit(&error))?;
    let given = fetcher.map(|user| give(&path, user, None, SECRETS)).transpose()?;
    let place = match mounted {
        Mounted::Already => format!("memory for secrets: mounted at `{}` already", path.display()),
        Mounted::Now => format!("memory for secrets: mounted at `{}`", path.display()),
    };
    Ok(said(place, mounted, given, &format!("user `{FETCHER}`")))
}

/// Memory for the credentials of registries, which those read who pull.
pub fn credentials(layout: &Layout, fetcher: Option<u32>, readers: Option<u32>) -> Step {
    let path = layout.registry_credentials();
    let mounted = secrets_mount::ensure_shared(&path).map_err(|error| unfit(&error))?;
    let owners = fetcher.zip(readers);
    let given = owners.map(|(user, group)| give(&path, user, Some(group), CREDENTIALS)).transpose()?;
    let place = match mounted {
        Mounted::Already => format!("memory for credentials: `{}` is there", path.display()),
        Mounted::Now => format!("memory for credentials: mounted at `{}`", path.display()),
    };
    Ok(said(place, mounted, given, &format!("user `{FETCHER}`, or no group `{READERS}`,")))
}

fn said(place: String, mounted: Mounted, given: Option<bool>, who: &str) -> Said {
    let (text, given) = match given {
        None => (format!("{place}, and stays root's: there is no {who} on this machine yet"), false),
        Some(false) => (place, false),
        Some(true) => (format!("{place}, and given to `{FETCHER}`"), true),
    };
    Said { text, changed: given || mounted == Mounted::Now }
}

/// Sees to owner and mode; says whether anything was otherwise.
fn give(path: &Path, user: u32, group: Option<u32>, mode: u32) -> Result<bool, Failed> {
    let failed = |error: io::Error| {
        let text = format!("cannot give `{}` to `{FETCHER}` ({error})", path.display());
        Failed::new(Exit::Failed, text).next("run it as root")
    };
    let data = fs::metadata(path).map_err(failed)?;
    if data.uid() == user && group.is_none_or(|group| data.gid() == group) && data.mode() & 0o7777 == mode {
        return Ok(false);
    }
    chown(path, Some(user), group).map_err(failed)?;
    // After that: another owner takes the set-group-id bit away.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    Ok(true)
}

fn unfit(error: &MountError) -> Failed {
    let text = error.to_string();
    let (what, next) = text.split_once("; next: ").unwrap_or((&text, "see the kernel's log: `dmesg`"));
    Failed::new(Exit::Failed, what).next(next)
}
