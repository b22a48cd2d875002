//! Where log lines go, and the events that carry a `MESSAGE_ID`. Under systemd they go to the native journal socket, with
//! their fields; anywhere else to stderr as lines for people. Nothing here may fail a program: without a journal there
//! is still stderr.
//!
//! Text from outside is escaped at the edge where it enters ([`crate::ids::printable`]), and again on a terminal.

pub mod event;
mod terminal;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;

/// The environment variable that sets the level: `error`, `warn`, `info` (the default), `debug` or `trace`.
pub const LEVEL_VARIABLE: &str = "LANDFALL_LOG";

/// The unit that an entry of root's is about; `journalctl -u` asks for it too. What says one line and ends is often gone before journald
/// has looked up which unit it belonged to (`_SYSTEMD_UNIT`): systemd.journal-fields(7), docs/facts.md.
const UNIT_FIELD: &str = "OBJECT_SYSTEMD_UNIT";

/// Where log lines of this process go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// The native journal.
    Journal,
    /// stderr, for people.
    Stderr,
}

/// Sets up the log of this process. Called once, first thing in `main`; a second call changes nothing. Says where its lines go.
pub fn init(program: &str) -> Sink {
    let level = level(std::env::var(LEVEL_VARIABLE).ok().as_deref());
    let registry = tracing_subscriber::registry().with(level);
    // `set_global_default` fails only where a log is set up already: that one stays.
    let (_, sink) = if let Some(journal) = journal_layer(program) {
        (tracing::subscriber::set_global_default(registry.with(journal)), Sink::Journal)
    } else {
        let lines = terminal::Lines::new(use_colour());
        (tracing::subscriber::set_global_default(registry.with(lines)), Sink::Stderr)
    };
    sink
}

/// As [`init()`], for a command that root types about a `unit` and that must leave a trace: always to the journal. Whether there is one.
pub fn init_audit(program: &str, unit: &str) -> bool {
    let Some(journal) = native_layer(program, Some(unit.to_owned())) else { return false };
    // A log that is set up already stays.
    let _ =
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(LevelFilter::INFO).with(journal));
    true
}

fn journal_layer(program: &str) -> Option<tracing_journald::Layer> {
    // Only where systemd has connected stderr to the journal: a person who runs a daemon by hand wants to read it.
    std::env::var_os("JOURNAL_STREAM")?;
    let own = if nix::unistd::geteuid().is_root() { unit() } else { None };
    native_layer(program, own)
}

fn native_layer(program: &str, unit: Option<String>) -> Option<tracing_journald::Layer> {
    let layer = tracing_journald::layer().ok()?;
    // Fields keep their names (`LANDFALL_APP`), and `info` is the journal's own informational.
    Some(
        layer
            .with_custom_fields(unit.map(|unit| (UNIT_FIELD, unit)))
            .with_syslog_identifier(program.to_owned())
            .with_field_prefix(None)
            .with_priority_mappings(PriorityMappings { info: Priority::Informational, ..PriorityMappings::new() }),
    )
}

/// The service this process belongs to, if to one.
fn unit() -> Option<String> {
    service(&std::fs::read_to_string("/proc/self/cgroup").ok()?).map(str::to_owned)
}

/// Out of `/proc/self/cgroup`: the line of systemd's own hierarchy, of either version (cgroups(7)).
fn service(cgroups: &str) -> Option<&str> {
    let path = cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.strip_prefix("name=systemd:").or_else(|| rest.strip_prefix(':'))
    })?;
    path.rsplit('/').next().filter(|name| name.ends_with(".service"))
}

fn level(text: Option<&str>) -> LevelFilter {
    text.and_then(|t| t.parse().ok()).unwrap_or(LevelFilter::INFO)
}

fn use_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_control_group() {
        for (cgroups, wanted) in [
            ("0::/system.slice/landfall-host.service\n", Some("landfall-host.service")),
            (
                "4:pids:/x.service\n1:name=systemd:/system.slice/landfall-data-disk.service\n0::/\n",
                Some("landfall-data-disk.service"),
            ),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
            ("4:pids:/x.service\n0::/\n", None),
            ("garbled", None),
            ("", None),
        ] {
            assert_eq!(service(cgroups), wanted, "{cgroups:?}");
        }
    }

    #[test]
    fn an_unknown_level_is_the_default() {
        for (text, wanted) in
            [(None, LevelFilter::INFO), (Some("debug"), LevelFilter::DEBUG), (Some("loud"), LevelFilter::INFO)]
        {
            assert_eq!(level(text), wanted, "{text:?}");
        }
    }
}
