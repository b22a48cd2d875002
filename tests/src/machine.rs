//! A whole VM: the root file system of the VM image, booted in a container with systemd as process 1, a dockerd of its own, and
//! cloud-init with a seed. All that ships on it starts as it does on a VM. Its power can be cut, and its disks outlive it.
//!
//! What a container cannot show: a kernel's own boot, a clock of its own, and the network as the image configures it, which is
//! done here from outside (`make image-test` has all three).

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::life::{Guest, PORT};
use crate::ran::Ran;
use crate::world;

/// Names the image that is booted: `make test-vm` makes it.
const IMAGE: &str = "LANDFALL_MACHINE";

/// What belongs to a test machine, for whoever cleans up.
const LABEL: &str = "io.landfall.machine=test";

/// More than the sample, dockerd and a boot need; a runaway takes no more.
const MEMORY: &str = "6g";

/// As often as the agent starts a container.
const STARTS: u32 = 3;
/// What the Engine says of a runtime that ended while it made a container.
const RUNTIME_FAILED: &str = "waiting for init preliminary setup";

/// A machine, and its disk. Dropping it removes both.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: String,
}

/// What lies on a machine before its first boot, or is bound into it.
#[derive(Debug, Default)]
pub struct Blank<'a> {
    /// Files by absolute path; directories belong to root.
    pub files: Vec<(String, String)>,
    /// Directories of this machine, by where they are mounted there.
    pub disks: Vec<(&'a Path, &'a str)>,
    /// Where it is; [`world::MACHINE`] if not said.
    pub address: Option<&'a str>,
    /// Names that are not in any name server.
    pub hosts: Vec<(&'a str, &'a str)>,
}

impl Machine {
    /// Makes one of the image, switched off.
    pub fn create(name: &str, blank: &Blank<'_>, directory: &Path) -> Result<Self> {
        let image = std::env::var(IMAGE).with_context(|| format!("`{IMAGE}` is not set; next: `make test-vm`"))?;
        let mut create = docker(&["create", "--name", name, "--label", LABEL, "--hostname", "vm-1"]);
        create.args(["--privileged", "--cgroupns=private", "--network=none", "--memory", MEMORY]);
        create.args(["--tmpfs", "/run", "--tmpfs", "/run/lock", "--env", "container=docker"]);
        create.args(["--volume", "/var/lib/docker"]);
        for (from, to) in &blank.disks {
            create.arg("--volume").arg(format!("{}:{to}", from.display()));
        }
        for (host, address) in &blank.hosts {
            create.args(["--add-host", &format!("{host}:{address}")]);
        }
        done(create.arg(image))?;
        let address = blank.address.unwrap_or(world::MACHINE).to_owned();
        let machine = Self { name: name.to_owned(), address };
        machine.lay_down(directory, &blank.files)?;
        Ok(machine)
    }

    /// Writes files of a machine that may be switched off.
    pub fn lay_down(&self, directory: &Path, files: &[(String, String)]) -> Result<()> {
        let tree = tempfile::tempdir_in(directory)?;
        // What is copied brings its mode along, directories too.
        let root = tree.path().join("root");
        for (path, text) in files {
            let path = root.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().context("a file without a directory")?)?;
            std::fs::write(&path, text)?;
        }
        self.lay_tree(&root)
    }

    /// Copies what is below `root` onto it, links as links, with its modes.
    pub fn lay_tree(&self, root: &Path) -> Result<()> {
        done(docker(&["cp", "-q"]).arg(root.join(".")).arg(format!("{}:/", self.name)))
    }

    /// What stands in one of its files.
    pub fn read(&self, directory: &Path, path: &str) -> Result<String> {
        let place = tempfile::tempdir_in(directory)?;
        let copy = place.path().join("copy");
        done(docker(&["cp", "-q", "-L", &format!("{}:{path}", self.name)]).arg(&copy))?;
        Ok(std::fs::read_to_string(copy)?)
    }

    /// Tried again where the runtime failed before the machine had a first process (docs/facts.md): no test here is about that.
    fn start(&self) -> Result<()> {
        for _ in 1..STARTS {
            match done(&mut docker(&["start", &self.name])) {
                Err(error) if error.to_string().contains(RUNTIME_FAILED) => eprintln!("once more: {error:#}"),
                ended => return ended,
            }
        }
        done(&mut docker(&["start", &self.name]))
    }

    fn process(&self) -> Result<u32> {
        let ran = Ran::of(&mut docker(&["inspect", "--format", "{{.State.Pid}}", &self.name]))?;
        ran.stdout.trim().parse().with_context(|| format!("`{}` has no process: {}", self.name, ran.stderr))
    }
}

impl Guest for Machine {
    /// With its cable in.
    fn power_on(&mut self) -> Result<()> {
        self.start()?;
        world::plug_in(self.process()?, &self.address)
    }

    fn cut_power(&mut self) -> Result<()> {
        done(&mut docker(&["kill", "--signal=KILL", &self.name]))?;
        done(&mut docker(&["wait", &self.name]))
    }

    fn run(&self, words: &[&str]) -> Result<Ran> {
        Ran::of(docker(&["exec", &self.name]).args(words))
    }

    fn console(&self) -> String {
        Ran::of(&mut docker(&["logs", "--tail", "60", &self.name]))
            .map_or_else(|error| error.to_string(), |ran| ran.stdout)
    }

    fn url(&self) -> String {
        format!("http://{}:{PORT}/", self.address)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::env::var_os("KEEP").is_some() {
            eprintln!("left: `docker exec -it {0} bash`; `docker rm -fv {0}` removes it", self.name);
        } else if let Err(error) = done(&mut docker(&["rm", "--force", "--volumes", &self.name])) {
            eprintln!("left behind: {error:#}");
        }
    }
}

fn docker(words: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(words);
    command
}

fn done(command: &mut Command) -> Result<()> {
    let ran = Ran::of(command)?;
    ensure!(ran.code == 0, "{command:?} ended with {}: {}", ran.code, ran.stderr.trim());
    Ok(())
}
