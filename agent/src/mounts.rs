//! Turns the mounts and configs of a service into where their content really is: a file by content, a named volume, an
//! allowed path of the host. Pure. A relative path means a file of the release, or it is refused: a fresh empty directory in place of data
//! is how databases get lost.

use std::path::{Component, Path};

use landfall_core::config::Host;
use landfall_core::ids::Digest;
use landfall_core::secrets::SecretNeed;
use serde::Serialize;

use crate::model::{BindOptions, Config, ConfigUse, Mount, Service};
use crate::project_files::{Found, ProjectFiles, content_dir, directory_id};
use crate::reading::Reading;
use crate::refusal::{Problem, Rule};
use crate::spec::ServiceSecrets;
use crate::{on_rotate, secret_needs};

/// Sockets that make whoever holds them root: a directory above them in `allow_binds` does not allow them.
const SOCKETS: &[&str] = &["docker.sock", "containerd.sock", "podman.sock", "crio.sock"];

/// A mount of the released service; what the spec hash sees of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MountSpec {
    /// Where in the container.
    pub target: String,
    /// What is there.
    pub source: Source,
    /// Whether the container can write to it. Content of the release never is writable: others share it.
    pub read_only: bool,
}

/// Where the content of a mount is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the watcher's store: `<content dir>/<name>`.
    Staged(String),
    /// In the agent's store: `<content dir>/<name>`, or a directory's id.
    Ours(String),
    /// A path of the host that the host allows.
    Host(String),
    /// A volume of the project, by key.
    Volume {
        /// Its key.
        key: String,
        /// Does not copy what the image has there.
        nocopy: bool,
        /// Only this directory of it.
        subpath: Option<String>,
    },
    /// A volume without a name.
    Anonymous,
    /// A file of the service's set of secrets.
    Secret {
        /// Which set: another one is another container.
        set: String,
        /// The file.
        name: String,
    },
    /// The service's live directory of secrets, whole: a rotation is no other container.
    LiveSecrets(String),
    /// landfall-exec, as it is on this machine.
    Program,
    /// Memory.
    Tmpfs {
        /// In bytes.
        size: Option<u64>,
        /// Octal.
        mode: Option<String>,
    },
}

/// A file that the agent lays down before containers are created.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnFile {
    /// Below the agent's store.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// 0444 or 0555.
    pub mode: u32,
}

/// What a service mounts, and what must be laid down for it.
#[derive(Debug, Default)]
pub struct Mounts {
    /// Sorted by target.
    pub mounts: Vec<MountSpec>,
    /// For the agent's store.
    pub files: Vec<OwnFile>,
}

/// What mounts are resolved against.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The definitions of `configs`.
    pub configs: &'a std::collections::BTreeMap<String, Config>,
    /// The files of the project.
    pub files: &'a ProjectFiles,
    /// The host's policy.
    pub host: &'a Host,
    /// Variables, for configs that are one.
    pub vars: &'a std::collections::BTreeMap<String, String>,
    /// The sets of secrets that there are, by service.
    pub secret_sets: &'a std::collections::BTreeMap<String, ServiceSecrets>,
    /// What services need of vaults.
    pub needs: &'a [SecretNeed],
}

/// Resolves all mounts of a service.
pub fn resolve(name: &str, service: &Service, around: Surroundings<'_>, problems: &mut Vec<Problem>) -> Mounts {
    let mut reading = Reading::of(name);
    let mut mounts = Mounts::default();
    for mount in &service.volumes {
        if !mount.target.starts_with('/') {
            let what = "the target is not an absolute path; a volume's name needs two characters or more";
            reading.problem(Rule::BadValue, &format!("volumes[{}]", mount.target), what);
            continue;
        }
        if let Some(source) = resolve_mount(mount, around, &mut mounts.files, &mut reading) {
            let content = matches!(source, Source::Staged(_) | Source::Ours(_));
            let read_only = mount.read_only || content;
            mounts.mounts.push(MountSpec { target: mount.target.0.clone(), source, read_only });
        }
    }
    for config in &service.configs {
        if let Some(source) = resolve_config(config, around, &mut mounts.files, &mut reading) {
            let target = config.target.as_ref().filter(|t| !t.is_empty());
            let target = target.map_or_else(|| format!("/{}", config.source), |t| absolute(t));
            mounts.mounts.push(MountSpec { target, source, read_only: true });
        }
    }
    let set = around.secret_sets.get(name).map_or(secret_needs::NO_SET, |secrets| &secrets.set);
    let live = around.needs.iter().find(|need| need.service == name).and_then(|need| need.live.clone());
    if let Some(directory) = &live {
        let source = Source::LiveSecrets(directory.clone());
        mounts.mounts.push(MountSpec { target: on_rotate::DIRECTORY.to_owned(), source, read_only: true });
    }
    for secret in service.secrets.iter().filter(|_| live.is_none()) {
        let (set, file) = (set.to_owned(), secret.source.0.clone());
        let target = secret_needs::target(secret);
        mounts.mounts.push(MountSpec { target, source: Source::Secret { set, name: file }, read_only: true });
    }
    problems.append(&mut reading.problems);
    mounts.mounts.sort();
    mounts.files.sort();
    mounts.files.dedup();
    mounts
}

fn absolute(target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
}

fn resolve_mount(
    mount: &Mount,
    around: Surroundings<'_>,
    files: &mut Vec<OwnFile>,
    reading: &mut Reading<'_>,
) -> Option<Source> {
    let key = format!("volumes[{}]", mount.target);
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    match (&*mount.r#type, source) {
        ("bind", Some(path)) => {
            refuse_bind_options(&key, mount.bind.as_ref(), reading);
            match around.files.title(Path::new(path)) {
                Some(title) => of_release(&title, &key, around.files, files, reading),
                None => of_host(path, &key, around.host, reading),
            }
        }
        ("volume", named) => {
            let options = mount.volume.clone().unwrap_or_default();
            if !options.labels.is_empty() {
                reading.problem(Rule::NotSupported, &key, "labels of an anonymous volume");
            }
            let Some(volume) = named else { return Some(Source::Anonymous) };
            let subpath = options.subpath.map(|path| path.0);
            Some(Source::Volume { key: volume.to_owned(), nocopy: options.nocopy, subpath })
        }
        ("tmpfs", _) => {
            let options = mount.tmpfs.clone().unwrap_or_default();
            let size = reading.size(&key, options.size.as_ref());
            Some(Source::Tmpfs { size, mode: options.mode.and_then(|mode| octal(&key, &mode, reading)) })
        }
        (other, _) => {
            reading.problem(Rule::NotSupported, &key, format!("a mount of type `{other}`"));
            None
        }
    }
}

fn refuse_bind_options(key: &str, options: Option<&BindOptions>, reading: &mut Reading<'_>) {
    let Some(options) = options else { return };
    // `create_host_path` is ours to say: a missing path is an error, never an empty directory.
    for (name, value) in
        [("propagation", &options.propagation), ("selinux", &options.selinux), ("recursive", &options.recursive)]
    {
        if let Some(value) = value.as_ref().filter(|value| !matches!(&***value, "" | "rprivate")) {
            reading.problem(Rule::BindOption, key, format!("`{name}: {value}`"));
        }
    }
}

fn of_release(
    title: &str,
    key: &str,
    project: &ProjectFiles,
    files: &mut Vec<OwnFile>,
    reading: &mut Reading<'_>,
) -> Option<Source> {
    match project.find(title) {
        Found::File(file) => {
            let name = title.rsplit('/').next().unwrap_or(title);
            let path = format!("{}/{name}", content_dir(&file.digest, file.executable));
            if project.staged {
                return Some(Source::Staged(path));
            }
            files.push(own(path.clone(), file.bytes.clone().unwrap_or_default(), file.executable));
            Some(Source::Ours(path))
        }
        Found::Directory(below) => {
            let id = directory_id(&below);
            for (inside, file) in below {
                files.push(own(format!("{id}/{inside}"), file.bytes.clone().unwrap_or_default(), file.executable));
            }
            Some(Source::Ours(id))
        }
        Found::Nothing => {
            let title = if title.is_empty() { "." } else { title };
            reading.problem(Rule::BindNotInBundle, key, format!("`./{title}` is not among the files of the release"));
            None
        }
    }
}

fn of_host(path: &str, key: &str, host: &Host, reading: &mut Reading<'_>) -> Option<Source> {
    if bind_allowed(path, host) {
        return Some(Source::Host(path.to_owned()));
    }
    if is_socket(path) {
        reading.problem(Rule::DockerSocket, key, format!("`{path}` is a container engine's socket"));
    } else if path.contains("/~") {
        reading.problem(Rule::BindOutside, key, "`~` is a person's home directory; there is none here");
    } else {
        reading.problem(Rule::BindOutside, key, format!("`{path}` is a path of the host"));
    }
    None
}

fn is_socket(path: &str) -> bool {
    Path::new(path).file_name().is_some_and(|name| SOCKETS.iter().any(|socket| name == *socket))
}

/// Whether landfall.yaml allows this path of the host: itself, or a directory above it (a socket: itself only).
pub fn bind_allowed(path: &str, host: &Host) -> bool {
    let path = Path::new(path);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return false;
    }
    let socket = is_socket(&path.to_string_lossy());
    host.allow_binds.iter().map(Path::new).any(|root| if socket { path == root } else { path.starts_with(root) })
}

fn resolve_config(
    config: &ConfigUse,
    around: Surroundings<'_>,
    files: &mut Vec<OwnFile>,
    reading: &mut Reading<'_>,
) -> Option<Source> {
    let key = format!("configs.{}", config.source);
    for (name, id) in [("uid", &config.uid), ("gid", &config.gid)] {
        if id.as_ref().is_some_and(|id| !matches!(&**id, "" | "0")) {
            reading.problem(Rule::NotSupported, &key, format!("`{name}`: every user of the container can read it"));
        }
    }
    let executable = match config.mode.as_ref().map(|mode| octal(&key, mode, reading)).map(Option::unwrap_or_default) {
        None => false,
        Some(mode) => mode.trim_start_matches('0').bytes().next().is_some_and(|owner| owner & 1 == 1),
    };
    let Some(definition) = around.configs.get(&*config.source) else {
        reading.problem(Rule::BadValue, &key, "there is no such config");
        return None;
    };
    let content = definition.content.clone().or_else(|| {
        let variable = definition.environment.as_ref()?;
        Some(around.vars.get(&**variable).cloned().unwrap_or_default())
    });
    if let Some(content) = content {
        let bytes = content.into_bytes();
        let path = format!("{}/{}", content_dir(&Digest::of(&bytes), executable), config.source);
        files.push(own(path.clone(), bytes, executable));
        return Some(Source::Ours(path));
    }
    let Some(file) = &definition.file else {
        reading.problem(Rule::NotSupported, &key, "a config without `file` or `content`");
        return None;
    };
    match around.files.title(Path::new(&**file)) {
        Some(title) => of_release(&title, &key, around.files, files, reading),
        None => of_host(file, &key, around.host, reading),
    }
}

/// A file mode as Compose writes it: `"0440"`, or 288 for the same.
fn octal(key: &str, mode: &str, reading: &mut Reading<'_>) -> Option<String> {
    let radix = if mode.starts_with('0') && mode.len() > 1 { 8 } else { 10 };
    let Ok(mode) = u32::from_str_radix(mode.trim_start_matches("0o"), radix) else {
        reading.problem(Rule::BadValue, key, format!("`{mode}` is not a file mode"));
        return None;
    };
    Some(format!("{mode:04o}"))
}

fn own(path: String, bytes: Vec<u8>, executable: bool) -> OwnFile {
    OwnFile { path, bytes, mode: if executable { 0o555 } else { 0o444 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_binds_are_roots_and_sockets_only_themselves() {
        let host = Host { allow_binds: vec!["/srv/data".into(), "/run".into()], ..Host::default() };
        for (path, allowed) in [
            ("/srv/data", true),
            ("/srv/data/db", true),
            ("/srv/database", false),
            ("/srv/data/../../etc", false),
            ("/run/x", true),
            ("/run/docker.sock", false),
            ("srv/data", false),
        ] {
            assert_eq!(bind_allowed(path, &host), allowed, "{path}");
        }
        let named = Host { allow_binds: vec!["/run/docker.sock".into()], ..Host::default() };
        assert!(bind_allowed("/run/docker.sock", &named));
    }

    #[test]
    fn modes_of_both_compose_generations_are_the_same() {
        let mut reading = Reading::of("web");
        assert_eq!(octal("k", "288", &mut reading), octal("k", "0440", &mut reading));
        assert_eq!(octal("k", "0555", &mut reading).as_deref(), Some("0555"));
        assert_eq!(octal("k", "x", &mut reading), None);
    }
}
