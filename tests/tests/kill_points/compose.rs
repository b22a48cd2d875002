//! The Compose child that creates containers, killed at twenty moments of its work: nothing that serves is touched, and its work is
//! done in the end. It is started before it is known what to create; its work begins when it is told, and in the time before
//! it is killed too.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::{closely, until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::drill::{Course, Drill, phase, say};

const OFFSETS: u32 = 20;
/// Of Compose's work, at whose beginnings the agent is killed.
const PARTS: u32 = 8;
/// Of the time that Compose waits for its work.
const PARTS_OF_THE_WAIT: u32 = 4;
/// With those that came too late.
const MOST_ROUNDS: u32 = 60;

#[test]
fn a_roll_comes_through_a_kill_of_compose_at_twenty_offsets() {
    on_a_vm("compose-points", |vm| {
        let mut drill = Drill::begin(vm)?;
        let (began, whole) = (Instant::now(), lifetime(&mut drill)?);
        let rounds = at_offsets(&mut drill, OFFSETS, whole.work, killed_after)?;
        say(&format!(
            "Compose: {OFFSETS} kills within {} ms, in {rounds} rounds and {} s",
            whole.work.as_millis(),
            began.elapsed().as_secs()
        ));
        Ok(())
    });
}

/// One that is gone when there is work is no failed attempt: another one is started then.
#[test]
fn a_roll_comes_through_a_kill_of_compose_while_it_waits() {
    on_a_vm("waiting-compose", |vm| {
        let mut drill = Drill::begin(vm)?;
        let whole = lifetime(&mut drill)?;
        at_offsets(&mut drill, PARTS_OF_THE_WAIT, whole.wait, killed_waiting_after)?;
        Ok(())
    });
}

/// It reads the end of its document before the beginning: nothing is created, and it ends.
#[test]
fn a_roll_comes_through_a_kill_of_the_agent_while_compose_waits() {
    on_a_vm("abandoned-compose", |vm| {
        let mut drill = Drill::begin(vm)?;
        let whole = lifetime(&mut drill)?;
        at_offsets(&mut drill, PARTS_OF_THE_WAIT, whole.wait, agent_killed_waiting_after)?;
        Ok(())
    });
}

/// Compose lives on without the agent that started it, and the next agent calls another one beside it.
#[test]
fn a_roll_comes_through_a_kill_of_the_agent_while_compose_runs() {
    on_a_vm("beside-compose", |vm| {
        let mut drill = Drill::begin(vm)?;
        let whole = lifetime(&mut drill)?;
        at_offsets(&mut drill, PARTS, whole.work, agent_killed_after)?;
        Ok(())
    });
}

/// Kills after that many even parts of a span of Compose's life, and says in how many rounds: what came too late shortens it.
fn at_offsets(
    drill: &mut Drill<'_>,
    offsets: u32,
    mut span: Duration,
    kill: fn(&mut Drill<'_>, Duration) -> Result<bool>,
) -> Result<u32> {
    let (mut hits, mut rounds) = (0, 0);
    while hits < offsets && rounds < MOST_ROUNDS {
        rounds += 1;
        let offset = span * hits / offsets;
        if kill(drill, offset).with_context(|| format!("killed after {offset:?}"))? {
            hits += 1;
        } else {
            span = offset;
        }
    }
    ensure!(hits == offsets, "a living Compose was met {hits} times in {rounds} rounds");
    Ok(rounds)
}

/// How long Compose waits and works when nobody disturbs it.
struct Lifetime {
    wait: Duration,
    work: Duration,
}

fn lifetime(drill: &mut Drill<'_>) -> Result<Lifetime> {
    let (round, lifetime) = drill.publish_beside(Course::Roll, |witness| {
        let child = started(witness.vm)?;
        let began = Instant::now();
        told(witness.vm, "idle")?;
        let wait = began.elapsed();
        ends(child)?;
        Ok(Lifetime { wait, work: began.elapsed().saturating_sub(wait) })
    })?;
    drill.finish(round)?;
    Ok(lifetime)
}

/// Compose, from its start on.
pub fn started(vm: &Vm) -> Result<Pid> {
    closely(ROLLOUT, "Compose is started", || compose_of(vm.agent_id()?))
}

/// Returns when the ledger says what is to be created, after that phase: Compose is told in the next moment.
pub fn told(vm: &Vm, before: &str) -> Result<()> {
    closely(ROLLOUT, "Compose is told what to create", || {
        let phase = phase(vm)?;
        ensure!(phase != before, "the phase is {phase}");
        Ok(())
    })
}

fn ends(child: Pid) -> Result<()> {
    closely(ROLLOUT, "Compose ends", || {
        let state = state(child);
        ensure!(matches!(state, None | Some('Z')), "it is in state {state:?}");
        Ok(())
    })
}

/// One round, counted from when Compose is told; false where it had ended by then.
fn killed_after(drill: &mut Drill<'_>, offset: Duration) -> Result<bool> {
    let (round, hit) = drill.publish_beside(Course::Roll, |witness| {
        let child = started(witness.vm)?;
        told(witness.vm, "idle")?;
        until(Instant::now() + offset);
        let hit = kill_alive(child)?;
        if hit {
            witness.untouched()?;
        }
        Ok(hit)
    })?;
    drill.finish(round)?;
    Ok(hit)
}

/// One round, counted from its start; false where it was told by then.
fn killed_waiting_after(drill: &mut Drill<'_>, offset: Duration) -> Result<bool> {
    let (round, hit) = drill.publish_beside(Course::Roll, |witness| {
        let child = started(witness.vm)?;
        until(Instant::now() + offset);
        let killed = kill_alive(child)?;
        let hit = killed && phase(witness.vm)? == "idle";
        if killed {
            witness.untouched()?;
        }
        Ok(hit)
    })?;
    drill.finish(round)?;
    Ok(hit)
}

/// The agent killed so long after it started Compose; false where that was told by then.
fn agent_killed_waiting_after(drill: &mut Drill<'_>, offset: Duration) -> Result<bool> {
    let (round, child) = drill.publish_beside(Course::Roll, |witness| {
        let child = started(witness.vm)?;
        until(Instant::now() + offset);
        stand_still(witness.vm)?;
        Ok(child)
    })?;
    drill.vm.kill_agent()?;
    let hit = phase(drill.vm)? == "idle";
    if hit {
        ends(child)?;
        let witness = drill.witness(&round);
        witness.untouched()?;
        witness.nothing_created()?;
    }
    drill.vm.start_agent()?;
    drill.finish(round)?;
    Ok(hit)
}

/// The agent killed so long after it told Compose; false where Compose had ended by then.
fn agent_killed_after(drill: &mut Drill<'_>, offset: Duration) -> Result<bool> {
    let (round, (agent, alive)) = drill.publish_beside(Course::Roll, |witness| {
        let child = started(witness.vm)?;
        told(witness.vm, "idle")?;
        until(Instant::now() + offset);
        // It cannot go on to the swap while we look.
        let agent = stand_still(witness.vm)?;
        Ok((agent, !matches!(state(child), None | Some('Z'))))
    })?;
    if alive {
        drill.vm.kill_agent()?;
        drill.witness(&round).untouched()?;
        drill.vm.start_agent()?;
    } else {
        kill(agent, Signal::SIGCONT)?;
    }
    drill.finish(round)?;
    Ok(alive)
}

/// Stops the agent where it is.
fn stand_still(vm: &Vm) -> Result<Pid> {
    let agent = Pid::from_raw(i32::try_from(vm.agent_id()?)?);
    kill(agent, Signal::SIGSTOP)?;
    closely(SOON, "the agent stops", || {
        ensure!(state(agent) == Some('T'), "it is in state {:?}", state(agent));
        Ok(())
    })?;
    Ok(agent)
}

/// kill -9 of a process group, and whether it lived: it is stopped first, which the dead cannot be.
pub fn kill_alive(child: Pid) -> Result<bool> {
    if killpg(child, Signal::SIGSTOP).is_err() {
        return Ok(false);
    }
    let state = closely(SOON, "Compose stops", || {
        let state = state(child);
        ensure!(matches!(state, None | Some('Z' | 'T')), "it is in state {state:?}");
        Ok(state)
    })?;
    // Where the first of the group is dead, its number may be another's soon: hands off.
    let alive = state == Some('T');
    if alive {
        killpg(child, Signal::SIGKILL)?;
    }
    Ok(alive)
}

/// The agent's child that creates containers.
fn compose_of(agent: u32) -> Result<Pid> {
    for entry in std::fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name in brackets: state, parent, group.
        let mut rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(1);
        if rest.next() == Some(&agent.to_string()) && rest.next() == Some(&id.to_string()) {
            let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            if arguments.split(|byte| *byte == 0).any(|argument| argument == b"--no-start") {
                return Ok(Pid::from_raw(id));
            }
        }
    }
    anyhow::bail!("the agent has no child with `--no-start`")
}

fn state(process: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}
