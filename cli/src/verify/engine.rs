//! Is Docker set up so that its own restart touches nothing and its logs fill no disk?

use serde_json::Value;

use super::finding::{Finding, Subject};
use super::machine::Machine;
use crate::docker::EngineFacts;

const DAEMON_JSON: &str = "etc/docker/daemon.json";

/// Live-restore and the log driver.
pub fn check(machine: &Machine, facts: Option<&EngineFacts>) -> Vec<Finding> {
    vec![live_restore(facts), log_driver(facts, machine.read(DAEMON_JSON).as_deref())]
}

fn live_restore(facts: Option<&EngineFacts>) -> Finding {
    let subject = Subject::new("live-restore", "a restart of dockerd leaves containers running");
    match facts.map(|facts| facts.live_restore) {
        None => subject.skip("the Engine did not answer"),
        Some(true) => subject.pass("live-restore is on"),
        Some(false) => subject.warn(
            "live-restore is off",
            "set `\"live-restore\": true` in /etc/docker/daemon.json, then `systemctl reload docker`",
        ),
    }
}

/// What the daemon's default is; containers that releases name no `logging:` for are given one by the agent.
fn log_driver(facts: Option<&EngineFacts>, daemon_json: Option<&str>) -> Finding {
    let subject = Subject::new("log-driver", "Docker's logs cannot fill the disk");
    let Some(facts) = facts else { return subject.skip("the Engine did not answer") };
    let driver = facts.logging_driver.as_str();
    let next = "set `\"log-driver\": \"journald\"` in /etc/docker/daemon.json, then `systemctl restart docker`";
    match driver {
        // `local` rotates by itself.
        "journald" | "local" | "none" => subject.pass(format!("`{driver}`")),
        "json-file" => {
            let options: Option<Value> = daemon_json.and_then(|text| serde_json::from_str(text).ok());
            let size = options.as_ref().and_then(|options| options["log-opts"]["max-size"].as_str());
            match size {
                Some(size) => subject.pass(format!("`json-file` of at most {size}")),
                None => subject.warn("`json-file` without `max-size`", next),
            }
        }
        _ => subject.warn(format!("`{driver}`: whether it rotates is not known"), next),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_log_driver_must_rotate() {
        let rotated = Some(r#"{ "log-opts": { "max-size": "10m" } }"#);
        for (driver, daemon_json, grade) in [
            ("journald", None, Grade::Pass),
            ("local", None, Grade::Pass),
            ("json-file", None, Grade::Warn),
            ("json-file", Some("{"), Grade::Warn),
            ("json-file", Some(r#"{ "log-opts": { "max-file": "3" } }"#), Grade::Warn),
            ("json-file", rotated, Grade::Pass),
            ("fluentd", rotated, Grade::Warn),
        ] {
            let facts = EngineFacts { logging_driver: driver.to_owned(), ..EngineFacts::default() };
            assert_eq!(log_driver(Some(&facts), daemon_json).grade, grade, "{driver} {daemon_json:?}");
        }
        assert_eq!(log_driver(None, rotated).grade, Grade::Skip);
    }

    #[test]
    fn live_restore_should_be_on() {
        for (on, grade) in [(true, Grade::Pass), (false, Grade::Warn)] {
            let facts = EngineFacts { live_restore: on, ..EngineFacts::default() };
            assert_eq!(live_restore(Some(&facts)).grade, grade);
        }
        assert_eq!(live_restore(None).grade, Grade::Skip);
    }
}
