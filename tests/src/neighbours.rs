//! All on a machine that must not notice what one container does: the rest of its stack, the agent's socket, and a program that stands for
//! sshd. They are asked from outside, all the while.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::prober::Prober;
use crate::programs;
use crate::vm::Vm;

/// The longest that a neighbour may not answer: a health check's patience.
const PATIENCE: Duration = Duration::from_secs(5);
const PACE: Duration = Duration::from_millis(100);

/// Stands for sshd: a unit of the machine, in no container, of nobody's concern.
const ANSWERER: &str = "landfall-tests-answerer";
const ANSWERER_URL: &str = "http://127.0.0.1:8080/";

/// Starts what stands for sshd.
pub fn start_answerer() -> Result<()> {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--collect", "--setenv=VERSION=answerer", &format!("--unit={ANSWERER}")]);
    let output = command.arg(programs::sample()?).arg("api").output().context("cannot run `systemd-run`")?;
    ensure!(output.status.success(), "systemd-run: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Ends it.
pub fn stop_answerer() {
    // What cannot be ended ends with the machine.
    let _ = Command::new("systemctl").args(["stop", ANSWERER]).output();
}

/// The stack but for one service, the agent's socket, and what stands for sshd.
#[derive(Debug)]
pub struct Neighbours<'a> {
    vm: &'a Vm,
    but: &'static str,
    began: Instant,
    probers: [(&'static str, Prober); 2],
    agent: Asker,
    before: Value,
}

impl<'a> Neighbours<'a> {
    /// Begins to ask all of them, but for that service.
    pub fn watch(vm: &'a Vm, but: &'static str) -> Result<Self> {
        let before = containers(vm, but)?;
        let probers = [("api", Prober::start(&vm.url(), PACE)), (ANSWERER, Prober::start(ANSWERER_URL, PACE))];
        Ok(Self { vm, but, began: Instant::now(), probers, agent: Asker::start()?, before })
    }

    /// Every request was answered in time, and every container but those of that service is the same and was not started again.
    pub fn were_well(self) -> Result<()> {
        for (name, prober) in &self.probers {
            let (all, failures) = (prober.probes().len(), prober.failures(self.began));
            ensure!(all > 5 && failures.is_empty(), "{name}: of {all} requests these failed: {failures:?}");
            ensure!(prober.gap(self.began) < PATIENCE, "{name} was silent for {:?}", prober.gap(self.began));
        }
        let answers = self.agent.end();
        ensure!(answers.len() > 2, "the agent was hardly asked");
        for (took, answer) in &answers {
            ensure!(answer.is_ok() && *took < PATIENCE, "the agent, after {took:?}: {answer:?}");
        }
        let after = containers(self.vm, self.but)?;
        ensure!(after == self.before, "before: {:#}\nafter: {after:#}", self.before);
        Ok(())
    }
}

/// By service: the container, when it was started, and how often the agent did so.
fn containers(vm: &Vm, but: &str) -> Result<Value> {
    let status = vm.status()?;
    let mut found = json!({});
    for (service, id) in vm.engine.serving_ids(vm.app.as_str())?.into_iter().filter(|(service, _)| service != but) {
        let restarts = status.services.iter().find(|one| one.service == service).map(|one| one.restarts);
        let seen = vm.engine.inspect(&id)?;
        found[service] = json!([id, seen["State"]["StartedAt"], seen["RestartCount"], restarts]);
    }
    Ok(found)
}

/// How long somebody waited, and for what.
type Answer = (Duration, Result<(), String>);

/// Somebody who types `landfall status` again and again.
#[derive(Debug)]
struct Asker {
    answers: Arc<Mutex<Vec<Answer>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Asker {
    fn start() -> Result<Self> {
        let program = programs::find("landfall")?;
        let (answers, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (sink, end) = (Arc::clone(&answers), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                let asked = Instant::now();
                let answer = match Command::new(&program).args(["status", "--json"]).output() {
                    // Something is not healthy: that is an answer.
                    Ok(output) if matches!(output.status.code(), Some(0 | 10)) => Ok(()),
                    Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                    Err(error) => Err(error.to_string()),
                };
                sink.lock().unwrap_or_else(PoisonError::into_inner).push((asked.elapsed(), answer));
            }
        });
        Ok(Self { answers, stop, thread })
    }

    fn end(self) -> Vec<(Duration, Result<(), String>)> {
        self.stop.store(true, Ordering::SeqCst);
        // A panic in the thread has been printed where it happened.
        let _ = self.thread.join();
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
