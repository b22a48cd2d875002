//! The Engine's API as the judge reads it: an HTTP client of our own on the socket, nothing shared with the agent.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_sample::http;
use serde::Deserialize;
use serde_json::Value;

const ANSWER: Duration = Duration::from_mins(1);

/// The label by which Compose and we know a project.
pub const PROJECT: &str = "com.docker.compose.project";
/// The label with a service's name.
pub const SERVICE: &str = "com.docker.compose.service";

/// An Engine behind a socket.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

/// A container, as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// With a leading `/`.
    pub names: Vec<String>,
    /// As the container was created with: by digest where the agent did it.
    pub image: String,
    /// `running`, `exited`, `created`, …
    pub state: String,
    /// For people, with the health in brackets.
    pub status: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
}

impl Container {
    /// The service it belongs to; empty where it belongs to none.
    pub fn service(&self) -> &str {
        self.labels.get(SERVICE).map_or("", String::as_str)
    }
}

impl Engine {
    /// The Engine of this machine, or the one that `DOCKER_HOST` names by a socket.
    pub fn of_this_machine() -> Self {
        let named = std::env::var("DOCKER_HOST").ok();
        let socket = named.as_deref().and_then(|host| host.strip_prefix("unix://")).unwrap_or("/var/run/docker.sock");
        Self { socket: socket.into() }
    }

    /// A connection, for callers that read a stream.
    pub fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket).with_context(|| {
            format!("no Docker Engine at `{}`; next: run `tools/start-docker.sh`", self.socket.display())
        })?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(stream)
    }

    /// One call; an answer of 400 or more is an error with the Engine's words.
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let headers = [("Host", "docker"), ("Content-Type", "application/json")];
        let answer = http::exchange(self.connect()?, (method, target), &headers, body.as_bytes())
            .with_context(|| format!("{method} {target}"))?;
        if answer.status >= 400 {
            bail!("{method} {target}: {} {}", answer.status, answer.text().trim());
        }
        if answer.body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer.body)?) }
    }

    /// All containers of a project, stopped ones too.
    pub fn containers(&self, project: &str) -> Result<Vec<Container>> {
        let filter = serde_json::json!({ "label": [format!("{PROJECT}={project}")] });
        self.list(&format!("/containers/json?all=1&filters={}", escape(&filter.to_string())))
    }

    /// Pauses the running containers of a project, so that neither they nor their health checks take part, or lets them go on.
    pub fn pause(&self, project: &str, paused: bool) -> Result<()> {
        let (from, verb) = if paused { ("running", "pause") } else { ("paused", "unpause") };
        for container in self.containers(project)?.iter().filter(|container| container.state == from) {
            self.call("POST", &format!("/containers/{}/{verb}", container.id), None)?;
        }
        Ok(())
    }

    /// All running containers of the machine.
    pub fn running(&self) -> Result<Vec<Container>> {
        self.list("/containers/json")
    }

    fn list(&self, target: &str) -> Result<Vec<Container>> {
        let mut found: Vec<Container> = serde_json::from_value(self.call("GET", target, None)?)?;
        found.sort();
        Ok(found)
    }

    /// The one running container of a service.
    pub fn serving(&self, project: &str, service: &str) -> Result<Container> {
        let mut running: Vec<Container> = self.containers(project)?;
        running.retain(|container| container.service() == service && container.state == "running");
        ensure!(running.len() == 1, "`{service}` has {} running containers", running.len());
        running.pop().context("no container")
    }

    /// Where it keeps all that it has.
    pub fn data_root(&self) -> Result<PathBuf> {
        let info = self.call("GET", "/info", None)?;
        Ok(info["DockerRootDir"].as_str().context("no `DockerRootDir`")?.into())
    }

    /// Where it keeps images and what containers write: containerd's directory where that has them.
    pub fn image_root(&self) -> Result<PathBuf> {
        let info = self.call("GET", "/info", None)?;
        let is_containerds = info["DriverStatus"].to_string().contains("io.containerd.snapshotter");
        if is_containerds { Ok("/var/lib/containerd".into()) } else { self.data_root() }
    }

    /// The ids of the running containers by service; a service with several has the last.
    pub fn serving_ids(&self, project: &str) -> Result<BTreeMap<String, String>> {
        let running = self.containers(project)?.into_iter().filter(|container| container.state == "running");
        Ok(running.map(|container| (container.service().to_owned(), container.id)).collect())
    }

    /// `docker inspect` of a container, by id, a prefix of it, or name.
    pub fn inspect(&self, container: &str) -> Result<Value> {
        self.call("GET", &format!("/containers/{container}/json"), None)
    }

    /// The manifest digests that the image of a container is known by.
    pub fn image_digests(&self, container: &str) -> Result<Vec<String>> {
        let image = self.inspect(container)?["Image"].as_str().context("no `Image`")?.to_owned();
        let known = self.call("GET", &format!("/images/{image}/json"), None)?;
        let digests = known["RepoDigests"].as_array().context("no `RepoDigests`")?;
        Ok(digests.iter().filter_map(|d| Some(d.as_str()?.split_once('@')?.1.to_owned())).collect())
    }

    /// Lines of a container's log since `since` (seconds since 1970), each with its time in front.
    pub fn log(&self, container: &str, since: i64) -> Result<Vec<String>> {
        let target = format!("/containers/{container}/logs?stdout=1&stderr=1&timestamps=1&since={since}");
        let answer = http::exchange(self.connect()?, ("GET", &target), &[("Host", "docker")], &[])?;
        ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.text());
        let mut rest = answer.body.as_slice();
        let mut text = String::new();
        // Frames of 8 bytes, the last four their length, and that many bytes of text.
        while let Some((head, tail)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let (frame, next) = tail.split_at(length.min(tail.len()));
            text += &String::from_utf8_lossy(frame);
            rest = next;
        }
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// SIGKILL to a container.
    pub fn kill(&self, container: &str) -> Result<()> {
        self.call("POST", &format!("/containers/{container}/kill"), None).map(drop)
    }

    /// `docker rm -f`.
    pub fn remove(&self, container: &str) -> Result<()> {
        self.call("DELETE", &format!("/containers/{container}?force=1"), None).map(drop)
    }

    /// `docker restart`, at once.
    pub fn restart(&self, container: &str) -> Result<()> {
        self.call("POST", &format!("/containers/{container}/restart?t=0"), None).map(drop)
    }
}

/// Percent-encodes a query value.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
