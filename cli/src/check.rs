//! `landfall check`: the configuration of a VM, or compose files, judged without a daemon.

use landfall_core::config::{ConfigError, Settings};
use landfall_core::layout::Layout;

use crate::arguments;
use crate::failure::{Exit, Failed, chain};

/// Checks what was asked for.
pub fn run(layout: &Layout, arguments: &arguments::Check) -> Result<Exit, Failed> {
    let layout = arguments.config.as_ref().map_or_else(|| layout.clone(), Layout::new);
    let settings = Settings::load(&layout).map_err(|error| of_config(&error))?;
    let apps: Vec<String> = settings.apps.iter().map(|(name, app)| format!("{name} follows {}", app.channel)).collect();
    eprintln!("`{}` is valid", layout.config_file().display());
    for app in apps {
        eprintln!("  {app}");
    }
    Ok(Exit::Done)
}

fn of_config(error: &ConfigError) -> Failed {
    let snippet = error.snippet();
    let message = if snippet.is_empty() { chain(error) } else { format!("{}\n{snippet}", chain(error)) };
    Failed::usage(message)
}
