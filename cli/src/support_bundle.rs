//! `landfall support-bundle`: what somebody needs who helps from afar, in one archive that only its maker may read, without values of
//! secrets. It only looks; what could not be had is a line in its manifest and no failure.

mod archive;
mod container;
mod gather;
mod mask;

use std::path::PathBuf;

use clap::Args;
use landfall_core::layout::Layout;

use crate::agent::Agent;
use crate::failure::{Exit, Failed};
use crate::terminal;

/// Arguments of `support-bundle`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run it with sudo: as somebody else much cannot be had, and values of secrets are not known, so not masked."
)]
pub struct SupportBundle {
    /// Where to write it. Without it: landfall-support-HOST-TIME.tar.gz in this directory.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Gathers, packs, writes, and says where it is.
pub async fn run(layout: &Layout, agent: &Agent, arguments: &SupportBundle) -> Result<Exit, Failed> {
    let now = jiff::Timestamp::now();
    let host = host_name();
    let name = format!("landfall-support-{host}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let failed = |error: std::io::Error| {
        Failed::new(Exit::Failed, format!("cannot write `{}`: {error}", path.display()))
            .next("name another file with `--output`")
    };
    let gathered = gather::all(layout, agent).await;
    let absent = gathered.members.iter().filter(|member| member.content.is_err()).count();
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let words = gather::words(&host, &format!("{now:.3}"));
    let bytes = archive::pack(&name, &words, gathered.members, &gathered.mask, seconds).map_err(failed)?;
    archive::write(&path, &bytes).map_err(failed)?;
    terminal::out(&format!("{}\n", path.display()));
    if absent > 0 {
        eprintln!("{absent} parts could not be had; MANIFEST.txt in it says why");
    }
    eprintln!("it has no values of secrets that are known here; look through it before you hand it on");
    Ok(Exit::Done)
}

/// For a file's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name: String = name.trim().chars().filter(|c| fit(*c)).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}
