//! Every change that the Engine saw of an app, taken from its event stream. What only looks is not a change.

use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use landfall_sample::http;
use serde_json::Value;

use crate::engine::Engine;

/// What looks and does not change: health checks and our own probes.
const LOOKS: [&str; 4] = ["health_status", "exec_", "attach", "top"];

/// A recording, from its start to its drop.
#[derive(Debug)]
pub struct Recorder {
    seen: Arc<Mutex<Vec<Change>>>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `container`, `network`, `volume`, `image`.
    pub kind: String,
    /// `create`, `start`, `kill`, …
    pub action: String,
    /// The name or id of what changed.
    pub what: String,
    /// When, in nanoseconds since 1970, by the Engine's clock.
    pub at: u64,
}

impl Recorder {
    /// Records from now on all changes in which one of `names` occurs: the app, its registry.
    pub fn start(engine: &Engine, names: &[&str]) -> Result<Self> {
        let mut stream = engine.connect()?;
        http::send(&mut stream, ("GET", "/events"), &[("Host", "docker")], &[])?;
        stream.set_read_timeout(Some(Duration::from_hours(1)))?;
        let mut reader = BufReader::new(stream);
        // The head is sent once the Engine listens: nothing after this line is missed.
        http::read_status(&mut reader)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let weak = Arc::downgrade(&seen);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Some(seen) = weak.upgrade() else { break };
                let change = serde_json::from_str(&line).ok().and_then(|event| change(&event, &names));
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(change);
            }
        });
        Ok(Self { seen })
    }

    /// All changes up to now.
    pub fn changes(&self) -> Vec<Change> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn change(event: &Value, names: &[String]) -> Option<Change> {
    let action = event["Action"].as_str()?;
    let actor = &event["Actor"];
    let attributes = actor["Attributes"].as_object()?;
    let id = actor["ID"].as_str()?;
    let words = attributes.values().filter_map(Value::as_str).chain([id]);
    let ours = words.into_iter().any(|word| names.iter().any(|name| word.contains(name)));
    if !ours || LOOKS.iter().any(|look| action.starts_with(look)) {
        return None;
    }
    let name = attributes.get("name").and_then(Value::as_str).unwrap_or(id);
    Some(Change {
        kind: event["Type"].as_str()?.to_owned(),
        action: action.to_owned(),
        what: name.to_owned(),
        at: event["timeNano"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_and_strangers_are_no_changes() {
        for (action, name, counts) in [
            ("start", "web-api-1", true),
            ("exec_create: /landfall-sample probe", "web-api-1", false),
            ("exec_die", "web-api-1", false),
            ("health_status: healthy", "web-api-1", false),
            ("attach", "web-api-1", false),
            ("top", "web-api-1", false),
            ("die", "web-api-1", true),
            ("start", "other-api-1", false),
        ] {
            let event = serde_json::json!({
                "Type": "container", "Action": action, "timeNano": 7,
                "Actor": { "ID": "abc", "Attributes": { "name": name } },
            });
            assert_eq!(change(&event, &["web".to_owned()]).is_some(), counts, "{action} {name}");
        }
    }
}
