//! What a service's data directory says of its end, and what is to be done where that was not clean (`x-landfall.unclean`): a
//! database that ended in order leaves its lock file empty or takes it away, a killed one leaves it with something in it. Pure:
//! what the file says, and the words to repair by hand. What is done about it says [`crate::repairs`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{Service, Text};
use crate::observed::REPAIR_OF;
use crate::reading::Reading;
use crate::refusal::Rule;

/// The key, as messages name it.
const KEY: &str = "x-landfall.unclean";
/// How long a repair may take, where the file does not say.
const WITHIN: Duration = Duration::from_hours(1);

/// What is done where the end was not clean, after it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is started: its own journal recovers. The default.
    Start,
    /// It is not started before a person has repaired it, or said `landfall retry`.
    Wait,
    /// It is repaired, once, and started; where that fails a person is waited for.
    Repair,
}

/// `x-landfall.unclean` of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclean {
    /// The lock file's path in the container.
    pub file: String,
    /// What is done.
    pub then: Then,
    /// What repairs, in place of the service's command.
    pub repair: Vec<String>,
    /// How long that may take, milliseconds.
    pub within: i64,
    /// As whom it runs, where the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What stands before the command, where the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
}

/// Reads it; notes what stands against it.
pub fn read(service: &Service, replicas: u32, reading: &mut Reading<'_>) -> Option<Unclean> {
    let keys = service.landfall.unclean.as_ref()?;
    let key = |name: &str| format!("{KEY}.{name}");
    let file = keys.file.as_deref().unwrap_or_default();
    let parts = file.strip_prefix('/').unwrap_or_default();
    if parts.is_empty() || parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let what = format!("`{file}` is no path of a file in the container, such as `/data/db/mongod.lock`");
        reading.problem(Rule::BadValue, &key("file"), what);
    }
    let then = match keys.then.as_deref() {
        None | Some("start") => Then::Start,
        Some("wait") => Then::Wait,
        Some("repair") => Then::Repair,
        Some(other) => {
            reading.problem(Rule::BadValue, &key("then"), format!("`{other}` is not `start`, `wait` or `repair`"));
            Then::Start
        }
    };
    if keys.repair.is_empty() {
        let what = "there are no words that repair, such as `[\"mongod\", \"--dbpath\", \"/data/db\", \"--repair\"]`: \
                    they stand in place of the service's `command`";
        reading.problem(Rule::BadValue, &key("repair"), what);
    }
    if replicas > 1 {
        reading.problem(Rule::BadValue, KEY, format!("{replicas} replicas cannot share a lock file"));
    }
    let shares = |mode: &Option<Text>| mode.as_ref().is_some_and(|mode| mode.starts_with("service:"));
    if then == Then::Repair && [&service.network_mode, &service.ipc, &service.pid].into_iter().any(shares) {
        let what = "the service shares a namespace with another, and is repaired by itself: use `wait` or `start`";
        reading.problem(Rule::BadValue, &key("then"), what);
    }
    let within = reading.duration(&key("within"), keys.within.as_ref()).filter(|within| !within.is_zero());
    Some(Unclean {
        file: file.to_owned(),
        then,
        repair: keys.repair.iter().map(|word| word.0.clone()).collect(),
        within: i64::try_from(within.unwrap_or(WITHIN).as_millis()).unwrap_or(i64::MAX / 2),
        user: None,
        entrypoint: None,
    })
}

impl Unclean {
    /// With what a repair by hand must say of the service beside that, from its normal form.
    #[must_use]
    pub fn of(mut self, service: &Map<String, Value>) -> Self {
        self.user = service.get("user").and_then(Value::as_str).map(str::to_owned);
        self.entrypoint = service
            .get("entrypoint")
            .and_then(Value::as_array)
            .map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        self
    }

    /// The one command that repairs, to be pasted into a shell: over the volumes of this container, which is down.
    pub fn command(&self, app: &str, service: &str, container: &str, image: &str) -> String {
        let mut words = ["docker", "run", "--rm", "--name"].map(str::to_owned).to_vec();
        words.push(repair_container(app, service));
        words.extend(["--volumes-from".to_owned(), container.to_owned()]);
        if let Some(user) = &self.user {
            words.extend(["--user".to_owned(), user.clone()]);
        }
        let mut before = self.entrypoint.iter().flatten().cloned();
        if self.entrypoint.is_some() {
            words.extend(["--entrypoint".to_owned(), before.next().unwrap_or_default()]);
        }
        words.push(image.to_owned());
        words.extend(before.chain(self.repair.iter().cloned()));
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// The name of the container in which a service is repaired, by the agent or by hand: so that there is one of them at most.
pub fn repair_container(app: &str, service: &str) -> String {
    format!("{app}-{service}-repair")
}

/// In whose name it runs, so that nobody takes it for a container of the service itself.
pub fn repair_service(service: &str) -> String {
    format!("{REPAIR_OF}{service}")
}

/// As a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LandfallKeys, UncleanKeys};

    fn keys(file: &str, then: Option<&str>, repair: &[&str]) -> UncleanKeys {
        UncleanKeys {
            file: Some(file.into()),
            then: then.map(Text::from),
            repair: repair.iter().copied().map(Text::from).collect(),
            within: None,
        }
    }

    fn said(keys: UncleanKeys, replicas: u32) -> (Option<Unclean>, Vec<String>) {
        let landfall = LandfallKeys { unclean: Some(keys), ..LandfallKeys::default() };
        let service = Service { landfall, network_mode: Some("service:web".into()), ..Service::default() };
        let mut reading = Reading::of("db");
        let unclean = read(&service, replicas, &mut reading);
        (unclean, reading.problems.into_iter().map(|problem| problem.key).collect())
    }

    #[test]
    fn what_the_file_may_say() {
        let (unclean, problems) = said(keys("/data/db/mongod.lock", None, &["mongod", "--repair"]), 1);
        let unclean = unclean.unwrap();
        assert_eq!((unclean.then, unclean.within, problems), (Then::Start, 3_600_000, vec![]));
        for (file, then, repair, replicas, wrong) in [
            ("data/lock", None, &["r"][..], 1, "x-landfall.unclean.file"),
            ("/data/../lock", None, &["r"], 1, "x-landfall.unclean.file"),
            ("/data/", None, &["r"], 1, "x-landfall.unclean.file"),
            ("/lock", Some("mend"), &["r"], 1, "x-landfall.unclean.then"),
            ("/lock", Some("wait"), &[], 1, "x-landfall.unclean.repair"),
            ("/lock", Some("repair"), &["r"], 1, "x-landfall.unclean.then"),
            ("/lock", Some("wait"), &["r"], 2, "x-landfall.unclean"),
        ] {
            assert_eq!(said(keys(file, then, repair), replicas).1, [wrong], "{file} {then:?}");
        }
    }

    #[test]
    fn the_command_is_what_the_service_would_run() {
        let (unclean, _) = said(keys("/lock", None, &["repair", "it's $HOME"]), 1);
        let plain = serde_json::json!({"user": "999:999", "entrypoint": ["/entry", "--db"]});
        let unclean = unclean.unwrap();
        let bare = unclean.command("shop", "db", "shop-db-1", "mongo@sha256:1f");
        let name = "docker run --rm --name shop-db-repair --volumes-from shop-db-1";
        assert_eq!(bare, format!("{name} mongo@sha256:1f repair 'it'\\''s $HOME'"));
        let full = unclean.of(plain.as_object().unwrap()).command("shop", "db", "shop-db-1", "mongo@sha256:1f");
        let told = "--user 999:999 --entrypoint /entry mongo@sha256:1f --db repair 'it'\\''s $HOME'";
        assert_eq!(full, format!("{name} {told}"));
    }
}
