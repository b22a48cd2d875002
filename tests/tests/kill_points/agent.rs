//! The agent, killed at every point of a roll and of a rollback.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_tests::points::Point;
use landfall_tests::suite::on_a_vm;
use landfall_tests::tracer::{Moment, Target, Traced};
use landfall_tests::vm::{ROLLOUT, SOON};
use landfall_tests::wait::eventually;

use crate::drill::{Course, Drill, say};

/// Below this number the tracer is blind, not the agent frugal.
const FEWEST: usize = 30;
/// How often a round is tried in which a point did not come up.
const TRIES: usize = 6;
/// What every round asks of the Engine; without one of these the classification is wrong.
const ASKED: [&str; 6] = [
    "POST images/create",
    "POST images/*/tag",
    "POST containers/*/stop",
    "POST containers/*/rename",
    "POST containers/*/start",
    "DELETE containers/*",
];

#[test]
fn a_roll_comes_through_a_kill_at_every_point() {
    on_a_vm("roll-points", |vm| every_point(&mut Drill::begin(vm)?, Course::Roll));
}

#[test]
fn a_rollback_comes_through_a_kill_at_every_point() {
    on_a_vm("return-points", |vm| every_point(&mut Drill::begin(vm)?, Course::Return));
}

fn every_point(drill: &mut Drill<'_>, course: Course) -> Result<()> {
    let began = Instant::now();
    let points = round(drill, course, None)?;
    let targets = targets(&points);
    let numbered = targets.iter().filter(|target| target.moment == Moment::Before).count();
    let rounds = drill.releases();
    let probes = points.iter().filter(|point| **point == Point::Probe).count();
    say(&format!(
        "{course:?}: {numbered} points, {} kills; {probes} requests of health probes are not numbered",
        targets.len()
    ));
    ensure!(numbered >= FEWEST, "only {numbered} points: {points:?}");
    for request in ASKED {
        ensure!(points.contains(&Point::Engine(request.to_owned())), "no `{request}`: {points:?}");
    }
    for (index, target) in targets.iter().enumerate() {
        let name = format!("kill {} of {}, {target:?}", index + 1, targets.len());
        kill_at(drill, course, target).with_context(|| name.clone())?;
    }
    let (rounds, seconds) = (drill.releases() - rounds, began.elapsed().as_secs());
    say(&format!("{course:?}: came through all {} kills, in {rounds} rounds and {seconds} s", targets.len()));
    Ok(())
}

/// Each point once; a request to the Engine once unsent, and once sent and not answered.
pub(crate) fn targets(points: &[Point]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let occurrence = 1 + points[..index].iter().filter(|earlier| *earlier == point).count();
        let moments: &[Moment] = match point {
            // The next point of the disk is what comes after this one.
            Point::Disk(_) => &[Moment::Before],
            Point::Engine(_) => &[Moment::Before, Moment::After],
            Point::Probe => &[],
        };
        targets.extend(moments.iter().map(|moment| Target { point: point.clone(), occurrence, moment: *moment }));
    }
    targets
}

fn kill_at(drill: &mut Drill<'_>, course: Course, target: &Target) -> Result<()> {
    for _ in 0..TRIES {
        let points = round(drill, course, Some(target.clone()))?;
        if points.iter().filter(|point| **point == target.point).count() == target.occurrence
            && points.last() == Some(&target.point)
        {
            return Ok(());
        }
    }
    bail!("this point did not come up in {TRIES} runs: the numbering does not hold")
}

/// One release under trace. Its points end with the one where the agent was killed.
fn round(drill: &mut Drill<'_>, course: Course, target: Option<Target>) -> Result<Vec<Point>> {
    let traced = Traced::start(drill.vm.agent_id()?, &drill.vm.layout().agent(), target)?;
    let round = drill.publish(course)?;
    eventually(ROLLOUT, "the agent is killed, or has done its work", || {
        if traced.ended() { Ok(()) } else { drill.over(&round) }
    })?;
    // Takes its end from the kernel; where nothing was hit this ends the trace.
    drill.vm.kill_agent()?;
    let points = traced.wait(SOON)?;
    drill.vm.start_agent()?;
    drill.finish(round)?;
    Ok(points)
}
