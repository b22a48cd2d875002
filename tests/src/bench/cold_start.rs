//! Twenty services from stopped containers: the agent, and beside it `docker compose up -d --wait`. Taken from the time
//! before the program was started to the time when the last service listened, by the Engine's own log of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::bench::report::Report;
use crate::bench::stack::Stack;
use crate::engine::{Container, Engine};
use crate::vm::{ROLLOUT, Vm};
use crate::wait::{self, eventually};

/// What the graph has to be like for the number to mean something.
const SERVICES: usize = 20;
const DEPTH: usize = 5;
const LONGEST_SHARE: f64 = 0.4;
/// Between two looks at 20 services: looking costs the Engine time that it needs for starting.
const LOOK: Duration = Duration::from_millis(500);
/// What the sample writes when its start-up is over.
const LISTENS: &str = "listens on port";

/// A service of the graph.
#[derive(Debug, Clone, PartialEq)]
struct Service {
    start_up: f64,
    burns: bool,
    after: Vec<String>,
}

/// Measures `runs` cold starts of each side.
pub fn measure(runs: usize, report: &mut Report) -> Result<()> {
    let (mut vm, _directory) = super::vm("cold-start", "cold")?;
    let stack = Stack::create(&vm, "compose")?;
    let graph = graph(&stack.compose(&["config", "--format", "json"])?)?;
    let longest = check(&graph)?;
    stack.compose(&["up", "--no-start"])?;
    super::start(&mut vm)?;
    let release = vm.publish()?;
    vm.recorded(0, landfall_core::protocol::HistoryEvent::Live, Some(&release))?;
    vm.kill_watcher()?;
    vm.stop_agent()?;
    stop(&vm.engine, vm.app.as_str())?;
    for run in 0..runs {
        report.raw("cold_start_critical_path_s", longest);
        let took = ours(&mut vm).inspect_err(|_| eprintln!("{}", vm.report()))?;
        report.raw("cold_start_ours_s", took);
        let (listening, ended) = by_compose(&vm, &stack)?;
        report.raw("cold_start_compose_s", listening);
        report.raw("cold_start_compose_until_it_ended_s", ended);
        report.progress(&format!("cold start: run {} of {runs}", run + 1));
    }
    report.ratio("cold_start_over_critical_path", 1.35, ("cold_start_ours_s", "cold_start_critical_path_s"))
}

fn ours(vm: &mut Vm) -> Result<f64> {
    let began = Timestamp::now();
    vm.start_agent()?;
    let took = listening(&vm.engine, vm.app.as_str(), began)?;
    vm.stop_agent()?;
    stop(&vm.engine, vm.app.as_str())?;
    Ok(took)
}

/// Until the last service listened, and until Compose said that all is well.
fn by_compose(vm: &Vm, stack: &Stack) -> Result<(f64, f64)> {
    let began = Timestamp::now();
    stack.compose(&["up", "-d", "--wait"])?;
    let ended = Timestamp::now().duration_since(began).as_secs_f64();
    let took = listening(&vm.engine, &stack.name, began)?;
    stop(&vm.engine, &stack.name)?;
    Ok((took, ended))
}

/// Waits until the Engine calls all services healthy, and says how long after `began` the last of them listened.
fn listening(engine: &Engine, project: &str, began: Timestamp) -> Result<f64> {
    let containers = eventually(ROLLOUT, "all services are healthy", || {
        wait::until(Instant::now() + LOOK);
        let containers = engine.containers(project)?;
        ensure!(containers.len() == SERVICES, "there are {} containers", containers.len());
        let ill = containers.iter().find(|container| !container.status.contains("(healthy)"));
        ill.map_or(Ok(()), |container| Err(anyhow::anyhow!("{:?} is {}", container.names, container.status)))?;
        Ok(containers)
    })?;
    let since = |container: &Container| -> Result<f64> {
        let lines = engine.log(&container.id, began.as_second())?;
        let times = lines.iter().filter(|line| line.contains(LISTENS)).filter_map(|line| line.split(' ').next());
        let times = times.filter_map(|time| time.parse::<Timestamp>().ok()).filter(|time| *time >= began);
        let time = times.min().with_context(|| format!("{:?} never listened: {lines:?}", container.names))?;
        Ok(time.duration_since(began).as_secs_f64())
    };
    containers.iter().map(since).try_fold(0.0, |last, time| Ok(f64::max(last, time?)))
}

fn stop(engine: &Engine, project: &str) -> Result<()> {
    let containers = engine.containers(project)?;
    std::thread::scope(|scope| {
        let stop = |id: &str| engine.call("POST", &format!("/containers/{id}/stop?t=5"), None).map(drop);
        let stops: Vec<_> = containers.iter().map(|container| scope.spawn(move || stop(&container.id))).collect();
        stops.into_iter().try_for_each(|stop| stop.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a stop panicked"))))
    })
}

/// The graph in the output of `docker compose config`.
fn graph(config: &str) -> Result<BTreeMap<String, Service>> {
    let config: Value = serde_json::from_str(config)?;
    let services = config["services"].as_object().context("no services")?;
    let read = |(name, service): (&String, &Value)| {
        let environment = &service["environment"];
        let millis: f64 = environment["START_DELAY_MS"].as_str().context("no `START_DELAY_MS`")?.parse()?;
        let after = service["depends_on"].as_object().map(|edges| edges.keys().cloned().collect());
        let burns = environment["BURN"] == "1";
        Ok((name.clone(), Service { start_up: millis / 1000.0, burns, after: after.unwrap_or_default() }))
    };
    services.iter().map(read).collect()
}

/// The longest chain in seconds, of a graph that is what it has to be.
fn check(graph: &BTreeMap<String, Service>) -> Result<f64> {
    let sum: f64 = graph.values().map(|service| service.start_up).sum();
    let longest =
        |cost: &dyn Fn(&Service) -> f64| graph.keys().map(|name| chain(graph, name, cost)).fold(0.0, f64::max);
    let (seconds, depth) = (longest(&|service| service.start_up), longest(&|_| 1.0));
    let burning = graph.values().filter(|service| service.burns).count();
    ensure!(graph.len() == SERVICES && burning * 4 == SERVICES, "{} services, {burning} of them burn", graph.len());
    ensure!((depth - f64::from(u32::try_from(DEPTH)?)).abs() < 0.5, "the graph is {depth} deep");
    ensure!(seconds < LONGEST_SHARE * sum, "the longest chain takes {seconds} s of {sum} s");
    Ok(seconds)
}

fn chain(graph: &BTreeMap<String, Service>, name: &str, cost: &dyn Fn(&Service) -> f64) -> f64 {
    let Some(service) = graph.get(name) else { return 0.0 };
    cost(service) + service.after.iter().map(|before| chain(graph, before, cost)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_chain_is_by_time_and_not_by_number() {
        let service = |delay: &str, after: &[&str]| {
            let after: serde_json::Map<_, _> = after.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            serde_json::json!({ "environment": { "START_DELAY_MS": delay }, "depends_on": after })
        };
        let config = serde_json::json!({ "services": {
            "a": service("2000", &[]), "b": service("100", &[]), "c": service("100", &["b"]), "d": service("50", &["a"]),
            "e": service("300", &["c", "d"]),
        }});
        let graph = graph(&config.to_string()).unwrap();
        assert!((chain(&graph, "e", &|service| service.start_up) - 2.35).abs() < 1e-9);
        assert!(check(&graph).is_err());
    }
}
