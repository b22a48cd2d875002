//! Where the programs lie that are tested: beside this test program, as `make build` put them there.
//! A test must never build: it would test something else than what was built.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The directory with `landfall`, `landfall-agent` and `landfall-image-watcher`; `LANDFALL_PROGRAMS` names another.
pub fn directory() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("LANDFALL_PROGRAMS") {
        return Ok(named.into());
    }
    own_directory()
}

fn own_directory() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/PROFILE/deps/test-hash, or target/PROFILE/try
    let parent = own.parent().context("this program has no directory")?;
    let up = if parent.ends_with("deps") { parent.parent() } else { Some(parent) };
    Ok(up.context("this program lies at the root")?.to_owned())
}

/// The path of one of our programs.
pub fn find(name: &str) -> Result<PathBuf> {
    present(directory()?.join(name))
}

/// The path of a program that only tests need: beside this one, whatever `LANDFALL_PROGRAMS` says.
pub fn tool(name: &str) -> Result<PathBuf> {
    present(own_directory()?.join(name))
}

fn present(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.is_file(), "`{}` is not there; next: run `make build`", path.display());
    Ok(path)
}

/// The static binary of the sample.
pub fn sample() -> Result<PathBuf> {
    find_static("landfall-sample")
}

/// The static binary of `landfall-exec`, as it is mounted into containers.
pub fn exec() -> Result<PathBuf> {
    find_static("landfall-exec")
}

/// The static build of a program: among those that are tested, else the release for this machine's musl target.
fn find_static(name: &str) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let beside = directory()?.join(name);
    // Beside our own programs lies a build that is not static.
    if directory()? != own_directory()? && beside.is_file() {
        return Ok(beside);
    }
    let own = own_directory()?;
    let root = own.parent().context("the programs have no target directory above them")?;
    present(root.join(target).join("release").join(name))
}

/// The repository's own directory `tests/`.
pub fn tests_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Compose plugin under test: `LANDFALL_COMPOSE`, else the first where the docker client would look.
pub fn compose_plugin() -> Result<PathBuf> {
    match std::env::var_os("LANDFALL_COMPOSE").map(PathBuf::from).filter(|path| path.is_file()) {
        Some(named) => Ok(named),
        None => installed_compose(),
    }
}

/// The one that is not under test: Compose 5 beside the installed one, and the other way round.
pub fn other_compose_plugin() -> Result<PathBuf> {
    let newest = tests_directory().parent().context("no repository")?.join("target/compose-v5/docker-compose");
    ensure!(newest.is_file(), "`{}` is not there; next: run `tools/install-compose-v5.sh`", newest.display());
    if compose_plugin()? == newest { installed_compose() } else { Ok(newest) }
}

/// What others publish with, `oras` or `skopeo`: installed, or built by `tools/install-publishers.sh`.
pub fn publisher(name: &str) -> Result<PathBuf> {
    let built = tests_directory().parent().context("no repository")?.join("target/publishers").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name)).chain([built]);
    places.find(|p| p.is_file()).with_context(|| format!("no `{name}`; next: run `tools/install-publishers.sh`"))
}

/// Prometheus' judge of metrics, rules and queries.
pub fn promtool() -> Result<PathBuf> {
    judge("promtool")
}

/// cloud-init, for its judgement of user-data.
pub fn cloud_init() -> Result<PathBuf> {
    judge("cloud-init")
}

/// What looks for secrets in files.
pub fn gitleaks() -> Result<PathBuf> {
    judge("gitleaks")
}

/// `target/NAME/NAME`, as `tools/install-NAME.sh` puts it there.
fn judge(name: &str) -> Result<PathBuf> {
    let path = tests_directory().parent().context("no repository")?.join("target").join(name).join(name);
    ensure!(path.is_file(), "`{}` is not there; next: run `tools/install-{name}.sh`", path.display());
    Ok(path)
}

fn installed_compose() -> Result<PathBuf> {
    let places = ["/usr/local/lib/docker", "/usr/local/libexec/docker", "/usr/lib/docker", "/usr/libexec/docker"];
    let mut usual = places.iter().map(|place| Path::new(place).join("cli-plugins/docker-compose"));
    usual.find(|path| path.is_file()).context("no Compose plugin; next: run `tools/install-docker.sh`")
}
