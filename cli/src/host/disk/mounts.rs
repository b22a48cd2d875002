//! What is mounted in our sight, by the kernel's list. Reads only.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

const LIST: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The number of its device.
    pub number: (u64, u64),
    /// Where it is.
    pub at: PathBuf,
}

/// All of them, the latest last.
pub fn list() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read_to_string(LIST)?))
}

/// What one sees at a path: of several mounts there the latest.
pub fn at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rfind(|mount| mount.at == path)
}

/// Lines that the kernel did not write so are left out.
fn parse(mountinfo: &str) -> Vec<Mount> {
    let one = |line: &str| {
        let mut words = line.split(' ').skip(2);
        let (major, minor) = words.next()?.split_once(':')?;
        Some(Mount { number: (major.parse().ok()?, minor.parse().ok()?), at: unescaped(words.nth(1)?) })
    };
    mountinfo.lines().filter_map(one).collect()
}

/// The kernel writes a space as `\040`.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) if *first == b'\\' => {
                bytes.push(code);
                rest = &tail[3..];
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_mount_of_a_path_is_what_one_sees() {
        let mounts = parse(
            "22 28 0:20 / /sys rw shared:7 - sysfs sysfs rw\n\
             40 28 8:32 / /var/lib/docker/volumes rw - ext4 /dev/sdc rw\n\
             41 28 7:0 /a /with\\040space\\134x rw - ext4 /dev/loop0 rw\n\
             cut\n\
             42 40 8:48 / /var/lib/docker/volumes rw - ext4 /dev/sdd rw\n",
        );
        assert_eq!(mounts.len(), 4);
        assert_eq!(at(&mounts, Path::new("/var/lib/docker/volumes")).unwrap().number, (8, 48));
        assert_eq!(at(&mounts, Path::new("/with space\\x")).unwrap().number, (7, 0));
        assert_eq!(at(&mounts, Path::new("/var/lib/docker")), None);
        assert!(at(&list().unwrap(), Path::new("/proc")).is_some());
    }
}
