//! landfall.yaml while it is read.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use landfall_core::layout::Layout;
use landfall_tests::suite::on_a_vm_of;
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// The agent stands still after it has read the settings: it waits for somebody to write what it remembers of previews.
#[test]
fn what_is_written_while_the_agent_starts_is_in_force() {
    on_a_vm_of("sample", "late-settings", |vm| {
        let layout = vm.layout();
        std::fs::create_dir_all(layout.agent())?;
        mkfifo(&layout.preview_slots(), Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IROTH)?;
        let settings = std::fs::read_to_string(layout.config_file())?;
        let meanwhile = std::thread::spawn(move || written_meanwhile(&layout, &settings));
        vm.start_agent()?;
        meanwhile.join().ok().context("the writer panicked")??;
        eventually(SOON, "the agent has read the settings again", || {
            let log = std::fs::read_to_string(vm.directory().join("landfall-agent.log"))?;
            ensure!(log.contains("the settings changed and are in force"), "{log}");
            Ok(())
        })
    });
}

fn written_meanwhile(layout: &Layout, settings: &str) -> Result<()> {
    eventually(SOON, "the agent has read the settings", || Ok(std::fs::metadata(layout.last_settings()).map(drop)?))?;
    std::fs::write(layout.config_file(), settings.replace("250ms", "500ms"))?;
    // Not to be had before somebody reads from it; closed at once, and so empty.
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
    eventually(SOON, "the agent asks for its previews", || -> Result<OwnedFd> {
        Ok(open(&layout.preview_slots(), flags, Mode::empty())?)
    })
    .map(drop)
}
