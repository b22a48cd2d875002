//! One app's loop: look, decide, do one thing, look again. It wires the pure parts to the Engine and the ledger and
//! decides nothing itself. Invariants: a state is in the ledger before its steps are done; nothing here waits without
//! a deadline; preflight runs beside the loop, so that supervision never stops for a slow pull.

mod mail;
mod repairs;
mod rotations;
mod starts;

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use landfall_core::backoff::Backoff;
use landfall_core::ids::AppName;
use landfall_core::journal::event;
use tokio::sync::mpsc;

use crate::chronicle::Chronicle;
use crate::clock::now;
use crate::converge::Step;
use crate::decide::{self, Decision, Machine, Note};
use crate::history;
use crate::learning::Learning;
use crate::ledger::{Ledger, Opened};
use crate::look::Look;
use crate::observed::{Millis, Observed};
use crate::outage::{self, Outages};
use crate::preflight::Stop;
use crate::probers::Probers;
use crate::release_watch::ReleaseWatch;
use crate::runtime::Runtime;
use crate::shared::{AppView, AskedStart, Mail, Shared};
use crate::startups;
use crate::state::{AppState, Phase};
use crate::{create, damage, live_files, live_secrets, preparation, report, secret_sets};

/// Between looks at an Engine that does not answer, and between calls of a Compose that fails.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };
/// A loop that waits for nothing in particular looks again after this.
const IDLE: Duration = Duration::from_secs(30);

/// Between attempts to make containers again that somebody removed, milliseconds.
const RECREATION_PAUSE: Millis = 30_000;
/// What starts took in the past, in the app's directory.
const STARTUPS: &str = "startups.json";

/// One app.
#[derive(Debug)]
pub struct AppLoop {
    app: AppName,
    shared: Rc<Shared>,
    mail: mpsc::UnboundedReceiver<Mail>,
    state: AppState,
    /// What in the ledger could not be read: the first thing to act upon.
    damage: Option<String>,
    ledger: Ledger,
    chronicle: Chronicle,
    look: Look,
    runtime: Runtime,
    outages: Outages,
    gap: bool,
    /// Its life is over and nothing is left of it.
    forgotten: bool,
    newest: ReleaseWatch,
    probers: Probers,
    learning: Learning,
    engine_failures: u32,
    step_failures: u32,
}

impl AppLoop {
    /// Opens what is remembered of an app.
    pub fn open(app: AppName, shared: Rc<Shared>, mail: mpsc::UnboundedReceiver<Mail>) -> Result<Self> {
        let Opened { ledger, state, damage } = Ledger::open(&shared.layout.ledger(&app), &app)?;
        let state = match &damage {
            Some(damage) => damage::held(&state, &Observed::default(), damage),
            None => state,
        };
        let chronicle = Chronicle::open(app.clone(), &shared.layout.history(&app))?;
        let view = AppView { state: state.clone(), totals: chronicle.totals().clone(), ..AppView::default() };
        shared.views.borrow_mut().insert(app.clone(), view);
        Ok(Self {
            look: Look::new(app.clone()),
            newest: ReleaseWatch::new(app.clone(), Rc::clone(&shared)),
            probers: Probers::new(Rc::clone(&shared)),
            learning: Learning::open(shared.layout.agent_app(&app).join(STARTUPS)),
            app,
            shared,
            mail,
            state,
            damage,
            ledger,
            chronicle,
            runtime: Runtime::default(),
            outages: Outages::default(),
            gap: true,
            forgotten: false,
            engine_failures: 0,
            step_failures: 0,
        })
    }

    /// Runs until the agent stops, or the app's life is over.
    pub async fn run(mut self) {
        self.newest.read_channel();
        // A kill between the ledger and this file left the one of the deployment before.
        if let Err(error) = self.publish_current() {
            tracing::warn!(LANDFALL_APP = %self.app, "cannot write `current/compose.yaml`, it is tried again at the next release: {error:#}");
        }
        while !self.forgotten {
            let pause = match self.turn().await {
                Ok(pause) => {
                    if std::mem::take(&mut self.engine_failures) > 0 {
                        self.show_stuck();
                    }
                    pause
                }
                Err(error) => {
                    self.engine_failures += 1;
                    let text = format!("{error:#}");
                    if self.engine_failures == 1 {
                        tracing::warn!(LANDFALL_APP = %self.app, "cannot act on the stack, trying again: {text}");
                    }
                    self.look.forget();
                    self.show(Some(text));
                    self.show_stuck();
                    Some(AGAIN.after(self.engine_failures))
                }
            };
            if let Some(pause) = pause {
                self.rest(pause).await;
            } else {
                self.drain_mail();
            }
        }
    }

    /// One turn: none means look again at once.
    async fn turn(&mut self) -> Result<Option<Duration>> {
        let seen = self.look.fresh(&self.shared.engine).await?.clone();
        if let Some(damage) = &self.damage {
            let held = damage::held(&self.state, &seen, damage);
            self.hold_damaged(held).await?;
            self.damage = None;
        }
        self.runtime.secrets_seen(secret_sets::present(&self.shared, &self.app, &self.state));
        self.runtime.note(&seen, self.gap, self.state.current().map(|g| &g.deployment), now());
        for news in self.outages.look(&self.state, &seen, &self.runtime, self.gap, now()) {
            self.chronicle.news(self.state.live.as_ref().map(|g| &g.deployment), news)?;
        }
        self.gap = false;
        if let Some(entry) = self.newest.take().await
            && let Err(error) = self.chronicle.record(entry, &[])
        {
            tracing::warn!(LANDFALL_APP = %self.app, "cannot write the history: {error:#}");
        }
        // The watcher must not delete what is being looked at, and must know what to follow.
        let followed_changed = self.newest.follow_tags().await;
        let begun = self.newest.begin(&self.state);
        if begun {
            // Its children work while the disk is waited for.
            tokio::task::yield_now().await;
        }
        if (begun || followed_changed)
            && let Err(error) = self.write_wanted()
        {
            tracing::warn!(LANDFALL_APP = %self.app, "cannot write what is wanted: {error:#}");
        }
        for id in self.runtime.take_opened() {
            if let Some(container) = seen.containers.get(&id) {
                self.probers.weigh(id, container.started_at);
            }
        }
        if let Some(pause) = self.rotate(&seen).await? {
            return Ok(pause);
        }
        let decision = {
            let cores = self.shared.machine.borrow().cpus;
            let machine = Machine {
                app: self.app.as_str(),
                boot: &self.shared.boot,
                budget: startups::budget(cores),
                calls_at_once: usize::try_from(cores).unwrap_or(1).max(1),
                startups: self.learning.startups(),
                probation: self.shared.probation,
            };
            decide::decide(machine, &self.state, &seen, &self.runtime, self.newest.candidate(), now())
        };
        match decision {
            Decision::Do(step) => {
                self.execute(&step, &seen).await?;
                Ok(None)
            }
            Decision::Prepare => self.prepare().await,
            Decision::RemoveNetwork(name) => {
                if let Err(error) = self.shared.engine.remove_network(&name).await {
                    tracing::warn!(LANDFALL_APP = %self.app, "network `{name}` is left behind, remove it by hand: {error:#}");
                }
                self.move_to(decide::network_removed(&self.state, &name), None).await?;
                Ok(None)
            }
            Decision::Forget => {
                self.shared.engine.remove_remains(&self.app).await?;
                self.forget()?;
                Ok(None)
            }
            // Seldom, and large: not part of the loop's own memory.
            Decision::Examine(examination) => {
                Box::pin(self.examine(&examination)).await;
                Ok(None)
            }
            Decision::Repair(service) => Box::pin(self.repair(&service)).await,
            Decision::Move(state, note) => {
                self.move_to(*state, note.map(|n| *n)).await?;
                Ok(None)
            }
            Decision::Wait { until, probe, why } => {
                self.probers.keep(&probe, &seen, self.learning.startups());
                if probe.is_empty() {
                    self.learning.keep(&self.app);
                }
                self.show(why);
                let until = until.into_iter().chain(live_secrets::wakes_at(&self.state)).min();
                let wait = until.map_or(IDLE, |at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)));
                let again = self
                    .newest
                    .again_at()
                    .map_or(IDLE, |at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)));
                Ok(Some(wait.min(again).min(IDLE)))
            }
        }
    }

    async fn execute(&mut self, step: &Step, seen: &Observed) -> Result<()> {
        let id = match step {
            Step::Stop { id, .. }
            | Step::Rename { id, .. }
            | Step::Start { id }
            | Step::Restart { id, .. }
            | Step::Remove { id, .. } => id,
        };
        let (service, fresh) = seen.containers.get(id).map_or(("", true), |c| (c.service.as_str(), c.started_at == 0));
        match step {
            Step::Stop { .. } => self.runtime.stopped_on_purpose(id),
            Step::Start { .. } | Step::Restart { .. } => self.runtime.started(id),
            Step::Rename { .. } | Step::Remove { .. } => {}
        }
        self.probers.stop(id);
        if matches!(step, Step::Start { .. }) && outage::at_rest(&self.state) {
            self.start_beside(step.clone(), AskedStart { id: id.clone(), service: service.to_owned(), fresh });
            return Ok(());
        }
        self.look.touch(id.clone());
        let done = self.shared.engine.execute(step).await;
        if let (Step::Start { .. }, Err(error)) = (step, &done) {
            // A container that cannot start (a port in use, a missing file) fails like one that exits at once.
            self.step_failures += 1;
            if self.step_failures >= 3 {
                self.step_failures = 0;
                let reason = format!("cannot be started: {error:#}");
                return self.start_failed(service, id, &reason).await;
            }
        }
        done?;
        match step {
            Step::Start { .. } | Step::Restart { .. } => {
                self.step_failures = 0;
                self.was_started(id, service, fresh)?;
            }
            Step::Remove { .. } => report::removed(&self.app, service, id),
            Step::Stop { .. } | Step::Rename { .. } => {}
        }
        Ok(())
    }

    /// Has Compose create containers beside those that serve, and learns which they are.
    async fn prepare(&mut self) -> Result<Option<Duration>> {
        let made = create::create(&self.shared, &self.app, &self.state, self.newest.ahead()).await;
        // The events of what was created: so it is looked at once.
        self.drain_mail();
        let seen = self.look.find_new(&self.shared.engine).await?.clone();
        let failure = match (made, preparation::prepared(&self.state, &seen)) {
            // A call that failed and still left everything there has done its work.
            (_, Ok((state, note))) => {
                self.step_failures = 0;
                self.move_to(state, Some(note)).await?;
                return Ok(None);
            }
            (Err(error), Err(_)) => format!("{error:#}"),
            (Ok(()), Err(missing)) => missing,
        };
        self.step_failures += 1;
        if self.step_failures < 3 {
            return Ok(Some(AGAIN.after(self.step_failures)));
        }
        self.step_failures = 0;
        if self.state.recreation.is_some() {
            tracing::error!(LANDFALL_APP = %self.app, "containers that were removed cannot be made again, trying later: {failure}");
            self.runtime.recreation_failed(now() + RECREATION_PAUSE);
        } else {
            let stop = Stop::Later(format!("Compose could not create the new containers: {failure}"));
            if let Some(entry) = self.newest.give_up(&stop) {
                self.chronicle.record(entry, &[])?;
            }
        }
        let (state, note) = preparation::could_not_prepare(&self.state, &failure);
        self.move_to(state, note).await?;
        Ok(None)
    }

    /// The ledger cannot be read whole: remembered as any other state, in a new file.
    async fn hold_damaged(&mut self, held: AppState) -> Result<()> {
        let Some((reason, note)) = damage::note(&held) else { return Ok(()) };
        tracing::error!(MESSAGE_ID = event::LEDGER_BROKEN, LANDFALL_APP = %self.app, "{reason}");
        self.move_to(held, Some(note)).await
    }

    /// Ledger first; then the record for people; then the files that say what is live.
    async fn move_to(&mut self, state: AppState, note: Option<Note>) -> Result<()> {
        if let Some(note) = note {
            let evidence = match &note.evidence {
                Some(id) => self.shared.engine.logs(id, 50).await.unwrap_or_default(),
                None => Vec::new(),
            };
            self.chronicle.record(history::entry_of(&note, now()), &evidence)?;
        }
        let live_before = self.state.live.as_ref().map(|g| g.deployment.id.clone());
        self.ledger.append(&state)?;
        report::moved(&self.app, &self.state, &state);
        self.state = state;
        let live = self.state.live.as_ref().map(|g| g.deployment.id.clone());
        if live.is_some() && live != live_before {
            self.publish_current()?;
            create::read_back_caps(&self.shared, &self.app, self.state.live.as_ref());
        }
        self.write_wanted()?;
        self.show(None);
        Ok(())
    }

    fn forget(&mut self) -> Result<()> {
        live_files::forget(&self.shared, &self.app)?;
        let reason = match &self.state.phase {
            Phase::Ending { reason } => reason.as_str(),
            _ => "its life is over",
        };
        report::forgotten(&self.app, reason);
        self.shared.mailboxes.borrow_mut().remove(&self.app);
        self.shared.views.borrow_mut().remove(&self.app);
        self.shared.changed.notify_one();
        self.shared.ended.notify_one();
        self.forgotten = true;
        Ok(())
    }

    fn publish_current(&self) -> Result<()> {
        live_files::publish_current(&self.shared, &self.app, &self.state, self.newest.candidate())
    }

    fn write_wanted(&self) -> Result<()> {
        live_files::write_wanted(&self.shared, &self.app, &self.state, &self.newest)
    }

    fn show_stuck(&self) {
        if let Some(view) = self.shared.views.borrow_mut().get_mut(&self.app) {
            view.stuck = self.engine_failures > 0;
        }
    }

    fn show(&self, why: Option<String>) {
        let mut views = self.shared.views.borrow_mut();
        let view = views.entry(self.app.clone()).or_default();
        view.state = self.state.clone();
        view.seen = self.look.last().clone();
        view.why = why;
        view.refused = self.newest.refused().map(str::to_owned);
        view.refused_for = self.newest.refused_for();
        view.quarantined = self.newest.quarantine(&self.state);
        view.preflight = self.newest.examines();
        if !view.preflight {
            let waits = self.newest.candidate().filter(|_| view.quarantined.is_none());
            view.promised = waits.map_or(0, |candidate| candidate.deployment.memory());
        }
        view.channel = self.newest.channel().cloned();
        view.opened =
            view.seen.containers.values().filter(|c| self.runtime.gate_open(c)).map(|c| c.id.clone()).collect();
        view.backing_off = view.seen.containers.keys().filter(|id| self.runtime.exits(id) > 0).cloned().collect();
        view.restarts = view.seen.containers.keys().map(|id| (id.clone(), self.outages.restarts(id))).collect();
        view.totals = self.chronicle.totals().clone();
        self.shared.changed.notify_one();
    }
}
