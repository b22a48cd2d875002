//! The limits of a container as the kernel has them, by cgroup files of version 1 or 2; nothing shared with `landfall verify`, which
//! reads the same.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroup of a process.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// `/proc/PID/cgroup`.
    lines: String,
}

/// What a cgroup may use; none where there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub with_swap: Option<u64>,
    /// CPU time in thousandths of a core.
    pub millicores: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Cgroup {
    /// Of that process.
    pub fn of(pid: u64) -> Result<Self> {
        let path = format!("/proc/{pid}/cgroup");
        Ok(Self { lines: std::fs::read_to_string(&path).with_context(|| path.clone())? })
    }

    /// Whether the cgroup, in the hierarchy that has memory, lies below one of that name.
    pub fn is_below(&self, name: &str) -> bool {
        let path = self.v1("memory").or_else(|| self.unified());
        path.is_some_and(|path| path.split('/').any(|part| part == name))
    }

    /// All of its limits.
    pub fn limits(&self) -> Result<Limits> {
        let memory = self.limit("memory", "memory.limit_in_bytes", "memory.max")?;
        let with_swap = if self.v1("memory").is_some() {
            self.limit("memory", "memory.memsw.limit_in_bytes", "")?
        } else {
            let swap = self.limit("memory", "", "memory.swap.max")?;
            memory.zip(swap).map(|(memory, swap)| memory + swap)
        };
        Ok(Limits {
            memory,
            with_swap,
            millicores: self.millicores()?,
            pids: self.limit("pids", "pids.max", "pids.max")?,
        })
    }

    /// How many processes and threads there are.
    pub fn processes(&self) -> Result<u64> {
        Ok(self.read("pids", "pids.current", "pids.current")?.trim().parse()?)
    }

    fn millicores(&self) -> Result<Option<u64>> {
        let text = if self.v1("cpu").is_some() {
            let period = self.read("cpu", "cpu.cfs_period_us", "")?;
            format!("{} {period}", self.read("cpu", "cpu.cfs_quota_us", "")?.trim())
        } else {
            self.read("cpu", "", "cpu.max")?
        };
        let (quota, period) = text.trim().split_once(' ').with_context(|| text.clone())?;
        let period: u64 = period.trim().parse()?;
        Ok(number(quota)?.map(|quota| quota * 1000 / period))
    }

    fn limit(&self, controller: &str, old: &str, new: &str) -> Result<Option<u64>> {
        number(&self.read(controller, old, new)?)
    }

    /// The file of that name in version 1 or 2, wherever the controller is.
    fn read(&self, controller: &str, old: &str, new: &str) -> Result<String> {
        let file = match self.v1(controller) {
            Some(path) => below(&Path::new(MOUNT).join(controller), path).join(old),
            None => below(Path::new(MOUNT), self.unified().context("in no cgroup")?).join(new),
        };
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    fn v1(&self, controller: &str) -> Option<&str> {
        self.lines.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then_some(path)
        })
    }

    fn unified(&self) -> Option<&str> {
        self.lines.lines().find_map(|line| line.strip_prefix("0::"))
    }
}

/// The memory that all in a slice may have together.
pub fn memory_of_slice(name: &str) -> Result<Option<u64>> {
    let places = [format!("{MOUNT}/memory/{name}/memory.limit_in_bytes"), format!("{MOUNT}/{name}/memory.max")];
    let text = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
    number(&text.with_context(|| format!("no {}", places.join(", no ")))?)
}

fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// Version 1 has no word for "none" but a number near the largest.
fn number(text: &str) -> Result<Option<u64>> {
    match text.trim() {
        "max" | "-1" => Ok(None),
        text => Ok(Some(text.parse::<u64>().with_context(|| text.to_owned())?).filter(|number| *number < 1 << 60)),
    }
}
