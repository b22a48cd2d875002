//! Memory, processes and logs, under each of Docker's cgroup drivers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::journal::event;
use landfall_core::protocol::HistoryEvent;
use landfall_tests::cgroup::{self, Limits};
use landfall_tests::engine::Engine;
use landfall_tests::events::Recorder;
use landfall_tests::neighbours::Neighbours;
use landfall_tests::vm::{ROLLOUT, SOON};
use landfall_tests::wait::{eventually, throughout};
use serde_json::json;

use crate::machine::{Machine, dockerd, journal, on_this_machine, run};

const MIB: u64 = 1 << 20;
/// What each service of the fixture may use: MiB, thousandths of a core, processes.
const CAPS: [(&str, u64, u64, u64); 4] =
    [("api", 32, 500, 64), ("bad", 64, 500, 48), ("rotated", 32, 500, 48), ("calm", 32, 250, 512)];
const SLICE: &str = "landfall.slice";
/// What the slice leaves to the machine where landfall.yaml does not say.
const RESERVE: u64 = 512 * MIB;

/// How long a bomb may try.
const BOMB: Duration = Duration::from_secs(6);
/// The journal's own word for lines that it dropped.
const SUPPRESSED: &str = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e";

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn with_dockers_own_cgroups_each_cap_holds_and_the_neighbours_answer() -> Result<()> {
    misused("cgroupfs")
}

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn in_the_slice_each_cap_holds_and_the_neighbours_answer() -> Result<()> {
    misused("systemd")
}

fn misused(driver: &str) -> Result<()> {
    dockerd(&json!({ "exec-opts": [format!("native.cgroupdriver={driver}")] }))?;
    let found = Engine::of_this_machine().call("GET", "/info", None)?["CgroupDriver"].clone();
    ensure!(found == driver, "the driver is {found}");
    on_this_machine(driver, |machine| {
        the_kernel_has_what_was_asked(machine, driver)?;
        a_memory_eater_is_killed_alone(machine)?;
        a_fork_bomb_stays_in_its_pids(machine)?;
        a_log_of_its_own_is_rotated(machine)?;
        a_flood_of_the_journal_is_cut(machine)
    })
}

fn the_kernel_has_what_was_asked(machine: &Machine, driver: &str) -> Result<()> {
    for (service, memory, millicores, pids) in CAPS {
        let cgroup = machine.cgroup(service)?;
        let memory = Some(memory * MIB);
        let wanted = Limits { memory, with_swap: memory, millicores: Some(millicores), pids: Some(pids) };
        ensure!(cgroup.limits()? == wanted, "{service}: {:?}", cgroup.limits()?);
        ensure!(cgroup.is_below(SLICE) == (driver == "systemd"), "{service}: {cgroup:?}");
    }
    let verified = machine.verified()?;
    let result = |check: &str| verified.iter().find(|line| line["check"] == check).map(|line| line["result"].clone());
    ensure!(result("caps").context("no check")? == "pass", "{verified:?}");
    if driver == "systemd" {
        let all = cgroup::memory_of_slice(SLICE)?.context("the slice has no limit")?;
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let total: u64 = total.context("no `MemTotal`")?.parse()?;
        ensure!(all == (total * 1024 - RESERVE) / MIB * MIB, "the slice has {all} of {total} KiB");
        ensure!(result("slice").context("no check")? == "pass", "{verified:?}");
    } else {
        ensure!(result("slice").context("no check")? == "warn", "{verified:?}");
    }
    Ok(())
}

fn a_memory_eater_is_killed_alone(machine: &Machine) -> Result<()> {
    let vm = &machine.vm;
    let seq = vm.last_seq()?;
    let recorder = Recorder::start(&vm.engine, &[vm.app.as_str()])?;
    let neighbours = Neighbours::watch(vm, "bad")?;
    machine.ask("bad", "/eat")?;
    eventually(SOON, "it was started again", || {
        let restarted = vm.history()?.into_iter().filter(|e| e.seq > seq && e.event == HistoryEvent::Restarted);
        ensure!(restarted.into_iter().any(|entry| entry.services == ["bad"]), "not yet");
        machine.ask("bad", "/health")
    })?;
    neighbours.were_well()?;
    let hit = |action: &str| -> Vec<String> {
        let hit = recorder.changes().into_iter().filter(|change| change.action == action);
        hit.map(|change| change.what).collect()
    };
    let name = format!("{}-bad-1", vm.app);
    ensure!(hit("oom").contains(&name), "nobody ran out of memory: {:?}", recorder.changes());
    ensure!(hit("oom").iter().chain(&hit("die")).all(|one| *one == name), "others died: {:?}", recorder.changes());
    let told = journal(&[&format!("MESSAGE_ID={}", event::SERVICE_FAILED), &format!("LANDFALL_APP={}", vm.app)])?;
    let last = told.last().context("nothing in the journal")?;
    ensure!(last["LANDFALL_SERVICE"] == "bad", "{last}");
    ensure!(last["MESSAGE"].as_str().is_some_and(|text| text.contains("killed for memory")), "{last}");
    Ok(())
}

fn a_fork_bomb_stays_in_its_pids(machine: &Machine) -> Result<()> {
    let vm = &machine.vm;
    let neighbours = Neighbours::watch(vm, "bad")?;
    let (cgroup, bad) = (machine.cgroup("bad")?, vm.engine.serving(vm.app.as_str(), "bad")?);
    let most = cgroup.limits()?.pids.context("no limit")?;
    machine.ask("bad", "/fork")?;
    eventually(SOON, "it has all that it may have", || {
        let now = cgroup.processes()?;
        ensure!(now == most, "{now} of {most}");
        Ok(())
    })?;
    throughout(BOMB, "it stays there", || {
        ensure!(cgroup.processes()? <= most, "{} processes", cgroup.processes()?);
        let all = run("pgrep -cx landfall-sample")?;
        ensure!(all.trim().parse::<u64>()? < most + 20, "processes of all samples: {all}");
        Ok(())
    })?;
    vm.engine.kill(&bad.id)?;
    eventually(SOON, "it was started again", || machine.ask("bad", "/health"))?;
    neighbours.were_well()
}

fn a_log_of_its_own_is_rotated(machine: &Machine) -> Result<()> {
    let vm = &machine.vm;
    let neighbours = Neighbours::watch(vm, "rotated")?;
    let id = vm.engine.serving(vm.app.as_str(), "rotated")?.id;
    let directory = vm.engine.data_root()?.join("containers").join(&id);
    let logs = || -> Result<BTreeMap<String, u64>> {
        let files = std::fs::read_dir(&directory)?.flatten();
        let files =
            files.map(|file| (file.file_name().to_string_lossy().into_owned(), file.metadata().map_or(0, |m| m.len())));
        Ok(files.filter(|(name, _)| name.contains("-json.log")).collect())
    };
    let lines: u64 = 200_000;
    machine.ask("rotated", &format!("/say/{lines}/flood"))?;
    eventually(ROLLOUT, "the last line is written", || {
        let last = run(&format!("tail -n 1 {}/{id}-json.log", directory.display()))?;
        ensure!(last.contains(&format!("flood {} ", lines - 1)), "{last}");
        Ok(())
    })?;
    let found = logs()?;
    // 1 MB each, and a line more.
    ensure!(found.len() == 3 && found.values().all(|size| *size < 1_001_000), "{found:?}");
    neighbours.were_well()
}

/// The limit is that of docker.service, so of all containers together; what is not Docker's has its own.
fn a_flood_of_the_journal_is_cut(machine: &Machine) -> Result<()> {
    let vm = &machine.vm;
    let neighbours = Neighbours::watch(vm, "bad")?;
    let lines = |service: &str, word: &str| -> Result<usize> {
        let all = run(&format!("journalctl -q -o cat -t landfall/{}/{service} | grep -c '^{word} ' || true", vm.app))?;
        Ok(all.trim().parse()?)
    };
    machine.ask("calm", "/say/1/before")?;
    eventually(SOON, "a neighbour's line is there", || {
        ensure!(lines("calm", "before")? == 1, "not yet");
        Ok(())
    })?;
    // Of another flood before this one nothing counts.
    let since = format!("--since=@{}", jiff::Timestamp::now().as_second());
    let flood: u64 = 600_000;
    machine.ask("bad", &format!("/say/{flood}/flood"))?;
    eventually(SOON, "the flood has reached the journal", || {
        ensure!(lines("bad", "flood")? > 1000, "not yet");
        Ok(())
    })?;
    let held = vm.landfall(&["hold", "--why", "in the flood"])?;
    ensure!(held.code == 0, "{held:?}");
    let asked = format!("MESSAGE_ID={}", event::OPERATOR_INTENT);
    eventually(SOON, "our own line is there", || {
        let told = journal(&[&asked, &format!("LANDFALL_APP={}", vm.app)])?;
        ensure!(told.iter().any(|entry| entry.to_string().contains("in the flood")), "{told:?}");
        Ok(())
    })?;
    // It says how many it dropped with the first line that it takes again.
    let dropped = eventually(ROLLOUT, "lines are dropped, and the neighbour's are there again", || {
        machine.ask("calm", "/say/1/after")?;
        let told = journal(&[&since, SUPPRESSED])?;
        let of_docker =
            told.iter().filter_map(|entry| entry["MESSAGE"].as_str()).filter(|text| text.contains("docker.service"));
        let counts = of_docker.filter_map(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        let dropped: u64 = counts.sum();
        ensure!(dropped > 0 && lines("calm", "after")? > 0, "{told:?}");
        Ok(dropped)
    })?;
    let kept = u64::try_from(lines("bad", "flood")?)?;
    eprintln!("of {flood} lines {kept} were kept and {dropped} dropped so far");
    ensure!(kept < flood, "nothing of the flood was dropped");
    ensure!(lines("calm", "before")? == 1, "the flood took the neighbour's line");
    ensure!(vm.landfall(&["resume"])?.code == 0);
    neighbours.were_well()
}
