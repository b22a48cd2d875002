//! Are the settings valid, does the agent answer without a problem, and is each channel heard of?

use std::time::Duration;

use landfall_core::config::{ConfigError, Settings};
use landfall_core::protocol::{AppStatus, Status};

use super::finding::{Finding, Subject};
use crate::failure::{Failed, chain};
use crate::terminal::span;

/// More polls than this without one that was good is a reason to look.
const POLLS: u32 = 3;
/// The watcher writes down a good poll that changed nothing at most so often.
const WRITTEN: Duration = Duration::from_secs(10);
/// As long as this without one, and more polls than that, is a failure.
const SILENT: Duration = Duration::from_mins(10);
const WATCHER: &str = "`journalctl -u landfall-image-watcher -n 50`";

/// landfall.yaml and its drop-ins, by the reader of `check` and of the daemons.
pub fn settings(loaded: &Result<Settings, ConfigError>) -> Finding {
    let subject = Subject::new("settings", "the settings are valid");
    match loaded {
        Ok(settings) => subject.pass(format!("{} apps, {} previews", settings.apps.len(), settings.previews.len())),
        Err(error @ ConfigError::Missing { .. }) => subject.fail(chain(error), "`sudo landfall init`"),
        Err(error) => subject.fail(chain(error), "correct it; `landfall check --config /` shows the place"),
    }
}

/// The agent.
pub fn agent(status: &Result<Status, Failed>) -> Finding {
    let subject = Subject::new("agent", "the agent answers, and has no problem");
    match status {
        Ok(status) => {
            let problems: Vec<&str> =
                status.problems.iter().map(String::as_str).filter(|problem| *problem != "ok").collect();
            if problems.is_empty() {
                subject.pass(format!("version {}", status.version))
            } else {
                subject.fail(problems.join("; "), "`landfall status`")
            }
        }
        Err(failed) => {
            let next = failed.next.clone().unwrap_or_else(|| "`systemctl status landfall-agent`".to_owned());
            subject.fail(&failed.message, next)
        }
    }
}

/// The age of each app's last good poll.
pub fn polls(settings: Option<&Settings>, status: &Result<Status, Failed>) -> Vec<Finding> {
    let subject = || Subject::new("poll", "each channel was heard of lately");
    match status {
        Err(_) => vec![subject().skip("the agent did not answer")],
        Ok(status) if status.apps.is_empty() => vec![subject().skip("there is no app")],
        Ok(status) => status.apps.iter().map(|app| poll(settings, app, &status.at)).collect(),
    }
}

fn poll(settings: Option<&Settings>, app: &AppStatus, at: &str) -> Finding {
    let subject = Subject::new("poll", format!("the channel of `{}` was heard of lately", app.app));
    let Some(then) = &app.last_good_poll else { return subject.fail("never", WATCHER) };
    let seconds = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    let Some((at, then)) = seconds(at).zip(seconds(then)) else {
        return subject.skip(format!("`{then}` is no time"));
    };
    let age = at.saturating_sub(then).max(0);
    let every = settings.and_then(|settings| interval(settings, app));
    let seen = format!("{} ago", span(age));
    let Some(every) = every else { return subject.skip(format!("{seen}; how often it is asked is not known")) };
    let age = Duration::from_secs(age.unsigned_abs());
    // Ages are in whole seconds.
    if age <= every * POLLS + WRITTEN + Duration::from_secs(1) {
        subject.pass(seen)
    } else if age <= SILENT {
        subject.warn(format!("{seen}, asked every {every:?}"), WATCHER)
    } else {
        subject.fail(format!("{seen}, asked every {every:?}"), WATCHER)
    }
}

/// How often its channel is asked. An app of a preview is named after its entry: the entry with the longest name that fits.
fn interval(settings: &Settings, app: &AppStatus) -> Option<Duration> {
    if let Some(app) = settings.apps.get(&app.app) {
        return Some(app.poll);
    }
    let fits = settings.previews.iter().filter(|(entry, _)| app.app.as_str().starts_with(&format!("{entry}-")));
    fits.max_by_key(|(entry, _)| entry.as_str().len()).map(|(_, previews)| previews.poll)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use landfall_core::config::Config;
    use serde_json::json;

    use super::super::finding::Grade;
    use super::*;
    use crate::failure::Exit;

    fn status(app: &str, last_good_poll: Option<&str>, problems: &[&str]) -> Status {
        let app = json!({ "app": app, "channel": "c", "release": null, "deployment": null, "state": "idle", "reason": null,
            "next": "", "last_good_poll": last_good_poll, "hold": null, "quarantined": {}, "services": [] });
        serde_json::from_value(
            json!({ "version": "0.1.0", "at": "2026-01-31T12:00:00.000Z", "problems": problems, "apps": [app] }),
        )
        .unwrap()
    }

    #[test]
    fn a_poll_is_judged_by_how_often_the_channel_is_asked() {
        let text = "apps: { web: { channel: 'a.b/c:d' }, slow: { channel: 'a.b/c:d', poll: 1h } }\n\
                    previews: { web: { channel: 'a.b/c:pr-*', poll: 30s } }";
        let settings = Config::parse(Path::new("x"), text).unwrap().settle().unwrap();
        for (app, last, grade) in [
            ("web", Some("2026-01-31T11:59:34.000Z"), Grade::Pass),
            ("web", Some("2026-01-31T11:59:33.000Z"), Grade::Warn),
            ("web", Some("2026-01-31T11:50:00.000Z"), Grade::Warn),
            ("web", Some("2026-01-31T11:49:59.000Z"), Grade::Fail),
            ("web", None, Grade::Fail),
            ("web", Some("yesterday"), Grade::Skip),
            // A clock that was set back.
            ("web", Some("2026-01-31T13:00:00.000Z"), Grade::Pass),
            ("slow", Some("2026-01-31T09:30:00.000Z"), Grade::Pass),
            ("slow", Some("2026-01-31T08:30:00.000Z"), Grade::Fail),
            ("web-pr-1", Some("2026-01-31T11:58:40.000Z"), Grade::Pass),
            ("web-pr-1", Some("2026-01-31T11:58:18.000Z"), Grade::Warn),
            ("gone", Some("2026-01-31T11:59:59.000Z"), Grade::Skip),
        ] {
            let found = polls(Some(&settings), &Ok(status(app, last, &[])));
            assert_eq!(found[0].grade, grade, "{app} {last:?}: {found:?}");
        }
        assert_eq!(polls(None, &Ok(status("web", Some("2026-01-31T12:00:00.000Z"), &[])))[0].grade, Grade::Skip);
    }

    #[test]
    fn an_agent_must_answer_without_a_problem() {
        assert_eq!(agent(&Ok(status("web", None, &["ok"]))).grade, Grade::Pass);
        assert_eq!(agent(&Ok(status("web", None, &[]))).grade, Grade::Pass);
        assert_eq!(agent(&Ok(status("web", None, &["the Engine does not answer"]))).grade, Grade::Fail);
        let silent = Err(Failed::new(Exit::Unreachable, "no agent"));
        assert_eq!(agent(&silent).grade, Grade::Fail);
        assert_eq!(polls(None, &silent)[0].grade, Grade::Skip);
    }
}
