//! Preflight: everything that can be known and fetched before anything is touched. A failure here leaves what serves as
//! it is, and quarantines nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, join_all, select, try_join_all};
use landfall_core::contract::{self, Read, StagedRelease, StagedSource};
use landfall_core::ids::{AppName, ReleaseId};

use crate::caps::HostContext;
use crate::networks::LiveNetwork;
use crate::shared::Shared;
use crate::spec::Deployment;
use crate::translate::{self, ImageFacts, Refusal};
use crate::{early_images, raw_policy};

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
        Self::Later(format!("{error:#}"))
    }
}

/// Why an image cannot be had.
fn unfetched(reference: &str, error: &anyhow::Error) -> Stop {
    let text = format!("image `{reference}`: {error:#}");
    // The Engine's words for "this platform is not in the image": for ever.
    if text.contains("no matching manifest") {
        Stop::Refused(format!("{text}; build it for this machine's platform and publish again"))
    } else {
        Stop::Later(format!("{text}; push it, or publish a release that names one that is there; it is tried again"))
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

/// Images whose download need not wait for the translation.
fn early_images(shared: &Shared, app: &AppName, staged: &StagedRelease, profiles: &[String]) -> BTreeSet<String> {
    let StagedSource::Bundle { compose, .. } = &staged.source else { return BTreeSet::new() };
    let directory = shared.layout.release(app, &staged.release).join("compose");
    let documents = compose.iter().filter_map(|name| raw_policy::read_documents(&directory.join(name), name).ok());
    early_images::of(&documents.flatten().collect::<Vec<_>>(), profiles)
}

/// What preflight found.
#[derive(Debug)]
pub struct Examined {
    /// The deployment, or why there is none.
    pub result: Result<Deployment, Stop>,
    /// What Compose warned of.
    pub warnings: Vec<String>,
}

/// Takes a release through preflight. With `touch` images are pulled and files written; without, it is only a plan.
pub async fn preflight(shared: Rc<Shared>, app: AppName, id: ReleaseId, touch: bool) -> Examined {
    let mut warnings = Vec::new();
    let result = examine(shared, app, id, touch, &mut warnings).await;
    Examined { result, warnings }
}

async fn examine(
    shared: Rc<Shared>,
    app: AppName,
    id: ReleaseId,
    touch: bool,
    warnings: &mut Vec<String>,
) -> Result<Deployment, Stop> {
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
    let early = if touch { early_images(&shared, &app, &staged, &app_settings.profiles) } else { BTreeSet::new() };
    let project = {
        let (layout, host) = (&shared.layout, &settings.host);
        let canonical = translate::canonicalise(&plugin, layout, &staged, &app, app_settings, host, warnings);
        // What cannot be fetched now is asked for again below, and said there.
        let fetches = join_all(early.iter().map(|image| shared.engine.pull(&app, image)));
        match select(pin!(canonical), pin!(fetches)).await {
            // A refusal lets go of the downloads.
            Either::Left((project, fetches)) => {
                let project = project?;
                fetches.await;
                project
            }
            Either::Right((_, canonical)) => canonical.await?,
        }
    };
    let references: BTreeSet<String> = project.images().into_values().collect();
    let fetches = references.into_iter().map(|reference| {
        let (shared, app) = (&shared, &app);
        async move {
            let facts = image_facts(shared, app, &reference, touch).await;
            facts.map_err(|error| unfetched(&reference, &error)).map(|facts| (reference, facts))
        }
    });
    let images: BTreeMap<String, ImageFacts> = try_join_all(fetches).await?.into_iter().collect();
    let machine = shared.machine.borrow().clone();
    let context = HostContext {
        layout: shared.layout.clone(),
        host: settings.host.clone(),
        journald: std::path::Path::new("/run/systemd/journal/socket").exists(),
        cgroup_parent: machine.systemd_cgroups.then(|| "landfall.slice".to_owned()),
        memory_total: machine.memory,
        cpus: machine.cpus,
        memory_of_other_apps: shared.memory_of_others(&app),
        handed_volumes: handed_volumes(&shared, &app),
        live_networks: live_networks(&shared, &app),
    };
    let done = translate::finalise(&project, &images, &context)?;
    let live = shared.views.borrow().get(&app).and_then(|v| v.state.live.clone());
    if let Some(live) = live {
        same_volumes(&live.deployment, &done.deployment)?;
        same_networks(&live.deployment, &done.deployment)?;
    }
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

async fn image_facts(shared: &Shared, app: &AppName, reference: &str, touch: bool) -> anyhow::Result<ImageFacts> {
    let pinned = shared.engine.pin(reference).await?;
    let volumes = if touch {
        shared.engine.pull(app, &pinned).await?.volumes
    } else {
        shared.engine.local_image(&pinned).await?.map(|i| i.volumes).unwrap_or_default()
    };
    Ok(ImageFacts { pinned, volumes })
}

/// Volumes without a name that hold the data of the containers that are there, made by hand or by an older release: they pass to
/// their replacements. Replicas have one each, and nothing to pass on.
fn handed_volumes(shared: &Shared, app: &AppName) -> BTreeMap<String, BTreeMap<String, String>> {
    let views = shared.views.borrow();
    let Some(view) = views.get(app) else { return BTreeMap::new() };
    let live = view.state.live.as_ref();
    let mut handed: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for container in view.seen.containers.values().filter(|c| !c.one_off && !c.unnamed_volumes.is_empty()) {
        let of_live = live.is_some_and(|g| g.ids(&container.service).contains(&container.id));
        if of_live || (live.is_none() && !handed.contains_key(&container.service)) {
            handed.insert(container.service.clone(), container.unnamed_volumes.clone());
        }
    }
    handed
}

fn live_networks(shared: &Shared, app: &AppName) -> BTreeMap<String, LiveNetwork> {
    let views = shared.views.borrow();
    let live = views.get(app).and_then(|view| view.state.live.as_ref());
    let networks = live.into_iter().flat_map(|g| &g.deployment.networks);
    networks
        .map(|(name, spec)| (spec.key.clone(), LiveNetwork { name: name.clone(), hash: spec.hash.clone() }))
        .collect()
}

/// A changed definition gets a network of another name, unless the file itself says the name.
fn same_networks(live: &Deployment, next: &Deployment) -> Result<(), Stop> {
    let changed = |name: &&String| live.networks.get(*name).is_some_and(|old| old.hash != next.networks[*name].hash);
    next.networks.keys().find(changed).map_or(Ok(()), |name| {
        Err(Stop::Refused(format!(
            "network `{name}`: its definition changed, and Docker cannot change a network that is in use: remove `name:`, \
             so that the new network can have a name of its own, or publish the old definition"
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
