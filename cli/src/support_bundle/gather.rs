//! Where each member of the bundle comes from. Every look may fail, and is then a line of the manifest; none changes anything.

use std::path::Path;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use landfall_core::command::CommandError;
use landfall_core::config::{Settings, config_files};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::protocol::{Command, Status};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::archive::{LIMIT, Member};
use super::container;
use super::mask::{self, Mask};
use crate::agent::{Agent, json_lines, only};
use crate::docker::Engine;
use crate::failure::chain;
use crate::values::{self, SHORTEST, Value};
use crate::verify::finding::Finding;
use crate::verify::machine::{Machine, RunError};
use crate::verify::{self, Probing};

/// The agent answers at once, or is ill; a plan may take longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// A day of a journal can be long.
const JOURNAL: Duration = Duration::from_mins(2);
/// How many of its last lines are tried, until they fit.
const JOURNAL_LINES: [&str; 3] = ["200000", "20000", "2000"];
const HISTORY: usize = 1000;

/// What the bundle is made of.
#[derive(Debug)]
pub struct Gathered {
    /// In the order of the manifest.
    pub members: Vec<Member>,
    /// What must not be in them.
    pub mask: Mask,
}

/// Looks at everything.
pub async fn all(layout: &Layout, agent: &Agent) -> Gathered {
    let machine = Machine::new(layout.clone());
    let patient = agent.clone().deadline(PATIENCE);
    let connected = Engine::of_this_machine();
    let containers = match &connected {
        Ok(engine) => engine.containers().await,
        Err(why) => Err(why.to_string()),
    };
    let mut members = of_agent(&patient).await;
    members.extend(journal(&machine).await);
    members.push(Member::new("containers.json", containers.as_deref().map(shown).map_err(Clone::clone)));
    members.extend(settings(layout));
    members.push(Member::new("versions.txt", Ok(versions(&machine, connected.as_ref().ok()).await)));
    for (name, arguments) in [("disk.txt", "-h"), ("inodes.txt", "-i")] {
        let said = machine.run("usr/bin/df", &[arguments]).await;
        members.push(Member::new(name, said.map(|output| output.stdout)));
    }
    for (name, path) in [("memory.txt", "proc/meminfo"), ("mounts.txt", "proc/self/mountinfo")] {
        members.push(Member::new(name, file(&machine.at(path))));
    }
    let checked = verify::all(layout, agent, Probing::None).await;
    let checked: Vec<Json> = checked.iter().map(Finding::json).collect();
    members.push(Member::new("verify.json", Ok(json_lines(&checked))));
    let (values, unknown) = values(layout, containers.as_deref().unwrap_or_default());
    members.extend(unknown);
    Gathered { members, mask: Mask::of(&values) }
}

async fn of_agent(agent: &Agent) -> Vec<Member> {
    let asked = agent.ask(Command::Status {}).await.map_err(|failed| failed.message);
    let apps: Vec<AppName> = match &asked {
        Ok(data) => only::<Status>(data.clone())
            .map_or_else(|_| Vec::new(), |status| status.apps.into_iter().map(|a| a.app).collect()),
        Err(_) => Vec::new(),
    };
    let mut members = vec![Member::new("status.json", asked.map(|data| json_lines(&data)))];
    for app in apps {
        let history = Command::History { app: app.clone(), last: HISTORY };
        let plan = Command::Plan { app: app.clone(), release: None };
        let secrets = Command::Secrets { app: app.clone() };
        for (kind, question) in [("history", history), ("plan", plan), ("secrets", secrets)] {
            let answer = agent.ask(question).await;
            let text = answer.map(|data| json_lines(&data)).map_err(|failed| failed.message);
            members.push(Member::new(format!("{kind}-{app}.json"), text));
        }
    }
    members
}

async fn journal(machine: &Machine) -> Vec<Member> {
    let mut why = String::new();
    for lines in JOURNAL_LINES {
        let arguments =
            ["--unit=landfall*", "--since=-24h", "--no-pager", "--output=short-iso-precise", "--lines", lines];
        match machine.run_bounded("usr/bin/journalctl", &arguments, JOURNAL, LIMIT).await {
            Ok(output) if output.success() => return vec![Member::new("journal.txt", Ok(output.stdout))],
            Ok(output) => return vec![Member::new("journal.txt", Err::<Vec<u8>, _>(output.last_words()))],
            Err(RunError::Run(CommandError::TooMuchOutput { .. })) => {
                why = format!("its last {lines} lines are more than {} MiB", LIMIT >> 20);
            }
            Err(error) => return vec![Member::new("journal.txt", Err::<Vec<u8>, _>(error.to_string()))],
        }
    }
    vec![Member::new("journal.txt", Err::<Vec<u8>, _>(why))]
}

fn shown(containers: &[ContainerInspectResponse]) -> String {
    json_lines(&containers.iter().map(container::shown).collect::<Vec<_>>())
}

/// landfall.yaml and its drop-ins, as they are written: a mistake in them is what one wants to see.
fn settings(layout: &Layout) -> Vec<Member> {
    let name = |path: &Path| {
        let etc = layout.config_file();
        let below = etc.parent().and_then(|etc| path.strip_prefix(etc).ok()).unwrap_or(path);
        format!("etc/{}", below.display())
    };
    match config_files(layout) {
        Ok(files) if files.is_empty() => {
            vec![Member::new("etc/landfall.yaml", Err::<Vec<u8>, _>("there is none".to_owned()))]
        }
        Ok(files) => {
            let text = |path: &Path| file(path).map(|bytes| mask::yaml(&String::from_utf8_lossy(&bytes)));
            files.iter().map(|path| Member::new(name(path), text(path))).collect()
        }
        Err(error) => vec![Member::new("etc/landfall.yaml", Err::<Vec<u8>, _>(chain(&error)))],
    }
}

async fn versions(machine: &Machine, engine: Option<&Engine>) -> String {
    let engine = match engine {
        Some(engine) => engine.facts().await.map(|facts| facts.version).map_err(|error| error.to_string()),
        None => Err("no Engine".to_owned()),
    };
    let compose = verify::compose_version().await;
    let systemd = machine.run("usr/bin/systemctl", &["--version"]).await;
    let systemd =
        systemd.map(|output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned());
    let one = |name: &str, value: Result<String, String>| {
        format!("{name}: {}\n", value.unwrap_or_else(|why| format!("not known ({why})")).trim_end())
    };
    let file = |path: &str| machine.read(path).ok_or_else(|| format!("`{path}` cannot be read"));
    one("landfall", Ok(env!("CARGO_PKG_VERSION").to_owned()))
        + &one("engine", engine)
        + &one("compose", compose)
        + &one("kernel", file("proc/version"))
        + &one("systemd", systemd)
        + &one("os-release", file("etc/os-release").map(|text| format!("\n{text}")))
}

/// The start of a file.
fn file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;

    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(failed)?;
    opened.take(u64::try_from(LIMIT).unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// All values that are known here and must not be in any text; what could not be looked for is told by a line.
fn values(layout: &Layout, containers: &[ContainerInspectResponse]) -> (Vec<Value>, Vec<Member>) {
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    for directory in [layout.secrets(), layout.registry_credentials()] {
        match values::below(&directory) {
            Ok((found, _)) => values.extend(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let why = format!(
                    "cannot read all of `{}` ({error}), so its values were not looked for in the texts",
                    directory.display()
                );
                unknown.push(Member::new("(masking)", Err::<Vec<u8>, _>(why)));
            }
        }
    }
    let mut add = |place: String, text: &str| {
        if text.len() >= SHORTEST {
            values.push(Value { place, bytes: Zeroizing::new(text.as_bytes().to_vec()) });
        }
    };
    if let Ok(settings) = Settings::load(layout) {
        for (host, registry) in &settings.registries {
            if let Ok(Some(credential)) = registry.read_credential(host) {
                add(host.clone(), &credential.password);
            }
        }
    }
    let variables = containers.iter().filter_map(|found| found.config.as_ref()?.env.as_ref()).flatten();
    for (name, text) in variables.filter_map(|variable| variable.split_once('=')) {
        if mask::is_secret(name) {
            add(name.to_owned(), text);
        }
    }
    (values, unknown)
}

/// Names of the members for the manifest's reader.
pub fn words(host: &str, at: &str) -> String {
    let head = json!({ "format": 1, "host": host, "at": at, "landfall": env!("CARGO_PKG_VERSION") });
    format!(
        "{}\n\n\
         Left out: values of environment variables, of labels that are not Landfall's or Compose's own, and of log options;\n\
         all words of commands but the first; what health checks said. Masked in all texts: values of secrets that are on\n\
         this machine (8 bytes or longer), of variables and settings that are called like a password, and users in URLs.\n\
         What an app writes into its log in another form is not known: look through journal.txt before you hand it on.\n",
        Json::to_string(&head)
    )
}
