//! Has Compose create the containers that the plan wants, and reads back what the kernel made of their caps. Decides nothing:
//! which they are is said by `preparation`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use landfall_core::ids::AppName;
use serde_json::{Map, Value, json};

use crate::preparation;
use crate::shared::Shared;
use crate::state::{AppState, Generation};
use crate::yaml;

/// An image that somebody removed is fetched again before its container is made again; supervision stands still meanwhile.
const FETCH: Duration = Duration::from_mins(1);
/// Beside a deployment's compose file: whose namespaces its new containers join.
const NAMESPACES: &str = "namespaces.yaml";

/// Creates them: first all that stand for themselves, then those that join a namespace of one of the first.
pub async fn create(shared: &Shared, app: &AppName, state: &AppState) -> Result<()> {
    let Some((deployment, creation)) = preparation::wanted(state) else { return Ok(()) };
    let plugin = shared.plugin().await.map_err(anyhow::Error::msg)?;
    let file = shared.layout.compose_file(app, &deployment.id);
    if state.recreation.is_some() {
        for spec in creation.scale.keys().filter_map(|service| deployment.services.get(service)) {
            let settings = shared.settings();
            let pull = shared.engine.pull(&settings, app, &spec.image);
            tokio::time::timeout(FETCH, pull)
                .await
                .with_context(|| format!("`{}` takes too long to fetch", spec.image))??;
        }
    }
    let [first, second] = preparation::stages(deployment, creation);
    if !first.is_empty() {
        plugin.prepare(std::slice::from_ref(&file), app, &first).await?;
    }
    if !second.is_empty() {
        let seen = shared.engine.observe(app).await?;
        let joined =
            preparation::namespaces(deployment, creation, state.current(), &seen).map_err(anyhow::Error::msg)?;
        let path: PathBuf = file.with_file_name(NAMESPACES);
        landfall_core::publish::write(&path, joining(&joined).as_bytes(), 0o640)?;
        plugin.prepare(&[file, path], app, &second).await?;
    }
    Ok(())
}

/// Compares the caps that the kernel has with those that were promised, and warns where they differ.
pub async fn read_back_caps(shared: &Shared, app: &AppName, live: Option<&Generation>) {
    let Some(live) = live else { return };
    for (service, spec) in live.deployment.services.iter().filter(|(_, spec)| spec.spec != preparation::ADOPTED) {
        for id in live.ids(service) {
            let Ok(cap) = shared.engine.memory_cap(id).await else { continue };
            if u64::try_from(cap).unwrap_or(0) != spec.memory {
                tracing::warn!(
                    LANDFALL_APP = %app, LANDFALL_SERVICE = %service,
                    "`{service}` has a memory cap of {cap} bytes in place of {}: publish the release again", spec.memory
                );
            }
        }
    }
}

/// A compose file to merge over the deployment's: `container:ID` where that says `service:NAME`, for Compose would take the old one.
fn joining(joined: &BTreeMap<String, (Vec<String>, String)>) -> String {
    let services = joined.iter().map(|(service, (keys, id))| {
        let modes = keys.iter().map(|key| (key.clone(), Value::from(format!("container:{id}"))));
        (service.clone(), Value::Object(modes.collect()))
    });
    yaml::compose_text(&json!({ "services": services.collect::<Map<_, _>>() }))
}
