//! Our side: the shipped watcher and agent on a VM of their own, released to as CI does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::vm::{Published, SOON, Vm};
use crate::wait::eventually;

/// One release.
#[derive(Debug)]
pub struct Release {
    /// Before the image was pushed.
    pub began: Instant,
    /// What was published.
    pub published: Published,
}

/// Pushes an image under the tag that the file names, and publishes the file.
pub fn publish(vm: &Vm, version: &str) -> Result<Release> {
    let began = Instant::now();
    let image = vm.project.push_api(&vm.registry, "live", version, &[])?;
    let release = vm.publish()?;
    Ok(Release { began, published: Published { release, version: version.to_owned(), image } })
}

/// Waits until the release is live and what the one before left is removed, and checks by whom it is served.
pub fn settled(vm: &Vm, published: &Published) -> Result<()> {
    vm.live(published)?;
    eventually(SOON, "the old containers are removed", || {
        let stopped = vm.engine.containers(vm.app.as_str())?.into_iter().find(|container| container.state != "running");
        stopped.map_or(Ok(()), |container| bail!("{:?} is {}", container.names, container.state))
    })
}

/// When the watcher saw what it shows now, by the clock of this process.
pub fn detected(vm: &Vm) -> Result<Instant> {
    let text = vm.channel_file()?.detected_at.context("nothing was detected")?;
    let ago = Timestamp::now().duration_since(text.parse()?);
    Instant::now().checked_sub(Duration::try_from(ago)?).context("detected before the clock began")
}
