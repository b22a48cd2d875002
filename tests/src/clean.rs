//! Removes what an app left on the Engine: containers, networks, volumes by Compose's label, images by ours.
//! It must only ever touch what carries the app's own name.

use anyhow::Result;
use landfall_core::layout::Layout;
use serde_json::{Value, json};

use crate::engine::{Engine, PROJECT, escape};
use crate::images::OWNER;
use crate::process::{kill_recorded, lives};
use crate::secrets_memory;

/// What test apps are called: `t-<pid of the run>-<number>-<test>`.
pub const PREFIX: &str = "t-";
/// What their temporary directories are called: `landfall-test-<pid of the run>-…`.
pub const DIRECTORY: &str = "landfall-test-";

/// Removes all that `app` has, and the images that were made for it. Says what could not be removed.
pub fn app(engine: &Engine, app: &str) -> Vec<String> {
    let labelled = |label: &str| escape(&json!({ "label": [format!("{label}={app}")] }).to_string());
    let (project, image) = (labelled(PROJECT), labelled(OWNER));
    let mut left = Vec::new();
    for (list, path, field, query) in [
        (format!("/containers/json?all=1&filters={project}"), "/containers", "Id", "?force=1&v=1"),
        (format!("/networks?filters={project}"), "/networks", "Id", ""),
        (format!("/volumes?filters={project}"), "/volumes", "Name", ""),
        (format!("/images/json?filters={image}"), "/images", "Id", "?force=1"),
    ] {
        match engine.call("GET", &list, None) {
            Ok(found) => {
                let names = items(&found).iter().filter_map(|item| item[field].as_str());
                let targets = names.map(|name| format!("{path}/{name}{query}"));
                left.extend(targets.filter_map(|target| engine.call("DELETE", &target, None).err()));
            }
            Err(error) => left.push(error),
        }
    }
    left.iter().map(|error| format!("{error:#}")).collect()
}

/// The list in an answer; that of `/volumes` is one level down.
fn items(found: &Value) -> &[Value] {
    found.get("Volumes").unwrap_or(found).as_array().map_or(&[], Vec::as_slice)
}

/// Removes what test runs that were killed have left, on the Engine and among the temporary directories.
pub fn leftovers(engine: &Engine) -> Result<()> {
    // First the processes: an agent would heal what is removed.
    for entry in std::fs::read_dir(std::env::temp_dir())?.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(|name| name.strip_prefix(DIRECTORY)).is_some_and(is_of_a_run_that_is_gone) {
            kill_recorded(&entry.path())?;
            secrets_memory::unmount(&Layout::new(entry.path().join("root")))?;
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let mut apps = Vec::new();
    for list in ["/containers/json?all=1", "/networks", "/volumes"] {
        let found = engine.call("GET", list, None)?;
        apps.extend(items(&found).iter().filter_map(|item| item["Labels"][PROJECT].as_str().map(str::to_owned)));
    }
    apps.sort();
    apps.dedup();
    apps.retain(|name| name.strip_prefix(PREFIX).is_some_and(is_of_a_run_that_is_gone));
    for name in apps {
        app(engine, &name);
    }
    Ok(())
}

/// `rest` begins with the process id of a test run.
fn is_of_a_run_that_is_gone(rest: &str) -> bool {
    let id = rest.split('-').next().and_then(|id| id.parse::<i32>().ok());
    id.is_some_and(|id| !lives(id))
}
