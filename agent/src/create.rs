//! Has Compose create the containers that the plan wants, and reads back what the kernel made of their caps. Decides nothing:
//! which they are is said by `preparation`.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use landfall_core::ids::AppName;
use serde_json::Value;

use crate::ahead::Ahead;
use crate::final_model::{self, Joined};
use crate::preparation;
use crate::pulls;
use crate::shared::Shared;
use crate::state::{AppState, Generation};
use crate::yaml;

/// An image that somebody removed is fetched again before its container is made again; supervision stands still meanwhile.
const FETCH: Duration = Duration::from_mins(1);

/// Creates them: first all that stand for themselves, then those that join a namespace of one of the first.
pub async fn create(shared: &Shared, app: &AppName, state: &AppState, compose: &mut Ahead) -> Result<()> {
    let Some((deployment, creation)) = preparation::wanted(state) else { return Ok(()) };
    if state.recreation.is_some() {
        for spec in creation.scale.keys().filter_map(|service| deployment.services.get(service)) {
            let settings = shared.settings();
            let pull = pulls::pull(shared, &settings, app, &spec.image);
            tokio::time::timeout(FETCH, pull)
                .await
                .with_context(|| format!("`{}` takes too long to fetch", spec.image))??;
        }
    }
    let model = read(&shared.layout.deployment_model(app, &deployment.id), app)?;
    let [first, second] = preparation::stages(deployment, creation);
    if !first.is_empty() {
        let part = final_model::part(&model, &first, &Joined::new());
        compose.create(&yaml::compose_line(&part)).await?;
    }
    if !second.is_empty() {
        let seen = shared.engine.observe(app).await?;
        let joined =
            preparation::namespaces(deployment, creation, state.current(), &seen).map_err(anyhow::Error::msg)?;
        let part = final_model::part(&model, &second, &joined);
        compose.create(&yaml::compose_line(&part)).await?;
    }
    Ok(())
}

/// Creates the container that repairs a service: its own, with other words.
pub async fn create_repair(
    shared: &Shared,
    app: &AppName,
    state: &AppState,
    service: &str,
    compose: &mut Ahead,
) -> Result<()> {
    let deployment = &state.current().context("nothing is to run")?.deployment;
    let wish = deployment.services.get(service).and_then(|spec| spec.unclean.as_ref());
    let wish = wish.with_context(|| format!("nobody says what repairs `{service}`"))?;
    let model = read(&shared.layout.deployment_model(app, &deployment.id), app)?;
    let part = final_model::repair(&model, app.as_str(), service, &wish.repair);
    compose.create(&yaml::compose_line(&part.with_context(|| format!("`{service}` is not in its deployment"))?)).await
}

/// Compares the caps that the kernel has with those that were promised, and warns where they differ. Nobody waits for it.
pub fn read_back_caps(shared: &Rc<Shared>, app: &AppName, live: Option<&Generation>) {
    let services = live.iter().flat_map(|live| live.deployment.services.iter().map(move |found| (live, found)));
    let promised =
        services.filter(|(_, (_, spec))| spec.spec != preparation::ADOPTED).flat_map(|(live, (service, spec))| {
            live.ids(service).iter().map(|id| (service.clone(), id.clone(), spec.memory))
        });
    let (shared, app, promised) = (Rc::clone(shared), app.clone(), promised.collect::<Vec<_>>());
    tokio::task::spawn_local(async move {
        for (service, id, memory) in promised {
            let Ok(cap) = shared.engine.memory_cap(&id).await else { continue };
            if u64::try_from(cap).unwrap_or(0) != memory {
                tracing::warn!(
                    LANDFALL_APP = %app, LANDFALL_SERVICE = %service,
                    "`{service}` has a memory cap of {cap} bytes in place of {memory}: publish the release again"
                );
            }
        }
    });
}

fn read(path: &Path, app: &AppName) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(anyhow::Error::from);
    let model = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(anyhow::Error::from));
    model.with_context(|| {
        format!("cannot read `{}`; `landfall retry {app}` has the newest release's written anew", path.display())
    })
}
