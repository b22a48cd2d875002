//! From the watcher's channel file to a candidate: which release is the newest, which preflight runs for it, what came of
//! it, and when it is tried again. It starts preflights, the create call ahead of what they find, and keeps their results;
//! whether a candidate is rolled out is decided in `decide`.

use std::rc::Rc;
use std::time::Duration;

use landfall_core::backoff::Backoff;
use landfall_core::contract::{self, ChannelFile, Read};
use landfall_core::ids::{AppName, ReleaseId};
use landfall_core::protocol::{Cause, HistoryEntry, HistoryEvent};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ahead::Ahead;
use crate::clock::now;
use crate::decide::{self, Candidate};
use crate::history;
use crate::observed::Millis;
use crate::preflight::{self, Examined, Stop};
use crate::secret_sets;
use crate::shared::{Mail, Shared};
use crate::spec::Deployment;
use crate::state::{AppState, Attempt, Phase};
use crate::tag_watch::{TagWatch, Tags};

/// Between preflights that failed for want of something.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };

/// What a preflight is for: another of these means another preflight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Aim {
    /// What is examined: the newest, or what is live (see [`ReleaseWatch::falls_back`]).
    release: ReleaseId,
    newest: ReleaseId,
    sequence: Option<u64>,
    epoch: u64,
    /// Its sets of secrets: another one is a rotation.
    secrets: Vec<String>,
}

/// Why the newest release did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Why {
    text: String,
    cause: Cause,
}

/// The newest release of one app, on its way to being a candidate.
#[derive(Debug)]
pub struct ReleaseWatch {
    app: AppName,
    shared: Rc<Shared>,
    channel: Option<ChannelFile>,
    tag_watch: TagWatch,
    aim: Option<Aim>,
    preflight: Option<(JoinHandle<Examined>, Attempt)>,
    ahead: Ahead,
    /// Preflights of this aim in a row that failed.
    failures: u32,
    /// Preparations of this aim that failed, each after a preflight that did not.
    unprepared: u32,
    /// The history has it that there is no room for this release.
    told_no_room: bool,
    again_at: Option<Millis>,
    candidate: Option<Candidate>,
    /// The newest release, in quarantine, while what is live is examined in its place.
    given_up: Option<Candidate>,
    refused: Option<Why>,
    /// What Compose warned of last.
    warnings: Vec<String>,
}

impl ReleaseWatch {
    /// Nothing is known yet.
    pub fn new(app: AppName, shared: Rc<Shared>) -> Self {
        Self {
            tag_watch: TagWatch::new(app.clone(), Rc::clone(&shared)),
            ahead: Ahead::new(app.clone(), Rc::clone(&shared)),
            app,
            shared,
            channel: None,
            aim: None,
            preflight: None,
            failures: 0,
            unprepared: 0,
            told_no_room: false,
            again_at: None,
            candidate: None,
            given_up: None,
            refused: None,
            warnings: Vec::new(),
        }
    }

    /// Reads what the watcher says; what cannot be read changes nothing.
    pub fn read_channel(&mut self) {
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

    /// What the watcher said last.
    pub fn channel(&self) -> Option<&ChannelFile> {
        self.channel.as_ref()
    }

    /// The release that is examined or was: the watcher must keep it.
    pub fn aimed(&self) -> Option<&ReleaseId> {
        self.aim.as_ref().map(|a| &a.release)
    }

    /// The tags that the watcher is to follow; none until they are known.
    pub fn tags(&self) -> Option<&Tags> {
        self.tag_watch.tags()
    }

    /// Finds out which tags those are. True where they changed.
    pub async fn follow_tags(&mut self) -> bool {
        self.tag_watch.turn(AGAIN).await
    }

    /// The create call of Compose.
    pub fn ahead(&mut self) -> &mut Ahead {
        &mut self.ahead
    }

    /// What passed preflight.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.candidate.as_ref()
    }

    /// Why the newest release did not pass.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|why| why.text.as_str()).or(self.tag_watch.problem())
    }

    /// What kind of reason that is, where a preflight found it.
    pub fn refused_for(&self) -> Option<Cause> {
        self.refused.as_ref().map(|why| why.cause)
    }

    /// True while images are pulled and a release is examined.
    pub fn examines(&self) -> bool {
        self.preflight.is_some()
    }

    /// When a release that could not be examined is tried again.
    pub fn again_at(&self) -> Option<Millis> {
        self.again_at.into_iter().chain(self.tag_watch.again_at()).min()
    }

    /// Begins a preflight where the newest release needs one. True when one began.
    pub fn begin(&mut self, state: &AppState) -> bool {
        if matches!(state.phase, Phase::Ending { .. }) {
            return false;
        }
        let Some(channel) = &self.channel else { return false };
        let Some(newest) = &channel.release else { return false };
        // Taken from other tags than those that are followed now: the watcher has not answered yet.
        if self.tags().map_or(!channel.tags.is_empty(), |tags| channel.tags != *tags) {
            return false;
        }
        // Which sets a release has is found out while it is examined: till then those are no news.
        let secrets = match &self.aim {
            Some(aim) if self.preflight.is_some() => aim.secrets.clone(),
            Some(_) | None => secret_sets::newest(&self.shared, &self.app),
        };
        let epoch = self.shared.settings_epoch.get();
        let mut aim =
            Aim { release: newest.clone(), newest: newest.clone(), sequence: channel.sequence, epoch, secrets };
        let live = state.live.as_ref().map(|g| &g.deployment);
        if let Some(live) = live.filter(|live| self.falls_back(state, live, &aim)) {
            aim.release = live.release.clone();
        }
        let again = self.again_at.is_some_and(|at| now() >= at);
        if self.aim.as_ref() == Some(&aim) && !again {
            return false;
        }
        if self.aim.as_ref() != Some(&aim) {
            (self.failures, self.unprepared) = (0, 0);
            if self.aimed() != Some(&aim.release) {
                // Of another one the same reason is news.
                self.refused = None;
            }
            self.told_no_room = false;
            self.shared.too_large.borrow_mut().retain(|(app, _), _| *app != self.app);
            let before = self.candidate.take();
            self.given_up = if aim.release == aim.newest { None } else { self.given_up.take().or(before) };
            self.warnings.clear();
        }
        // What is live, published again: nothing to examine, unless the settings changed.
        let settled = matches!(state.phase, Phase::Idle | Phase::Probation(_));
        let live = live.map(|live| &live.release);
        let release = aim.release.clone();
        let same_settings = self.aim.as_ref().is_some_and(|a| a.epoch == aim.epoch && a.secrets == aim.secrets);
        self.again_at = None;
        self.aim = Some(aim);
        if settled && same_settings && live == Some(&release) {
            self.refused = None;
            return false;
        }
        if let Some((old, _)) = self.preflight.take() {
            old.abort();
        }
        let news = live != Some(&release);
        let attempt = Attempt { began: now(), detected_at: channel.detected_at.clone(), sequence: channel.sequence };
        let (rollout, spare) = oneshot::channel();
        let work = preflight::preflight(Rc::clone(&self.shared), self.app.clone(), release, Some(rollout));
        let mailbox = self.shared.mailboxes.borrow().get(&self.app).cloned();
        let task = tokio::task::spawn_local(async move {
            let result = work.await;
            if let Some(mailbox) = mailbox {
                let _ = mailbox.send(Mail::Look);
            }
            result
        });
        self.preflight = Some((task, attempt));
        // What is live is examined for its settings, and what failed may fail again: nothing is likely to be created.
        if news && self.failures == 0 {
            self.ahead.begin(spare);
        } else {
            self.ahead.let_go();
        }
        true
    }

    /// Whether what is live is examined in place of the newest release, which was tried with these secrets and is in quarantine:
    /// what runs is not to miss a rotation. Anything new gives the newest its turn.
    fn falls_back(&self, state: &AppState, live: &Deployment, next: &Aim) -> bool {
        let Some(aim) = &self.aim else { return false };
        let is_same = Aim { release: next.release.clone(), ..aim.clone() } == *next;
        let has_secrets = live.services.values().any(|service| service.secrets.is_some());
        if !is_same || !has_secrets || live.release == next.newest {
            return false;
        }
        aim.release == live.release || self.quarantine(state).is_some()
    }

    /// Takes in what a preflight found, if it is through. An entry is for the history.
    pub async fn take(&mut self) -> Option<HistoryEntry> {
        if !self.preflight.as_ref().is_some_and(|(task, _)| task.is_finished()) {
            return None;
        }
        let (task, attempt) = self.preflight.take()?;
        let examined = task.await.unwrap_or_else(|error| Examined {
            result: Err(Stop::Later(format!("preflight ended early: {error}"))),
            warnings: Vec::new(),
            secrets: None,
        });
        self.warn(examined.warnings);
        if let Some(aim) = &mut self.aim {
            // Where it did not come so far, those that there are now are no news either.
            aim.secrets = examined.secrets.unwrap_or_else(|| secret_sets::newest(&self.shared, &self.app));
        }
        match examined.result {
            Ok(deployment) => {
                self.failures = 0;
                self.refused = None;
                self.candidate = Some(Candidate { deployment, attempt });
                None
            }
            Err(stop) => {
                self.ahead.let_go();
                self.failures += 1;
                self.refuse(&stop, self.failures)
            }
        }
    }

    /// The candidate could not be prepared: it is examined again later.
    pub fn give_up(&mut self, stop: &Stop) -> Option<HistoryEntry> {
        self.candidate = None;
        self.unprepared += 1;
        self.refuse(stop, self.unprepared)
    }

    /// The newest release is examined anew, whatever came of it before.
    pub fn retry(&mut self) {
        self.again_at = Some(now());
        self.aim = None;
    }

    /// A release that was refused is examined again: what it lacked may be there.
    pub fn again(&mut self) {
        if self.refused.is_some() && self.preflight.is_none() {
            self.again_at = Some(now());
        }
    }

    /// Why the newest release that passed preflight is not tried again.
    pub fn quarantine(&self, state: &AppState) -> Option<String> {
        let candidate = self.given_up.as_ref().or(self.candidate.as_ref())?;
        let deployment = &candidate.deployment;
        if !decide::quarantined(state, deployment, candidate.attempt.sequence) {
            return None;
        }
        let why = &state.quarantine.get(&deployment.id)?.reason;
        Some(format!(
            "release {} failed before ({why}): publish a better one, or `landfall retry {}`",
            deployment.release.short(),
            self.app
        ))
    }

    /// Once for each release, not at each attempt.
    fn warn(&mut self, warnings: Vec<String>) {
        if self.warnings == warnings {
            return;
        }
        let release = self.aimed().map_or("", ReleaseId::short);
        for warning in &warnings {
            tracing::warn!(LANDFALL_APP = %self.app, LANDFALL_RELEASE = release, "Compose warns of release {release}: {warning}");
        }
        self.warnings = warnings;
    }

    /// `count` failures of this kind by now: only the first is for the history, and the pauses grow with them.
    fn refuse(&mut self, stop: &Stop, count: u32) -> Option<HistoryEntry> {
        let (text, cause) = (stop.to_string(), stop.cause());
        // How full a disk is changes with each look: that is told once, whatever else was before.
        let first = match stop {
            Stop::NoRoom(_) => !std::mem::replace(&mut self.told_no_room, true),
            Stop::Refused(_) | Stop::Later(_) => count == 1,
        };
        if stop.passes() {
            let wait = AGAIN.after(count);
            self.again_at = Some(now() + Millis::try_from(wait.as_millis()).unwrap_or(30_000));
        }
        let why = Why { text, cause };
        let news = self.refused.replace(why.clone()).as_ref() != Some(&why);
        (first && news).then(|| HistoryEntry {
            release: self.aimed().cloned(),
            reason: Some(why.text),
            cause: Some(cause),
            detected_at: self.channel.as_ref().and_then(|c| c.detected_at.clone()),
            ..history::entry(HistoryEvent::Refused)
        })
    }
}

impl Drop for ReleaseWatch {
    fn drop(&mut self) {
        if let Some((task, _)) = self.preflight.take() {
            task.abort();
        }
    }
}
