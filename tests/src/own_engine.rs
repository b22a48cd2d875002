//! A dockerd of a test's own, to be killed and restarted: in namespaces for network, mounts and processes, so that it
//! shares no firewall rule and no bridge with the machine's, and nothing of it outlives the test.
//!
//! A test that wants one runs itself again inside (`suite::with_own_engine`): there the registry, the daemons, the
//! prober and this dockerd see one another, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine::Engine;
use crate::process::{Lifetime, Process, tail};
use crate::wait::eventually;

/// Names the directory, inside.
pub const INSIDE: &str = "LANDFALL_TEST_INSIDE";

const START: Duration = Duration::from_mins(1);

/// The dockerd.
#[derive(Debug)]
pub struct OwnEngine {
    directory: PathBuf,
    process: Option<Process>,
}

/// The command that runs `program` inside, with a Docker socket that is not served yet.
pub fn inside(directory: &Path, program: &Path) -> Command {
    // The first shell becomes `unshare`, whose namespace is then known by its number to units outside.
    let mut command = Command::new("sh");
    let host = format!("unix://{}/docker.sock", directory.display());
    command
        .args(["-c", r#"export LANDFALL_TEST_NETWORK=/proc/$$/ns/net; exec unshare "$@""#, "unshare"])
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        // The shell stays, as process 1, and reaps orphans: dockerd takes a containerd that nobody reaped for a live one.
        // dockerd takes the machine's containerd where it sees one: that one is outside.
        .args(["sh", "-c", r#"ip link set lo up && mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd && "$0" "$@"; exit $?"#])
        .arg(program)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env(INSIDE, directory)
        .env("DOCKER_HOST", &host)
        .env("LANDFALL_DOCKER_HOST", &host);
    command
}

impl OwnEngine {
    /// Starts it in the directory that [`INSIDE`] names.
    pub fn start() -> Result<Self> {
        let directory = std::env::var_os(INSIDE).with_context(|| format!("`{INSIDE}` is not set"))?;
        let mut engine = Self { directory: directory.into(), process: None };
        engine.resume()?;
        Ok(engine)
    }

    /// Starts it again on the same data.
    pub fn resume(&mut self) -> Result<()> {
        let at = |name: &str| self.directory.join(name);
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("dockerd"));
        command.arg("--host").arg(format!("unix://{}", at("docker.sock").display()));
        // systemd, if it is there, knows nothing of the processes in here.
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        let mut process = Process::start("dockerd", &self.directory, command, Lifetime::Test)?;
        let engine = Engine::of_this_machine();
        eventually(START, "dockerd answers", || {
            process.check()?;
            engine.call("GET", "/version", None).map(drop)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// What it said, from its first start on.
    pub fn log(&self) -> String {
        tail(&self.directory.join("dockerd.log"), usize::MAX)
    }

    /// kill -9 of dockerd; its containers run on, unseen.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("dockerd does not run")?.kill()
    }

    /// SIGSTOP, until what is returned is dropped: it takes connections and answers none; its containers run on.
    pub fn freeze(&self) -> Result<Frozen> {
        let process = self.process.as_ref().context("dockerd does not run")?;
        let frozen = Frozen(Pid::from_raw(i32::try_from(process.id())?));
        kill(frozen.0, Signal::SIGSTOP)?;
        Ok(frozen)
    }

    /// SIGTERM: it stops its containers and ends.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.take().context("dockerd does not run")?.stop()?;
        ensure!(status.success(), "dockerd ended with {status}");
        Ok(())
    }
}

/// A dockerd that hangs. Dropping it lets it go on, also when a test fails: what cleans up needs it.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // A process that is gone meanwhile needs no signal.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
