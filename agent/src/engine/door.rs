//! The way to the Engine: its socket may come after the agent (Docker is installed later), and the Engine may be too old. What is missing is
//! said with what to install; the agent runs all the same.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bollard::{API_DEFAULT_VERSION, Docker};

use super::pull;

/// The oldest Engine that is tested, and supported.
pub const OLDEST_ENGINE: (u32, u32) = (26, 1);

/// There on every machine, and never a Docker socket: whoever connects is refused.
const NOWHERE: &str = "/dev/null";

/// The client, once there is a socket.
#[derive(Debug, Clone)]
pub struct Door {
    socket: PathBuf,
    open: OnceCell<Docker>,
    nowhere: Docker,
}

impl Door {
    /// Connects at the first call.
    pub fn new(socket: &Path) -> Result<Self> {
        let nowhere = client(Path::new(NOWHERE)).context("cannot make a client of the Docker Engine")?;
        Ok(Self { socket: socket.to_owned(), open: OnceCell::new(), nowhere })
    }

    /// The client; one that reaches nobody where there is no socket yet.
    pub fn docker(&self) -> &Docker {
        if let Some(docker) = self.open.get() {
            return docker;
        }
        match client(&self.socket) {
            Ok(docker) => self.open.get_or_init(|| docker),
            Err(_) => &self.nowhere,
        }
    }

    /// Says what to install where there is no socket.
    pub fn is_there(&self) -> Result<()> {
        if self.socket.exists() {
            return Ok(());
        }
        let (major, minor) = OLDEST_ENGINE;
        bail!(
            "there is no Docker socket `{}`; next: install Docker Engine {major}.{minor} or newer with Compose 2.26 or newer \
             (docs.docker.com/engine/install, or `apt install docker.io docker-compose` on Debian 13), or `systemctl start docker`",
            self.socket.display()
        )
    }
}

/// What is wrong with an Engine of that version.
pub fn too_old(version: &str) -> Option<String> {
    let (major, minor) = OLDEST_ENGINE;
    (numbers(version)? < OLDEST_ENGINE).then(|| {
        format!(
            "Docker Engine {version} is too old: {major}.{minor} or newer is needed; next: upgrade it (docs.docker.com/engine/install)"
        )
    })
}

/// `26.1.5+dfsg1` and the like to the first two numbers.
pub fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The client's own timeout is the longest of ours: each call brings its deadline.
fn client(socket: &Path) -> Result<Docker> {
    let path = socket.to_str().context("the path of the Docker socket is not UTF-8")?;
    Ok(Docker::connect_with_socket(path, pull::PULL.as_secs(), API_DEFAULT_VERSION)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_socket_nobody_answers_and_it_says_what_to_install() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("docker.sock");
        let door = Door::new(&socket).unwrap();
        assert!(door.docker().ping().await.is_err());
        assert!(door.is_there().unwrap_err().to_string().contains("install Docker Engine 26.1"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        door.is_there().unwrap();
        door.docker();
        assert!(door.open.get().is_some(), "what came later is used");
    }

    #[test]
    fn an_engine_is_judged_by_its_first_two_numbers() {
        for (version, old) in [
            ("26.1.5+dfsg1", false),
            ("20.10.24+dfsg1", true),
            ("26.0.2", true),
            ("28.2.2", false),
            ("dev", false),
            ("", false),
        ] {
            assert_eq!(too_old(version).is_some(), old, "{version}");
        }
    }
}
