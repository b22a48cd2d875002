//! `landfall init --cloud-init ROLE`: the user-data of a machine's first boot, made of one template and a values file. It has the
//! settings of a role and the few things that belong to every machine; it installs nothing, and no secret is in it. Nothing is printed
//! whose landfall.yaml the daemons' own reader refuses.

mod landfall_yaml;
mod render;
mod values;
mod words;

use std::fs;
use std::path::Path;

use landfall_core::config::{Config, ConfigError};

use crate::failure::{Exit, Failed, chain};
use values::Values;

/// What the strictest of the clouds takes.
pub const LIMIT: usize = 16 * 1024;

/// The user-data of a role.
pub fn user_data(values: &Path, role: &str) -> Result<String, Failed> {
    let shown = values.display();
    let text = fs::read_to_string(values).map_err(|error| {
        let next = "an example is cloud-init/values.yaml, where Landfall's sources are, and in /usr/share/doc/landfall";
        Failed::usage(format!("cannot read `{shown}`: {error}")).next(next)
    })?;
    let wrong = |why: String| Failed::usage(format!("{shown}: {why}")).next("correct the values; nothing was written");
    let meant = Values::parse(values, &text).map_err(|error| of_values(&error))?.role(role).map_err(&wrong)?;
    let failed = |error| Failed::new(Exit::Failed, format!("the user-data cannot be written as YAML: {error}"));
    let landfall_yaml = render::landfall_yaml(role, &meant.landfall).map_err(failed)?;
    judge(&landfall_yaml).map_err(|why| wrong(format!("role `{role}`: {why}")))?;
    let user_data = render::user_data(&meant, &landfall_yaml).map_err(failed)?;
    if user_data.len() > LIMIT {
        return Err(wrong(format!("role `{role}` makes {} bytes of user-data, of at most {LIMIT}", user_data.len())));
    }
    Ok(user_data)
}

/// What the daemons will say of it.
fn judge(landfall_yaml: &str) -> Result<(), String> {
    let config = Config::parse(Path::new("landfall.yaml"), landfall_yaml).map_err(|error| chain(&error))?;
    config.settle().map(drop)
}

fn of_values(error: &ConfigError) -> Failed {
    let snippet = error.snippet();
    let said = if snippet.is_empty() { chain(error) } else { format!("{}\n{snippet}", chain(error)) };
    Failed::usage(said).next("correct the values; nothing was written")
}
