//! What an operator's word does to what is remembered. Pure: the app's loop writes it down and acts on it.

use landfall_core::ids::AppName;
use landfall_core::protocol::{Failure, HistoryEvent};

use crate::decide::Note;
use crate::observed::Millis;
use crate::outcome;
use crate::repairs;
use crate::shared::Intent;
use crate::state::{AppState, Attempt, Phase};

/// What follows from a word.
#[derive(Debug)]
pub struct Obeyed {
    /// What is remembered from now on.
    pub state: AppState,
    /// For the history.
    pub note: Note,
    /// The answer to the operator.
    pub done: &'static str,
    /// True where the newest release is to be examined anew.
    pub again: bool,
}

/// What this word means now; or why it cannot be obeyed, with the next step.
pub fn obey(app: &AppName, state: &AppState, intent: &Intent, now: Millis) -> Result<Obeyed, Failure> {
    let mut next = state.clone();
    let mut again = false;
    let (word, done, reason) = match intent {
        Intent::Hold(why) => {
            next.hold = Some(why.clone());
            ("hold", "no release changes until `landfall resume`", why.clone())
        }
        Intent::Resume => {
            next.hold = None;
            next.hands_off = None;
            ("resume", "release changes and healing are on again", "resume".to_owned())
        }
        Intent::HandsOff(seconds, why) => {
            next.hands_off = Some((now + Millis::try_from(*seconds).unwrap_or(0).saturating_mul(1000), why.clone()));
            ("hands-off", "no release changes, no healing, until the time is over or `landfall resume`", why.clone())
        }
        Intent::Retry => {
            next = operator_retry(state);
            again = true;
            ("retry", "the newest release is tried again", "retry".to_owned())
        }
        Intent::Rollback(why) => {
            next = operator_rollback(state, why).map_err(|next| Failure {
                code: "refused".to_owned(),
                message: format!("there is no way back for `{app}` now"),
                next: next.to_owned(),
            })?;
            (
                "rollback",
                "returning to the deployment before; release changes are held until `landfall resume`",
                why.clone(),
            )
        }
    };
    let note = Note {
        event: HistoryEvent::Operator,
        deployment: state.live.as_ref().map(|g| g.deployment.clone()),
        reason: Some(format!("{word}: {reason}")),
        cause: None,
        services: Vec::new(),
        attempt: None,
        evidence: None,
    };
    Ok(Obeyed { state: next, note, done, again })
}

/// An operator asks to try again: quarantines are lifted, and a hold that waits for a person ends.
pub fn operator_retry(state: &AppState) -> AppState {
    let mut next = state.clone();
    next.quarantine.clear();
    next.live_secrets.values_mut().for_each(|live| live.refused = None);
    repairs::start_all(&mut next);
    if let Phase::Held { ends_when_well: false, way_back, .. } = &state.phase {
        if let Some(from) = way_back {
            outcome::let_go(&mut next, from, &[state.live.as_ref()]);
        }
        next.phase = Phase::Idle;
    }
    next
}

/// An operator asks to return to what ran before. The error says why there is no way back.
pub fn operator_rollback(state: &AppState, why: &str) -> Result<AppState, &'static str> {
    let (failed, to, attempt) = match &state.phase {
        Phase::Probation(armed) => (state.live.clone(), Some(armed.from.clone()), armed.attempt.clone()),
        Phase::Rolling { target, from, attempt } | Phase::Monitoring { target, from, attempt, .. } => {
            (Some(target.clone()), from.clone(), attempt.clone())
        }
        Phase::Held { way_back: Some(from), .. } => (state.live.clone(), Some(from.clone()), Attempt::default()),
        Phase::Idle | Phase::Held { way_back: None, .. } | Phase::Preparing { .. } => {
            return Err(
                "the containers of the deployment before are gone: publish the old content again, with `landfall publish`",
            );
        }
        Phase::Ending { .. } => return Err("it was a preview and its life is over: publish to its tag again"),
        Phase::RollingBack { .. } => return Err("a rollback is under way already: watch it with `landfall status`"),
    };
    let Some(failed) = failed else { return Err("nothing runs yet") };
    let mut next = state.clone();
    next.hold = Some(format!("rolled back by an operator: {why}"));
    next.phase = Phase::RollingBack { failed, to, reason: format!("an operator asked for it: {why}"), attempt };
    Ok(next)
}
