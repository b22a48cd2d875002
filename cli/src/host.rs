//! `landfall host`: what root prepares on a VM before Docker and the daemons start, and looks at again every minute: the guard of
//! the machine's identity, the memory that secrets lie in, what containers may have of the machine's memory, and the key that secrets
//! are sealed with on the disk. The disk that volumes lie on is `landfall host disk`, a run of its own ([`disk`]). Each step is done by itself, and tells what it found or did; one that fails keeps no other from being
//! done. It stays for none of it: what it sets holds without it.

pub mod accounts;
pub mod disk;
pub mod guard;
pub mod key;
pub mod memory;
pub mod ruleset;
pub mod slice;
#[cfg(test)]
mod stand_in;
pub mod step;

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use landfall_core::config::{self, ConfigError, Settings};
use landfall_core::journal;
use landfall_core::layout::Layout;

use self::disk::Disk;
use self::step::{Said, Step, Teller};
use crate::failure::{Exit, Failed, chain};

/// systemd's own program for credentials (250 and later).
const SYSTEMD_CREDS: &str = "/usr/bin/systemd-creds";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Of the package `nftables`.
const NFT: &str = "/usr/sbin/nft";

/// Arguments of `host`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Host {
    /// What encrypts the key of the sealed secrets: this machine's TPM2, a key on its disk, or what it has.
    #[arg(long, value_enum, default_value_t = WithKey::Auto)]
    pub with_key: WithKey,
    /// What else to prepare.
    #[command(subcommand)]
    pub verb: Option<HostVerb>,
}

/// What else `host` can prepare.
#[derive(Debug, Subcommand)]
pub enum HostVerb {
    /// Mount the disk that volumes lie on (`host.data_disk`), before Docker starts: one that is blank is formatted, and no other;
    /// one that grew is grown. Docker does not start without it. What is mounted stays.
    Disk(Disk),
}

/// What `systemd-creds` encrypts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WithKey {
    /// A TPM2 where there is one, else the key on the disk.
    Auto,
    /// The key on the disk.
    Host,
    /// A TPM2.
    Tpm2,
}

impl WithKey {
    /// As `systemd-creds` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Host => "host",
            Self::Tpm2 => "tpm2",
        }
    }
}

/// Does all of it, the guard first, and says so. Exit code 1 where a step failed.
pub async fn run(layout: &Layout, arguments: &Host) -> Result<Exit, Failed> {
    if let Some(HostVerb::Disk(arguments)) = &arguments.verb {
        return disk::run(layout, arguments).await;
    }
    let mut teller = Teller::new(journal::init("landfall-host"));
    let (settings, read) = settings(layout);
    teller.tell(read);
    let host = settings.clone().unwrap_or_default();
    let passes = accounts::passes(&host.imds_users);
    let guard = if host.guard {
        guard::raise(layout, Path::new(NFT), &passes).await
    } else {
        guard::lower(layout, Path::new(NFT)).await
    };
    teller.tell(guard);
    teller.tell(memory::secrets(layout, accounts::fetcher()));
    teller.tell(memory::credentials(layout, accounts::fetcher(), accounts::readers()));
    let reserve = settings.map(|host| host.reserve_memory);
    teller.tell(slice::limit(layout, Path::new(SYSTEMCTL), reserve).await);
    teller.tell(disk::look_again(layout, Path::new(SYSTEMCTL)).await);
    teller.tell(key::key(layout, Path::new(SYSTEMD_CREDS), arguments.with_key.word()).await);
    Ok(teller.exit())
}

/// What the settings say of this machine; `None` where they have a mistake. Nobody is let through by settings that nobody can read.
fn settings(layout: &Layout) -> (Option<config::Host>, Step) {
    match Settings::load(layout) {
        Ok(settings) => (Some(settings.host), Ok(Said::found("settings: read".to_owned()))),
        Err(ConfigError::Missing { path }) => {
            let text = format!("settings: `{}` is not there yet, so the defaults hold", path.display());
            (Some(config::Host::default()), Ok(Said::found(text)))
        }
        Err(error @ (ConfigError::Read { .. } | ConfigError::Invalid { .. } | ConfigError::Incomplete { .. })) => {
            let text =
                format!("settings not read: {}; the guard lets nobody of `host.imds_users` through", chain(&error));
            (None, Err(Failed::new(Exit::Failed, text).next("correct the file; `landfall check` shows the place")))
        }
    }
}
