//! What of its environment this program keeps. Microsoft's client picks where it gets tokens from by variables
//! (`IDENTITY_ENDPOINT`, `MSI_ENDPOINT`, …), and HTTP clients send them through proxies; a variable cannot be removed safely from a
//! running process, so that the program becomes itself once more with those that it knows.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What systemd and people set on purpose. Not `RUST_BACKTRACE`: a stripped program has no names to show, and each error would read half a
/// mebibyte of its tables.
const KEPT: [&str; 9] = [
    "CREDENTIALS_DIRECTORY",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "NO_COLOR",
    "PATH",
    "SSL_CERT_FILE",
    "TZ",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];
/// Ours: [`landfall_core::daemon::ROOT_VARIABLE`] and others.
const KEPT_PREFIX: &str = "LANDFALL_";

/// Returns if nothing else is in the environment; otherwise the process begins anew without it. For the first line of `main`.
pub fn clean() -> io::Result<()> {
    let kept: Vec<(OsString, OsString)> = std::env::vars_os().filter(|(name, _)| is_kept(name)).collect();
    if kept.len() == std::env::vars_os().count() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "no child: it takes the place of this process")]
    let mut same = Command::new(std::env::current_exe()?);
    Err(same.arg0(name).args(arguments).env_clear().envs(kept).exec())
}

fn is_kept(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| KEPT.contains(&name) || name.starts_with(KEPT_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leads_a_client_elsewhere_is_kept() {
        for name in [
            "AZURE_CLIENT_ID",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_POD_IDENTITY_AUTHORITY_HOST",
            "IDENTITY_ENDPOINT",
            "IDENTITY_HEADER",
            "IMDS_ENDPOINT",
            "MSI_ENDPOINT",
            "MSI_SECRET",
            "HTTP_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "SSLKEYLOGFILE",
            "LD_PRELOAD",
            "landfall_root",
        ] {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
        for name in ["CREDENTIALS_DIRECTORY", "PATH", "LANDFALL_ROOT", "LANDFALL_LOG", "SSL_CERT_FILE", "NOTIFY_SOCKET"]
        {
            assert!(is_kept(OsStr::new(name)), "{name}");
        }
    }
}
