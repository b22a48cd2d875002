//! `extends` and `include` resolved into one document by the Compose plugin. No daemon is asked, nothing is interpolated:
//! `${…}`, `x-` keys and relative paths stay as they are for the VM to read. The plugin's binary is called directly, with
//! an empty environment, so that the result depends on the files alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_core::command::Command;
use landfall_core::ids::printable;

use crate::bundle::Document;
use crate::failure::{Exit, Failed, chain};

/// The name of the document that comes out.
const TITLE: &str = "compose.yaml";
/// How long the plugin may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// How much of its words is shown.
const WORDS: usize = 1500;

/// Where the plugin is installed for all users, as the Docker CLI looks for it.
const PLUGIN_DIRECTORIES: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// The Compose plugin: the one that `LANDFALL_COMPOSE` names, else the user's own, else that of all users.
pub fn plugin(get: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(named) = get("LANDFALL_COMPOSE").filter(|v| !v.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let own = match get("DOCKER_CONFIG").filter(|v| !v.is_empty()) {
        Some(directory) => Some(PathBuf::from(directory)),
        None => get("HOME").map(|home| Path::new(&home).join(".docker")),
    };
    own.map(|directory| directory.join("cli-plugins"))
        .into_iter()
        .chain(PLUGIN_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join("docker-compose"))
        .find(|path| path.is_file())
}

/// One document of all files. `why` says what needs it.
pub async fn flatten(
    plugin: Option<PathBuf>,
    files: &[PathBuf],
    project: &Path,
    why: &str,
) -> Result<Document, Failed> {
    let plugin = plugin.ok_or_else(|| {
        Failed::new(Exit::Failed, format!("{why} must be resolved by the Compose plugin, and none is installed")).next(
            "install it (package `docker-compose` or `docker-compose-plugin`; no daemon is needed), or write one file",
        )
    })?;
    let mut command = Command::new(&plugin).deadline(DEADLINE);
    for file in files {
        command = command.arg("-f").arg(file);
    }
    // Every profile: which of them are on is the VM's to say.
    let output = command
        .arg("--project-directory")
        .arg(project)
        .args(["--profile", "*", "config", "--no-interpolate", "--no-path-resolution", "--no-normalize"])
        .run()
        .await
        .map_err(|error| Failed::new(Exit::Failed, format!("cannot resolve {why}: {}", chain(&error))))?;
    if output.code != 0 {
        let said = printable(output.stderr.trim(), WORDS);
        return Err(Failed::usage(format!("cannot resolve {why}: `{}` says: {said}", plugin.display()))
            .next("correct the compose files; `docker compose config` shows the same"));
    }
    Ok(Document { title: TITLE.to_owned(), bytes: output.stdout })
}
