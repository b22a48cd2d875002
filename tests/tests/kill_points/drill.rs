//! A small stack that is released again and again while something is killed, and the judgement after each kill.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::resume_unwind;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::protocol::HistoryEvent;
use landfall_core::publish::TEMPORARY;
use landfall_tests::engine::Container;
use landfall_tests::prober::Prober;
use landfall_tests::vm::{Published, ROLLOUT, SOON, Vm};
use landfall_tests::wait::eventually;
use serde_json::Value;

/// The longest time without an answer, whatever is killed.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Short, so that the end of probation is a part of each round.
const PROBATION: Duration = Duration::from_millis(300);
const PACE: Duration = Duration::from_millis(20);

/// How a release fares when nobody disturbs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It is good and takes over.
    Roll,
    /// It crashes at its start, and the set before returns.
    Return,
}

/// The stack, its client, and what serves.
pub struct Drill<'a> {
    /// The VM.
    pub vm: &'a mut Vm,
    prober: Prober,
    releases: u32,
    serving: Published,
}

/// What there was before a round.
struct Before {
    began: Instant,
    clock: SystemTime,
    containers: BTreeSet<String>,
}

/// One release under way.
pub struct Round {
    course: Course,
    next: Published,
    before: Before,
}

/// Who looks at a round while it is under way.
pub struct Witness<'a> {
    /// The VM.
    pub vm: &'a Vm,
    prober: &'a Prober,
    before: &'a Before,
}

impl<'a> Drill<'a> {
    /// Makes the sample quick and rolls out its first release.
    pub fn begin(vm: &'a mut Vm) -> Result<Self> {
        vm.project.edit("compose.yaml", "monitor: 2s", "monitor: 300ms")?;
        let slow = "environment: { STORE: \"store:8080\" }";
        vm.project.edit("compose.yaml", slow, "environment: { STORE: \"store:8080\", START_DELAY_MS: \"50\" }")?;
        vm.restart_agent_with_probation(PROBATION)?;
        let serving = vm.publish_version("v1", &[])?;
        vm.live(&serving)?;
        let prober = Prober::start(&vm.url(), PACE);
        let drill = Self { vm, prober, releases: 1, serving };
        eventually(SOON, "the agent has nothing left to do", || drill.at_rest())?;
        Ok(drill)
    }

    /// Publishes the next release.
    pub fn publish(&mut self, course: Course) -> Result<Round> {
        Ok(self.publish_beside(course, |_| Ok(()))?.0)
    }

    /// As [`Self::publish`], and does beside it what is about the rollout.
    pub fn publish_beside<T: Send>(
        &mut self,
        course: Course,
        beside: impl FnOnce(&Witness<'_>) -> Result<T> + Send,
    ) -> Result<(Round, T)> {
        let containers = self.vm.engine.containers(self.vm.app.as_str())?.into_iter().map(|c| c.id).collect();
        let before = Before { began: Instant::now(), clock: SystemTime::now(), containers };
        self.releases += 1;
        let environment: &[(&str, &str)] = match course {
            Course::Roll => &[],
            Course::Return => &[("MODE", "crash")],
        };
        let witness = Witness { vm: self.vm, prober: &self.prober, before: &before };
        let version = format!("v{}", self.releases);
        let (next, done) = publish_beside(self.vm, &version, environment, || beside(&witness))?;
        Ok((Round { course, next, before }, done))
    }

    /// How many releases were published.
    pub fn releases(&self) -> u32 {
        self.releases
    }

    /// Whether all is as it must be at the end of a round, with nothing left to do and nothing left over.
    pub fn settled(&self, round: &Round) -> Result<()> {
        use HistoryEvent::{Good, Live, RollbackStarted, RolledBack, RolloutStarted};
        let all = self.vm.engine.containers(self.vm.app.as_str())?;
        let service = |name: &str| -> Result<&Container> {
            let mut found = all.iter().filter(|container| container.service() == name);
            let one = found.next().with_context(|| format!("no `{name}`"))?;
            ensure!(found.next().is_none(), "several containers of `{name}`");
            let place = format!("/{}-{name}-1", self.vm.app);
            ensure!(one.names == [place], "`{name}` is called {:?}", one.names);
            let state = if name == "migrate" { "exited" } else { "running" };
            ensure!(one.state == state, "`{name}` is {}", one.state);
            Ok(one)
        };
        let (api, store) = (service("api")?, service("store")?);
        let (proxy, migrate) = (service("proxy")?, service("migrate")?);
        for neighbour in [store, proxy, migrate] {
            ensure!(round.before.containers.contains(&neighbour.id), "`{}` was replaced", neighbour.service());
        }
        let (image, outcome) = match round.course {
            Course::Roll => (&round.next.image, [RolloutStarted, Live, Good]),
            Course::Return => {
                ensure!(round.before.containers.contains(&api.id), "`api` is not the container that served before");
                (&self.serving.image, [RolloutStarted, RollbackStarted, RolledBack])
            }
        };
        ensure!(api.image.ends_with(&image.to_string()), "`api` has the image {}", api.image);
        self.at_rest()?;
        self.files_follow(&api.image, round)?;
        let entries = self.vm.history()?;
        let entries = entries.iter().filter(|entry| entry.release.as_ref() == Some(&round.next.release));
        let events: Vec<HistoryEvent> = entries.map(|entry| entry.event).collect();
        ensure!(events == outcome, "the history of {} is {events:?}, not {outcome:?}", round.next.version);
        Ok(())
    }

    /// Whether an agent that nobody disturbed has come to its end: settled, and what the round taught it of start-ups is kept.
    pub fn over(&self, round: &Round) -> Result<()> {
        let kept = std::fs::metadata(self.vm.layout().agent_app(&self.vm.app).join("startups.json"))?.modified()?;
        ensure!(kept >= round.before.clock, "`startups.json` is from before this round");
        self.settled(round)
    }

    /// What starts the stack without us names the image that serves, and the watcher is told to keep its release.
    fn files_follow(&self, image: &str, round: &Round) -> Result<()> {
        let layout = self.vm.layout();
        let path = layout.agent_app(&self.vm.app).join("current/compose.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(text.contains(image), "`current/compose.yaml` does not name the image that serves, {image}");
        let live = match round.course {
            Course::Roll => &round.next.release,
            Course::Return => &self.serving.release,
        };
        match contract::read::<WantedFile>(&layout.wanted(&self.vm.app)) {
            Read::Found(wanted) => ensure!(wanted.releases.contains(live), "{wanted:?} without {live}"),
            other => bail!("the file of what is wanted is {other:?}"),
        }
        Ok(())
    }

    /// Waits until the round has settled, and judges it by what a client saw.
    pub fn finish(&mut self, round: Round) -> Result<()> {
        eventually(ROLLOUT, &format!("{:?} to or from {} settles", round.course, round.next.version), || {
            self.settled(&round)
        })?;
        let gap = self.prober.gap(round.before.began);
        ensure!(gap <= BACK_WITHIN, "nobody was served for {} ms", gap.as_millis());
        let (old, new) = (self.serving.version.clone(), round.next.version.clone());
        let wanted = match round.course {
            Course::Roll => vec![old, new],
            Course::Return => vec![old],
        };
        eventually(SOON, "the client saw what it should, and nothing else", || {
            let versions = self.prober.versions(round.before.began);
            ensure!(versions == wanted, "it saw {versions:?}, not {wanted:?}");
            Ok(())
        })?;
        if round.course == Course::Roll {
            self.serving = round.next;
        }
        Ok(())
    }

    /// Who looks at it after the publisher has ended.
    pub fn witness<'r>(&'r self, round: &'r Round) -> Witness<'r> {
        Witness { vm: self.vm, prober: &self.prober, before: &round.before }
    }

    /// Whether the agent has nothing left to do, so that the next round begins from the same state as this one.
    fn at_rest(&self) -> Result<()> {
        let state = remembered(self.vm)?;
        ensure!(state["phase"]["phase"] == "idle" && state["to_remove"] == Value::Array(Vec::new()), "{state}");
        // It answers between its steps only: what follows the ledger's last line is done.
        self.vm.status()?;
        let left = temporaries(&self.vm.layout().agent())?;
        ensure!(left.is_empty(), "temporary files are left: {left:?}");
        Ok(())
    }
}

impl Witness<'_> {
    /// Checks that the containers from before the round run as they ran.
    pub fn untouched(&self) -> Result<()> {
        let failed = self.prober.failures(self.before.began);
        ensure!(failed.is_empty(), "{} requests failed, the first with {:?}", failed.len(), failed[0].answer);
        let all = self.vm.engine.containers(self.vm.app.as_str())?;
        for container in all.iter().filter(|container| self.before.containers.contains(&container.id)) {
            let place = format!("/{}-{}-1", self.vm.app, container.service());
            let state = if container.service() == "migrate" { "exited" } else { "running" };
            ensure!(container.names == [place] && container.state == state, "it was touched: {container:?}");
        }
        Ok(())
    }

    /// Checks that there is no container that was not there before the round.
    pub fn nothing_created(&self) -> Result<()> {
        let all = self.vm.engine.containers(self.vm.app.as_str())?;
        let new: Vec<_> = all.iter().filter(|container| !self.before.containers.contains(&container.id)).collect();
        ensure!(new.is_empty(), "it was created: {new:?}");
        Ok(())
    }
}

/// Publishes a version while another thread meets its rollout: on a busy machine what is met may be over before the publisher
/// has ended.
pub fn publish_beside<T: Send>(
    vm: &Vm,
    version: &str,
    environment: &[(&str, &str)],
    beside: impl FnOnce() -> Result<T> + Send,
) -> Result<(Published, T)> {
    std::thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let published = vm.publish_version(version, environment);
        let done = beside.join().unwrap_or_else(|panicked| resume_unwind(panicked));
        Ok((published?, done?))
    })
}

/// The phase that the ledger says last.
pub fn phase(vm: &Vm) -> Result<String> {
    Ok(remembered(vm)?["phase"]["phase"].as_str().context("no phase")?.to_owned())
}

fn remembered(vm: &Vm) -> Result<Value> {
    let text = std::fs::read_to_string(vm.layout().ledger(&vm.app))?;
    // A line that is being written is not remembered yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut last: Value = serde_json::from_str(whole.lines().last().context("the ledger is empty")?)?;
    Ok(last["state"].take())
}

fn temporaries(directory: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            found.push(entry.path());
        } else if entry.file_type()?.is_dir() {
            found.extend(temporaries(&entry.path())?);
        }
    }
    Ok(found)
}

/// A line for whoever runs the tests, also where they pass: `println!` would be kept from them.
pub fn say(line: &str) {
    // Whoever closed our standard error does not want it.
    let _ = writeln!(std::io::stderr(), "kill points: {line}");
}
