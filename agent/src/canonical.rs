//! From files to a [`Project`]: the first pass over the sources, one `config` of the Compose plugin, the typed model, the second
//! pass of policy, and the files that the project refers to. Changes nothing on the machine and needs no daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_core::config::{Host, Preview};
use landfall_core::ids::{AppName, ReleaseId, sha256_hex};
use landfall_core::secrets::SecretNeed;

use crate::compose_plugin::{ComposePlugin, ConfigFailure, ConfigRequest};
use crate::model::{self, Canonical, Text};
use crate::mounts::bind_allowed;
use crate::project_files::ProjectFiles;
use crate::refusal::{Problem, Refusal, Rule};
use crate::{policy, raw_policy, secret_needs};

/// A release as this host understands it, before images are known.
#[derive(Debug, Clone)]
pub struct Project {
    pub(crate) app: AppName,
    pub(crate) release: ReleaseId,
    pub(crate) profiles: Vec<String>,
    pub(crate) vars: BTreeMap<String, String>,
    pub(crate) preview: Option<Preview>,
    pub(crate) canonical: Canonical,
    pub(crate) files: ProjectFiles,
    pub(crate) needs: Vec<SecretNeed>,
    /// sha256 of the compose files where they lie on this machine: then the release does not say what they say.
    pub(crate) on_host: Vec<String>,
}

/// What a project is read from.
#[derive(Debug)]
pub struct Input<'a> {
    /// The compose documents, in merge order.
    pub compose: Vec<PathBuf>,
    /// The files of the project, with its directory.
    pub files: ProjectFiles,
    /// Images that replace those of the file, by service (a pointer document).
    pub images: Option<&'a BTreeMap<String, String>>,
    /// The Compose project's name.
    pub app: &'a AppName,
    /// What was published.
    pub release: ReleaseId,
    /// Profiles that are on.
    pub profiles: &'a [String],
    /// Variables for interpolation.
    pub vars: &'a BTreeMap<String, String>,
    /// Set where the app is a preview.
    pub preview: Option<&'a Preview>,
    /// The host's policy.
    pub host: &'a Host,
}

impl Project {
    /// The image of each service as the release writes it.
    pub fn images(&self) -> BTreeMap<String, String> {
        let image = |service: &model::Service| service.image.as_ref().map_or_else(String::new, |image| image.0.clone());
        self.canonical.services.iter().map(|(name, service)| (name.clone(), image(service))).collect()
    }

    /// What its services need of vaults, in the versions that the release names, mostly none.
    pub fn needs(&self) -> &[SecretNeed] {
        &self.needs
    }
}

/// Reads a project, or says all that is against it. What Compose warned of is added to `warnings` either way.
pub async fn read(plugin: &ComposePlugin, input: Input<'_>, warnings: &mut Vec<String>) -> Result<Project, Refusal> {
    let text = text(plugin, &input, warnings).await?;
    understand(input, &text)
}

/// The canonical model as text: sources that the translator may see, in Compose's words.
pub async fn text(plugin: &ComposePlugin, input: &Input<'_>, warnings: &mut Vec<String>) -> Result<String, Refusal> {
    let root = &input.files.root;
    Refusal::unless_none(raw_policy::judge(&input.compose, root))?;
    let request = ConfigRequest {
        compose: &input.compose,
        project: root,
        app: input.app,
        profiles: input.profiles,
        vars: input.vars,
    };
    match plugin.config(request).await {
        Ok(translated) => {
            warnings.extend(translated.warnings);
            Ok(translated.text)
        }
        Err(failure) => {
            if let ConfigFailure::Refused { warnings: said, .. } = &failure {
                warnings.extend_from_slice(said);
            }
            Err(untranslated(&failure))
        }
    }
}

/// What that text means here, or all that is against it. Reads the files that it refers to.
pub fn understand(input: Input<'_>, text: &str) -> Result<Project, Refusal> {
    let mut canonical = parse(text)?;
    if let Some(images) = input.images {
        override_images(&mut canonical, images)?;
    }
    let mut problems = policy::judge(&canonical, input.app, input.preview, input.host);
    for (name, service) in &canonical.services {
        if service.image.as_deref().is_none_or(str::is_empty) {
            problems.push(Problem::new(Rule::NoImage, "image", "there is none").of(name));
        }
    }
    let mut files = input.files;
    for path in referenced(&canonical) {
        if let Some(title) = files.title(&path) {
            problems.extend(files.load(&title).err());
        } else if let Some(real) = leads_outside(&path, input.host) {
            let what = format!("`{}` is a link to `{}`", path.display(), real.display());
            problems.push(Problem::new(Rule::BindOutside, "volumes", what));
        }
    }
    let needs = secret_needs::of_project(&canonical, &mut problems);
    let on_host = if files.staged { Vec::new() } else { input.compose.iter().map(|path| hash_of(path)).collect() };
    Refusal::unless_none(problems)?;
    Ok(Project {
        on_host,
        app: input.app.clone(),
        release: input.release,
        profiles: input.profiles.to_vec(),
        vars: input.vars.clone(),
        preview: input.preview.cloned(),
        canonical,
        files,
        needs,
    })
}

fn parse(text: &str) -> Result<Canonical, Refusal> {
    let unreadable = |what| Refusal::from(Problem::new(Rule::Unreadable, "services", what));
    let mut documents = raw_policy::parse_documents(text).map_err(unreadable)?;
    let project = documents.pop().unwrap_or_default();
    model::read(project).map_err(|problems| Refusal { problems })
}

fn untranslated(failure: &ConfigFailure) -> Refusal {
    let rule = match failure {
        ConfigFailure::Refused { said, .. } if said.contains("cycle") => Rule::Cycle,
        ConfigFailure::Refused { .. } => Rule::Compose,
        ConfigFailure::Exhausted => Rule::Unreadable,
        ConfigFailure::Later(_) => Rule::Later,
    };
    Problem::new(rule, "compose file", failure.to_string()).into()
}

fn override_images(canonical: &mut Canonical, images: &BTreeMap<String, String>) -> Result<(), Refusal> {
    // A pointer names every service that it can mean; one that this VM does not run is none of its business.
    for (name, service) in &mut canonical.services {
        if let Some(image) = images.get(name) {
            service.image = Some(Text(image.clone()));
        }
    }
    if canonical.services.keys().any(|name| images.contains_key(name)) {
        return Ok(());
    }
    let named = images.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let what = format!("the pointer document names {named}, and none of them runs here");
    Err(Problem::new(Rule::NoImage, "images", what).into())
}

/// Of a file that was just read by the first pass; one that is gone since differs from all.
fn hash_of(path: &Path) -> String {
    std::fs::read(path).map(|bytes| sha256_hex(&bytes)).unwrap_or_default()
}

/// Paths of the machine that the project refers to.
fn referenced(canonical: &Canonical) -> Vec<PathBuf> {
    let binds = canonical.services.values().flat_map(|service| &service.volumes);
    let binds = binds.filter(|mount| &*mount.r#type == "bind").filter_map(|mount| mount.source.as_deref());
    let devices =
        canonical.volumes.values().filter_map(|volume| volume.driver_opts.get("device")).map(|device| &**device);
    let configs = canonical.configs.values().filter_map(|config| config.file.as_deref());
    let mut paths: Vec<PathBuf> = binds.chain(configs).chain(devices).map(|path| Path::new(path).to_owned()).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Where an allowed path really leads, if that is not allowed: a container that can write to a bound directory can plant a link
/// there for the next release to bind. Looks at the machine; what does not exist leads nowhere.
fn leads_outside(path: &Path, host: &Host) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let real_roots = host.allow_binds.iter().filter_map(|root| Path::new(root).canonicalize().ok());
    let allow_binds = real_roots.map(|root| root.to_string_lossy().into_owned()).collect();
    let allowed = bind_allowed(&real.to_string_lossy(), &Host { allow_binds, ..host.clone() });
    (bind_allowed(&path.to_string_lossy(), host) && !allowed).then_some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_an_allowed_directory_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (inside, link) = (directory.path().join("inside"), directory.path().join("link"));
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let host = Host { allow_binds: vec![directory.path().to_string_lossy().into_owned()], ..Host::default() };
        assert_eq!(leads_outside(&link, &host), Some("/etc".into()));
        assert_eq!(leads_outside(&inside, &host), None);
        assert_eq!(leads_outside(&directory.path().join("missing"), &host), None);
    }
}
