//! `landfall check`: the configuration of a VM, or compose files, judged without a daemon and by the agent's own code, so
//! that CI and the VM cannot disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_agent::compose_plugin::ComposePlugin;
use landfall_agent::refusal::Kind;
use landfall_agent::secret_needs;
use landfall_agent::translate::{self, Final, HostContext};
use landfall_core::config::{App, Channel, ConfigError, Previews, Settings, Source, preview_name};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::secrets::SecretNeed;

use crate::arguments;
use crate::failure::{Exit, Failed, chain};
use crate::terminal::{out, size};

/// Checks what was asked for. Exit code 2 for what is invalid, 3 for what host policy refuses.
pub async fn run(layout: &Layout, arguments: &arguments::Check) -> Result<Exit, Failed> {
    let layout = arguments.config.as_ref().map_or_else(|| layout.clone(), Layout::new);
    if arguments.files.is_empty() {
        let settings = Settings::load(&layout).map_err(|error| of_config(&error))?;
        out(&of_settings(&settings));
        return Ok(Exit::Done);
    }
    let (found, policy) = match Settings::load(&layout) {
        Ok(settings) => (Some(settings), format!("the policy of `{}`", layout.config_file().display())),
        Err(ConfigError::Missing { .. }) if arguments.config.is_none() => {
            (None, "the default policy (there is no landfall.yaml here)".to_owned())
        }
        Err(error) => return Err(of_config(&error)),
    };
    let settings = found.clone().unwrap_or_default();
    let (name, app) = app(&settings, arguments.app.as_ref())?;
    let (checked, needs) = compose(layout, arguments, &settings, &name, &app).await?;
    out(&of_final(&checked));
    // What the agent would say. Without settings nobody knows the vaults.
    let forbidden = found.and_then(|settings| secret_needs::forbidden(&needs, &settings.vaults));
    forbidden.map_or(Ok(()), |why| Err(Failed::new(Exit::Refused, why)))?;
    eprintln!("valid by {policy}");
    Ok(Exit::Done)
}

async fn compose(
    layout: Layout,
    arguments: &arguments::Check,
    settings: &Settings,
    name: &AppName,
    app: &App,
) -> Result<(Final, Vec<SecretNeed>), Failed> {
    if let Some(absent) = arguments.files.iter().find(|file| !file.is_file()) {
        return Err(Failed::usage(format!("`{}` is not there or is no file", absent.display())));
    }
    let project = match &arguments.project_directory {
        Some(directory) => directory.clone(),
        None => arguments.files.first().and_then(|file| file.parent()).map(Path::to_owned).unwrap_or_default(),
    };
    let project = if project.as_os_str().is_empty() { PathBuf::from(".") } else { project };
    // No fence: whoever types this trusts the file as much as their own shell.
    let plugin = ComposePlugin::find(None).await.map_err(|error| Failed::new(Exit::Failed, chain(&error)))?;
    let context = HostContext {
        layout,
        host: settings.host.clone(),
        journald: false,
        cgroup_parent: None,
        memory_total: 0,
        cpus: 0,
        memory_of_other_apps: 0,
        handed_volumes: BTreeMap::new(),
        live_networks: BTreeMap::new(),
        secret_sets: BTreeMap::new(),
    };
    let mut warnings = Vec::new();
    let checked = translate::check(&plugin, &arguments.files, &project, name, app, &context, &mut warnings).await;
    for warning in warnings {
        eprintln!("Compose warns: {warning}");
    }
    checked.map_err(|refusal| {
        let exit = match refusal.kind() {
            Kind::Policy => Exit::Refused,
            Kind::Invalid => Exit::Usage,
            Kind::Later => Exit::Waiting,
        };
        Failed::new(exit, refusal.to_string())
    })
}

/// Whose profiles and variables apply: the named app's, the only one's, or none. An entry of `previews` stands for one of its apps.
fn app(settings: &Settings, named: Option<&AppName>) -> Result<(AppName, App), Failed> {
    if let Some(name) = named {
        let preview = || settings.previews.get_key_value(name).map(of_preview);
        let app = settings.apps.get(name).map(|app| (name.clone(), app.clone())).or_else(preview);
        return app.ok_or_else(|| {
            let all: Vec<String> =
                settings.apps.keys().chain(settings.previews.keys()).map(|app| format!("`{app}`")).collect();
            let next =
                if all.is_empty() { "it has no apps".to_owned() } else { format!("use one of {}", all.join(", ")) };
            Failed::usage(format!("landfall.yaml has no app `{name}`")).next(next)
        });
    }
    match (settings.apps.first_key_value(), settings.previews.first_key_value()) {
        (Some((name, app)), _) if settings.apps.len() == 1 => return Ok((name.clone(), app.clone())),
        (None, Some(entry)) if settings.previews.len() == 1 => return Ok(of_preview(entry)),
        _ => {}
    }
    let nobody =
        || -> Option<(AppName, Channel)> { Some(("check".parse().ok()?, "localhost/check:check".parse().ok()?)) };
    let (name, channel) = nobody().unwrap_or_else(|| unreachable!("both are valid"));
    let app = App {
        channel,
        source: Source::Bundle,
        poll: Duration::ZERO,
        profiles: Vec::new(),
        vars: BTreeMap::new(),
        preview: None,
    };
    Ok((name, app))
}

/// One of the apps of an entry.
fn of_preview((entry, previews): (&AppName, &Previews)) -> (AppName, App) {
    let channel = previews.channel.example();
    let name = preview_name(entry, &channel.tag);
    let app = previews.app(entry, &name, &channel, Some(0));
    (name, app)
}

fn word(source: Source) -> &'static str {
    match source {
        Source::Bundle => "bundle",
        Source::Pointer => "pointer",
        Source::Tags => "tags",
    }
}

/// What a configuration means, for people.
fn of_settings(settings: &Settings) -> String {
    let host = &settings.host;
    let cap = host.default_memory.map_or("none".to_owned(), size);
    let mut text = format!(
        "valid\n  host   reserve {} and {}% of disks, caps {}, default cap {cap}, binds {}\n",
        size(host.reserve_memory),
        host.reserve_disk,
        if host.require_caps { "required" } else { "not required" },
        if host.allow_binds.is_empty() { "none".to_owned() } else { host.allow_binds.join(" ") },
    );
    for (name, app) in &settings.apps {
        let _ = writeln!(text, "  app    {name}: {} {}, every {:?}", word(app.source), app.channel, app.poll);
    }
    for (name, entry) in &settings.previews {
        let ports = entry.ports.map_or_else(
            || "no ports".to_owned(),
            |range| format!("ports {}-{} for {} of them", range.first, range.last, range.blocks()),
        );
        let cap = entry.caps.memory.map_or("their own caps".to_owned(), |cap| format!("cap {}", size(cap)));
        let hours = entry.ttl.as_secs() / 3600;
        let _ = writeln!(
            text,
            "  previews {name}: {} {}, every {:?}, {ports}, {cap}, gone after {hours} h",
            word(entry.source),
            entry.channel,
            entry.poll
        );
    }
    text
}

/// What would run, for people.
fn of_final(checked: &Final) -> String {
    checked.deployment.services.iter().fold(String::new(), |text, (name, service)| {
        format!("{text}  {name}: {} x memory {}\n", service.replicas, size(service.memory))
    })
}

fn of_config(error: &ConfigError) -> Failed {
    let snippet = error.snippet();
    Failed::usage(if snippet.is_empty() { chain(error) } else { format!("{}\n{snippet}", chain(error)) })
}
