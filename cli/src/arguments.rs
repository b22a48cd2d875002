//! What can be typed, and what `--help` says. Values are parsed to domain types here; nothing is looked up.

mod publishing;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use landfall_core::ids::AppName;

pub use self::publishing::{Promote, Publish, Wait};
use crate::break_glass::BreakGlass;
use crate::host::Host;
use crate::init::Init;
use crate::support_bundle::SupportBundle;
use crate::verify::Verify;

const EXIT_CODES: &str = "Exit codes:
   0  done, or no difference
   1  failed
   2  usage or invalid input
   3  refused by policy
   4  timed out or still waiting
   5  agent, registry or store of outcomes out of reach
  10  there is a difference (`plan`), or something is not healthy (`status`, `verify`)

Data goes to stdout, talk to stderr. `--json` prints one JSON object a line.
Colour only on a terminal, and not where NO_COLOR is set.";

/// Publish releases, and talk to the deploy agent of this VM.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// The root that all paths of this VM are below.
    #[arg(long, global = true, value_name = "DIR", env = "LANDFALL_ROOT", default_value = "/")]
    pub root: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Publish a release to a channel: what CI calls.
    Publish(Publish),
    /// Make what one channel has the newest release of another, or an older one the newest again.
    Promote(Promote),
    /// Compare the project on this disk with what a channel has; exit code 10 when `publish` would change something.
    Diff(Publish),
    /// Check the configuration of this VM, or compose files; needs no daemon.
    Check(Check),
    /// What runs, how it is, and what comes next; exit code 10 when something is not healthy.
    Status(Status),
    /// What an app does, as it does it, with the images that are pulled; until Ctrl-C, or with `--once` until a rollout has ended.
    Watch(Watch),
    /// How the rollouts of an app went, oldest first.
    History(History),
    /// What a release would change; exit code 10 when there is a difference.
    Plan(Plan),
    /// The last log lines of an app's services.
    Logs(Logs),
    /// Which secrets an app needs, which versions are here and run, and what is missing; never a value. Exit code 10 when
    /// something is.
    Secrets(Secrets),
    /// No release changes until `resume`; supervision goes on.
    Hold(Why),
    /// End a hold or hands-off.
    Resume(Which),
    /// No healing or restarting either, for a while.
    HandsOff(HandsOff),
    /// Return to the last good deployment and hold there.
    Rollback(Why),
    /// Lift a quarantine and try again.
    Retry(Which),
    /// Ask the registry now, between two polls.
    Poll(Which),
    /// Prepare this VM, as root, before Docker and the daemons start, and look again each minute: the guard of its identity,
    /// memory for secrets, the limit of all containers, the key that secrets are sealed with. What is as it should be stays.
    Host(Host),
    /// The system's own proxy on port 80, for a while, when the app's way in is broken: `on`, `off`, or how it stands. Exit code 10
    /// while it is on.
    BreakGlass(BreakGlass),
    /// Write a first landfall.yaml, and print what is to be done in Azure; it calls nothing there.
    Init(Init),
    /// The checklist before this VM takes traffic, run with sudo; exit code 10 when something failed.
    Verify(Verify),
    /// One archive for whoever helps from afar, without values of secrets; run with sudo.
    SupportBundle(SupportBundle),
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Compose files are judged by the host policy of landfall.yaml where there is one, else by the \
default policy. Of the machine itself nothing is known here: whether the caps fit it is judged on the VM.")]
pub struct Check {
    /// Look for landfall.yaml below this root; without `-f` that is what is checked.
    #[arg(long, value_name = "ROOT")]
    pub config: Option<PathBuf>,
    /// Check these compose files, merged in order.
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What relative paths are relative to. Without it: the directory of the first compose file.
    #[arg(long, value_name = "DIR", requires = "files")]
    pub project_directory: Option<PathBuf>,
    /// The app of landfall.yaml whose profiles and variables apply; may be left out where there is only one.
    #[arg(long, requires = "files")]
    pub app: Option<AppName>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// End with the next rollout that ends: exit code 0 live, 1 rolled back or held, 3 refused.
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// How many entries at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// A staged release, by 8 or more digits of its id. Without it: the newest of the channel.
    #[arg(value_parser = release_prefix)]
    pub release: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `secrets`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Secrets {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// What else to ask.
    #[command(subcommand)]
    pub verb: Option<SecretsVerb>,
}

/// What else `secrets` can say.
#[derive(Debug, Subcommand)]
pub enum SecretsVerb {
    /// Why a secret is missing, and what would mend it.
    Explain(Explain),
}

/// Arguments of `secrets explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Its key in the compose file, or its name in the vault.
    pub name: String,
    /// Which app; may be left out where there is only one.
    #[arg(long)]
    pub app: Option<AppName>,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// Only this service.
    pub service: Option<String>,
    /// How many lines of each service.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub lines: usize,
}

/// Arguments of commands that only name an app.
#[derive(Debug, Args)]
pub struct Which {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
}

/// Arguments of commands that must be explained.
#[derive(Debug, Args)]
pub struct Why {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// The reason, for those who look at `status` and `history` later.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub why: String,
}

/// Arguments of `hands-off`.
#[derive(Debug, Args)]
pub struct HandsOff {
    /// Which app; may be left out where there is only one.
    pub app: Option<AppName>,
    /// For how long, `30m` or `1h30m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub period: Duration,
    /// The reason, for those who look at `status` and `history` later.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub why: String,
}

fn release_prefix(text: &str) -> Result<String, String> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex && (8..=64).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("expected 8 to 64 lower-case hex digits of a release id".to_owned())
    }
}

/// Why, which may not be left empty.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say why; it is shown in `status`".to_owned()) } else { Ok(text.to_owned()) }
}

/// For how long: at least a second.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match landfall_core::config::parse_duration(text) {
        Ok(period) if period.as_secs() > 0 => Ok(period),
        Ok(_) => Err("expected at least 1s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// What is typed, and the parsed value (or a word of the error).
    #[test]
    fn arguments_parse_to_what_they_mean() {
        let digest = format!("ghcr.io/acme/api@sha256:{}", "a".repeat(64));
        let table: &[(&str, Result<&str, &str>)] = &[
            ("status --json", Ok("json: true")),
            ("watch", Ok("app: None, once: false")),
            ("watch web --once", Ok("once: true")),
            ("history", Ok("app: None, last: 20")),
            ("history web --last 3 --json", Ok("last: 3, json: true")),
            ("plan web 3fa2bc01", Ok("release: Some(\"3fa2bc01\")")),
            ("plan web 3fa2", Err("8 to 64")),
            ("secrets", Ok("app: None, json: false")),
            ("secrets web --json", Ok("json: true")),
            ("secrets explain DB --app web", Ok("Explain { name: \"DB\"")),
            ("secrets web explain DB", Err("explain")),
            ("logs web api --lines 5", Ok("service: Some(\"api\"), lines: 5")),
            ("hold web", Err("--why")),
            ("hold web --why=", Err("say why")),
            ("hold Web --why x", Err("not a valid app name")),
            ("rollback --why broken", Ok("why: \"broken\"")),
            ("hands-off web --for 1h30m --why x", Ok("period: 5400s")),
            ("hands-off web --for 0s --why x", Err("at least 1s")),
            ("hands-off web --for soon --why x", Err("soon")),
            ("publish ghcr.io/acme/deploy:prod", Ok("tag: \"prod\"")),
            ("publish acme/deploy:prod", Err("registry")),
            ("publish ghcr.io/a/b:c --from ghcr.io/a/b:d", Ok("from: Some(Channel")),
            ("publish ghcr.io/a/b:c --from ghcr.io/a/b:d -f x.yaml", Err("cannot be used with")),
            ("promote ghcr.io/a/b:staging ghcr.io/a/b:prod", Ok("tag: \"staging\"")),
            ("promote ghcr.io/a/b:staging", Err("<TO>")),
            ("diff ghcr.io/a/b:c -f compose.yaml", Ok("Diff")),
            ("publish ghcr.io/a/b:c --wait-url https://s.example/o", Ok("wait_timeout: 600s")),
            ("promote ghcr.io/a/b:s ghcr.io/a/b:c --wait-url http://[::1]:1 --wait-timeout 5s", Ok("wait_timeout: 5s")),
            ("publish ghcr.io/a/b:c --wait-url http://s.example/o", Err("expected `https://`")),
            ("publish ghcr.io/a/b:c --wait-timeout 5s", Err("--wait-url")),
            ("publish ghcr.io/acme/deploy", Err("tag")),
            ("publish ghcr.io/a/b:c --image api", Err("SERVICE=REF")),
            ("publish ghcr.io/a/b:c --image =x", Err("service before")),
            ("publish ghcr.io/a/b:c --annotation io.landfall.sequence=1", Err("landfall itself")),
            (&format!("publish ghcr.io/a/b:c --image api={digest}"), Ok("(\"api\", Image")),
            ("check -f a.yaml -f b.yaml", Ok("files: [\"a.yaml\", \"b.yaml\"]")),
            ("check --app web", Err("--file")),
            ("--root /x retry", Ok("root: \"/x\"")),
            ("host", Ok("with_key: Auto")),
            ("host --with-key tpm2", Ok("with_key: Tpm2")),
            ("host --with-key null", Err("invalid value")),
            ("break-glass", Ok("verb: None")),
            ("break-glass on --why x", Ok("period: 3600s, to: 127.0.0.1:8080")),
            ("break-glass on --why x --for 24h --to [::1]:9000", Ok("period: 86400s, to: [::1]:9000")),
            ("break-glass on", Err("--why")),
            ("break-glass on --why=", Err("say why")),
            ("break-glass on --why x --for 25h", Err("at most 24h")),
            ("break-glass on --why x --to localhost", Err("127.0.0.1:8080")),
            ("break-glass off", Err("--why")),
            ("break-glass off --why done", Ok("Off(Off { why: \"done\"")),
            ("init", Ok("app: None")),
            ("init --app web", Err("--channel")),
            ("init --app web --channel ghcr.io/a/b:c --vault https://a --vault https://b", Ok("vaults: [")),
            ("init --vm $(x)", Err("as Azure has it")),
            ("init --cloud-init staging --values v.yaml", Ok("cloud_init: Some(\"staging\")")),
            ("init --cloud-init staging", Err("--values")),
            ("init --values v.yaml", Err("--cloud-init")),
            ("init --cloud-init staging --values v.yaml --vault https://a", Err("cannot be used with")),
            ("frobnicate", Err("unrecognized")),
        ];
        for (typed, expected) in table {
            let parsed = Cli::try_parse_from(std::iter::once("landfall").chain(typed.split(' ')));
            match (parsed, expected) {
                (Ok(cli), Ok(part)) => assert!(format!("{cli:?}").contains(part), "{typed}: {cli:?}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{typed}: {error}");
                    assert_eq!(error.exit_code(), 2, "{typed}");
                }
                (parsed, _) => panic!("{typed}: {parsed:?}"),
            }
        }
    }
}
