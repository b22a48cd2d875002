//! The end of an app's life: what was a preview goes, with its containers; then the app is forgotten. Pure. Networks, volumes and
//! files go when nothing is decided any more ([`crate::app_loop`]).

use crate::converge::Step;
use crate::decide::Decision;
use crate::observed::Observed;
use crate::state::{AppState, Phase};

/// Before a container that is to go is killed, seconds.
const GRACE: i64 = 10;

/// The state in which it ends. None where it does already, or an operator holds it.
pub fn begin(state: &AppState, reason: &str) -> Option<AppState> {
    if state.hold.is_some() || matches!(state.phase, Phase::Ending { .. }) {
        return None;
    }
    let phase = Phase::Ending { reason: reason.to_owned() };
    Some(AppState { phase, recreation: None, ..state.clone() })
}

/// One container after the other, whatever its place was.
pub(crate) fn next(seen: &Observed) -> Decision {
    let running = seen.containers.values().find(|container| container.runs());
    match (running, seen.containers.values().next()) {
        (Some(container), _) => Decision::Do(Step::Stop { id: container.id.clone(), grace: GRACE }),
        (None, Some(container)) => Decision::Do(Step::Remove { id: container.id.clone(), with_volumes: true }),
        (None, None) => Decision::Forget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_hold_keeps_it_and_it_ends_once() {
        let idle = AppState::default();
        let ending = begin(&idle, "its tag is gone").unwrap();
        assert_eq!(ending.phase, Phase::Ending { reason: "its tag is gone".to_owned() });
        assert_eq!(begin(&ending, "again"), None);
        assert_eq!(begin(&AppState { hold: Some("looking".to_owned()), ..idle }, "its tag is gone"), None);
        assert_eq!(next(&Observed::default()), Decision::Forget);
    }
}
