//! The arguments of what changes a channel: `publish`, `diff`, `promote`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use landfall_core::config::Channel;

use super::duration;
use crate::image::Image;
use crate::outcome_store::StoreUrl;

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "Credentials: LANDFALL_REGISTRY_USERNAME and LANDFALL_REGISTRY_PASSWORD (for the channel's \
registry only), else the Docker config file (`docker login`).\n\nFiles of `secrets:` are never added.")]
pub struct Publish {
    /// The channel, `registry/repository:tag`.
    #[arg(value_name = "CHANNEL")]
    pub channel: Channel,
    /// A compose file; several merge in order. Without it: `compose.yaml` and the other names that Compose looks for.
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What relative paths are relative to. Without it: the directory of the first compose file.
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// The image of a service, in place of what the file says. Tags are resolved to digests.
    #[arg(long = "image", value_name = "SERVICE=REF", value_parser = service_image)]
    pub images: Vec<(String, Image)>,
    /// An annotation of the manifest. From GITHUB_* where set: `org.opencontainers.image.revision` and `.source`.
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    pub annotations: Vec<(String, String)>,
    /// Publish what another channel has, byte for byte, as `promote` does.
    #[arg(long, value_name = "CHANNEL", conflicts_with_all = ["files", "images", "pointer", "annotations", "project_directory"])]
    pub from: Option<Channel>,
    /// Publish image digests only; the compose file is on the VM. Without `-f` the services are those of `--image`.
    #[arg(long)]
    pub pointer: bool,
    /// Speak HTTP without TLS to the channel's registry. Loopback registries need no such word.
    #[arg(long)]
    pub plain_http: bool,
    /// One JSON object on stdout; with `--wait-url` the outcome on a second line.
    #[arg(long)]
    pub json: bool,
    /// Whether to wait for the outcome.
    #[command(flatten)]
    pub wait: Wait,
}

/// Arguments of those verbs that can wait for what becomes of a release.
#[derive(Debug, Args)]
pub struct Wait {
    /// After publishing, ask URL/RELEASE-ID until it has the outcome: exit code 0 live, 1 rolled back, 3 refused, 4 none in
    /// time, 5 the store does not answer. `LANDFALL_WAIT_TOKEN` is shown to it as a bearer token.
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    pub wait_url: Option<StoreUrl>,
    /// How long to ask, `30s` or `10m`.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m", requires = "wait_url")]
    pub wait_timeout: Duration,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
#[command(
    after_help = "Credentials: LANDFALL_REGISTRY_USERNAME and LANDFALL_REGISTRY_PASSWORD (for the registry of TO only), \
else the Docker config file (`docker login`)."
)]
pub struct Promote {
    /// The channel that has it, `registry/repository:tag`.
    #[arg(value_name = "FROM")]
    pub from: Channel,
    /// The channel that gets it.
    #[arg(value_name = "TO")]
    pub to: Channel,
    /// Speak HTTP without TLS to the registry of TO. Loopback registries need no such word.
    #[arg(long)]
    pub plain_http: bool,
    /// One JSON object on stdout; with `--wait-url` the outcome on a second line.
    #[arg(long)]
    pub json: bool,
    /// Whether to wait for the outcome.
    #[command(flatten)]
    pub wait: Wait,
}

fn service_image(text: &str) -> Result<(String, Image), String> {
    let (service, image) = text.split_once('=').ok_or("expected SERVICE=REF")?;
    if service.is_empty() {
        return Err("the service before `=` is missing".to_owned());
    }
    let image = image.parse().map_err(|error| format!("{error}"))?;
    Ok((service.to_owned(), image))
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key before `=` is missing".to_owned());
    }
    if key.starts_with("io.landfall.") {
        return Err("annotations `io.landfall.*` are set by landfall itself".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}
