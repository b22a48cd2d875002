//! Is there room for the images that are to be pulled? Pure: how full the disks are and what is still to come goes in, why there is no
//! room comes out. An image that is here needs none: of that nobody asks.

use std::fmt;

/// What a download takes when it is unpacked, in downloads. Measured at 2.2 to 3.5 (docs/facts.md); what that misses is seen while it is pulled.
const UNPACKED: u64 = 3;
const MIB: u64 = 1 << 20;

/// How full a filesystem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// What lies on it.
    pub path: String,
    /// Whether images are pulled to it.
    pub holds_images: bool,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that programs can have which are not root's.
    pub available: u64,
    /// All inodes and the free ones; 0 of 0 where there is no such limit.
    pub inodes: (u64, u64),
}

impl Filesystem {
    /// How full it is, as `df` counts: what is kept for root is nobody's. None of a filesystem without a size.
    pub fn used_ratio(&self) -> Option<Ratio> {
        Ratio::of(self.used, self.used.saturating_add(self.available))
    }

    /// How many of its inodes are in use.
    pub fn inodes_used_ratio(&self) -> Option<Ratio> {
        let (all, free) = self.inodes;
        Ratio::of(all.saturating_sub(free), all)
    }
}

/// A part of a whole, in ten-thousandths and written with four digits, 0 to 1. Whole numbers, for what writes floating ones needs
/// 64 KiB of the agent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ratio(u64);

impl Ratio {
    /// Of so many per cent.
    pub fn per_cent(share: u8) -> Self {
        Self(u64::from(share) * 100)
    }

    /// None of nothing.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let wide = (u128::from(part) * 10_000).checked_div(u128::from(whole))?;
        Some(Self(u64::try_from(wide).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

/// What is still to come of pulls, in bytes as they are downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// To be downloaded.
    pub download: u64,
    /// To be unpacked, some of it here already.
    pub unpack: u64,
}

impl Need {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (download, unpack) =
            (self.download.saturating_add(other.download), self.unpack.saturating_add(other.unpack));
        Self { download, unpack }
    }

    fn bytes(self) -> u64 {
        self.download.saturating_add(self.unpack.saturating_mul(UNPACKED))
    }
}

/// Why nothing is pulled: of one disk what is short, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "waits for room on the disk: {short}; next: `docker system df`, `docker image prune -a`, or a larger disk; what runs is not touched, and it goes on by itself"
)]
pub struct NoRoom {
    short: String,
}

impl NoRoom {
    /// As another says it.
    pub fn told(short: String) -> Self {
        Self { short }
    }
}

/// Whether `need` may be pulled so that of each disk `reserve` per cent stay free, in bytes and in inodes.
pub fn admit(disks: &[Filesystem], reserve: u8, need: Need) -> Result<(), NoRoom> {
    let short = disks.iter().find_map(|disk| short(disk, reserve, if disk.holds_images { need.bytes() } else { 0 }));
    short.map_or(Ok(()), |short| Err(NoRoom { short }))
}

fn short(disk: &Filesystem, reserve: u8, need: u64) -> Option<String> {
    let path = &disk.path;
    let rule = format!("{reserve}% must stay free (`host.reserve.disk`)");
    let whole = disk.used.saturating_add(disk.available);
    let keep = share(whole, reserve);
    if disk.available <= keep && whole > 0 {
        let (used, more) = (percent(disk.used, whole), Size(keep - disk.available + 1));
        return Some(format!("`{path}` is {used}% full, and {rule}: {more} more must be free"));
    }
    let (all, free) = disk.inodes;
    let keep_inodes = share(all, reserve);
    if free <= keep_inodes && all > 0 {
        let (used, more) = (percent(all - free, all), keep_inodes - free + 1);
        return Some(format!("{used}% of the inodes of `{path}` are in use, and {rule}: {more} more must be free"));
    }
    let room = disk.available.saturating_sub(keep);
    (need > room).then(|| {
        let (need, room, more) = (Size(need), Size(room), Size(need - room));
        format!(
            "the images need about {need} on `{path}`, unpacked {UNPACKED} times their download, and there are {room}, \
             as {rule}: {more} more must be free"
        )
    })
}

/// Rounded up: a share that must stay is never less than it says.
fn share(whole: u64, per_cent: u8) -> u64 {
    let share = (u128::from(whole) * u128::from(per_cent)).div_ceil(100);
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn percent(part: u64, whole: u64) -> u128 {
    u128::from(part) * 100 / u128::from(whole.max(1))
}

/// In MiB or GiB, rounded up.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0.div_ceil(MIB);
        if mib < 10 * 1024 { write!(f, "{mib} MiB") } else { write!(f, "{} GiB", mib.div_ceil(1024)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(used: u64, available: u64, inodes: (u64, u64)) -> Filesystem {
        let mib = |count: u64| count * MIB;
        Filesystem { path: "/d".into(), holds_images: true, used: mib(used), available: mib(available), inodes }
    }

    fn need(download: u64) -> Need {
        Need { download: download * MIB, unpack: download * MIB }
    }

    #[test]
    fn a_share_of_bytes_and_of_inodes_stays_free() {
        for (disk, reserve, download, words) in [
            (disk(899, 101, (100, 50)), 10, 0, None),
            (
                disk(900, 100, (100, 50)),
                10,
                0,
                Some("`/d` is 90% full, and 10% must stay free (`host.reserve.disk`): 1 MiB more"),
            ),
            (
                disk(960, 40, (100, 50)),
                10,
                0,
                Some("`/d` is 96% full, and 10% must stay free (`host.reserve.disk`): 61 MiB more must be free"),
            ),
            (disk(960, 40, (100, 50)), 3, 0, None),
            (disk(1000, 0, (100, 50)), 0, 0, Some("is 100% full")),
            (disk(999, 1, (100, 50)), 0, 0, None),
            (
                disk(500, 500, (1000, 90)),
                10,
                0,
                Some("91% of the inodes of `/d` are in use, and 10% must stay free (`host.reserve.disk`): 11 more"),
            ),
            // Some filesystems count no inodes, and a made-up one counts nothing.
            (disk(500, 500, (0, 0)), 10, 0, None),
            (disk(0, 0, (0, 0)), 10, 0, None),
            // 400 MiB may be used: a download of 100 takes three times that beside it.
            (disk(500, 500, (0, 0)), 10, 100, None),
            (
                disk(500, 500, (0, 0)),
                10,
                101,
                Some("the images need about 404 MiB on `/d`, unpacked 3 times their download, and there are 400 MiB"),
            ),
            (disk(0, 1 << 20, (0, 0)), 50, 1 << 20, Some("need about 4096 GiB on `/d`")),
        ] {
            let said = admit(std::slice::from_ref(&disk), reserve, need(download)).err().map(|no| no.to_string());
            match words {
                None => assert_eq!(said, None, "{disk:?} {reserve} {download}"),
                Some(words) => {
                    let said = said.unwrap_or_else(|| panic!("admitted: {disk:?} {reserve} {download}"));
                    assert!(said.starts_with("waits for room on the disk: ") && said.contains(words), "{said}");
                    assert!(said.contains("`docker image prune -a`"), "{said}");
                }
            }
        }
    }

    #[test]
    fn every_disk_counts_and_images_only_where_they_go() {
        let ours = Filesystem { path: "/ours".into(), holds_images: false, ..disk(500, 500, (0, 0)) };
        assert_eq!(admit(&[disk(0, 9000, (0, 0)), ours.clone()], 10, need(1000)), Ok(()));
        let full = Filesystem { used: ours.available * 99, ..ours };
        let said = admit(&[disk(0, 9000, (0, 0)), full], 10, Need::default()).unwrap_err().to_string();
        assert!(said.contains("`/ours` is 99% full"), "{said}");
        assert_eq!(admit(&[], 10, need(1)), Ok(()), "what nobody can look at holds nothing up");
    }

    #[test]
    fn ratios_are_what_df_shows() {
        let full = disk(900, 100, (1000, 250));
        assert_eq!(
            (full.used_ratio(), full.inodes_used_ratio()),
            (Some(Ratio::per_cent(90)), Some(Ratio::per_cent(75)))
        );
        assert_eq!(disk(0, 0, (0, 0)).used_ratio(), None);
        let most = Need { download: u64::MAX, unpack: 1 };
        assert_eq!(most.and(most).bytes(), u64::MAX);
    }
}
