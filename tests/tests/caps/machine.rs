//! The machine itself: dockerd with the settings of a story, our units at its own root, and the stack of `fixtures/caps`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use landfall_sample::http;
use landfall_tests::cgroup::Cgroup;
use landfall_tests::engine::Engine;
use landfall_tests::neighbours;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::eventually;
use landfall_tests::{clean, ports};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// The machine with the fixture's first release live on it.
pub struct Machine {
    /// With the app of that name.
    pub vm: Vm,
    ports: BTreeMap<&'static str, u16>,
    _directory: tempfile::TempDir,
}

pub fn on_this_machine(name: &str, story: impl FnOnce(&Machine) -> Result<()>) -> Result<()> {
    run(
        "systemd-tmpfiles --create /usr/lib/tmpfiles.d/landfall.conf && systemctl stop landfall-agent landfall-image-watcher && \
        rm -rf /var/lib/landfall/agent/* /var/lib/landfall/watcher/* && systemd-tmpfiles --create /usr/lib/tmpfiles.d/landfall.conf && \
        echo 'apps: {}' >/etc/landfall/landfall.yaml && \
        systemctl restart landfall-host && systemctl start landfall-agent landfall-image-watcher",
    )?;
    neighbours::start_answerer()?;
    let directory = tempfile::tempdir_in("/srv")?;
    let app = format!("{}{}-0-{name}", clean::PREFIX, std::process::id());
    let vm = Vm::of_this_machine_with("caps", directory.path(), &app)?;
    let mut ports: BTreeMap<&str, u16> = [("api", vm.port())].into();
    for service in ["bad", "rotated", "calm"] {
        ports.insert(service, ports::free()?);
    }
    let variables: Vec<(String, String)> =
        ports.iter().map(|(service, port)| (format!("{}_PORT", service.to_uppercase()), port.to_string())).collect();
    let variables: Vec<(&str, String)> = variables.iter().map(|(name, port)| (name.as_str(), port.clone())).collect();
    let machine = Machine { vm, ports, _directory: directory };
    machine.vm.configure_host(&json!({}), &variables)?;
    let told = machine.vm.publish_version("v1", &[]).and_then(|v1| machine.vm.live(&v1)).and_then(|_| story(&machine));
    if told.is_err() {
        eprintln!("{}\n{}", machine.vm.report(), run("journalctl -n 80 --no-pager -u 'landfall*'")?);
    }
    told
}

impl Machine {
    pub fn ask(&self, service: &str, target: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{}{target}", self.ports[service]);
        let answer = http::get(&url).with_context(|| url.clone())?;
        ensure!(answer.status == 200, "{url}: {} {}", answer.status, answer.text());
        Ok(())
    }

    pub fn cgroup(&self, service: &str) -> Result<Cgroup> {
        let id = self.vm.engine.serving(self.vm.app.as_str(), service)?.id;
        Cgroup::of(self.vm.engine.inspect(&id)?["State"]["Pid"].as_u64().context("no `Pid`")?)
    }

    /// What `landfall verify` finds, a line each.
    pub fn verified(&self) -> Result<Vec<Value>> {
        let lines = self.vm.landfall(&["verify", "--json"])?.stdout;
        lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Has a container write to its volume until that part of the disk is left, in per cent.
    pub fn fill(&self, disk: &Path, left: u64) -> Result<()> {
        let missing = |left: u64| -> Result<u64> {
            let stat = statvfs(disk)?;
            let whole = stat.blocks() - stat.blocks_free() + stat.blocks_available();
            Ok(stat.blocks_available().saturating_sub(whole * left / 100) * stat.fragment_size() / MIB)
        };
        self.ask("bad", &format!("/fill/{}", missing(left)?))?;
        eventually(ROLLOUT, "the disk is filled", || {
            let missing = missing(left + 1)?;
            ensure!(missing == 0, "{missing} MiB to go");
            Ok(())
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // First who would heal what is removed next.
        let _ = run("systemctl stop landfall-agent landfall-image-watcher");
        neighbours::stop_answerer();
    }
}

/// Starts dockerd anew with these settings.
pub fn dockerd(settings: &Value) -> Result<()> {
    std::fs::create_dir_all("/etc/docker")?;
    std::fs::write("/etc/docker/daemon.json", settings.to_string())?;
    run("systemctl stop landfall-agent; systemctl reset-failed docker.service; systemctl restart docker.service")?;
    eventually(SOON, "dockerd answers", || Engine::of_this_machine().call("GET", "/version", None).map(drop))
}

pub fn journal(matches: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new("journalctl");
    let output = command.args(["--output=json", "--no-pager", "--quiet"]).args(matches).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

pub fn run(script: &str) -> Result<String> {
    let output = Command::new("/bin/sh").args(["-c", script]).output()?;
    ensure!(output.status.success(), "`{script}`: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
