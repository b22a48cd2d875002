//! `landfall host disk`: the data disk, before Docker starts. It is found by its name, taken if it is this machine's or nobody's, formatted
//! only if it is blank, checked, mounted where Docker has its volumes, and grown. Docker requires that this ends well where the settings
//! ask for a disk, so that no database begins anew in an empty directory. What is there already stays: a second run changes nothing.

pub mod content;
mod decide;
pub mod device;
mod filesystem;
pub mod mounts;
pub mod record;
mod tools;

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use landfall_core::command::Command;
use landfall_core::config::{ConfigError, DataDisk, Settings};
use landfall_core::journal::{self, event};
use landfall_core::layout::Layout;
use landfall_core::publish;

use self::decide::{Step as Decision, decide};
use self::device::{Device, refuse};
use self::record::{Known, Standing, State};
use self::tools::Tools;
use super::step::{Said, Step, Teller};
use crate::failure::{Exit, Failed, chain};

/// How long a boot waits for a disk that is asked for. Docker waits with it, nothing else does.
const PATIENCE: Duration = Duration::from_secs(30);
/// What Docker makes in an empty directory of volumes; it is no volume.
const DOCKERS: [&str; 2] = ["metadata.db", "backingFsBlockDev"];
const DOCKER: &str = "docker.service";

/// Arguments of `host disk`.
#[derive(Debug, Args)]
pub struct Disk {
    /// Forget which disk this machine had, and take the one that is there: one with the label `landfall-data`, or a blank one.
    #[arg(long)]
    pub accept: bool,
}

/// Why it is not mounted.
#[derive(Debug)]
enum NotMounted {
    /// There is none yet.
    Absent(Failed),
    /// There is one, or something else is in its way.
    Refused(Failed),
}

impl From<Failed> for NotMounted {
    fn from(failed: Failed) -> Self {
        Self::Refused(failed)
    }
}

/// A disk that is mounted.
#[derive(Debug)]
struct Mounted {
    uuid: String,
    did: Vec<String>,
}

/// Does all of it, and says so. Exit code 1 where a disk is asked for and is not mounted.
pub async fn run(layout: &Layout, arguments: &Disk) -> Result<Exit, Failed> {
    let mut teller = Teller::new(journal::init("landfall-host"));
    if arguments.accept {
        record::forget(layout).map_err(|error| device::unreadable(&layout.data_disk_record(), &error))?;
    }
    let (disk, told) = asked(layout);
    if let Some(said) = told {
        teller.tell(Ok(Said::did(said)));
    }
    let brought = match (&disk, record::known(layout)) {
        (None, Known::Nothing) => {
            // There may be nothing to remove.
            let _ = fs::remove_file(layout.data_disk_state());
            teller.tell(Ok(Said::found("data disk: none is asked for (`host.data_disk`)".to_owned())));
            return Ok(teller.exit());
        }
        (None, Known::Unreadable | Known::Disk { .. }) => Err(NotMounted::Refused(refuse(
            "data disk: this machine has one, and the settings ask for none any more",
            "put `host.data_disk` back; `sudo landfall host disk --accept` does without it",
        ))),
        (Some(disk), Known::Nothing | Known::Unreadable | Known::Disk { .. }) => {
            bring(layout, &Tools::default(), disk, PATIENCE).await
        }
    };
    tell(layout, &mut teller, disk.as_ref(), brought);
    Ok(teller.exit())
}

/// Which disk is asked for, and what is to be told of that. Settings with a mistake ask for what they asked for before.
fn asked(layout: &Layout) -> (Option<DataDisk>, Option<String>) {
    match Settings::load(layout) {
        Ok(settings) => (settings.host.data_disk, None),
        Err(ConfigError::Missing { .. }) => (before(layout), None),
        Err(error @ (ConfigError::Read { .. } | ConfigError::Invalid { .. } | ConfigError::Incomplete { .. })) => {
            let text = format!("settings not read, so the data disk of before is asked for: {}", chain(&error));
            (before(layout), Some(text))
        }
    }
}

/// By our own record, or the last valid settings that the agent kept.
fn before(layout: &Layout) -> Option<DataDisk> {
    match record::known(layout) {
        Known::Disk { disk, .. } => Some(disk),
        Known::Nothing | Known::Unreadable => {
            let kept = fs::read(layout.last_settings()).ok()?;
            serde_json::from_slice::<Settings>(&kept).ok()?.host.data_disk
        }
    }
}

/// Sees to it that it is mounted.
async fn bring(layout: &Layout, tools: &Tools, disk: &DataDisk, patience: Duration) -> Result<Mounted, NotMounted> {
    let place = layout.docker_volumes();
    publish::make_directories(&place).map_err(|error| device::unreadable(&place, &error))?;
    let place = fs::canonicalize(&place).map_err(|error| device::unreadable(&place, &error))?;
    let mounts = mounts::list().map_err(|error| device::unreadable(&place, &error))?;
    if let Some(there) = mounts::at(&mounts, &place) {
        return Ok(already(layout, tools, disk, &place, there).await?);
    }
    let Some(node) = device::wait_for(layout, disk, patience).await? else {
        let names: Vec<String> = device::names(layout, disk).iter().map(|n| format!("`{}`", n.display())).collect();
        return Err(NotMounted::Absent(refuse(
            format!("data disk: {disk} is not there ({}), so Docker does not start", names.join(", ")),
            "attach it: Docker starts within a minute",
        )));
    };
    let device = device::examine(&node)?;
    is_free(layout, &place)?;
    let file = device::open_alone(&device)?;
    let content = content::look(tools, &device, &file).await?;
    drop(file);
    let mut did = Vec::new();
    let uuid = match decide(&content, &record::known(layout), disk, &device)? {
        Decision::Take { uuid } => uuid,
        Decision::Format => {
            filesystem::make(tools, &device).await?;
            did.push("was blank and is formatted".to_owned());
            made(tools, &device).await?
        }
    };
    filesystem::check(tools, &device).await?;
    filesystem::mount(&device, &place)?;
    did.push(format!("mounted at `{}`", place.display()));
    Ok(finish(layout, tools, disk, &device, uuid, did).await)
}

/// What somebody, or we, mounted there before must be the disk that is asked for.
async fn already(
    layout: &Layout,
    tools: &Tools,
    disk: &DataDisk,
    place: &Path,
    there: &mounts::Mount,
) -> Result<Mounted, Failed> {
    let foreign = |why: &str| {
        let text = format!("data disk: what is mounted at `{}` is not {disk}: {why}", place.display());
        refuse(text, format!("see `findmnt {}`, and unmount it while Docker is stopped", place.display()))
    };
    let Some(node) = device::find(layout, disk)? else {
        // We mounted it in this boot; its name went since, and it did not.
        return match record::state(layout) {
            Some(State { disk: Some(was), standing: Standing::Mounted { uuid }, .. }) if was == *disk => {
                Ok(Mounted { uuid, did: vec!["is mounted, and its name is not there any more".to_owned()] })
            }
            Some(_) | None => Err(foreign("that is not there")),
        };
    };
    let device = device::examine(&node)?;
    if device.number != there.number {
        return Err(foreign(&format!("that is `{}`", device.path.display())));
    }
    // It is in use, so nobody opens it alone.
    let file = fs::File::open(&device.path).map_err(|error| device::unreadable(&device.path, &error))?;
    let content = content::look(tools, &device, &file).await?;
    match decide(&content, &record::known(layout), disk, &device)? {
        Decision::Take { uuid } => Ok(finish(layout, tools, disk, &device, uuid, Vec::new()).await),
        Decision::Format => Err(foreign("it has no file system of ours")),
    }
}

/// Grows it and remembers it. What fails of that keeps nothing from being used.
async fn finish(
    layout: &Layout,
    tools: &Tools,
    disk: &DataDisk,
    device: &Device,
    uuid: String,
    mut did: Vec<String>,
) -> Mounted {
    match filesystem::grow(tools, device).await {
        Ok(grown) => did.extend(grown),
        Err(failed) => {
            let next = failed.next.as_deref().unwrap_or_default();
            did.push(format!("{}; next: {next}", failed.message));
        }
    }
    if let Err(error) = record::remember(layout, &uuid, disk) {
        did.push(format!("not remembered for the next boot: `{}`: {error}", layout.data_disk_record().display()));
    }
    Mounted { uuid, did }
}

/// The UUID of what was just made.
async fn made(tools: &Tools, device: &Device) -> Result<String, Failed> {
    let file = device::open_alone(device)?;
    match content::look(tools, device, &file).await? {
        content::Content::Ours { uuid } => Ok(uuid),
        content @ (content::Content::Blank | content::Content::Unfinished | content::Content::Other { .. }) => {
            let text = format!("data disk: `{}` was formatted and is {content:?}", device.path.display());
            Err(refuse(text, "see the kernel's log: `journalctl -k`"))
        }
    }
}

/// Nothing that anybody uses may vanish below the mount.
fn is_free(layout: &Layout, place: &Path) -> Result<(), Failed> {
    let read = fs::read_dir(place).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = read.map_err(|error| device::unreadable(place, &error))?;
    let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let volumes: Vec<String> = names.filter(|name| !DOCKERS.contains(&name.as_str())).collect();
    let shown = place.display();
    if let Some(first) = volumes.first() {
        let text = format!(
            "data disk: in `{shown}` on the system's disk there are {} volumes (`{first}`), which the data disk would hide",
            volumes.len()
        );
        return Err(refuse(text, "move them to the data disk, as docs/operations.md says, or away"));
    }
    let pid = fs::read_to_string(layout.docker_pid()).unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap_or_default();
    if name.trim() == "dockerd" {
        let text = format!("data disk: Docker runs and has `{shown}` open, so nothing is mounted there");
        return Err(refuse(text, "`systemctl stop docker.socket docker`, and `systemctl start docker` mounts it"));
    }
    Ok(())
}

/// Says what became of it: to whoever asked, and to those who look later. The journal hears of the same trouble once.
fn tell(layout: &Layout, teller: &mut Teller, disk: Option<&DataDisk>, brought: Result<Mounted, NotMounted>) {
    let told = |failed: &Failed| (failed.message.clone(), failed.next.clone().unwrap_or_default());
    let name = disk.map_or_else(String::new, DataDisk::to_string);
    let (standing, trouble) = match brought {
        Ok(mounted) => {
            let did = mounted.did.join("; ");
            teller.tell(Ok(if mounted.did.is_empty() {
                Said::found(format!("data disk: {name} is mounted already, UUID {}", mounted.uuid))
            } else {
                Said::did(format!("data disk: {name}, UUID {}: {did}", mounted.uuid))
            }));
            (Standing::Mounted { uuid: mounted.uuid }, None)
        }
        Err(NotMounted::Absent(failed)) => {
            let (said, next) = told(&failed);
            (Standing::Absent { said, next }, Some(failed))
        }
        Err(NotMounted::Refused(failed)) => {
            let (said, next) = told(&failed);
            (Standing::Refused { said, next }, Some(failed))
        }
    };
    let state = State::new(disk, standing);
    let is_new = record::state(layout).as_ref() != Some(&state);
    if let Some(failed) = trouble {
        teller.tell_event(&failed, |text| {
            if is_new {
                tracing::error!(MESSAGE_ID = event::DATA_DISK_NOT_MOUNTED, LANDFALL_DISK = %name, "{text}");
            } else {
                tracing::debug!("{text}");
            }
        });
    }
    if let Err(error) = record::tell(layout, &state) {
        teller.tell(Ok(Said::did(format!("data disk: `{}`: {error}", layout.data_disk_state().display()))));
    }
}

/// Twice a minute: where a disk was not there in time and is now, Docker is started, which brings the disk first.
pub async fn look_again(layout: &Layout, systemctl: &Path) -> Step {
    let Some(State { disk: Some(disk), standing, .. }) = record::state(layout) else {
        return Ok(Said::found("data disk: none was asked for in this boot".to_owned()));
    };
    match standing {
        Standing::Mounted { uuid } => Ok(Said::found(format!("data disk: {disk}, UUID {uuid}"))),
        Standing::Refused { said, .. } => Ok(Said::found(said)),
        Standing::Absent { said, .. } if device::find(layout, &disk)?.is_none() => Ok(Said::found(said)),
        Standing::Absent { .. } => {
            let start = Command::new(systemctl).args(["start", "--no-block", DOCKER]);
            let output = start.run().await.map_err(|error| refuse(chain(&error), "`systemctl start docker`"))?;
            if !output.success() {
                let text =
                    format!("data disk: {disk} is there now, and Docker is not started: {}", output.last_words());
                return Err(refuse(text, "`systemctl start docker`"));
            }
            Ok(Said::did(format!("data disk: {disk} is there now; starting Docker")))
        }
    }
}

/// What keeps the data disk from being used, in one sentence, for those who ask how the machine is.
pub fn trouble(layout: &Layout) -> Option<String> {
    match record::state(layout)?.standing {
        Standing::Mounted { .. } => None,
        Standing::Absent { said, next } | Standing::Refused { said, next } => Some(format!("{said}; next: {next}")),
    }
}

#[cfg(test)]
mod tests;
