//! The glue of `landfall publish`: read, refuse what cannot be carried, resolve images, push blobs, the manifest by its
//! digest, then the tag. The tag is last: until then nobody sees anything, and a failure anywhere leaves the channel as
//! it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use landfall_core::config::Channel;
use landfall_core::ids::{Digest, ReleaseId, release_id_of_images};
use serde::Serialize;

use crate::arguments::Publish;
use crate::bundle::{self, Bundle, DOCUMENT_LIMIT, Document};
use crate::compose::{self, View};
use crate::credentials::{self, DockerConfig};
use crate::failure::{Exit, Failed};
use crate::files::Disk;
use crate::flatten;
use crate::image::{Image, with_defaults};
use crate::manifest::{self, EMPTY, Publication};
use crate::registry::Registries;
use crate::wait::{self, Waiter};
use crate::{promote, terminal};

/// What Compose looks for, in its order.
const COMPOSE_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// What Compose would merge by itself, and a release does not.
const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yml", "docker-compose.override.yaml"];
/// How many blobs are pushed at once.
const PUSHES: usize = 4;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Published<'a> {
    channel: String,
    release: &'a ReleaseId,
    digest: &'a Digest,
    sequence: u64,
    images: &'a BTreeMap<String, String>,
}

/// Publishes, and prints the release id and the digest.
pub async fn run(arguments: &Publish) -> Result<Exit, Failed> {
    let channel = &arguments.channel;
    let waiter = Waiter::new(&arguments.wait, variable)?;
    if let Some(from) = &arguments.from {
        return promote::copy(from, channel, arguments.plain_http, arguments.json, waiter).await;
    }
    let project =
        if arguments.pointer && arguments.files.is_empty() { None } else { Some(Project::read(arguments).await?) };
    let mut registries = registries(channel, arguments.plain_http)?;
    let (images, digests) = resolve(project.as_ref().map(|p| &p.view), arguments, &mut registries).await?;

    let now = jiff::Timestamp::now();
    let sequence = sequence(now);
    let publication = Publication { channel, sequence, annotations: provenance(now, variable, &arguments.annotations) };
    let (release, blobs, manifest) = match project {
        Some(project) if !arguments.pointer => {
            let mut bundle = project.bundle;
            bundle.pin(&images);
            bundle.check_limits()?;
            tell(&bundle, &images);
            let manifest = manifest::of_bundle(&bundle.layers, &publication);
            (bundle.release_id(), bundle.layers.into_iter().map(|l| l.bytes).collect(), manifest)
        }
        _ => {
            tell(&Bundle::default(), &images);
            let document = manifest::pointer(&images, &publication.annotations);
            let manifest = manifest::of_pointer(&document, &publication);
            let release = release_id_of_images(digests.iter().map(|(service, digest)| (service.as_str(), digest)));
            (release, vec![document], manifest)
        }
    };
    let digest = Digest::of(&manifest);
    push(&mut registries, channel, blobs, &manifest, &digest).await?;
    let published =
        Published { channel: channel.to_string(), release: &release, digest: &digest, sequence, images: &images };
    if arguments.json {
        terminal::out(&format!("{}\n", serde_json::json!(published)));
    } else {
        terminal::out(&format!("release {release}\ndigest {digest}\n"));
    }
    eprintln!("published release {} to {channel}", release.short());
    match waiter {
        Some(waiter) => waiter.wait(&wait::Publication { release, sequence, at: now }, arguments.json).await,
        None => Ok(Exit::Done),
    }
}

/// The registries of a publication to this channel, with what we are to each.
pub fn registries(channel: &Channel, plain_http: bool) -> Result<Registries, Failed> {
    let own = credentials::from_environment(variable)?;
    let docker =
        credentials::config_path(variable).map_or_else(|| Ok(DockerConfig::default()), |p| DockerConfig::load(&p))?;
    Ok(Registries::new(&channel.registry, own, plain_http, docker))
}

/// Must not go down within a channel.
pub fn sequence(now: jiff::Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or_default()
}

/// What would be published, and the image of each service by digest: for comparison, nothing is pushed.
pub async fn collect(
    arguments: &Publish,
    registries: &mut Registries,
) -> Result<(Bundle, BTreeMap<String, String>), Failed> {
    let project = Project::read(arguments).await?;
    let (images, _) = resolve(Some(&project.view), arguments, registries).await?;
    Ok((project.bundle, images))
}

/// The image of each service by digest, and that digest.
async fn resolve(
    view: Option<&View>,
    arguments: &Publish,
    registries: &mut Registries,
) -> Result<(BTreeMap<String, String>, BTreeMap<String, Digest>), Failed> {
    let (mut images, mut digests) = (BTreeMap::new(), BTreeMap::new());
    for (service, image) in wanted_images(view, &arguments.images)? {
        let digest = registries.resolve(&service, &image).await?;
        images.insert(service.clone(), image.pinned(&digest));
        digests.insert(service, digest);
    }
    Ok((images, digests))
}

/// Blobs, then the manifest by its digest, then the tag: until then nobody sees anything.
pub async fn push(
    registries: &mut Registries,
    channel: &Channel,
    mut blobs: Vec<Vec<u8>>,
    manifest: &[u8],
    digest: &Digest,
) -> Result<(), Failed> {
    let repository = registries.open(&channel.repository).await?;
    blobs.push(EMPTY.to_vec());
    // Equal files are one blob.
    blobs.sort_unstable();
    blobs.dedup();
    let repository = &repository;
    stream::iter(blobs.iter().map(|blob| repository.push_blob(blob)))
        .buffer_unordered(PUSHES)
        .try_collect::<()>()
        .await?;
    repository.push_manifest(digest.as_str(), manifest).await?;
    repository.push_manifest(&channel.tag, manifest).await
}

/// What is on this disk.
struct Project {
    view: View,
    bundle: Bundle,
}

impl Project {
    async fn read(arguments: &Publish) -> Result<Self, Failed> {
        let files = if arguments.files.is_empty() { default_files(arguments)? } else { arguments.files.clone() };
        let directory = match &arguments.project_directory {
            Some(directory) => directory.clone(),
            None => files.first().and_then(|f| f.parent()).map(Path::to_owned).unwrap_or_default(),
        };
        let directory = fs::canonicalize(if directory.as_os_str().is_empty() { Path::new(".") } else { &directory })
            .map_err(|error| {
                Failed::usage(format!("cannot use the project directory `{}`: {error}", directory.display()))
            })?;
        let mut documents = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let mut view = compose::read(&documents)?;
        if let Some(why) = &view.composed {
            let document = flatten::flatten(flatten::plugin(variable), &files, &directory, why).await?;
            eprintln!("{why}: the files were made one by the Compose plugin");
            documents = vec![document];
            view = compose::read(&documents)?;
        }
        view.secrets_below(&directory);
        let bundle = bundle::collect(documents, &view, &Disk::new(directory))?;
        Ok(Self { view, bundle })
    }
}

fn default_files(arguments: &Publish) -> Result<Vec<PathBuf>, Failed> {
    let directory = arguments.project_directory.clone().unwrap_or_default();
    let first = |names: [&str; 4]| names.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    let found = first(COMPOSE_NAMES).ok_or_else(|| {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        Failed::usage(format!("there is no `compose.yaml` in `{}`", here.display()))
            .next("name the compose file with `-f`")
    })?;
    if let Some(left_out) = first(OVERRIDE_NAMES) {
        eprintln!("`{}` is not published; name it with `-f` after the first if it should be", left_out.display());
    }
    Ok(vec![found])
}

fn read(path: &Path) -> Result<Document, Failed> {
    let cannot = |error: std::io::Error| {
        Failed::usage(format!("cannot read `{}`: {error}", path.display()))
            .next("name the compose file with `--file`, and check that you may read it")
    };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(cannot)?.take(DOCUMENT_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > DOCUMENT_LIMIT {
        return Err(Failed::usage(format!("`{}` is larger than {} KiB", path.display(), DOCUMENT_LIMIT >> 10))
            .next("a compose document is small; move data into files or images"));
    }
    let title = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Document { title, bytes })
}

/// The image of each service: what `--image` says, else what the file says, with the defaults of its variables.
fn wanted_images(view: Option<&View>, given: &[(String, Image)]) -> Result<BTreeMap<String, Image>, Failed> {
    let mut images: BTreeMap<String, Image> = BTreeMap::new();
    for (service, image) in given {
        if let Some(view) = view
            && !view.services.contains_key(service)
        {
            let names: Vec<String> = view.services.keys().map(|name| format!("`{name}`")).collect();
            return Err(Failed::usage(format!("`--image {service}=…`: the compose files have no such service"))
                .next(format!("use one of {}", names.join(", "))));
        }
        if images.insert(service.clone(), image.clone()).is_some() {
            return Err(Failed::usage(format!("`--image {service}=…` is given twice")));
        }
    }
    let mut problems = Vec::new();
    for (name, service) in
        view.into_iter().flat_map(|v| &v.services).filter(|(name, _)| !images.contains_key(*name)).collect::<Vec<_>>()
    {
        let Some(written) = &service.image else {
            let what = if service.build { "has a `build` and no image" } else { "has no image" };
            problems.push(format!("service `{name}` {what}"));
            continue;
        };
        let image = with_defaults(written)
            .map_err(|variable| format!("depends on `{variable}`, which only the VM knows"))
            .and_then(|text| text.parse::<Image>().map_err(|error| error.to_string()));
        match image {
            Ok(image) => drop(images.insert(name.clone(), image)),
            Err(why) => problems.push(format!("service `{name}`, image `{written}`: {why}")),
        }
    }
    if !problems.is_empty() {
        return Err(
            Failed::usage(problems.join("\n")).next("name the image: `--image SERVICE=registry/repository:tag`")
        );
    }
    if images.is_empty() {
        return Err(Failed::usage("a pointer document names at least one image")
            .next("give `--image SERVICE=REF`, or the compose file with `-f`"));
    }
    Ok(images)
}

/// Annotations for people: when, and where GitHub Actions says from what.
fn provenance(
    now: jiff::Timestamp,
    get: impl Fn(&str) -> Option<String>,
    given: &[(String, String)],
) -> BTreeMap<String, String> {
    let get = |name: &str| get(name).filter(|v| !v.is_empty());
    let mut annotations = BTreeMap::new();
    annotations.insert("org.opencontainers.image.created".to_owned(), format!("{now:.3}"));
    if let Some(revision) = get("GITHUB_SHA") {
        annotations.insert("org.opencontainers.image.revision".to_owned(), revision);
    }
    if let Some(repository) = get("GITHUB_REPOSITORY") {
        let server = get("GITHUB_SERVER_URL").unwrap_or_else(|| "https://github.com".to_owned());
        annotations.insert("org.opencontainers.image.source".to_owned(), format!("{server}/{repository}"));
    }
    annotations.extend(given.iter().cloned());
    annotations
}

/// Shows what will be pushed.
fn tell(bundle: &Bundle, images: &BTreeMap<String, String>) {
    for layer in &bundle.layers {
        eprintln!(
            "  {:<7} {} {:>6}  {}",
            layer.kind.word(),
            layer.mode(),
            terminal::size(layer.bytes.len() as u64),
            layer.title
        );
    }
    for (service, image) in images {
        eprintln!("  image   {service}: {image}");
    }
}

/// A variable of the environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests;
