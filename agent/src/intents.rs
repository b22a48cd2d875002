//! What an operator's word does to what is remembered. Pure: the app's loop writes it down and acts on it.

use landfall_core::ids::AppName;
use landfall_core::protocol::{Failure, HistoryEvent};

use crate::decide::{self, Note};
use crate::observed::Millis;
use crate::shared::Intent;
use crate::state::AppState;

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
            next = decide::operator_retry(state);
            again = true;
            ("retry", "the newest release is tried again", "retry".to_owned())
        }
        Intent::Rollback(why) => {
            next = decide::operator_rollback(state, why).map_err(|next| Failure {
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
        services: Vec::new(),
        attempt: None,
        evidence: None,
    };
    Ok(Obeyed { state: next, note, done, again })
}
