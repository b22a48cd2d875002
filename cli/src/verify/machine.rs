//! How checks look at the machine: files and programs below the root, each with a deadline. Reads only.

use std::path::PathBuf;
use std::time::Duration;

use landfall_core::command::{Command, Output};
use landfall_core::layout::Layout;

/// No look takes longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The machine, by its root.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where its files are.
    pub layout: Layout,
    /// Whether we may look at everything.
    pub root: bool,
}

impl Machine {
    /// The machine whose files are there, as the user that we are.
    pub fn new(layout: Layout) -> Self {
        Self { layout, root: nix::unistd::geteuid().is_root() }
    }

    /// A path below its root.
    pub fn at(&self, path: &str) -> PathBuf {
        self.layout.root().join(path)
    }

    /// A text file; none where it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }

    /// Why root's part of the check cannot be done, if so.
    pub fn needs_root(&self) -> Option<String> {
        (!self.root).then(|| "only root may look: run it with `sudo`".to_owned())
    }

    /// Why systemd cannot be asked, if so.
    pub fn needs_systemd(&self) -> Option<String> {
        (!self.at("run/systemd/system").is_dir()).then(|| "systemd does not run here".to_owned())
    }

    /// Runs a program of the machine to its end. The error is why there is no answer.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<Output, String> {
        self.run_bounded(program, arguments, DEADLINE, 1 << 20).await.map_err(|error| error.to_string())
    }

    /// As [`Self::run`], with its own bounds.
    pub async fn run_bounded(
        &self,
        program: &str,
        arguments: &[&str],
        deadline: Duration,
        limit: usize,
    ) -> Result<Output, RunError> {
        let path = self.at(program);
        if !path.is_file() {
            return Err(RunError::Absent(path));
        }
        let command = Command::new(&path).args(arguments).env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0");
        Ok(command.deadline(deadline).stdout_limit(limit).run().await?)
    }
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It is not installed.
    #[error("there is no `{}` here", .0.display())]
    Absent(PathBuf),
    /// It did not run to its end.
    #[error(transparent)]
    Run(#[from] landfall_core::command::CommandError),
}
