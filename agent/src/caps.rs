//! Resource caps: what each service may use, and whether all of it fits this machine. Pure. No service runs without a memory cap
//! unless the host says so: one leak must not take the machine, sshd and this agent with it.

use std::collections::BTreeMap;

use landfall_core::config::Host;
use landfall_core::layout::Layout;
use serde::{Deserialize, Serialize};

use crate::model::{Limits, Service};
use crate::reading::Reading;
use crate::refusal::{Problem, Rule};

/// What finalising must know of this machine and of the other apps on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostContext {
    /// Where content lies.
    pub layout: Layout,
    /// The host's policy.
    pub host: Host,
    /// Whether the journal's socket answers.
    pub journald: bool,
    /// `landfall.slice`, where Docker uses the systemd cgroup driver.
    pub cgroup_parent: Option<String>,
    /// All memory of the machine, bytes, as the Engine says; 0 means unknown and admits everything.
    pub memory_total: u64,
    /// Its cores; 0 means unknown.
    pub cpus: u32,
    /// Promised to other apps, bytes.
    pub memory_of_other_apps: u64,
    /// Volumes without a name of our own that containers hand over: service, path in the container, volume name.
    pub handed_volumes: BTreeMap<String, BTreeMap<String, String>>,
    /// Networks of what is live, by key.
    pub live_networks: BTreeMap<String, crate::networks::LiveNetwork>,
    /// The sets of secrets that the fetcher has for this release, by service.
    pub secret_sets: BTreeMap<String, crate::spec::ServiceSecrets>,
}

/// How many processes where the file does not say.
pub const DEFAULT_PIDS: u64 = 512;
/// Docker refuses a smaller memory cap.
const LEAST_MEMORY: u64 = 6 << 20;
const MIB: u64 = 1 << 20;

/// What one container of a service may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Caps {
    /// Bytes, without swap on top; absent only where the host does not require caps.
    pub memory: Option<u64>,
    /// In thousandths of a core.
    pub millicores: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

impl Caps {
    /// For the deployment's identity.
    pub fn line(&self, service: &str) -> String {
        let number = |value: Option<u64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        let (memory, cpus) = (number(self.memory), number(self.millicores));
        format!("caps {service} memory={memory} millicores={cpus} pids={}", self.pids)
    }
}

/// The caps of a service as the file and the host say. `allotted` is the memory of a preview, whatever the file says.
pub fn effective(service: &Service, allotted: Option<u64>, host: &Host, cpus: u32, reading: &mut Reading<'_>) -> Caps {
    let none = Limits::default();
    let limits = service.deploy.as_ref().and_then(|d| d.resources.as_ref()).and_then(|r| r.limits.as_ref());
    let limits = limits.unwrap_or(&none);
    let written = service.mem_limit.as_ref().or(limits.memory.as_ref());
    let memory = reading.size("mem_limit", written);
    if memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        reading.problem(Rule::CapTooSmall, "mem_limit", format!("{} bytes", memory.unwrap_or_default()));
    }
    let swap = service.memswap_limit.as_deref().filter(|swap| !matches!(*swap, "0" | ""));
    if let Some(swap) = swap
        && swap.parse().ok() != memory
    {
        let what = "swap beyond the memory cap: a container that swaps slows down all others";
        reading.problem(Rule::NotSupported, "memswap_limit", what);
    }
    let cores = service.cpus.as_ref().or(limits.cpus.as_ref()).filter(|cores| !matches!(&***cores, "0" | ""));
    let millicores = cores.and_then(|cores| {
        let parsed = millicores(cores);
        if parsed.is_none() {
            reading.problem(Rule::BadValue, "cpus", format!("`{cores}` is not a number of cores"));
        }
        parsed
    });
    if cpus > 0 && millicores.is_some_and(|asked| asked > u64::from(cpus) * 1000) {
        let asked = cores.map_or("", |cores| &**cores);
        reading.problem(Rule::CpusBeyondMachine, "cpus", format!("{asked} cores, and this machine has {cpus}"));
    }
    let pids = service.pids_limit.as_ref().or(limits.pids.as_ref()).filter(|pids| &***pids != "0");
    let pids = match pids.map(|pids| pids.parse::<u64>()) {
        None => DEFAULT_PIDS,
        Some(Ok(pids)) => pids,
        Some(Err(_)) => {
            reading.problem(Rule::BadValue, "pids_limit", "expected a number of processes; there is no `unlimited`");
            DEFAULT_PIDS
        }
    };
    Caps { memory: allotted.or(memory).or(host.default_memory), millicores, pids }
}

fn millicores(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.get(..3.min(fraction.len()))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = if digits.is_empty() { 0 } else { format!("{digits:0<3}").parse::<u64>().ok()? };
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    whole.checked_mul(1000)?.checked_add(thousandths).filter(|cores| *cores > 0)
}

/// Thousandths of a core as Compose wants them.
pub fn cores_text(millicores: u64) -> String {
    let text = format!("{}.{:03}", millicores / 1000, millicores % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Services without a memory cap, and what to paste.
pub fn missing(caps: &BTreeMap<&str, Caps>, host: &Host) -> Option<Problem> {
    let without: Vec<&str> = caps.iter().filter(|(_, caps)| caps.memory.is_none()).map(|(name, _)| *name).collect();
    if without.is_empty() || !host.require_caps {
        return None;
    }
    let names = without.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut next = Rule::NoCap.next().to_owned();
    next.push_str("\nservices:");
    for name in &without {
        next.push_str(&format!("\n  {name}:\n    mem_limit: 256M"));
    }
    Some(Problem::new(Rule::NoCap, "mem_limit", format!("no memory cap: {names}")).next(next))
}

/// One service in the sum of what may be in use at once.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    /// Whose.
    pub service: &'a str,
    /// Per container.
    pub memory: u64,
    /// How many containers serve.
    pub replicas: u32,
    /// How many more run during a rollout (start-first).
    pub surge: u32,
}

/// What the machine can give.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// All its memory; 0 means unknown.
    pub total: u64,
    /// Kept for the host.
    pub reserve: u64,
    /// Promised to other apps.
    pub others: u64,
}

/// Whether all caps together fit.
pub fn admit(shares: &[Share<'_>], room: Room) -> Option<Problem> {
    if room.total == 0 {
        return None;
    }
    let of = |share: &Share<'_>| share.memory.saturating_mul(u64::from(share.replicas) + u64::from(share.surge));
    let asked = shares.iter().map(of).fold(0, u64::saturating_add);
    let free = room.total.saturating_sub(room.reserve).saturating_sub(room.others);
    if asked <= free {
        return None;
    }
    let mut what = format!(
        "{} MiB asked, {} MiB free: the machine has {} MiB, {} MiB are reserved for the host and {} MiB promised to other apps",
        asked.div_ceil(MIB),
        free / MIB,
        room.total / MIB,
        room.reserve / MIB,
        room.others / MIB
    );
    for share in shares {
        let surge = if share.surge == 0 { String::new() } else { format!(" + {} while rolling", share.surge) };
        let each = share.memory.div_ceil(MIB);
        what.push_str(&format!("\n{}: {each} MiB x {}{surge}", share.service, share.replicas));
    }
    Some(Problem::new(Rule::CapsDoNotFit, "mem_limit", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_the_same_however_they_are_written() {
        for (text, cores) in [
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("0.50", Some(500)),
            ("2", Some(2000)),
            ("1.25", Some(1250)),
            ("0.0001", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(millicores(text), cores, "{text}");
        }
        assert_eq!([500, 2000, 1250, 1].map(cores_text), ["0.5", "2", "1.25", "0.001"]);
    }

    #[test]
    fn admission_counts_the_surge_and_the_neighbours() {
        let share = |surge| Share { service: "api", memory: 100 * MIB, replicas: 2, surge };
        let room = Room { total: 1000 * MIB, reserve: 500 * MIB, others: 300 * MIB };
        assert_eq!(admit(&[share(0)], room), None);
        let refused = admit(&[share(1)], room).unwrap();
        assert!(refused.what.starts_with("300 MiB asked, 200 MiB free"), "{}", refused.what);
        assert!(refused.what.contains("api: 100 MiB x 2 + 1 while rolling"), "{}", refused.what);
    }
}
