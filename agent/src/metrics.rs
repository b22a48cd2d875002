//! The agent's metrics as text that Prometheus reads. Pure. Moments and not ages, so that what was written stays true; labels are
//! names and words of small sets, never free text, and never anything of a secret but its dates.

mod exposition;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::protocol::{AppStatus, Cause, Status};

use self::exposition::{Page, seconds, thousandths};
use crate::room::Ratio;
use crate::secret_ages::SecretAges;
use crate::totals::{OUTCOMES, Totals};

/// The words of [`AppStatus::state`].
const STATES: [&str; 9] =
    ["idle", "preflight", "prepared", "rolling", "monitoring", "probation", "rolling-back", "held", "ending"];
/// The words of [`landfall_core::protocol::ServiceStatus::state`].
const SERVICE_STATES: [&str; 9] =
    ["healthy", "running", "starting", "unhealthy", "backing-off", "paused", "exited", "completed", "missing"];

/// What is known of the machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// When this agent was started.
    pub started: Timestamp,
    /// Whether the Engine answers.
    pub engine: bool,
    /// Whether a Compose that can be used was found, once it was looked for.
    pub compose: Option<bool>,
    /// Whether the settings on disk are those in force.
    pub settings: bool,
    /// The filesystems that matter.
    pub disks: Vec<Disk>,
    /// Which part of each must stay free for images to be pulled.
    pub reserve: Ratio,
}

/// How full a filesystem is.
#[derive(Debug, Clone)]
pub struct Disk {
    /// What lies on it.
    pub path: String,
    /// Of what programs that are not root's can have.
    pub used: Ratio,
    /// Of its inodes; none where it has no such limit.
    pub inodes_used: Option<Ratio>,
}

/// What is known of an app beyond its status.
#[derive(Debug, Clone, Default)]
pub struct App {
    /// What its history adds up to.
    pub totals: Totals,
    /// The agent cannot act on it.
    pub stuck: bool,
    /// The newest release is not rolled out: it was refused, or something that it needs cannot be had.
    pub refused: bool,
    /// The newest release is not tried again: it failed before.
    pub quarantined: bool,
    /// How often its channel is asked.
    pub poll: Option<Duration>,
    /// Its secrets, if it has any.
    pub secrets: Option<SecretAges>,
    /// Memory in use, of the container that uses most, by service.
    pub memory: BTreeMap<String, u64>,
}

/// All of it.
pub fn page(status: &Status, machine: &Machine, more: &BTreeMap<&str, App>) -> String {
    let mut page = Page::default();
    of_machine(&mut page, status, machine);
    let none = App::default();
    let apps: Vec<(&AppStatus, &App)> =
        status.apps.iter().map(|app| (app, more.get(app.app.as_str()).unwrap_or(&none))).collect();
    of_releases(&mut page, &apps);
    of_rollouts(&mut page, &apps);
    of_services(&mut page, &apps);
    of_secrets(&mut page, &apps);
    page.text
}

fn of_machine(page: &mut Page, status: &Status, machine: &Machine) {
    page.family("landfall_build_info", "gauge", "The agent that wrote this");
    page.sample(&[("version", &status.version)], 1);
    page.family("landfall_agent_start_timestamp_seconds", "gauge", "When the agent was started");
    page.sample(&[], seconds(machine.started));
    page.family("landfall_engine_reachable", "gauge", "1 while the Docker Engine answers");
    page.sample(&[], u8::from(machine.engine));
    page.family(
        "landfall_compose_usable",
        "gauge",
        "1 where a Docker Compose was found that releases can be rolled out with",
    );
    page.known(&[], machine.compose.map(u8::from));
    page.family("landfall_settings_valid", "gauge", "1 while the settings on disk are those in force");
    page.sample(&[], u8::from(machine.settings));
    page.family("landfall_disk_used_ratio", "gauge", "How full the filesystem of this directory is, 0 to 1");
    for disk in &machine.disks {
        page.sample(&[("path", &disk.path)], disk.used);
    }
    page.family("landfall_disk_inodes_used_ratio", "gauge", "How many of its inodes are in use, 0 to 1");
    for disk in &machine.disks {
        page.known(&[("path", &disk.path)], disk.inodes_used);
    }
    page.family("landfall_disk_reserve_ratio", "gauge", "How much of each must stay free for pulls, 0 to 1");
    page.sample(&[], machine.reserve);
}

fn of_releases(page: &mut Page, apps: &[(&AppStatus, &App)]) {
    page.family("landfall_app_state", "gauge", "1 for the state that the app is in");
    for (app, _) in apps {
        for state in STATES {
            page.sample(&[("app", app.app.as_str()), ("state", state)], u8::from(app.state == state));
        }
    }
    page.family("landfall_app_stuck", "gauge", "1 while the agent cannot act on the app");
    for (app, more) in apps {
        page.sample(&[("app", app.app.as_str())], u8::from(more.stuck));
    }
    page.family("landfall_app_hold", "gauge", "1 while a person has stopped releases");
    for (app, _) in apps {
        page.sample(&[("app", app.app.as_str())], u8::from(app.hold.is_some()));
    }
    page.family("landfall_newest_release_refused", "gauge", "1 while the newest release is not rolled out");
    for (app, more) in apps {
        page.sample(&[("app", app.app.as_str())], u8::from(more.refused));
    }
    page.family(
        "landfall_newest_release_quarantined",
        "gauge",
        "1 while it is not tried again, because it failed before",
    );
    for (app, more) in apps {
        page.sample(&[("app", app.app.as_str())], u8::from(more.quarantined));
    }
    page.family("landfall_release_info", "gauge", "The release that should run");
    for (app, _) in apps {
        if let (Some(release), Some(deployment)) = (&app.release, &app.deployment) {
            let labels = [("app", app.app.as_str()), ("release", release.short()), ("deployment", deployment.short())];
            page.sample(&labels, 1);
        }
    }
    page.family("landfall_last_good_poll_timestamp_seconds", "gauge", "When the channel last gave a good answer");
    for (app, _) in apps {
        page.moment(&[("app", app.app.as_str())], app.last_good_poll.as_deref());
    }
    page.family("landfall_poll_interval_seconds", "gauge", "How often the channel is asked");
    for (app, more) in apps {
        page.known(&[("app", app.app.as_str())], more.poll.map(|poll| thousandths(whole(poll.as_millis()))));
    }
}

fn of_rollouts(page: &mut Page, apps: &[(&AppStatus, &App)]) {
    page.family("landfall_rollouts_total", "counter", "Ends of rollouts, since the app's history began");
    for (app, more) in apps {
        for (outcome, count) in OUTCOMES.iter().zip(more.totals.outcomes) {
            page.sample(&[("app", app.app.as_str()), ("outcome", outcome.word())], count);
        }
    }
    page.family(
        "landfall_rollout_failures_total",
        "counter",
        "Failed rollouts, failed ways back and refusals, by reason",
    );
    for (app, more) in apps {
        for (cause, count) in Cause::ALL.iter().zip(more.totals.causes) {
            page.sample(&[("app", app.app.as_str()), ("reason", cause.word())], count);
        }
    }
    page.family(
        "landfall_rollout_duration_seconds",
        "summary",
        "From the start of preflight to the end of the rollout",
    );
    for (app, more) in apps {
        for (outcome, (count, sum)) in OUTCOMES.iter().zip(more.totals.took).filter(|(_, (count, _))| *count > 0) {
            let labels = [("app", app.app.as_str()), ("outcome", outcome.word())];
            page.suffixed("_sum", &labels, thousandths(whole(sum)));
            page.suffixed("_count", &labels, count);
        }
    }
    page.family("landfall_last_rollout_duration_seconds", "gauge", "How long the last rollout took");
    for (app, more) in apps {
        let took = more.totals.last_took.map(|took| thousandths(whole(took)));
        page.known(&[("app", app.app.as_str())], took);
    }
    page.family("landfall_recoveries_total", "counter", "How often what was down as a stack was brought back");
    for (app, more) in apps {
        page.sample(&[("app", app.app.as_str())], more.totals.recoveries);
    }
}

fn of_services(page: &mut Page, apps: &[(&AppStatus, &App)]) {
    page.family("landfall_services", "gauge", "Services of the app, by state");
    for (app, _) in apps {
        for state in SERVICE_STATES {
            let count = app.services.iter().filter(|service| service.state == state).count();
            page.sample(&[("app", app.app.as_str()), ("state", state)], count);
        }
    }
    let services = || apps.iter().flat_map(|(app, more)| app.services.iter().map(move |one| (app, more, one)));
    page.family("landfall_service_ready_replicas", "gauge", "Containers of the service that serve");
    for (app, _, service) in services() {
        page.sample(&[("app", app.app.as_str()), ("service", &service.service)], service.ready);
    }
    page.family("landfall_service_wanted_replicas", "gauge", "Containers of the service that should serve");
    for (app, _, service) in services() {
        page.sample(&[("app", app.app.as_str()), ("service", &service.service)], service.wanted);
    }
    page.family("landfall_service_restarts_total", "counter", "How often the service was started again by itself");
    for (app, more, service) in services() {
        let count = more.totals.restarts.get(&service.service).copied().unwrap_or(0);
        page.sample(&[("app", app.app.as_str()), ("service", &service.service)], count);
    }
    page.family(
        "landfall_service_memory_bytes",
        "gauge",
        "Memory in use by the container of the service that uses most",
    );
    for (app, more, service) in services() {
        page.known(&[("app", app.app.as_str()), ("service", &service.service)], more.memory.get(&service.service));
    }
    page.family("landfall_service_memory_cap_bytes", "gauge", "How much memory each container of the service may use");
    for (app, _, service) in services() {
        page.known(
            &[("app", app.app.as_str()), ("service", &service.service)],
            service.memory_cap.filter(|cap| *cap > 0),
        );
    }
}

fn of_secrets(page: &mut Page, apps: &[(&AppStatus, &App)]) {
    let secrets = || apps.iter().filter_map(|(app, more)| Some((app.app.as_str(), app, more.secrets.as_ref()?)));
    page.family("landfall_secrets_missing", "gauge", "Services whose secrets are not all here");
    for (name, _, ages) in secrets() {
        page.sample(&[("app", name)], ages.missing);
    }
    page.family("landfall_secrets_stale", "gauge", "1 while their vault has not confirmed them for three refreshes");
    for (name, app, _) in secrets() {
        page.sample(&[("app", name)], u8::from(app.stale_secrets.is_some()));
    }
    page.family("landfall_secrets_fetched_timestamp_seconds", "gauge", "When the oldest secret of the app was fetched");
    for (name, _, ages) in secrets() {
        page.moment(&[("app", name)], ages.fetched.as_deref());
    }
    page.family(
        "landfall_secrets_checked_timestamp_seconds",
        "gauge",
        "Since when all secrets of the app are confirmed",
    );
    for (name, _, ages) in secrets() {
        page.moment(&[("app", name)], ages.checked.as_deref());
    }
    page.family("landfall_secrets_expiry_timestamp_seconds", "gauge", "When the first secret of the app ends");
    for (name, _, ages) in secrets() {
        page.moment(&[("app", name)], ages.expires.as_deref());
    }
    page.family("landfall_credential_expiry_timestamp_seconds", "gauge", "When the credential of a registry ends");
    for (app, _) in apps {
        for one in &app.credentials {
            page.moment(&[("app", app.app.as_str()), ("registry", &one.registry)], Some(&one.expires));
        }
    }
}

/// Far beyond what is ever counted here.
fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use landfall_core::protocol::{CredentialStatus, HistoryEntry, HistoryEvent, ServiceStatus};

    use super::*;
    use crate::history;

    #[test]
    fn what_is_known_is_told_and_what_is_not_is_left_out() {
        let service = ServiceStatus {
            service: "api".to_owned(),
            state: "unhealthy".to_owned(),
            ready: 1,
            wanted: 2,
            image: "aa".to_owned(),
            memory: None,
            memory_cap: Some(64 << 20),
            restarts: 0,
        };
        let app = AppStatus {
            app: "web".parse().unwrap(),
            channel: "r.example/web:prod".to_owned(),
            release: Some("ab".repeat(32).parse().unwrap()),
            deployment: Some("cd".repeat(32).parse().unwrap()),
            state: "held".to_owned(),
            reason: None,
            next: String::new(),
            last_good_poll: Some("1970-01-01T00:01:00.250Z".to_owned()),
            hold: Some("\"why\"".to_owned()),
            quarantined: BTreeMap::new(),
            services: vec![service],
            credentials: vec![CredentialStatus {
                registry: "a\"b\\c\n".to_owned(),
                file: String::new(),
                secret: None,
                expires: "1970-01-01T00:00:01Z".to_owned(),
            }],
            stale_secrets: None,
            pulls: Vec::new(),
            unclean: Vec::new(),
        };
        let status = Status { version: "1.2.3".to_owned(), at: String::new(), problems: Vec::new(), apps: vec![app] };
        let mut totals = Totals::default();
        totals.count(&HistoryEntry { took_ms: Some(12_345), ..history::entry(HistoryEvent::Live) });
        totals.count(&HistoryEntry { cause: Some(Cause::Late), ..history::entry(HistoryEvent::RollbackStarted) });
        let more = App { totals, memory: [("api".to_owned(), 60 << 20)].into(), ..App::default() };
        let disk =
            Disk { path: "/".to_owned(), used: Ratio::of(5, 16).unwrap(), inodes_used: Some(Ratio::per_cent(100)) };
        let machine = Machine { settings: true, disks: vec![disk], reserve: Ratio::per_cent(5), ..Machine::default() };
        let text = page(&status, &machine, &[("web", more)].into());
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        has(r#"landfall_build_info{version="1.2.3"} 1"#);
        has("landfall_engine_reachable 0");
        has("landfall_settings_valid 1");
        has(r#"landfall_disk_used_ratio{path="/"} 0.3125"#);
        has(r#"landfall_disk_inodes_used_ratio{path="/"} 1.0000"#);
        has("landfall_disk_reserve_ratio 0.0500");
        has(r#"landfall_app_state{app="web",state="held"} 1"#);
        has(r#"landfall_app_state{app="web",state="idle"} 0"#);
        has(r#"landfall_app_hold{app="web"} 1"#);
        has(r#"landfall_release_info{app="web",release="abababababab",deployment="cdcdcdcdcdcd"} 1"#);
        has(r#"landfall_last_good_poll_timestamp_seconds{app="web"} 60.250"#);
        has(r#"landfall_rollouts_total{app="web",outcome="live"} 1"#);
        has(r#"landfall_rollouts_total{app="web",outcome="rolled-back"} 0"#);
        has(r#"landfall_rollout_failures_total{app="web",reason="late"} 1"#);
        has(r#"landfall_rollout_duration_seconds_sum{app="web",outcome="live"} 12.345"#);
        has(r#"landfall_rollout_duration_seconds_count{app="web",outcome="live"} 1"#);
        has(r#"landfall_services{app="web",state="unhealthy"} 1"#);
        has(r#"landfall_service_ready_replicas{app="web",service="api"} 1"#);
        has(r#"landfall_service_memory_bytes{app="web",service="api"} 62914560"#);
        has(r#"landfall_service_memory_cap_bytes{app="web",service="api"} 67108864"#);
        has(r#"landfall_credential_expiry_timestamp_seconds{app="web",registry="a\"b\\c\n"} 1.000"#);
        for absent in
            ["landfall_secrets_missing{", "landfall_poll_interval_seconds{", "landfall_compose_usable ", "why"]
        {
            assert!(!text.lines().any(|line| line.starts_with(absent)), "`{absent}` in\n{text}");
        }
        assert!(!text.contains("\"why\""), "free text is no label");
    }
}
