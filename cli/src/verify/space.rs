//! Is there room on the disks that containers and we write to, for bytes and for files?

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::finding::{Finding, Subject};
use super::machine::Machine;
use crate::docker::EngineFacts;

/// So many per cent before pulls have to wait a person is warned.
const WARNED_BEFORE: u64 = 10;

/// Docker's directory, containerd's where images are in it, ours, and the root: of each so many per cent must stay free, or nothing is
/// pulled (`host.reserve.disk`).
pub fn check(machine: &Machine, docker: Option<&EngineFacts>, reserve: u8) -> Vec<Finding> {
    let ours = machine.layout.watcher().parent().map_or_else(PathBuf::new, Path::to_owned);
    let one = |path: &Path| judge(path, used(path), reserve);
    let no_docker =
        || Subject::new("disk", "there is room for Docker's containers and images").skip("the Engine did not answer");
    let of_docker = docker.map_or_else(no_docker, |docker| one(&docker.root_directory));
    let of_images = docker.and_then(|docker| docker.images.as_deref()).map(one);
    [of_docker].into_iter().chain(of_images).chain([one(&ours), one(machine.layout.root())]).collect()
}

/// How many per cent of the bytes and of the inodes are in use; a file system may count none.
fn used(path: &Path) -> Result<(u64, Option<u64>), String> {
    let stat = statvfs(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let share = |all: u64, free: u64, available: u64| {
        let used = all.saturating_sub(free);
        (used + available > 0).then(|| (used * 100).div_ceil(used + available))
    };
    #[expect(clippy::useless_conversion, reason = "their width is the C library's")]
    let bytes = share(stat.blocks().into(), stat.blocks_free().into(), stat.blocks_available().into());
    #[expect(clippy::useless_conversion, reason = "their width is the C library's")]
    let files = share(stat.files().into(), stat.files_free().into(), stat.files_available().into());
    Ok((bytes.unwrap_or(0), files))
}

fn judge(path: &Path, used: Result<(u64, Option<u64>), String>, reserve: u8) -> Finding {
    let subject = Subject::new("disk", format!("there is room on the disk of `{}`", path.display()));
    let (bytes, files) = match used {
        Ok(used) => used,
        Err(why) => return subject.skip(why),
    };
    let of_files = files.map_or_else(|| "inodes are not counted".to_owned(), |files| format!("{files}% of inodes"));
    let full = 100_u64.saturating_sub(reserve.into());
    let seen = format!("{bytes}% of bytes, {of_files} in use; from {full}% on nothing is pulled (`host.reserve.disk`)");
    let next = "`docker system df`, `docker image prune`, or a larger disk";
    match bytes.max(files.unwrap_or(0)) {
        most if most >= full => subject.fail(seen, next),
        most if most + WARNED_BEFORE >= full => subject.warn(seen, next),
        _ => subject.pass(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn the_worse_of_bytes_and_inodes_counts() {
        for (used, reserve, grade) in [
            (Ok((0, Some(0))), 10, Grade::Pass),
            (Ok((79, None)), 10, Grade::Pass),
            (Ok((80, Some(1))), 10, Grade::Warn),
            (Ok((89, Some(89))), 10, Grade::Warn),
            (Ok((90, None)), 10, Grade::Fail),
            (Ok((1, Some(90))), 10, Grade::Fail),
            (Ok((60, None)), 30, Grade::Warn),
            (Ok((70, None)), 30, Grade::Fail),
            (Ok((99, None)), 0, Grade::Warn),
            (Ok((100, None)), 0, Grade::Fail),
            (Err("gone".to_owned()), 10, Grade::Skip),
        ] {
            assert_eq!(judge(Path::new("/x"), used.clone(), reserve).grade, grade, "{used:?}, {reserve}");
        }
        assert!(used(Path::new("/")).is_ok_and(|(bytes, _)| bytes <= 100));
        assert!(used(Path::new("/nobody/is/here")).is_err());
    }
}
