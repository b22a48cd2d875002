//! One app's loop: look, decide, do one thing, look again. It wires the pure parts to the Engine and the ledger and
//! decides nothing itself. Invariants: a state is in the ledger before its steps are done; nothing here waits without
//! a deadline; preflight runs beside the loop, so that supervision never stops for a slow pull.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use landfall_core::backoff::Backoff;
use landfall_core::contract::{self, ChannelFile, Read, WantedFile};
use landfall_core::ids::{AppName, ReleaseId, sha256_hex};
use landfall_core::protocol::{Failure, HistoryEntry, HistoryEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::converge::Step;
use crate::decide::{self, Candidate, Decision, Machine, Note};
use crate::history::{self, History};
use crate::ledger::Ledger;
use crate::look::Look;
use crate::observed::{Check, Millis, Observed};
use crate::preflight::{self, Stop};
use crate::report;
use crate::runtime::Runtime;
use crate::shared::{AppView, Intent, Mail, Shared};
use crate::spec::Deployment;
use crate::state::{AppState, Attempt, Phase};

/// Between looks at an Engine that does not answer, and between preflights that failed for want of something.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };
/// A loop that waits for nothing in particular looks again after this.
const IDLE: Duration = Duration::from_secs(30);

/// What a preflight is for: another of these means another preflight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Aim {
    release: ReleaseId,
    sequence: Option<u64>,
    epoch: u64,
}

/// One app.
#[derive(Debug)]
pub struct AppLoop {
    app: AppName,
    shared: Rc<Shared>,
    mail: mpsc::UnboundedReceiver<Mail>,
    state: AppState,
    ledger: Ledger,
    history: History,
    look: Look,
    runtime: Runtime,
    gap: bool,
    channel: Option<ChannelFile>,
    aimed: Option<Aim>,
    preflight: Option<(JoinHandle<Result<Deployment, Stop>>, Attempt)>,
    preflight_failures: u32,
    again_at: Option<Millis>,
    candidate: Option<Candidate>,
    probers: BTreeMap<String, JoinHandle<()>>,
    passed: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    engine_failures: u32,
    step_failures: u32,
}

/// Now, unix milliseconds.
pub fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// Now, as contract files write it.
pub fn now_text() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

impl AppLoop {
    /// Opens what is remembered of an app.
    pub fn open(app: AppName, shared: Rc<Shared>, mail: mpsc::UnboundedReceiver<Mail>) -> Result<Self> {
        let (ledger, state) = Ledger::open(&shared.layout.ledger(&app), &app)?;
        let history = History::open(&shared.layout.history(&app))?;
        shared.views.borrow_mut().insert(app.clone(), AppView { state: state.clone(), ..AppView::default() });
        Ok(Self {
            look: Look::new(app.clone()),
            app,
            shared,
            mail,
            state,
            ledger,
            history,
            runtime: Runtime::default(),
            gap: true,
            channel: None,
            aimed: None,
            preflight: None,
            preflight_failures: 0,
            again_at: None,
            candidate: None,
            probers: BTreeMap::new(),
            passed: mpsc::unbounded_channel(),
            engine_failures: 0,
            step_failures: 0,
        })
    }

    /// Runs until the agent stops.
    pub async fn run(mut self) {
        self.read_channel();
        loop {
            let pause = match self.turn().await {
                Ok(pause) => {
                    self.engine_failures = 0;
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
        self.runtime.note(&seen, self.gap);
        self.gap = false;
        self.take_preflight().await;
        self.begin_preflight();
        let decision = {
            let cpus = self.shared.machine.borrow().cpus;
            let machine = Machine {
                app: self.app.as_str(),
                boot: &self.shared.boot,
                starts_at_once: usize::try_from(cpus / 2).unwrap_or(1).max(1),
                probation: self.shared.probation,
            };
            decide::decide(machine, &self.state, &seen, &self.runtime, self.candidate.as_ref(), now())
        };
        match decision {
            Decision::Do(step) => {
                self.stop_probers(|_| false);
                self.execute(&step, &seen).await?;
                Ok(None)
            }
            Decision::Prepare => self.prepare().await,
            Decision::Move(state, note) => {
                self.move_to(*state, note.map(|n| *n)).await?;
                Ok(None)
            }
            Decision::Wait { until, probe, why } => {
                self.keep_probing(&probe, &seen);
                self.show(why);
                let wait = until.map_or(IDLE, |at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)));
                let again =
                    self.again_at.map_or(IDLE, |at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)));
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
            | Step::Remove { id } => id,
        };
        let (service, fresh) = seen.containers.get(id).map_or(("", true), |c| (c.service.as_str(), c.started_at == 0));
        match step {
            Step::Stop { .. } => self.runtime.stopped_on_purpose(id),
            Step::Start { .. } | Step::Restart { .. } => self.runtime.started(id),
            Step::Rename { .. } | Step::Remove { .. } => {}
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
        if let Step::Start { .. } | Step::Restart { .. } = step {
            self.step_failures = 0;
            report::started(&self.app, service, id, fresh);
            if !fresh && matches!(self.state.phase, Phase::Idle | Phase::Probation { .. } | Phase::Held { .. }) {
                self.note_restart(service)?;
            }
        }
        Ok(())
    }

    fn note_restart(&mut self, service: &str) -> Result<()> {
        let live = self.state.live.as_ref().map(|g| &g.deployment);
        let entry = HistoryEntry {
            format: history::FORMAT,
            seq: 0,
            at: now_text(),
            event: HistoryEvent::Restarted,
            release: live.map(|d| d.release.clone()),
            deployment: live.map(|d| d.id.clone()),
            reason: None,
            services: vec![service.to_owned()],
            detected_at: None,
            took_ms: None,
        };
        self.history.append(entry).map(drop)
    }

    /// In a rollout a container that cannot be started ends it; else it is tried again with back-off.
    async fn start_failed(&mut self, service: &str, id: &str, reason: &str) -> Result<()> {
        let next = decide::start_failed(&self.state, service, id, reason);
        match next {
            Some((state, note)) => self.move_to(state, Some(note)).await,
            None => anyhow::bail!("`{service}` {reason}"),
        }
    }

    /// Has Compose create the new containers beside those that serve, and learns which they are.
    async fn prepare(&mut self) -> Result<Option<Duration>> {
        let Phase::Preparing { target, scale, .. } = &self.state.phase else { return Ok(None) };
        let made = if scale.is_empty() {
            Ok(())
        } else {
            let plugin = self.shared.plugin.borrow().clone().map_err(anyhow::Error::msg)?;
            let file = self.shared.compose_file(&self.app, &target.id);
            plugin.prepare(&file, &self.app, scale).await
        };
        self.look.forget();
        let seen = self.look.fresh(&self.shared.engine).await?.clone();
        let failure = match (made, decide::prepared(&self.state, &seen)) {
            // A call that failed and still left everything there has done its work.
            (_, Ok((state, note))) => {
                self.step_failures = 0;
                self.move_to(state, Some(note)).await?;
                return Ok(None);
            }
            (Err(error), Err(_)) => error.to_string(),
            (Ok(()), Err(missing)) => missing,
        };
        self.step_failures += 1;
        if self.step_failures < 3 {
            return Ok(Some(AGAIN.after(self.step_failures)));
        }
        self.step_failures = 0;
        self.candidate = None;
        self.refuse(&Stop::Later(format!("Compose could not create the new containers: {failure}")))?;
        let idle = AppState { phase: Phase::Idle, ..self.state.clone() };
        self.move_to(idle, None).await?;
        Ok(None)
    }

    /// Ledger first; then the record for people; then the files that say what is live.
    async fn move_to(&mut self, state: AppState, note: Option<Note>) -> Result<()> {
        if let Some(note) = note {
            let evidence = match &note.evidence {
                Some(id) => self.shared.engine.logs(id, 50).await.unwrap_or_default(),
                None => Vec::new(),
            };
            let entry = self.history.append(entry_of(&note))?;
            report::event(&self.app, &entry, &evidence);
        }
        let live_before = self.state.live.as_ref().map(|g| g.deployment.id.clone());
        self.ledger.append(&state)?;
        self.state = state;
        let live = self.state.live.as_ref().map(|g| g.deployment.id.clone());
        if live.is_some() && live != live_before {
            self.publish_current(live.as_ref())?;
            self.read_back_caps().await;
        }
        self.write_wanted()?;
        self.show(None);
        Ok(())
    }

    /// `current/compose.yaml` starts what is live by a plain `docker compose up -d`, without us.
    fn publish_current(&self, live: Option<&landfall_core::ids::DeploymentId>) -> Result<()> {
        let Some(live) = live else { return Ok(()) };
        // An adopted project has no file of ours; its own stands where it stood.
        let Ok(text) = std::fs::read(self.shared.compose_file(&self.app, live)) else { return Ok(()) };
        let path = self.shared.layout.agent_app(&self.app).join("current/compose.yaml");
        landfall_core::publish::write(&path, &text, 0o640)?;
        let keep: Vec<String> = self.deployments_in_use().iter().map(|d| d.id.to_string()).collect();
        let all = self.shared.layout.agent_app(&self.app).join("deployments");
        for entry in std::fs::read_dir(all)?.flatten() {
            if !keep.iter().any(|id| entry.file_name() == id.as_str()) {
                // Clean-up: what cannot be removed now is removed after the next release.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Caps as the kernel has them, against those that were promised.
    async fn read_back_caps(&self) {
        let Some(live) = &self.state.live else { return };
        for (service, spec) in &live.deployment.services {
            for id in live.ids(service) {
                let Ok(cap) = self.shared.engine.memory_cap(id).await else { continue };
                if spec.spec != "adopted" && u64::try_from(cap).unwrap_or(0) != spec.memory {
                    tracing::warn!(
                        LANDFALL_APP = %self.app, LANDFALL_SERVICE = %service,
                        "`{service}` has a memory cap of {cap} bytes in place of {}: publish the release again", spec.memory
                    );
                }
            }
        }
    }

    fn deployments_in_use(&self) -> Vec<&Deployment> {
        let mut all: Vec<&Deployment> = self.state.live.iter().map(|g| &g.deployment).collect();
        match &self.state.phase {
            Phase::Preparing { target, .. } => all.push(target),
            Phase::Rolling { target, from, .. } | Phase::Monitoring { target, from, .. } => {
                all.push(&target.deployment);
                all.extend(from.iter().map(|g| &g.deployment));
            }
            Phase::Probation { from, .. } => all.push(&from.deployment),
            Phase::RollingBack { failed, to, .. } => {
                all.push(&failed.deployment);
                all.extend(to.iter().map(|g| &g.deployment));
            }
            Phase::Idle | Phase::Held { .. } => {}
        }
        all
    }

    fn write_wanted(&self) -> Result<()> {
        let mut releases: Vec<ReleaseId> = self.deployments_in_use().iter().map(|d| d.release.clone()).collect();
        releases.extend(self.aimed.iter().map(|a| a.release.clone()));
        releases.sort();
        releases.dedup();
        let mut wanted =
            WantedFile { format: contract::FORMAT, app: self.app.clone(), releases, poll: 0, request: String::new() };
        wanted.request = sha256_hex(&serde_json::to_vec(&wanted)?);
        let path = self.shared.layout.wanted(&self.app);
        if let Read::Found(old) = contract::read::<WantedFile>(&path)
            && old.request == wanted.request
        {
            return Ok(());
        }
        landfall_core::publish::write_json(&path, &wanted)?;
        Ok(())
    }

    fn read_channel(&mut self) {
        match contract::read::<ChannelFile>(&self.shared.layout.channel(&self.app)) {
            Read::Found(channel) => self.channel = Some(channel),
            Read::Absent => {}
            Read::NewerFormat(format) => {
                tracing::warn!(LANDFALL_APP = %self.app, "the channel file has format {format}, newer than this agent reads: update landfall-agent");
            }
            Read::Garbled(why) => {
                tracing::warn!(LANDFALL_APP = %self.app, "the channel file is garbled, keeping what it said before: {why}");
            }
        }
    }

    fn begin_preflight(&mut self) {
        let Some(channel) = &self.channel else { return };
        let Some(release) = &channel.release else { return };
        let aim = Aim { release: release.clone(), sequence: channel.sequence, epoch: self.shared.settings_epoch.get() };
        let again = self.again_at.is_some_and(|at| now() >= at);
        if self.aimed.as_ref() == Some(&aim) && !again {
            return;
        }
        if self.aimed.as_ref() != Some(&aim) {
            self.preflight_failures = 0;
            self.candidate = None;
        }
        // What is live, published again: nothing to examine, unless the settings changed.
        let settled = matches!(self.state.phase, Phase::Idle | Phase::Probation { .. });
        let live = self.state.live.as_ref().map(|g| &g.deployment.release);
        let same_settings = self.aimed.as_ref().is_some_and(|a| a.epoch == aim.epoch);
        self.again_at = None;
        self.aimed = Some(aim);
        if settled && same_settings && live == Some(release) {
            self.refused(None);
            return;
        }
        if let Some((old, _)) = self.preflight.take() {
            old.abort();
        }
        let attempt = Attempt { began: now(), detected_at: channel.detected_at.clone(), sequence: channel.sequence };
        let work = preflight::preflight(Rc::clone(&self.shared), self.app.clone(), release.clone(), true);
        let mailbox = self.shared.mailboxes.borrow().get(&self.app).cloned();
        let task = tokio::task::spawn_local(async move {
            let result = work.await;
            if let Some(mailbox) = mailbox {
                let _ = mailbox.send(Mail::Look);
            }
            result
        });
        self.preflight = Some((task, attempt));
        // The watcher must not delete what is being looked at.
        if let Err(error) = self.write_wanted() {
            tracing::warn!(LANDFALL_APP = %self.app, "cannot write what is wanted: {error:#}");
        }
    }

    async fn take_preflight(&mut self) {
        if !self.preflight.as_ref().is_some_and(|(task, _)| task.is_finished()) {
            return;
        }
        let Some((task, attempt)) = self.preflight.take() else { return };
        let result = match task.await {
            Ok(result) => result,
            Err(error) => Err(Stop::Later(format!("preflight ended early: {error}"))),
        };
        match result {
            Ok(deployment) => {
                self.preflight_failures = 0;
                self.refused(None);
                self.candidate = Some(Candidate { deployment, attempt });
            }
            Err(stop) => {
                if let Err(error) = self.refuse(&stop) {
                    tracing::warn!(LANDFALL_APP = %self.app, "cannot write the history: {error:#}");
                }
            }
        }
    }

    fn refuse(&mut self, stop: &Stop) -> Result<()> {
        let first = self.preflight_failures == 0;
        self.preflight_failures += 1;
        if let Stop::Later(_) = stop {
            let wait = AGAIN.after(self.preflight_failures);
            self.again_at = Some(now() + Millis::try_from(wait.as_millis()).unwrap_or(30_000));
        }
        let text = stop.to_string();
        let news = self.shared.views.borrow().get(&self.app).is_none_or(|v| v.refused.as_ref() != Some(&text));
        self.refused(Some(text.clone()));
        if first && news {
            let entry = HistoryEntry {
                format: history::FORMAT,
                seq: 0,
                at: now_text(),
                event: HistoryEvent::Refused,
                release: self.aimed.as_ref().map(|a| a.release.clone()),
                deployment: None,
                reason: Some(text),
                services: Vec::new(),
                detected_at: self.channel.as_ref().and_then(|c| c.detected_at.clone()),
                took_ms: None,
            };
            let entry = self.history.append(entry)?;
            report::event(&self.app, &entry, &[]);
        }
        Ok(())
    }

    /// Why the newest release that passed preflight is not tried again.
    fn quarantine(&self) -> Option<String> {
        let candidate = self.candidate.as_ref()?;
        let deployment = &candidate.deployment;
        if !decide::quarantined(&self.state, deployment, candidate.attempt.sequence) {
            return None;
        }
        let why = &self.state.quarantine.get(&deployment.id)?.reason;
        Some(format!(
            "release {} failed before ({why}): publish a better one, or `landfall retry {}`",
            deployment.release.short(),
            self.app
        ))
    }

    fn refused(&self, why: Option<String>) {
        if let Some(view) = self.shared.views.borrow_mut().get_mut(&self.app) {
            view.refused = why;
        }
    }

    fn show(&self, why: Option<String>) {
        let mut views = self.shared.views.borrow_mut();
        let view = views.entry(self.app.clone()).or_default();
        view.state = self.state.clone();
        view.seen = self.look.last().clone();
        view.why = why;
        view.quarantined = self.quarantine();
        view.preflight = self.preflight.is_some();
        view.channel.clone_from(&self.channel);
        view.opened =
            view.seen.containers.values().filter(|c| self.runtime.gate_open(c)).map(|c| c.id.clone()).collect();
        view.restarts = view.seen.containers.keys().map(|id| (id.clone(), self.runtime.exits(id))).collect();
    }

    /// Sleeps until then or until something happens.
    async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            mail = self.mail.recv() => match mail {
                Some(mail) => self.take(mail).await,
                // The agent is going down: the task is about to be dropped.
                None => std::future::pending().await,
            },
            // A prober that said yes: the gate is open from now on.
            id = self.passed.1.recv() => if let Some(id) = id {
                self.runtime.probe_passed(&id, now());
            },
            () = tokio::time::sleep(pause) => {}
        }
        self.drain_mail();
    }

    fn drain_mail(&mut self) {
        while let Ok(mail) = self.mail.try_recv() {
            // Intents write the ledger; they are taken where there is time to wait for it.
            if let Some(later) = self.take_quick(mail) {
                let _ = self.shared.mailboxes.borrow().get(&self.app).map(|m| m.send(later));
                break;
            }
        }
        while let Ok(id) = self.passed.1.try_recv() {
            self.runtime.probe_passed(&id, now());
        }
    }

    fn take_quick(&mut self, mail: Mail) -> Option<Mail> {
        match mail {
            Mail::Touched(id) => self.look.touch(id),
            Mail::Gap => {
                self.gap = true;
                self.look.forget();
            }
            Mail::Look => self.read_channel(),
            Mail::Intent(..) => return Some(mail),
        }
        None
    }

    async fn take(&mut self, mail: Mail) {
        if let Some(Mail::Intent(intent, answer)) = self.take_quick(mail) {
            // A client that went away needs no answer.
            let _ = answer.send(self.obey(intent).await);
        }
    }

    async fn obey(&mut self, intent: Intent) -> Result<String, Failure> {
        let mut state = self.state.clone();
        let (done, reason) = match &intent {
            Intent::Hold(why) => {
                state.hold = Some(why.clone());
                ("no release changes until `landfall resume`", why.clone())
            }
            Intent::Resume => {
                state.hold = None;
                state.hands_off = None;
                ("release changes and healing are on again", "resume".to_owned())
            }
            Intent::HandsOff(seconds, why) => {
                state.hands_off =
                    Some((now() + Millis::try_from(*seconds).unwrap_or(0).saturating_mul(1000), why.clone()));
                ("no release changes, no healing, until the time is over or `landfall resume`", why.clone())
            }
            Intent::Retry => {
                state = decide::operator_retry(&self.state);
                self.again_at = Some(now());
                self.aimed = None;
                ("the newest release is tried again", "retry".to_owned())
            }
            Intent::Rollback(why) => {
                state = decide::operator_rollback(&self.state, why).map_err(|next| Failure {
                    code: "refused".to_owned(),
                    message: format!("there is no way back for `{}` now", self.app),
                    next: next.to_owned(),
                })?;
                ("returning to the deployment before; release changes are held until `landfall resume`", why.clone())
            }
        };
        let note = Note {
            event: HistoryEvent::Operator,
            deployment: self.state.live.as_ref().map(|g| g.deployment.clone()),
            reason: Some(format!("{}: {reason}", word(&intent))),
            services: Vec::new(),
            attempt: None,
            evidence: None,
        };
        self.move_to(state, Some(note)).await.map_err(|error| Failure {
            code: "internal".to_owned(),
            message: format!("cannot remember it: {error:#}"),
            next: "look at `journalctl -u landfall-agent` and the disk's free space".to_owned(),
        })?;
        Ok(done.to_owned())
    }

    fn keep_probing(&mut self, wanted: &[String], seen: &Observed) {
        self.stop_probers(|id| wanted.iter().any(|w| w == id));
        for id in wanted {
            let Some(container) = seen.containers.get(id) else { continue };
            let Some(check) = container.check.clone() else { continue };
            if !self.probers.contains_key(id) {
                let work =
                    probe(Rc::clone(&self.shared), id.clone(), check, container.started_at, self.passed.0.clone());
                self.probers.insert(id.clone(), tokio::task::spawn_local(work));
            }
        }
    }

    fn stop_probers(&mut self, keep: impl Fn(&str) -> bool) {
        self.probers.retain(|id, task| {
            let stays = keep(id) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
    }
}

impl Drop for AppLoop {
    fn drop(&mut self) {
        self.stop_probers(|_| false);
        if let Some((task, _)) = self.preflight.take() {
            task.abort();
        }
    }
}

/// Runs a health check's own command until it passes: at once, then after a tenth of the time waited so far.
async fn probe(
    shared: Rc<Shared>,
    id: String,
    check: Check,
    started_at: Millis,
    passed: mpsc::UnboundedSender<String>,
) {
    loop {
        // An error is a container that just went away: the loop sees that by itself.
        if let Ok(true) = shared.engine.probe(&id, &check).await {
            let _ = passed.send(id);
            return;
        }
        let waited = u64::try_from(now() - started_at).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis((waited / 10).clamp(50, 1000))).await;
    }
}

fn word(intent: &Intent) -> &'static str {
    match intent {
        Intent::Hold(_) => "hold",
        Intent::Resume => "resume",
        Intent::HandsOff(..) => "hands-off",
        Intent::Rollback(_) => "rollback",
        Intent::Retry => "retry",
    }
}

fn entry_of(note: &Note) -> HistoryEntry {
    let ends = matches!(note.event, HistoryEvent::Live | HistoryEvent::RolledBack | HistoryEvent::Held);
    HistoryEntry {
        format: history::FORMAT,
        seq: 0,
        at: now_text(),
        event: note.event,
        release: note.deployment.as_ref().map(|d| d.release.clone()),
        deployment: note.deployment.as_ref().map(|d| d.id.clone()),
        reason: note.reason.clone(),
        services: note.services.clone(),
        detected_at: note.attempt.as_ref().and_then(|a| a.detected_at.clone()),
        took_ms: note.attempt.as_ref().filter(|_| ends).map(|a| u64::try_from(now() - a.began).unwrap_or(0)),
    }
}
