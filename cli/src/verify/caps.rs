//! Do the caps hold in the kernel, for all containers together and for each? By cgroup files, version 1 and 2, against what the Engine was
//! told.

use bollard::models::ContainerInspectResponse;

use super::finding::{Finding, Subject};
use super::machine::Machine;
use crate::docker::{EngineFacts, name_of};
use crate::terminal::size;

const SLICE: &str = "landfall.slice";
const MOUNT: &str = "sys/fs/cgroup";
/// Version 1 has no word for "none": a number near the largest.
const UNLIMITED: u64 = 1 << 60;
/// The kernel rounds memory down to pages, of 64 KiB at most.
const PAGE: u64 = 64 << 10;
/// The systemd driver rounds to 10 ms of CPU time a second.
const CPU_STEP: u64 = 10_000_000;
/// How many differences are named.
const MOST: usize = 5;

/// What a cgroup file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Unread,
    None,
    At(u64),
}

/// The limits of one cgroup; CPUs in billionths.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kernel {
    path: String,
    memory: Limit,
    cpus: Limit,
    pids: Limit,
}

/// What the Engine was told of a container; 0 where nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    memory: u64,
    cpus: u64,
    pids: u64,
    parent: String,
}

/// The slice's cap.
pub fn slice(machine: &Machine, facts: Option<&EngineFacts>) -> Finding {
    let read = |path: &str| machine.read(&format!("{MOUNT}/{path}"));
    let is_unified = read("cgroup.controllers").is_some();
    let file = if is_unified { format!("{SLICE}/memory.max") } else { format!("memory/{SLICE}/memory.limit_in_bytes") };
    judge_slice(facts.map(|facts| facts.systemd_cgroups), limit(read(&file).as_deref()))
}

fn judge_slice(systemd_driver: Option<bool>, cap: Limit) -> Finding {
    let subject = Subject::new("slice", format!("`{SLICE}` has a memory cap in the kernel"));
    let next = "`sudo landfall host`, and see `systemctl status landfall.slice`";
    match (cap, systemd_driver) {
        (Limit::At(bytes), Some(true) | None) => subject.pass(size(bytes)),
        (_, Some(false)) => subject.warn(
            "Docker uses the cgroupfs driver, so that containers are in no slice",
            "set `\"exec-opts\": [\"native.cgroupdriver=systemd\"]` in /etc/docker/daemon.json, then `systemctl restart docker`",
        ),
        (Limit::None, Some(true) | None) => subject.fail("it has none", next),
        (Limit::Unread, Some(true)) => subject.fail("it is not there", next),
        (Limit::Unread, None) => subject.skip("it is not there, and the Engine did not answer"),
    }
}

/// The caps of running containers.
pub fn containers(machine: &Machine, found: Result<&[ContainerInspectResponse], String>) -> Finding {
    let subject = Subject::new("caps", "the kernel has the caps of each container");
    let found = match found {
        Ok(found) => found,
        Err(why) => return subject.skip(why),
    };
    let (mut wrong, mut unread, mut good) = (Vec::new(), Vec::new(), 0_usize);
    for container in found {
        let pid = container.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0);
        let Some(pid) = pid else { continue };
        let name = name_of(container);
        let text = machine.read(&format!("proc/{pid}/cgroup"));
        let kernel = text.map(|text| kernel(&text, |path| machine.read(&format!("{MOUNT}/{path}"))));
        match kernel.map(|kernel| differences(&told(container), &kernel)) {
            None => unread.push(name),
            Some(Err(file)) => unread.push(format!("{name} ({file})")),
            Some(Ok(found)) if found.is_empty() => good += 1,
            Some(Ok(found)) => wrong.push(format!("`{name}`: {}", found.join(", "))),
        }
    }
    if !wrong.is_empty() {
        wrong.truncate(MOST);
        return subject.fail(
            wrong.join("; "),
            "a `docker update` by hand? `landfall plan`, or `docker restart` the container by its name",
        );
    }
    if !unread.is_empty() {
        unread.truncate(MOST);
        return subject.skip(format!("cannot read the cgroup of {}", unread.join(", ")));
    }
    if good == 0 { subject.skip("no container of an app runs") } else { subject.pass(format!("{good} running")) }
}

fn told(container: &ContainerInspectResponse) -> Told {
    let Some(host) = &container.host_config else { return Told::default() };
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let period = match number(host.cpu_period) {
        0 => 100_000,
        period => period,
    };
    let cpus = match number(host.nano_cpus) {
        0 => number(host.cpu_quota).saturating_mul(1_000_000_000) / period,
        nano => nano,
    };
    Told {
        memory: number(host.memory),
        cpus,
        pids: number(host.pids_limit),
        parent: host.cgroup_parent.clone().unwrap_or_default(),
    }
}

/// What a process's `/proc/PID/cgroup` leads to.
fn kernel(cgroup: &str, read: impl Fn(&str) -> Option<String>) -> Kernel {
    let of = |controller: &str| {
        cgroup.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then_some((controllers, path))
        })
    };
    // Where version 1 does not have the controller, version 2 does; its line has an empty name.
    let file = |controller: &str, old: &str, new: &str| match of(controller) {
        Some((_, path)) => read(&format!("{controller}{path}/{old}")),
        None => of("").and_then(|(_, path)| read(&format!("{}/{new}", path.trim_start_matches('/')))),
    };
    let cpus = match of("cpu") {
        Some(_) => {
            let period = file("cpu", "cpu.cfs_period_us", "").unwrap_or_default();
            file("cpu", "cpu.cfs_quota_us", "").map(|quota| format!("{} {period}", quota.trim()))
        }
        None => file("cpu", "", "cpu.max"),
    };
    let path = of("memory").or_else(|| of("")).map_or_else(String::new, |(_, path)| path.to_owned());
    Kernel {
        path,
        memory: limit(file("memory", "memory.limit_in_bytes", "memory.max").as_deref()),
        cpus: cpu_limit(cpus.as_deref()),
        pids: limit(file("pids", "pids.max", "pids.max").as_deref()),
    }
}

fn limit(text: Option<&str>) -> Limit {
    match text.map(str::trim) {
        None => Limit::Unread,
        Some("max" | "-1") => Limit::None,
        Some(number) => match number.parse() {
            Ok(number) if number < UNLIMITED => Limit::At(number),
            Ok(_) => Limit::None,
            Err(_) => Limit::Unread,
        },
    }
}

/// `50000 100000`: quota and period.
fn cpu_limit(text: Option<&str>) -> Limit {
    let mut words = text.unwrap_or_default().split_whitespace();
    match (words.next(), words.next().and_then(|period| period.parse::<u64>().ok())) {
        (Some("max" | "-1"), _) => Limit::None,
        (Some(quota), Some(period)) if period > 0 => match quota.parse::<u64>() {
            Ok(quota) => Limit::At(quota.saturating_mul(1_000_000_000) / period),
            Err(_) => Limit::Unread,
        },
        (Some(_) | None, _) => Limit::Unread,
    }
}

/// What was told and is not so; a cap that nobody told may be tighter by the system. The error names what could not be read.
fn differences(told: &Told, kernel: &Kernel) -> Result<Vec<String>, &'static str> {
    let mut found = Vec::new();
    let mut judge = |what: &'static str, told: u64, is: Limit, step: u64, show: fn(u64) -> String| {
        match is {
            _ if told == 0 => {}
            Limit::Unread => return Err(what),
            Limit::None => found.push(format!("{what}: {} was told, none is there", show(told))),
            Limit::At(is) if is.abs_diff(told) < step => {}
            Limit::At(is) => found.push(format!("{what}: {} was told, {} is there", show(told), show(is))),
        }
        Ok(())
    };
    judge("memory", told.memory, kernel.memory, PAGE, size)?;
    judge("cpus", told.cpus, kernel.cpus, CPU_STEP + 1, |nano| {
        format!("{}.{:02}", nano / 1_000_000_000, nano % 1_000_000_000 / 10_000_000)
    })?;
    judge("pids", told.pids, kernel.pids, 1, |count| count.to_string())?;
    let parent = told.parent.rsplit('/').next().unwrap_or_default();
    if !parent.is_empty() && !kernel.path.split('/').any(|part| part == parent) {
        found.push(format!("it is not in `{parent}`"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::finding::Grade;
    use super::*;

    fn read<'a>(files: &'a BTreeMap<&str, &str>) -> impl Fn(&str) -> Option<String> + 'a {
        |path| files.get(path).map(|text| format!("{text}\n"))
    }

    #[test]
    fn both_versions_of_cgroups_and_a_mix_of_them_are_read() {
        let unified = BTreeMap::from([
            ("landfall.slice/docker-1.scope/memory.max", "67108864"),
            ("landfall.slice/docker-1.scope/cpu.max", "50000 100000"),
            ("landfall.slice/docker-1.scope/pids.max", "max"),
        ]);
        let old = BTreeMap::from([
            ("memory/docker/1/memory.limit_in_bytes", "9223372036854771712"),
            ("cpu/docker/1/cpu.cfs_quota_us", "-1"),
            ("cpu/docker/1/cpu.cfs_period_us", "100000"),
            ("pids/docker/1/pids.max", "100"),
        ]);
        let mixed = BTreeMap::from([("memory/docker/1/memory.limit_in_bytes", "67108864"), ("docker/1/pids.max", "7")]);
        for (cgroup, files, memory, cpus, pids) in [
            ("0::/landfall.slice/docker-1.scope\n", unified, Limit::At(64 << 20), Limit::At(500_000_000), Limit::None),
            (
                "8:pids:/docker/1\n4:memory:/docker/1\n1:cpu,cpuacct:/docker/1\n0::/\n",
                old,
                Limit::None,
                Limit::None,
                Limit::At(100),
            ),
            ("4:memory:/docker/1\n0::/docker/1\n", mixed, Limit::At(64 << 20), Limit::Unread, Limit::At(7)),
            ("", BTreeMap::new(), Limit::Unread, Limit::Unread, Limit::Unread),
        ] {
            let found = kernel(cgroup, read(&files));
            assert_eq!((found.memory, found.cpus, found.pids), (memory, cpus, pids), "{cgroup}");
        }
    }

    #[test]
    fn what_was_told_must_be_there_but_for_rounding() {
        let told = Told { memory: 64 << 20, cpus: 500_000_000, pids: 100, parent: SLICE.to_owned() };
        let path = format!("/{SLICE}/docker-1.scope");
        let good = Kernel { path, memory: Limit::At(64 << 20), cpus: Limit::At(500_000_000), pids: Limit::At(100) };
        let rounded = Kernel { memory: Limit::At((64 << 20) - 4096), cpus: Limit::At(510_000_000), ..good.clone() };
        for kernel in [&good, &rounded] {
            assert_eq!(differences(&told, kernel), Ok(Vec::new()));
        }
        for (kernel, word) in [
            (Kernel { memory: Limit::At(128 << 20), ..good.clone() }, "memory: 64M was told, 128M is there"),
            (Kernel { memory: Limit::None, ..good.clone() }, "memory: 64M was told, none"),
            (Kernel { cpus: Limit::At(1_000_000_000), ..good.clone() }, "cpus: 0.50"),
            (Kernel { pids: Limit::At(99), ..good.clone() }, "pids: 100"),
            (Kernel { path: "/system.slice/docker-1.scope".to_owned(), ..good.clone() }, "not in `landfall.slice`"),
        ] {
            let found = differences(&told, &kernel).unwrap().join(" ");
            assert!(found.contains(word), "{word}: {found}");
        }
        assert_eq!(differences(&told, &Kernel { memory: Limit::Unread, ..good.clone() }), Err("memory"));
        let unread = Kernel { memory: Limit::Unread, cpus: Limit::Unread, pids: Limit::Unread, ..good };
        assert_eq!(differences(&Told::default(), &unread), Ok(Vec::new()), "nothing was told");
    }

    #[test]
    fn the_slice_must_have_a_cap() {
        for (driver, cap, grade) in [
            (Some(true), Limit::At(1 << 30), Grade::Pass),
            (None, Limit::At(1 << 30), Grade::Pass),
            (Some(true), Limit::None, Grade::Fail),
            (Some(true), Limit::Unread, Grade::Fail),
            (Some(false), Limit::Unread, Grade::Warn),
            (Some(false), Limit::At(1), Grade::Warn),
            (None, Limit::Unread, Grade::Skip),
        ] {
            assert_eq!(judge_slice(driver, cap).grade, grade, "{driver:?} {cap:?}");
        }
    }
}
