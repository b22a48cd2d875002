//! A shipped daemon under systemd: the unit that ships, with the paths of a test's own root and a name of its own, so that tests
//! run side by side. All that the unit closes stays closed. What differs is said here: it is not started again by itself (tests
//! kill it and look), its log goes to the file that other daemons of tests have, and what starts before it on a VM is left out.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::layout::CACHE_KEY;

use crate::wait::eventually;

/// Names the tree that holds `usr/lib/systemd/system`; without it daemons are child processes.
const UNITS: &str = "LANDFALL_UNITS";
/// Names the network namespace of whoever runs in one, as process 1 sees it.
pub const NETWORK: &str = "LANDFALL_TEST_NETWORK";

const FETCHER: &str = "landfall-secrets-fetcher";

/// What a service manager tells a daemon: here that is systemd, by the unit.
const OF_THE_MANAGER: &[&str] = &["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"];

const WAIT: Duration = Duration::from_secs(30);
const RUN: &str = "/run/systemd/system";

/// Where a daemon finds its network, if not on the machine.
#[derive(Debug, Clone)]
pub struct Network {
    /// The namespace's file.
    pub namespace: PathBuf,
    /// In place of `/etc/hosts`.
    pub hosts: Option<PathBuf>,
}

impl Network {
    /// That of this process, where it is in one of its own.
    pub fn own() -> Option<Self> {
        std::env::var_os(NETWORK).map(|path| Self { namespace: path.into(), hosts: None })
    }
}

/// The tree of what ships, where daemons are to be units.
pub fn shipped() -> Option<PathBuf> {
    std::env::var_os(UNITS).map(PathBuf::from)
}

/// A unit that was started.
#[derive(Debug)]
pub struct Unit {
    name: String,
    file: PathBuf,
    _beside: Option<Owner>,
}

/// The socket at which the fetcher of a root has files given away, and the unit behind it.
#[derive(Debug)]
struct Owner {
    socket: String,
    files: [PathBuf; 2],
}

impl Owner {
    fn start(shipped: &Path, root: &Path, command: &Command, beside: &str) -> Result<Self> {
        let base = format!("{}-owner", beside.trim_end_matches(".service"));
        let read = |name: &str| std::fs::read_to_string(shipped.join("usr/lib/systemd/system").join(name));
        let program = command.get_program().to_str().context("the program's path is no text")?;
        let service = read("landfall-secrets-owner@.service")?;
        let service = service.replace("/usr/libexec/landfall/landfall-secrets-fetcher", program);
        let socket = format!("{base}.socket");
        let files = [Path::new(RUN).join(&socket), Path::new(RUN).join(format!("{base}@.service"))];
        // Without what orders it in a boot.
        let own = read("landfall-secrets-owner.socket")?.replace("After=", "#").replace("PartOf=", "#");
        std::fs::write(&files[0], below(&own, root))?;
        std::fs::write(&files[1], below(&service, root))?;
        systemctl(&["start", &socket])?;
        Ok(Self { socket, files })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // What cannot be ended ends with the machine.
        let _ = systemctl(&["stop", &self.socket]);
        self.files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}

impl Unit {
    /// Starts the shipped unit of `daemon` below `root` with what `command` says. Does not wait for it.
    pub fn start(
        shipped: &Path,
        daemon: &str,
        root: &Path,
        log: &Path,
        command: &Command,
        network: Option<&Network>,
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        prepare(shipped, root)?;
        let path = shipped.join(format!("usr/lib/systemd/system/{daemon}.service"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // Of the test's own directory: numbers of processes are not the only ones of their kind.
        let own = root.parent().and_then(Path::file_name).context("the root is in no directory of a test")?;
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("{}-{count}-{daemon}.service", own.to_string_lossy());
        let file = Path::new(RUN).join(&name);
        std::fs::create_dir_all(RUN)?;
        std::fs::write(&file, of_a_test(&text, root, log, command, network)?)?;
        let beside = if daemon == FETCHER { Some(Owner::start(shipped, root, command, &name)?) } else { None };
        let unit = Self { name, file, _beside: beside };
        systemctl(&["start", "--no-block", &unit.name])?;
        Ok(unit)
    }

    /// Its main process.
    pub fn id(&self) -> Result<u32> {
        eventually(WAIT, &format!("{} has a process", self.name), || {
            let id: u32 = self.property("MainPID")?.parse()?;
            ensure!(id != 0, "none; the unit is {}", self.property("ActiveState")?);
            Ok(id)
        })
    }

    /// SIGKILL to its main process, and waits for its end.
    pub fn kill(self) -> Result<()> {
        // What was only asked for has no process yet.
        self.id()?;
        systemctl(&["kill", "--kill-whom=main", "--signal=KILL", &self.name])?;
        self.ended().map(drop)
    }

    /// SIGTERM, and waits for its end; says whether systemd calls that a good one.
    pub fn stop(self) -> Result<ExitStatus> {
        systemctl(&["stop", &self.name])?;
        Ok(ExitStatus::from_raw(if self.ended()? == "failed" { 1 << 8 } else { 0 }))
    }

    fn ended(&self) -> Result<String> {
        eventually(WAIT, &format!("{} ends", self.name), || {
            let state = self.property("ActiveState")?;
            match state.as_str() {
                "inactive" | "failed" => Ok(state),
                _ => bail!("it is {state}"),
            }
        })
    }

    fn property(&self, name: &str) -> Result<String> {
        Ok(systemctl(&["show", "--value", "--property", name, &self.name])?.trim().to_owned())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // It may have ended by itself, and been forgotten.
        let _ = systemctl(&["kill", "--signal=KILL", &self.name]);
        let _ = self.ended();
        let _ = systemctl(&["reset-failed", &self.name]);
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Runs a script as the main process of a shipped unit, with all that the unit closes, on this machine's own paths.
pub fn probe(shipped: &Path, daemon: &str, script: &str) -> Result<Output> {
    let path = shipped.join(format!("usr/lib/systemd/system/{daemon}.service"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let of_a_daemon = ["Type=", "WatchdogSec=", "Restart=", "After=", "Wants=", "PartOf=", "LoadCredentialEncrypted="];
    let kept = text.lines().filter(|line| !of_a_daemon.iter().any(|name| line.starts_with(name)));
    let lines: Vec<&str> = kept.filter(|line| !line.starts_with("ExecStart=")).collect();
    let directory = tempfile::Builder::new().prefix("landfall-probe-").tempdir_in("/run")?;
    let name = directory.path().file_name().context("no name")?.to_string_lossy().into_owned() + ".service";
    let said = directory.path().join("said");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))?;
    std::fs::write(directory.path().join("script"), script)?;
    let service = format!(
        "[Service]\nType=oneshot\nExecStart=/bin/sh {}\nStandardOutput=append:{1}\nStandardError=append:{1}",
        directory.path().join("script").display(),
        said.display()
    );
    let file = Path::new(RUN).join(&name);
    std::fs::create_dir_all(RUN)?;
    std::fs::write(&file, lines.join("\n").replacen("[Service]", &service, 1))?;
    let started = Command::new("systemctl").args(["start", &name]).output().context("cannot run `systemctl`")?;
    let _ = systemctl(&["reset-failed", &name]);
    std::fs::remove_file(&file)?;
    Ok(Output { status: started.status, stdout: std::fs::read(&said).unwrap_or_default(), stderr: started.stderr })
}

/// Owners and modes below a root, as the shipped tmpfiles make them; what is mounted there since gets them too.
pub fn prepare(shipped: &Path, root: &Path) -> Result<()> {
    let path = shipped.join("usr/lib/tmpfiles.d/landfall.conf");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // Whoever runs a daemon must come to its root.
    for directory in [root, root.parent().context("no parent")?] {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755))?;
    }
    let mut made = Command::new("systemd-tmpfiles");
    let file = root.join("tmpfiles.conf");
    std::fs::write(&file, below(&text, root))?;
    let output = made.arg("--create").arg(&file).output().context("cannot run `systemd-tmpfiles`")?;
    ensure!(output.status.success(), "systemd-tmpfiles: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn below(text: &str, root: &Path) -> String {
    ["/var/lib/landfall", "/run/landfall", "/etc/landfall"].into_iter().fold(text.to_owned(), |text, tree| {
        text.replace(tree, &format!("{}{tree}", root.display().to_string().trim_end_matches('/')))
    })
}

fn of_a_test(shipped: &str, root: &Path, log: &Path, command: &Command, network: Option<&Network>) -> Result<String> {
    let named = |wanted: &str| command.get_envs().find(|(name, _)| *name == wanted).and_then(|(_, value)| value);
    let (credentials, watchdog) = (named("CREDENTIALS_DIRECTORY"), named("WATCHDOG_USEC").and_then(|us| us.to_str()));
    let key = credentials.map(|directory| Path::new(directory).join(CACHE_KEY)).filter(|key| key.is_file());
    let mut text = String::new();
    for line in below(shipped, root).lines() {
        let name = line.split('=').next().unwrap_or_default();
        match name {
            "After" | "Before" | "Wants" | "PartOf" | "WantedBy" => {}
            "Restart" => text += "Restart=no\n",
            "LoadCredentialEncrypted" if key.is_some() => {}
            "WatchdogSec" => {
                let shipped = line.strip_prefix("WatchdogSec=").unwrap_or_default();
                let wanted = watchdog.map_or_else(|| shipped.to_owned(), |us| format!("{us}us"));
                writeln!(text, "WatchdogSec={wanted}")?;
            }
            "ExecStart" => {
                text += "ExecStart=";
                for word in std::iter::once(command.get_program()).chain(command.get_args()) {
                    write!(text, "\"{}\" ", word.to_str().context("an argument is no text")?)?;
                }
                writeln!(text, "\nStandardOutput=append:{0}\nStandardError=append:{0}", log.display())?;
                for (name, value) in environment(command) {
                    writeln!(text, "Environment=\"{name}={value}\"")?;
                }
                if let Some(key) = &key {
                    writeln!(text, "LoadCredential={CACHE_KEY}:{}", key.display())?;
                }
                // Whoever has no network needs none of another's.
                if let Some(network) = network.filter(|_| !shipped.contains("PrivateNetwork=yes")) {
                    writeln!(text, "NetworkNamespacePath={}", network.namespace.display())?;
                    if let Some(hosts) = &network.hosts {
                        writeln!(text, "BindReadOnlyPaths={}:/etc/hosts", hosts.display())?;
                    }
                }
            }
            _ => text += &format!("{line}\n"),
        }
    }
    Ok(text)
}

/// What a child process would have from the command, and from this process for our programs.
fn environment(command: &Command) -> Vec<(String, String)> {
    let own = std::env::vars().filter(|(name, _)| name.starts_with("LANDFALL_"));
    let own = own.filter(|(name, _)| ![UNITS, NETWORK, "LANDFALL_PROGRAMS"].contains(&name.as_str()));
    let named =
        command.get_envs().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())));
    own.chain(named.filter(|(name, _)| !OF_THE_MANAGER.contains(&name.as_str()))).collect()
}

fn systemctl(arguments: &[&str]) -> Result<String> {
    // By way of the bus: process 1 itself is answered only by those who see its number, and some tests run in a namespace.
    let mut command = Command::new("systemctl");
    let output = command.args(arguments).env("SYSTEMCTL_FORCE_BUS", "1").output().context("cannot run `systemctl`")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`systemctl {}`: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = "[Unit]\nAfter=docker.service\n[Service]\nExecStart=/usr/libexec/landfall/landfall-x\nRestart=always\n\
        LoadCredentialEncrypted=landfall-cache-key\nReadWritePaths=/var/lib/landfall/x /run/landfall/x\nNoNewPrivileges=yes\n";

    #[test]
    fn a_unit_of_a_test_keeps_what_is_closed_and_has_its_own_paths() {
        let mut command = Command::new("/p/landfall-x");
        command.args(["--root", "/r"]).env("A", "b c");
        let network = Network { namespace: "/proc/7/ns/net".into(), hosts: Some("/h".into()) };
        let made = of_a_test(SHIPPED, Path::new("/r"), Path::new("/l"), &command, Some(&network)).unwrap();
        for line in [
            "ExecStart=\"/p/landfall-x\" \"--root\" \"/r\" ",
            "StandardError=append:/l",
            "Environment=\"A=b c\"",
            "NetworkNamespacePath=/proc/7/ns/net",
            "BindReadOnlyPaths=/h:/etc/hosts",
            "Restart=no",
            "LoadCredentialEncrypted=landfall-cache-key",
            "ReadWritePaths=/r/var/lib/landfall/x /r/run/landfall/x",
            "NoNewPrivileges=yes",
        ] {
            assert!(made.lines().any(|found| found == line), "no `{line}` in {made}");
        }
        assert!(!made.contains("After=") && !made.contains("always"), "{made}");
    }
}
