//! What `verify` and `support-bundle` ask of the Docker Engine, as root: looks, and one probe that leaves nothing behind. It changes no
//! container of anybody, and every call has a deadline.

mod probe;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use landfall_core::image_store;

use crate::failure::chain;

pub use probe::{Answer, Probed};

/// The label that our containers carry.
const LABEL: &str = "io.landfall.app";
/// Docker's own socket, and what names another, as `unix:///path` or a path.
const SOCKET: &str = "/var/run/docker.sock";
const SOCKET_VARIABLE: &str = "LANDFALL_DOCKER_HOST";
/// No call takes longer.
const CALL: Duration = Duration::from_secs(15);

/// A connection to the Engine.
#[derive(Debug)]
pub struct Engine {
    docker: Docker,
}

/// What it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineFacts {
    /// `26.1.5` and the like.
    pub version: String,
    /// Where it keeps all that it has, images apart where containerd has them.
    pub root_directory: PathBuf,
    /// containerd's directory, where images are in it.
    pub images: Option<PathBuf>,
    /// Whether containers run on while it restarts.
    pub live_restore: bool,
    /// What logs of containers go to.
    pub logging_driver: String,
    /// Whether a slice can be a parent of containers.
    pub systemd_cgroups: bool,
}

/// Why the Engine said nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEngine {
    /// We may not ask it.
    #[error("{0}")]
    Forbidden(String),
    /// It does not answer, or is not there.
    #[error("{0}")]
    Silent(String),
}

impl Engine {
    /// A client of this machine's Engine; connects at the first call.
    pub fn of_this_machine() -> Result<Self, NoEngine> {
        let named = std::env::var(SOCKET_VARIABLE).ok().filter(|named| !named.is_empty());
        let socket = named.as_deref().map_or(SOCKET, |named| named.trim_start_matches("unix://"));
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(NoEngine::Forbidden(format!("`{socket}` may not be used: run it with `sudo`")));
            }
            Err(error) => return Err(NoEngine::Silent(format!("no Docker Engine at `{socket}`: {error}"))),
        }
        let docker = Docker::connect_with_socket(socket, CALL.as_secs(), API_DEFAULT_VERSION);
        docker.map(|docker| Self { docker }).map_err(|error| NoEngine::Silent(chain(&error)))
    }

    /// What it says of itself.
    pub async fn facts(&self) -> Result<EngineFacts, NoEngine> {
        let info = within(self.docker.info()).await.map_err(NoEngine::Silent)?;
        let containerd = info.containerd.as_ref().and_then(|containerd| containerd.address.as_deref());
        let images = image_store::of_containerd(info.driver_status.as_deref(), containerd);
        Ok(EngineFacts {
            version: info.server_version.unwrap_or_default(),
            root_directory: info.docker_root_dir.unwrap_or_default().into(),
            images: images.map(PathBuf::from),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            logging_driver: info.logging_driver.unwrap_or_default(),
            systemd_cgroups: info.cgroup_driver.is_some_and(|driver| driver.to_string() == "systemd"),
        })
    }

    /// Our containers, stopped ones too, by name.
    pub async fn containers(&self) -> Result<Vec<ContainerInspectResponse>, String> {
        let filters = HashMap::from([("label", vec![LABEL.to_owned()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let mut found = Vec::new();
        for listed in within(self.docker.list_containers(Some(options))).await? {
            // One may go away between the list and the look.
            if let Ok(look) = within(self.docker.inspect_container(&listed.id.unwrap_or_default(), None)).await {
                found.push(look);
            }
        }
        found.sort_by_key(name_of);
        Ok(found)
    }
}

/// Its name without the slash.
pub fn name_of(container: &ContainerInspectResponse) -> String {
    container.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned()
}

async fn within<T>(call: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, String> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("the Docker Engine did not answer within {} s", CALL.as_secs())),
    }
}
