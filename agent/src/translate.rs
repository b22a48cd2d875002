//! From a staged release to a [`Deployment`] and the compose file that creates it, in two steps: [`canonicalise`] reads files and
//! asks the Compose plugin; [`finalise`] is pure and knows the images. [`check`] is both, for `landfall check`, without a VM.
//! Nothing here talks to Docker, and nothing on the machine changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use landfall_core::config::{App, Host};
use landfall_core::contract::{StagedRelease, StagedSource};
use landfall_core::ids::{AppName, deployment_id, release_id_of_images, sha256_hex};
use landfall_core::layout::Layout;
use landfall_core::secrets::SecretNeed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical;
pub use crate::canonical::{Input, Project, text, understand};
pub use crate::caps::HostContext;
use crate::caps::{self, Caps, Room, Share};
use crate::compose_plugin::ComposePlugin;
use crate::final_model::{self, Ready};
use crate::mounts::{self, OwnFile, Source, Surroundings};
use crate::project_files::ProjectFiles;
use crate::reading::Reading;
pub use crate::refusal::Refusal;
use crate::refusal::{Problem, Rule};
use crate::released::{self, Released};
use crate::spec::{Condition, Dependency, Deployment, Order, ServiceSecrets, ServiceSpec};
use crate::updates::{self, Updates};
use crate::{graph, networks, spec_hash, wrapping};

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageFacts {
    /// `repository@sha256:…`.
    pub pinned: String,
    /// Paths that it declares as volumes.
    pub volumes: Vec<String>,
    /// What it starts; none where nobody has looked into it, as in `landfall check`.
    pub start: Option<ImageStart>,
}

/// What an image starts by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageStart {
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub command: Vec<String>,
    /// HEALTHCHECK: `CMD` or `CMD-SHELL`, and its words.
    pub health_test: Vec<String>,
}

/// A release, ready to be prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    /// What will run.
    pub deployment: Deployment,
    /// What creates it, for [`crate::yaml`] to write.
    pub model: Value,
    /// To be laid down before: path, content, mode. A path says what is in it: what is there is right.
    pub files: Vec<(PathBuf, Vec<u8>, u32)>,
}

/// Reads a staged release as this host understands it. What Compose warned of is added to `warnings`.
pub async fn canonicalise(
    plugin: &ComposePlugin,
    layout: &Layout,
    staged: &StagedRelease,
    app: &AppName,
    settings: &App,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Project, Refusal> {
    canonical::read(plugin, input(layout, staged, app, settings, host), warnings).await
}

/// What a staged release is read from.
pub fn input<'a>(
    layout: &Layout,
    staged: &'a StagedRelease,
    app: &'a AppName,
    settings: &'a App,
    host: &'a Host,
) -> Input<'a> {
    let on_host = host_input(layout, app, settings, host);
    let release = staged.release.clone();
    match &staged.source {
        StagedSource::Bundle { compose, files } => {
            let directory = layout.release(app, &release);
            let documents = compose.iter().map(|name| directory.join("compose").join(name)).collect();
            let files = ProjectFiles::of_bundle(directory.join("project"), files);
            Input { compose: documents, files, release, ..on_host }
        }
        StagedSource::Pointer { images } => Input { images: Some(images), release, ..on_host },
    }
}

/// The compose file on this machine, without a release: none of its images is replaced.
pub fn host_input<'a>(layout: &Layout, app: &'a AppName, settings: &'a App, host: &'a Host) -> Input<'a> {
    Input {
        compose: vec![layout.host_compose(settings.project(app))],
        files: ProjectFiles::of_directory(layout.host_app(settings.project(app))),
        images: None,
        app,
        release: release_id_of_images([]),
        profiles: settings.profiles.as_slice(),
        vars: &settings.vars,
        preview: settings.preview.as_ref(),
        host,
    }
}

/// What the release becomes on this machine. `images` by reference as the release writes it.
pub fn finalise(
    project: &Project,
    images: &BTreeMap<String, ImageFacts>,
    context: &HostContext,
) -> Result<Final, Refusal> {
    let mut problems = Vec::new();
    let drafts = drafts(project, images, context, &mut problems);
    judge_together(&drafts, context, &mut problems);
    Refusal::unless_none(problems)?;

    let mut lines: Vec<String> = project.vars.iter().map(|(name, value)| format!("var {name}={value}")).collect();
    lines.extend(project.profiles.iter().map(|profile| format!("profile {profile}")));
    lines.extend(project.on_host.iter().map(|hash| format!("compose {hash}")));
    let completed = waited_for(&drafts);
    let mut services = BTreeMap::new();
    let mut files: Vec<OwnFile> = Vec::new();
    let mut ready = Vec::new();
    for draft in drafts {
        let networks = networks_of(&draft, project);
        let spec = spec_hash::of_service(&draft.released, &draft.image.pinned, &networks);
        let digest = draft.image.pinned.rsplit_once('@').map_or("", |(_, digest)| digest);
        lines.push(format!("image {} {digest}", draft.name));
        lines.push(draft.released.caps.line(draft.name));
        lines.extend(draft.secrets.iter().map(|secrets| format!("secrets {} {}", draft.name, secrets.mounted())));
        let one_shot = completed.contains(draft.name) || draft.updates.run_is_written;
        services.insert(draft.name.to_owned(), draft.service_spec(spec.clone(), one_shot));
        files.extend(draft.files);
        ready.push(Ready {
            name: draft.name,
            released: draft.released,
            image: draft.image.pinned,
            spec,
            replicas: draft.updates.replicas,
            image_volumes: draft.image.volumes,
        });
    }
    let assembled = final_model::assemble(&project.app, &ready, &project.canonical, context);
    files.sort();
    files.dedup();
    let store = context.layout.agent_files();
    Ok(Final {
        deployment: Deployment {
            id: deployment_id(&project.release, lines),
            release: project.release.clone(),
            services,
            networks: assembled.networks,
            volumes: assembled.volumes,
        },
        model: assembled.value,
        files: files.into_iter().map(|file| (store.join(file.path), file.bytes, file.mode)).collect(),
    })
}

/// Compose files and their project directory against the host's policy, as a release of `app` would be judged; without a daemon,
/// so nothing is known of images, and of this machine only what `context` says.
pub async fn check(
    plugin: &ComposePlugin,
    compose: &[PathBuf],
    project: &Path,
    app: &AppName,
    settings: &App,
    context: &HostContext,
    warnings: &mut Vec<String>,
) -> Result<(Final, Vec<SecretNeed>), Refusal> {
    let unreadable =
        |path: &Path, error| Problem::new(Rule::Unreadable, path.display().to_string(), format!("{error}"));
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| unreadable(path, error));
    let compose = compose.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    let input = Input {
        compose,
        files: ProjectFiles::of_directory(absolute(project)?),
        images: None,
        app,
        release: release_id_of_images([]),
        profiles: &settings.profiles,
        vars: &settings.vars,
        preview: settings.preview.as_ref(),
        host: &context.host,
    };
    let project = canonical::read(plugin, input, warnings).await?;
    let supposed = |reference: String| {
        let pinned = if reference.contains("@sha256:") {
            reference.clone()
        } else {
            format!("{reference}@sha256:{}", sha256_hex(reference.as_bytes()))
        };
        (reference, ImageFacts { pinned, ..ImageFacts::default() })
    };
    let images = project.images().into_values().map(supposed).collect();
    finalise(&project, &images, context).map(|done| (done, project.needs().to_vec()))
}

/// What the networks of a service are, where there is more to say than their names.
fn networks_of(draft: &Draft<'_>, project: &Project) -> serde_json::Map<String, Value> {
    let keys = draft.released.networks.keys();
    let definitions = keys
        .filter_map(|key| Some((key.clone(), Value::from(networks::definition(project.canonical.networks.get(key)?)))));
    definitions.filter(|(_, definition)| definition.as_object().is_some_and(|keys| !keys.is_empty())).collect()
}

/// A service on its way.
struct Draft<'a> {
    name: &'a str,
    updates: Updates,
    released: Released,
    image: ImageFacts,
    depends_on: Vec<Dependency>,
    namespace: Option<graph::Shared>,
    files: Vec<OwnFile>,
    secrets: Option<ServiceSecrets>,
}

impl Draft<'_> {
    fn service_spec(&self, spec: String, one_shot: bool) -> ServiceSpec {
        let updates = &self.updates;
        ServiceSpec {
            spec,
            image: self.image.pinned.clone(),
            replicas: updates.replicas,
            depends_on: self.depends_on.clone(),
            order: updates.order,
            one_shot,
            run: updates.run,
            rollback_hold: updates.rollback_hold,
            pause_on_failure: updates.pause_on_failure,
            monitor: updates.monitor,
            parallelism: updates.parallelism,
            delay: updates.delay,
            stop_grace: updates.stop_grace,
            restart: updates.restart.clone(),
            namespace_of: self.namespace.as_ref().map(|shared| shared.owner.clone()),
            shared_namespaces: self.namespace.as_ref().map(|shared| shared.keys.clone()).unwrap_or_default(),
            host_ports: self.released.ports.iter().filter_map(released::PortSpec::on_host).collect(),
            memory: self.released.caps.memory.unwrap_or_default(),
            secrets: self.secrets.clone(),
            on_rotate: updates.on_rotate.clone(),
            unclean: updates.unclean.clone().map(|unclean| unclean.of(&self.released.plain)),
        }
    }
}

/// Each service that has containers, with its problems noted.
fn drafts<'a>(
    project: &'a Project,
    images: &BTreeMap<String, ImageFacts>,
    context: &HostContext,
    problems: &mut Vec<Problem>,
) -> Vec<Draft<'a>> {
    let around = Surroundings {
        configs: &project.canonical.configs,
        files: &project.files,
        host: &context.host,
        vars: &project.vars,
        secret_sets: &context.secret_sets,
        needs: &project.needs,
    };
    let mut updates_of = BTreeMap::new();
    for (name, service) in &project.canonical.services {
        let mut reading = Reading::of(name);
        let updates = updates::read(service, &mut reading);
        problems.append(&mut reading.problems);
        if updates.replicas > 0 {
            updates_of.insert(name.as_str(), updates);
        }
    }
    let enabled: BTreeSet<&str> = updates_of.keys().copied().collect();
    let mut drafts = Vec::new();
    for (name, updates) in updates_of {
        let service = &project.canonical.services[name];
        let resolved = mounts::resolve(name, service, around, problems);
        let mut reading = Reading::of(name);
        let allotted = project.preview.as_ref().and_then(|preview| preview.caps.of(name));
        let caps = caps::effective(service, allotted, &context.host, context.cpus, &mut reading);
        let (depends_on, namespace) = graph::edges(service, &enabled, &mut reading);
        let reference = service.image.as_deref().unwrap_or_default();
        let image = images.get(reference).cloned().unwrap_or_else(|| {
            reading.problem(Rule::Later, "image", format!("nothing is known of `{reference}`"));
            ImageFacts::default()
        });
        let mut mounts = resolved.mounts;
        let wrapped = wrapping::wrap(service, &image, &mut mounts, &mut reading);
        let released = released::release(&wrapped, mounts, caps, updates.stop_grace, &mut reading);
        problems.append(&mut reading.problems);
        let secrets = context.secret_sets.get(name).cloned();
        drafts.push(Draft { name, updates, released, image, depends_on, namespace, files: resolved.files, secrets });
    }
    drafts
}

/// What can only be judged when all services are known.
fn judge_together(drafts: &[Draft<'_>], context: &HostContext, problems: &mut Vec<Problem>) {
    let edges = drafts.iter().map(|draft| (draft.name, draft.depends_on.as_slice())).collect();
    problems.extend(graph::cycle(&edges));
    let owners = drafts.iter().filter_map(|draft| Some((draft.name, draft.namespace.as_ref()?))).collect();
    problems.extend(graph::chained_namespaces(&owners));
    for draft in drafts.iter().filter(|draft| draft.updates.order == Order::StartFirst) {
        let mut reading = Reading::of(draft.name);
        for what in shared_by_twins(draft) {
            reading.problem(Rule::StartFirst, "deploy.update_config.order", format!("start-first with {what}"));
        }
        problems.append(&mut reading.problems);
    }
    let caps: BTreeMap<&str, Caps> = drafts.iter().map(|d| (d.name, d.released.caps.clone())).collect();
    problems.extend(caps::missing(&caps, &context.host));
    let shares: Vec<Share<'_>> = drafts
        .iter()
        .map(|draft| Share {
            service: draft.name,
            memory: draft.released.caps.memory.unwrap_or_default(),
            replicas: draft.updates.replicas,
            surge: surge(&draft.updates),
        })
        .collect();
    let room = Room {
        total: context.memory_total,
        reserve: context.host.reserve_memory,
        others: context.memory_of_other_apps,
    };
    problems.extend(caps::admit(&shares, room));
}

/// How many containers run beyond the replicas while the service is replaced.
fn surge(updates: &Updates) -> u32 {
    match (updates.order, updates.parallelism) {
        (Order::StopFirst, _) => 0,
        (Order::StartFirst, 0) => updates.replicas,
        (Order::StartFirst, at_once) => at_once.min(updates.replicas),
    }
}

/// What an old and a new container of the same service cannot both have.
fn shared_by_twins(draft: &Draft<'_>) -> Vec<String> {
    let released = &draft.released;
    let mut shared: Vec<String> = released
        .ports
        .iter()
        .filter_map(released::PortSpec::on_host)
        .map(|port| format!("the host port {port}"))
        .collect();
    if let Some(name) = &released.former_name {
        shared.push(format!("`container_name: {name}`"));
    }
    for mount in released.mounts.iter().filter(|mount| !mount.read_only) {
        match &mount.source {
            Source::Host(path) => shared.push(format!("a writable bind of `{path}`")),
            Source::Volume { key, .. } => shared.push(format!("the writable volume `{key}`")),
            Source::Anonymous => shared.push(format!("a volume at `{}`", mount.target)),
            Source::Tmpfs { .. }
            | Source::Staged(_)
            | Source::Ours(_)
            | Source::Secret { .. }
            | Source::LiveSecrets(_)
            | Source::Program => {}
        }
    }
    let tmpfs = |path: &str| {
        let listed =
            released.plain.get("tmpfs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        listed.map(|entry| entry.split(':').next().unwrap_or(entry)).any(|entry| entry == path)
    };
    let mounted = |path: &str| released.mounts.iter().any(|mount| mount.target == path) || tmpfs(path);
    shared
        .extend(draft.image.volumes.iter().filter(|p| !mounted(p)).map(|path| format!("the image's volume `{path}`")));
    for (network, attachment) in &released.networks {
        if attachment.get("ipv4_address").or(attachment.get("ipv6_address")).is_some() {
            shared.push(format!("a fixed address in `{network}`"));
        }
    }
    if let Some(namespace) = &draft.namespace {
        shared.push(format!("a namespace of `{}`", namespace.owner));
    }
    shared
}

/// Services whose completion somebody waits for.
fn waited_for(drafts: &[Draft<'_>]) -> BTreeSet<String> {
    let edges = drafts.iter().flat_map(|draft| &draft.depends_on);
    edges.filter(|edge| edge.condition == Condition::Completed).map(|edge| edge.service.clone()).collect()
}
