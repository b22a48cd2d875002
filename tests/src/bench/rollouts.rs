//! One release after another, stop-first, by turns: ours, the floor, the shell loop. Three numbers come from it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::bench::report::Report;
use crate::bench::shell::Loop;
use crate::bench::stack::Stack;
use crate::bench::{floor, ours, release};
use crate::vm::{SOON, Vm};
use crate::wait::{self, eventually};

/// Between two polls, and between two rounds of the shell loop: the watcher's default.
const INTERVAL: Duration = Duration::from_secs(5);

/// Measures `runs` releases of each side.
pub fn measure(runs: usize, report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("bench", "bench")?;
    vm.configure(&json!({ "poll": format!("{}ms", INTERVAL.as_millis()) }))?;
    super::start(&mut vm)?;
    let first = ours::publish(&vm, "ours-first")?;
    let stacks = [Stack::up(&vm, "floor", "floor-first")?, Stack::up(&vm, "shell", "shell-first")?];
    ours::settled(&vm, &first.published)?;
    let measured = releases(&vm, &stacks, runs, report);
    if measured.is_err() {
        eprintln!("{}", vm.report());
    }
    measured?;
    report.ratio("detect_to_served_over_floor", 1.2, ("ours_detect_to_served_s", "floor_s"))?;
    report.ratio("publish_to_served_over_shell", 0.6, ("ours_publish_to_served_s", "shell_publish_to_served_s"))?;
    report.ratio("gap_over_shell", 0.4, ("ours_gap_s", "shell_gap_s"))
}

fn releases(vm: &Vm, [floor, shell]: &[Stack; 2], runs: usize, report: &mut Report) -> Result<()> {
    for run in 0..runs {
        // Publications fall evenly over the interval, on both sides alike.
        let phase = (f64::from(u32::try_from(run)?) + 0.5) / f64::from(u32::try_from(runs)?);
        alone(vm, vm.app.as_str(), [&floor.name, &shell.name])?;
        one_of_ours(vm, run, phase, report)?;
        alone(vm, &floor.name, [vm.app.as_str(), &shell.name])?;
        one_by_hand(vm, floor, run, phase, report)?;
        alone(vm, &shell.name, [vm.app.as_str(), &floor.name])?;
        one_of_the_shell(vm, shell, run, phase, report)?;
        report.progress(&format!("rollouts: run {} of {runs}", run + 1));
    }
    Ok(())
}

/// A VM has one stack: while one is measured, the health checks of the others are not to take its cores. Its own are under way
/// again when this returns.
fn alone(vm: &Vm, one: &str, others: [&str; 2]) -> Result<()> {
    others.into_iter().try_for_each(|other| vm.engine.pause(other, true))?;
    vm.engine.pause(one, false)?;
    eventually(SOON, "the stack is healthy again", || {
        let all = vm.engine.containers(one)?;
        let ill = all.iter().find(|container| container.state == "running" && !container.status.contains("(healthy)"));
        ill.map_or(Ok(()), |container| bail!("{:?} is {}", container.names, container.status))
    })
}

fn one_of_ours(vm: &Vm, run: usize, phase: f64, report: &mut Report) -> Result<()> {
    // Polls since the last release were an interval apart: which poll it was is all that the phase needs.
    wait::until(next_after(ours::detected(vm)?, INTERVAL) + INTERVAL.mul_f64(phase));
    let version = format!("ours-{run}");
    let settled = |release: &ours::Release| ours::settled(vm, &release.published);
    let (release, seen) = release::watch(&vm.url(), &version, || ours::publish(vm, &version), settled)?;
    report.raw("ours_publish_to_served_s", (seen.served - release.began).as_secs_f64());
    report.raw("ours_detect_to_served_s", (seen.served - ours::detected(vm)?).as_secs_f64());
    report.raw("ours_gap_s", seen.gap.as_secs_f64());
    Ok(())
}

fn one_by_hand(vm: &Vm, stack: &Stack, run: usize, phase: f64, report: &mut Report) -> Result<()> {
    // Without a poll it has no phase, but its stack has health checks too: they fall into it as they fall into the others.
    wait::until(Instant::now() + INTERVAL.mul_f64(phase));
    let version = format!("floor-{run}");
    let digest = stack.publish(vm, &version)?;
    let image = format!("{}/sample/api@{digest}", vm.registry.address());
    let plan = floor::plan(&vm.engine, &stack.name, "api", &image)?;
    let by_hand = || {
        let began = Instant::now();
        plan.execute(&vm.engine).map(|()| began)
    };
    let (began, seen) = release::watch(&stack.url(), &version, by_hand, |_| plan.tidy(&vm.engine))?;
    report.raw("floor_s", (seen.served - began).as_secs_f64());
    report.raw("floor_gap_s", seen.gap.as_secs_f64());
    Ok(())
}

fn one_of_the_shell(vm: &Vm, stack: &Stack, run: usize, phase: f64, report: &mut Report) -> Result<()> {
    let shell = Loop::start(vm, stack, INTERVAL)?;
    let before = shell.round()?;
    let last = shell.round()?;
    // An idle round takes its time too: its phase is that of the whole cycle.
    wait::until(last + (last - before).mul_f64(phase));
    let version = format!("shell-{run}");
    let publish = || {
        let began = Instant::now();
        stack.publish(vm, &version).map(|_| began)
    };
    let (began, seen) = release::watch(&stack.url(), &version, publish, |_| shell.round().map(drop))?;
    report.raw("shell_publish_to_served_s", (seen.served - began).as_secs_f64());
    report.raw("shell_gap_s", seen.gap.as_secs_f64());
    shell.stop().context("the shell loop")
}

/// The first of the moments `start`, `start + step`, … that is still to come.
fn next_after(start: Instant, step: Duration) -> Instant {
    let mut at = start;
    while at <= Instant::now() {
        at += step;
    }
    at
}
