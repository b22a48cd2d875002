//! The same project without us: a copy of its file that follows a tag of its own, brought up by Compose as people do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::Digest;

use crate::engine::Engine;
use crate::vm::Vm;
use crate::{clean, ports};

/// A stack of one side; dropping it removes its containers, networks and volumes.
#[derive(Debug)]
pub struct Stack {
    /// The Compose project.
    pub name: String,
    directory: PathBuf,
    side: String,
    port: u16,
    engine: Engine,
}

impl Stack {
    /// Copies the project of the VM, publishes `version` under the tag of this side, and brings it up.
    pub fn up(vm: &Vm, side: &str, version: &str) -> Result<Self> {
        let stack = Self::create(vm, side)?;
        stack.publish(vm, version)?;
        stack.compose(&["up", "-d", "--wait"])?;
        Ok(stack)
    }

    /// Copies the project of the VM and starts nothing.
    pub fn create(vm: &Vm, side: &str) -> Result<Self> {
        let directory = vm.directory().join(side);
        std::fs::create_dir_all(&directory)?;
        for entry in std::fs::read_dir(vm.project.directory())? {
            let entry = entry?;
            let text =
                std::fs::read_to_string(entry.path())?.replace("/sample/api:live", &format!("/sample/api:{side}"));
            std::fs::write(directory.join(entry.file_name()), text)?;
        }
        let port = ports::free()?;
        std::fs::write(directory.join(".env"), format!("PORT={port}\n"))?;
        let name = format!("{}-{side}", vm.app);
        Ok(Self { name, directory, side: side.to_owned(), port, engine: vm.engine.clone() })
    }

    /// Where its proxy answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What CI does for this side: pushes an image under the tag that the file names.
    pub fn publish(&self, vm: &Vm, version: &str) -> Result<Digest> {
        vm.project.push_api(&vm.registry, &self.side, version, &[])
    }

    /// `docker compose`, in the directory of the project; its data.
    pub fn compose(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.args(["compose", "-p", &self.name]).args(arguments).current_dir(&self.directory);
        let output = command.output().context("cannot run `docker`")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stderr);
        ensure!(
            output.status.success(),
            "`docker compose {}` ended with {}: {said}",
            arguments.join(" "),
            output.status
        );
        Ok(text(&output.stdout))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for left in clean::app(&self.engine, &self.name) {
            eprintln!("left behind: {left}");
        }
    }
}
