//! The Compose child, killed at twenty moments of its life: nothing that serves is touched, and its work is done in the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON};
use landfall_tests::wait::{closely, until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::drill::{Course, Drill, say};

const OFFSETS: u32 = 20;
/// Of Compose's life, at whose beginnings the agent is killed.
const PARTS: u32 = 8;
/// With those that came too late.
const MOST_ROUNDS: u32 = 60;

#[test]
fn a_roll_comes_through_a_kill_of_compose_at_twenty_offsets() {
    on_a_vm("compose-points", |vm| {
        let mut drill = Drill::begin(vm)?;
        let (began, whole) = (Instant::now(), lifetime(&mut drill)?);
        let rounds = at_offsets(&mut drill, OFFSETS, whole, killed_after)?;
        say(&format!(
            "Compose: {OFFSETS} kills within {} ms, in {rounds} rounds and {} s",
            whole.as_millis(),
            began.elapsed().as_secs()
        ));
        Ok(())
    });
}

/// Compose lives on without the agent that started it, and the next agent calls another one beside it.
#[test]
fn a_roll_comes_through_a_kill_of_the_agent_while_compose_runs() {
    on_a_vm("beside-compose", |vm| {
        let mut drill = Drill::begin(vm)?;
        let whole = lifetime(&mut drill)?;
        at_offsets(&mut drill, PARTS, whole, agent_killed_after)?;
        Ok(())
    });
}

/// Kills after that many even parts of Compose's life, and says in how many rounds: what came too late shortens the life.
fn at_offsets(
    drill: &mut Drill<'_>,
    offsets: u32,
    mut lifetime: Duration,
    kill: fn(&mut Drill<'_>, Duration) -> Result<bool>,
) -> Result<u32> {
    let (mut hits, mut rounds) = (0, 0);
    while hits < offsets && rounds < MOST_ROUNDS {
        rounds += 1;
        let offset = lifetime * hits / offsets;
        if kill(drill, offset).with_context(|| format!("killed {offset:?} after its start"))? {
            hits += 1;
        } else {
            lifetime = offset;
        }
    }
    ensure!(hits == offsets, "a living Compose was met {hits} times in {rounds} rounds");
    Ok(rounds)
}

/// How long it lives when nobody disturbs it.
fn lifetime(drill: &mut Drill<'_>) -> Result<Duration> {
    let round = drill.publish(Course::Roll)?;
    let child = closely(ROLLOUT, "Compose is started", || compose_of(drill.vm.agent_id()?))?;
    let began = Instant::now();
    closely(ROLLOUT, "Compose ends", || {
        let state = state(child);
        ensure!(matches!(state, None | Some('Z')), "it is in state {state:?}");
        Ok(())
    })?;
    let lived = began.elapsed();
    drill.finish(round)?;
    Ok(lived)
}

/// One round; false where Compose had ended by then.
fn killed_after(drill: &mut Drill<'_>, offset: Duration) -> Result<bool> {
    let round = drill.publish(Course::Roll)?;
    let child = closely(ROLLOUT, "Compose is started", || compose_of(drill.vm.agent_id()?))?;
    until(Instant::now() + offset);
    let hit = kill_alive(child)?;
    if hit {
        drill.untouched(&round)?;
    }
    drill.finish(round)?;
    Ok(hit)
}

/// The agent killed so long after it started Compose; false where Compose had ended by then.
fn agent_killed_after(drill: &mut Drill<'_>, offset: Duration) -> Result<bool> {
    let round = drill.publish(Course::Roll)?;
    let agent = Pid::from_raw(i32::try_from(drill.vm.agent_id()?)?);
    let child = closely(ROLLOUT, "Compose is started", || compose_of(drill.vm.agent_id()?))?;
    until(Instant::now() + offset);
    // It stands still while we look, so that it cannot go on to the swap.
    kill(agent, Signal::SIGSTOP)?;
    closely(SOON, "the agent stops", || {
        ensure!(state(agent) == Some('T'), "it is in state {:?}", state(agent));
        Ok(())
    })?;
    let alive = !matches!(state(child), None | Some('Z'));
    if alive {
        drill.vm.kill_agent()?;
        drill.untouched(&round)?;
        drill.vm.start_agent()?;
    } else {
        kill(agent, Signal::SIGCONT)?;
    }
    drill.finish(round)?;
    Ok(alive)
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
pub fn compose_of(agent: u32) -> Result<Pid> {
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
