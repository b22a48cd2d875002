//! Removes what an app left on the Engine: containers, networks, volumes by Compose's label, images by name.
//! It must only ever touch what carries the app's own name.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::engine::{Engine, PROJECT, escape};
use crate::process::kill_recorded;

/// What test apps are called: `t-<pid of the run>-<number>-<test>`.
pub const PREFIX: &str = "t-";
/// What their temporary directories are called: `landfall-test-<pid of the run>-…`.
pub const DIRECTORY: &str = "landfall-test-";

/// Removes all that `app` has, and the images that were pulled from `registry`. Says what could not be removed.
pub fn app(engine: &Engine, app: &str, registry: &str) -> Vec<String> {
    let filter = escape(&json!({ "label": [format!("{PROJECT}={app}")] }).to_string());
    let mut left = Vec::new();
    let mut each = |list: &str, remove: &dyn Fn(&Value) -> Vec<String>| {
        let found = engine.call("GET", list, None).unwrap_or_default();
        let found = found.get("Volumes").unwrap_or(&found).as_array().cloned().unwrap_or_default();
        for target in found.iter().flat_map(remove) {
            left.extend(engine.call("DELETE", &target, None).err().map(|error| format!("{error:#}")));
        }
    };
    let by = |path: &'static str, field: &'static str, query: &'static str| {
        move |item: &Value| item[field].as_str().map(|id| format!("{path}/{id}{query}")).into_iter().collect()
    };
    each(&format!("/containers/json?all=1&filters={filter}"), &by("/containers", "Id", "?force=1&v=1"));
    each(&format!("/networks?filters={filter}"), &by("/networks", "Id", ""));
    each(&format!("/volumes?filters={filter}"), &by("/volumes", "Name", ""));
    // By name and never by id: another test may have the same image under another name.
    each("/images/json", &|image| {
        let names = ["RepoTags", "RepoDigests"].into_iter().filter_map(|field| image[field].as_array()).flatten();
        let ours = [format!("{registry}/"), format!("landfall.local/{app}:"), format!("landfall.local/{app}@")];
        let names = names.filter_map(Value::as_str).filter(|name| ours.iter().any(|own| name.starts_with(own)));
        names.map(|name| format!("/images/{name}")).collect()
    });
    // The last tag of an image takes its digests along.
    left.retain(|error| !error.contains(": 404 "));
    left
}

/// Removes what test runs that were killed have left, on the Engine and among the temporary directories.
pub fn leftovers(engine: &Engine) -> Result<()> {
    // First the processes: an agent would heal what is removed.
    for entry in std::fs::read_dir(std::env::temp_dir())?.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(|name| name.strip_prefix(DIRECTORY)).is_some_and(is_of_a_run_that_is_gone) {
            kill_recorded(&entry.path())?;
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let mut apps = Vec::new();
    for list in ["/containers/json?all=1", "/networks", "/volumes"] {
        let found = engine.call("GET", list, None)?;
        let found = found.get("Volumes").unwrap_or(&found).as_array().cloned().unwrap_or_default();
        apps.extend(found.iter().filter_map(|item| item["Labels"][PROJECT].as_str().map(str::to_owned)));
    }
    apps.sort();
    apps.dedup();
    apps.retain(|name| name.strip_prefix(PREFIX).is_some_and(is_of_a_run_that_is_gone));
    for name in apps {
        app(engine, &name, "no-registry");
    }
    Ok(())
}

/// `rest` begins with the process id of a test run.
fn is_of_a_run_that_is_gone(rest: &str) -> bool {
    let id = rest.split('-').next().and_then(|id| id.parse::<u32>().ok());
    id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists())
}
