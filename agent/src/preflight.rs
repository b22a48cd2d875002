//! Preflight: everything that can be known and fetched before anything is touched. A failure here leaves what serves as
//! it is, and quarantines nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use landfall_core::contract::{self, Read, StagedRelease};
use landfall_core::ids::{AppName, ReleaseId};

use crate::caps::HostContext;
use crate::shared::Shared;
use crate::spec::Deployment;
use crate::translate::{self, ImageFacts, Refusal};

/// Why a release does not get past preflight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Trying again without a change does not help.
    #[error("{0}")]
    Refused(String),
    /// Something is out of reach: try again.
    #[error("{0}")]
    Later(String),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        let text = format!("{error:#}");
        // The Engine's words for "this platform is not in the image": for ever.
        if text.contains("no matching manifest") { Self::Refused(text) } else { Self::Later(text) }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        if refusal.kind() == crate::refusal::Kind::Later {
            Self::Later(refusal.to_string())
        } else {
            Self::Refused(refusal.to_string())
        }
    }
}

/// Reads a staged release.
pub fn staged(shared: &Shared, app: &AppName, id: &ReleaseId) -> Result<StagedRelease, Stop> {
    let path = shared.layout.release(app, id).join("release.json");
    match contract::read::<StagedRelease>(&path) {
        Read::Found(staged) => Ok(staged),
        Read::Absent => Err(Stop::Later(format!("release {} is not staged at `{}`", id.short(), path.display()))),
        Read::NewerFormat(format) => Err(Stop::Later(format!(
            "release {} was staged in format {format}, newer than this agent reads: update landfall-agent",
            id.short()
        ))),
        Read::Garbled(why) => Err(Stop::Later(format!("release {} is garbled ({why})", id.short()))),
    }
}

/// Takes a release through preflight. With `touch` images are pulled and files written; without, it is only a plan.
pub async fn preflight(shared: Rc<Shared>, app: AppName, id: ReleaseId, touch: bool) -> Result<Deployment, Stop> {
    let staged = staged(&shared, &app, &id)?;
    let settings = shared.settings();
    let app_settings = settings.apps.get(&app).ok_or_else(|| {
        Stop::Refused(format!("app `{app}` is no longer in landfall.yaml: put it back to release it again"))
    })?;
    let plugin = shared.plugin.borrow().clone().map_err(Stop::Later)?;
    if shared.machine.borrow().memory == 0 {
        let facts = shared.engine.machine().await?;
        shared.machine.replace(facts);
    }
    let project = translate::canonicalise(&plugin, &shared.layout, &staged, &app, app_settings, &settings.host).await?;
    let references: std::collections::BTreeSet<String> = project.images().into_values().collect();
    let fetches = references.into_iter().map(|reference| {
        let (shared, app) = (&shared, &app);
        async move {
            let pinned = shared.engine.pin(&reference).await?;
            let volumes = if touch {
                shared.engine.pull(app, &pinned).await?.volumes
            } else {
                shared.engine.local_image(&pinned).await?.map(|i| i.volumes).unwrap_or_default()
            };
            Ok::<_, anyhow::Error>((reference, ImageFacts { pinned, volumes }))
        }
    });
    let images: BTreeMap<String, ImageFacts> = futures_util::future::try_join_all(fetches).await?.into_iter().collect();
    let machine = shared.machine.borrow().clone();
    let context = HostContext {
        layout: shared.layout.clone(),
        host: settings.host.clone(),
        journald: std::path::Path::new("/run/systemd/journal/socket").exists(),
        cgroup_parent: machine.systemd_cgroups.then(|| "landfall.slice".to_owned()),
        memory_total: machine.memory,
        cpus: machine.cpus,
        memory_of_other_apps: shared.memory_of_others(&app),
        handed_volumes: BTreeMap::new(),
    };
    let done = translate::finalise(&project, &images, &context)?;
    let live = shared.views.borrow().get(&app).and_then(|v| v.state.live.clone());
    if let Some(live) = live {
        same_volumes(&live.deployment, &done.deployment)?;
        same_networks(&live.deployment, &done.deployment)?;
    }
    own_namespaces(&done.deployment)?;
    if touch {
        let io =
            |error: std::io::Error| Stop::Later(format!("cannot write what release {} needs: {error}", id.short()));
        for (path, bytes, mode) in &done.files {
            if !path.exists() {
                landfall_core::publish::write(path, bytes, *mode).map_err(io)?;
            }
        }
        let path = shared.compose_file(&app, &done.deployment.id);
        landfall_core::publish::write(&path, done.compose_yaml.as_bytes(), 0o640).map_err(io)?;
    }
    Ok(done.deployment)
}

/// A changed network is a step of its own that this version cannot take: Compose 2.26 ignores it, and 5.x stops what
/// is on it and then cannot remove it (measured on both).
fn same_networks(live: &Deployment, next: &Deployment) -> Result<(), Stop> {
    let changed = |name: &&String| live.networks.get(*name).is_some_and(|old| old.hash != next.networks[*name].hash);
    next.networks.keys().find(changed).map_or(Ok(()), |name| {
        Err(Stop::Refused(format!(
            "network `{name}`: changing its definition is not supported by this version: give the new definition another \
             name, or publish the old definition"
        )))
    })
}

/// Services that share a namespace must be replaced together, which this version does not do yet.
fn own_namespaces(next: &Deployment) -> Result<(), Stop> {
    let shared = next.services.iter().find_map(|(name, spec)| spec.namespace_of.as_ref().map(|with| (name, with)));
    shared.map_or(Ok(()), |(name, with)| {
        Err(Stop::Refused(format!(
            "service `{name}`: sharing a namespace with `{with}` is not supported by this version: give it its own network, \
             IPC and PID namespace"
        )))
    })
}

/// A changed volume definition cannot be applied to a volume that has data: refused before anything is touched.
fn same_volumes(live: &Deployment, next: &Deployment) -> Result<(), Stop> {
    for (name, volume) in &next.volumes {
        if let Some(old) = live.volumes.get(name)
            && old.hash != volume.hash
        {
            return Err(Stop::Refused(format!(
                "volume `{name}`: its definition changed, and Docker cannot change a volume that has data: give the new \
                 definition another name and move the data, or publish the old definition"
            )));
        }
    }
    Ok(())
}
