//! What all containers together may have of the machine's memory: all of it but `host.reserve.memory`, so that sshd, the tunnel and the
//! agent survive any of them. Said to systemd for this boot, and only where it has another number.

use std::path::Path;

use landfall_core::command::Command;
use landfall_core::config;
use landfall_core::ids::printable;
use landfall_core::layout::Layout;
use nix::sys::sysinfo::sysinfo;

use super::step::{Said, Step};
use crate::failure::{Exit, Failed, chain};
use crate::terminal::size;

/// The slice of our containers, where Docker uses systemd's cgroup driver.
const SLICE: &str = "landfall.slice";
const PROPERTY: &str = "MemoryMax";
const WORDS: usize = 400;
/// systemd and the kernel round to pages; a number that is none of theirs would differ for ever.
const MIB: u64 = 1 << 20;

/// Sees to the limit. Without `reserve` (nobody can read the settings) a limit that is there stays.
pub async fn limit(layout: &Layout, systemctl: &Path, reserve: Option<u64>) -> Step {
    if !layout.systemd().is_dir() {
        return Ok(Said::found(format!("{SLICE}: not limited, systemd does not run here")));
    }
    let total = sysinfo()
        .map_err(|error| Failed::new(Exit::Failed, format!("cannot ask for the memory: {error}")))?
        .ram_total();
    let shown = run(systemctl, &["show", "--property", PROPERTY, "--value", SLICE]).await?;
    // `infinity`, or bytes.
    let now: Option<u64> = shown.trim().parse().ok();
    let wanted = match (reserve, now) {
        (None, Some(now)) => now,
        (None, None) => allowed(total, config::Host::default().reserve_memory)?,
        (Some(reserve), _) => allowed(total, reserve)?,
    };
    let text = |how: &str| format!("{SLICE}: {how} {} of {}", size(wanted), size(total));
    if now == Some(wanted) {
        return Ok(Said::found(text("all containers together have at most")));
    }
    run(systemctl, &["set-property", "--runtime", SLICE, &format!("{PROPERTY}={wanted}")]).await?;
    Ok(Said::did(text("all containers together have now at most")))
}

/// What is left for containers.
fn allowed(total: u64, reserve: u64) -> Result<u64, Failed> {
    let left = total.saturating_sub(reserve) / MIB * MIB;
    if left > 0 {
        return Ok(left);
    }
    let text = format!(
        "{SLICE} is not limited: `host.reserve.memory` is {}, and this machine has {}",
        size(reserve),
        size(total)
    );
    Err(Failed::new(Exit::Failed, text).next("make it smaller in landfall.yaml"))
}

async fn run(systemctl: &Path, arguments: &[&str]) -> Result<String, Failed> {
    let failed = |why: String| {
        let text = format!("{SLICE} is not limited: {why}");
        Failed::new(Exit::Failed, text).next(format!("run it as root; `systemctl status {SLICE}`"))
    };
    let output = Command::new(systemctl).args(arguments).run().await.map_err(|error| failed(chain(&error)))?;
    if !output.success() {
        let said = printable(output.stderr.trim(), WORDS);
        return Err(failed(format!("`systemctl {}` ended with {}: {said}", arguments.join(" "), output.code)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::stand_in::program;

    #[test]
    fn the_reserve_is_kept_from_containers() {
        assert_eq!(allowed(8 << 30, 512 << 20).unwrap(), (8 << 30) - (512 << 20));
        assert_eq!(allowed((8 << 30) + 4097, 1 << 30).unwrap(), 7 << 30);
        for reserve in [8 << 30, u64::MAX] {
            assert!(allowed(8 << 30, reserve).unwrap_err().message.contains("`host.reserve.memory` is"));
        }
    }

    /// A program that keeps what it is told.
    #[tokio::test]
    async fn it_is_told_once_and_again_where_somebody_changed_it() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let (systemctl, set) = (root.path().join("systemctl"), root.path().join("set"));
        let at = set.display();
        let script = format!(
            "if [ $1 = set-property ]; then [ \"$2 $3\" = '--runtime landfall.slice' ] || exit 1; echo \"${{4#MemoryMax=}}\" > {at}\n\
             elif [ -e {at} ]; then exec /bin/cat {at}; else echo infinity; fi"
        );
        program(&systemctl, &script);
        let reserve = Some(512 << 20);
        let said = limit(&layout, &systemctl, reserve).await.unwrap();
        assert!(said.text.contains("systemd does not run here") && !set.exists(), "{said:?}");

        std::fs::create_dir_all(layout.systemd()).unwrap();
        assert!(limit(&layout, &systemctl, reserve).await.unwrap().changed);
        let first = std::fs::read_to_string(&set).unwrap();
        assert!(!limit(&layout, &systemctl, reserve).await.unwrap().changed);
        std::fs::write(&set, "12345\n").unwrap();
        // Nobody knows what it should be.
        assert!(!limit(&layout, &systemctl, None).await.unwrap().changed);
        assert!(limit(&layout, &systemctl, reserve).await.unwrap().changed);
        assert_eq!(std::fs::read_to_string(&set).unwrap(), first);
        std::fs::write(&set, "infinity\n").unwrap();
        assert!(limit(&layout, &systemctl, None).await.unwrap().changed, "no limit at all is not left");
        std::fs::write(&systemctl, "#!/bin/sh\necho no bus >&2; exit 1\n").unwrap();
        assert!(limit(&layout, &systemctl, reserve).await.unwrap_err().message.contains("no bus"));
    }
}
