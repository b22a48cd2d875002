//! The one door to the Docker Engine: looks, and executes steps that the plan decided. Decides nothing itself.
//! Every call has a deadline, so that a hung daemon is a state and not a hang.

pub mod door;
mod lock_files;
mod pull;
mod remains;
mod signals;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bollard::exec::StartExecResults;
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RenameContainerOptionsBuilder, RestartContainerOptionsBuilder, StatsOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use landfall_core::config::Settings;
use landfall_core::ids::{AppName, printable};
use landfall_core::image_store;

use self::door::Door;
use crate::converge::Step;
use crate::inspection;
use crate::login::login;
use crate::observed::{Check, Container, Millis, Observed};
use crate::translate::ImageStart;

/// Compose's label for the project.
pub const PROJECT: &str = "com.docker.compose.project";
/// Compose's label for the service.
pub const SERVICE: &str = "com.docker.compose.service";
/// Compose's label on the containers of `docker compose run`: not ours to touch.
pub(crate) const ONE_OFF: &str = "com.docker.compose.oneoff";
/// Our label: the spec hash.
pub const SPEC: &str = "io.landfall.spec";

/// No call but a pull or a stop takes longer.
const CALL: Duration = Duration::from_secs(30);

/// A connection to the Engine.
#[derive(Debug, Clone)]
pub struct Engine {
    door: Door,
}

/// What the Engine says of the machine.
#[derive(Debug, Clone, Default)]
pub struct MachineFacts {
    /// Memory of the machine in bytes.
    pub memory: u64,
    /// Cores.
    pub cpus: u32,
    /// True for the systemd cgroup driver: a slice can be a parent.
    pub systemd_cgroups: bool,
    /// Where the Engine keeps images, containers and volumes.
    pub data: String,
    /// Where containerd keeps images, where the Engine has it do so.
    pub snapshots: Option<String>,
    /// `26.1.5` and the like.
    pub version: String,
}

/// An image that is on this VM.
#[derive(Debug, Clone)]
pub struct LocalImage {
    /// Its VOLUME paths.
    pub volumes: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it starts.
    pub start: ImageStart,
}

impl Engine {
    /// Prepares a client; connects at the first call.
    pub fn new(socket: &Path) -> Result<Self> {
        Ok(Self { door: Door::new(socket)? })
    }

    /// What machine this is; also the proof that the Engine answers.
    pub async fn machine(&self) -> Result<MachineFacts> {
        self.door.is_there()?;
        let info = within(CALL, "info", self.door.docker().info()).await?;
        let version = within(CALL, "version", self.door.docker().version()).await?;
        let containerd = info.containerd.as_ref().and_then(|containerd| containerd.address.as_deref());
        let snapshots = image_store::of_containerd(info.driver_status.as_deref(), containerd);
        Ok(MachineFacts {
            memory: info.mem_total.and_then(|m| u64::try_from(m).ok()).unwrap_or(0),
            cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            systemd_cgroups: info.cgroup_driver.is_some_and(|d| d.to_string() == "systemd"),
            data: info.docker_root_dir.unwrap_or_default(),
            snapshots: snapshots.map(str::to_owned),
            version: version.version.unwrap_or_default(),
        })
    }

    /// Whether it answers within that time.
    pub async fn answers(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.door.docker().ping()).await.is_ok_and(|answer| answer.is_ok())
    }

    /// The ids of all containers of the app's project.
    pub async fn list(&self, app: &AppName) -> Result<Vec<String>> {
        let filters = HashMap::from([("label", vec![format!("{PROJECT}={app}")])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = within(CALL, "list containers", self.door.docker().list_containers(Some(options))).await?;
        let ours =
            |labels: Option<&HashMap<String, String>>| labels.and_then(|l| l.get(ONE_OFF)).is_none_or(|v| v != "True");
        Ok(list.into_iter().filter(|c| ours(c.labels.as_ref())).filter_map(|c| c.id).collect())
    }

    /// All containers of the app's project.
    pub async fn observe(&self, app: &AppName) -> Result<Observed> {
        let ids = self.list(app).await?.into_iter();
        let looks = ids.map(|id| async move { (self.inspect(&id).await, id) });
        let mut seen = Observed::default();
        for (look, id) in futures_util::future::join_all(looks).await {
            // A container may go away between the list and the look.
            if let Some(container) = look? {
                seen.containers.insert(id, container);
            }
        }
        Ok(seen)
    }

    /// One container of the app's project; none when it is gone or not the app's.
    pub async fn look_at(&self, id: &str, app: &AppName) -> Result<Option<Container>> {
        Ok(self.inspect(id).await?.filter(|c| c.project == app.as_str() && !c.one_off))
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>> {
        let look = tokio::time::timeout(CALL, self.door.docker().inspect_container(id, None)).await;
        match look.map_err(|_| late("inspect a container", CALL))? {
            Ok(response) => Ok(Some(inspection::container(id, response))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(anyhow!(error).context("cannot inspect a container")),
        }
    }

    /// Executes one step.
    pub async fn execute(&self, step: &Step) -> Result<()> {
        let (what, done) = match step {
            Step::Stop { id, grace } => {
                let options = StopContainerOptionsBuilder::new().t(seconds(*grace)).build();
                let limit = CALL + Duration::from_secs(u64::try_from(*grace).unwrap_or(0));
                ("stop", tokio::time::timeout(limit, self.door.docker().stop_container(id, Some(options))).await)
            }
            Step::Restart { id, grace } => {
                let options = RestartContainerOptionsBuilder::new().t(seconds(*grace)).build();
                let limit = CALL + Duration::from_secs(u64::try_from(*grace).unwrap_or(0));
                ("restart", tokio::time::timeout(limit, self.door.docker().restart_container(id, Some(options))).await)
            }
            Step::Rename { id, to } => {
                let options = RenameContainerOptionsBuilder::new().name(to).build();
                ("rename", tokio::time::timeout(CALL, self.door.docker().rename_container(id, options)).await)
            }
            Step::Start { id } => {
                ("start", tokio::time::timeout(CALL, self.door.docker().start_container(id, None)).await)
            }
            Step::Remove { id, with_volumes } => {
                // `v`: its anonymous volumes go with it; named ones never do.
                let options = RemoveContainerOptionsBuilder::new().v(*with_volumes).build();
                ("remove", tokio::time::timeout(CALL, self.door.docker().remove_container(id, Some(options))).await)
            }
        };
        match done.map_err(|_| late(what, CALL))? {
            Ok(()) => Ok(()),
            // Already so: 304 for a start or stop, 404 for a removal.
            Err(error) if status(&error) == Some(304) => Ok(()),
            Err(error) if status(&error) == Some(404) && matches!(step, Step::Remove { .. }) => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("cannot {what} a container"))),
        }
    }

    /// Removes a network. An error where something is still in it.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        let removed = tokio::time::timeout(CALL, self.door.docker().remove_network(name)).await;
        match removed.map_err(|_| late("remove a network", CALL))? {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(anyhow!(error).context("cannot remove a network")),
        }
    }

    /// Runs a health check's own command once; true when it passed.
    pub async fn probe(&self, id: &str, check: &Check) -> Result<bool> {
        let limit = Duration::from_millis(u64::try_from(check.timeout).unwrap_or(0).max(1000));
        tokio::time::timeout(limit, self.run_check(id, check)).await.unwrap_or(Ok(false))
    }

    async fn run_check(&self, id: &str, check: &Check) -> Result<bool> {
        let config = bollard::models::ExecConfig {
            cmd: Some(check.command.clone()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = self.door.docker().create_exec(id, config).await?.id;
        if let StartExecResults::Attached { mut output, .. } = self.door.docker().start_exec(&exec, None).await? {
            // Read to the end and thrown away: the exit code is the answer.
            while let Some(chunk) = output.next().await {
                chunk?;
            }
        }
        Ok(self.door.docker().inspect_exec(&exec).await?.exit_code == Some(0))
    }

    /// A reference by tag to `repository@sha256:…`, as the registry says; one with a digest is answered as it is.
    pub async fn pin(&self, settings: &Settings, reference: &str) -> Result<String> {
        if let Some((name, digest)) = reference.split_once('@') {
            return Ok(format!("{}@{digest}", without_tag(name)));
        }
        let asked = self.door.docker().inspect_registry_image(reference, login(settings, reference)?);
        let answer = within(CALL, "find it at its registry", asked).await?;
        let digest =
            answer.descriptor.digest.with_context(|| format!("the registry names no digest for `{reference}`"))?;
        Ok(format!("{}@{digest}", without_tag(reference)))
    }

    /// What is known of an image on this VM; none when it is not here.
    pub async fn local_image(&self, pinned: &str) -> Result<Option<LocalImage>> {
        match tokio::time::timeout(CALL, self.door.docker().inspect_image(pinned))
            .await
            .map_err(|_| late("inspect an image", CALL))?
        {
            Ok(image) => {
                let config = image.config.unwrap_or_default();
                let start = ImageStart {
                    entrypoint: config.entrypoint.unwrap_or_default(),
                    command: config.cmd.unwrap_or_default(),
                    health_test: config.healthcheck.and_then(|check| check.test).unwrap_or_default(),
                };
                let volumes = config.volumes.unwrap_or_default().into_iter().collect();
                Ok(Some(LocalImage { volumes, tags: image.repo_tags.unwrap_or_default(), start }))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(anyhow!(error).context(format!("cannot inspect image `{pinned}`"))),
        }
    }

    /// The last lines of a container's log, control characters escaped.
    pub async fn logs(&self, id: &str, lines: usize) -> Result<Vec<String>> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let read = async {
            let mut text = Vec::new();
            let mut stream = std::pin::pin!(self.door.docker().logs(id, Some(options)));
            while let Some(chunk) = stream.next().await {
                text.extend_from_slice(&chunk?.into_bytes());
            }
            anyhow::Ok(text)
        };
        let text = tokio::time::timeout(CALL, read).await.map_err(|_| late("read a log", CALL))??;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(|l| printable(l.trim_end_matches('\r'), 2000)).collect())
    }

    /// CPU time of a container since its start, milliseconds.
    pub async fn cpu(&self, id: &str) -> Option<Millis> {
        let nanos = self.stats(id).await?.cpu_stats?.cpu_usage?.total_usage?;
        Millis::try_from(nanos / 1_000_000).ok()
    }

    async fn stats(&self, id: &str) -> Option<ContainerStatsResponse> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut stream = std::pin::pin!(self.door.docker().stats(id, Some(options)));
        tokio::time::timeout(CALL, stream.next()).await.ok()??.ok()
    }

    /// Memory in use by a container, bytes, page cache left out.
    pub async fn memory(&self, id: &str) -> Option<u64> {
        let stats = self.stats(id).await?.memory_stats?;
        let cache = stats
            .stats
            .and_then(|s| s.get("total_inactive_file").or_else(|| s.get("inactive_file")).copied())
            .unwrap_or(0);
        stats.usage.map(|usage| usage.saturating_sub(cache))
    }

    /// Calls back with project and container id at each event of a Compose project's container since then, also those
    /// of before the call (the Engine keeps the last 256); ends with the stream.
    pub async fn events(&self, since: Millis, mut on_event: impl FnMut(&str, String)) -> Result<()> {
        let filters = HashMap::from([("type", vec!["container".to_owned()]), ("label", vec![PROJECT.to_owned()])]);
        let since = format!("{}.{:03}", since / 1000, since % 1000);
        let options = EventsOptionsBuilder::new().filters(&filters).since(&since).build();
        let mut stream = std::pin::pin!(self.door.docker().events(Some(options)));
        while let Some(event) = stream.next().await {
            let event = event?;
            let action = event.action.unwrap_or_default();
            // Our own probes make exec events: they tell nothing.
            if action.starts_with("exec_") {
                continue;
            }
            let Some(actor) = event.actor else { continue };
            let project = actor.attributes.and_then(|a| a.get(PROJECT).cloned());
            if let (Some(project), Some(id)) = (project, actor.id) {
                on_event(&project, id);
            }
        }
        bail!("the Engine closed the stream of events")
    }

    /// Memory caps as the Engine has them: container id to bytes, 0 for none.
    pub async fn memory_cap(&self, id: &str) -> Result<i64> {
        let look = within(CALL, "inspect a container", self.door.docker().inspect_container(id, None)).await?;
        Ok(look.host_config.and_then(|h| h.memory).unwrap_or(0))
    }
}

fn seconds(grace: i64) -> i32 {
    i32::try_from(grace).unwrap_or(i32::MAX)
}

fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn late(what: &str, limit: Duration) -> anyhow::Error {
    anyhow!("the Docker Engine did not {what} within {} s: see `systemctl status docker`", limit.as_secs())
}

async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T> {
    let answer = tokio::time::timeout(limit, call).await.map_err(|_| late(what, limit))?;
    answer.with_context(|| format!("the Docker Engine did not {what}"))
}

/// `registry:5000/name:tag` without its tag.
fn without_tag(name: &str) -> &str {
    match name.rfind(':') {
        Some(at) if !name[at..].contains('/') => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_cut_and_ports_are_not() {
        for (name, cut) in [("a:1", "a"), ("host:5000/a", "host:5000/a"), ("host:5000/a:1", "host:5000/a"), ("a", "a")]
        {
            assert_eq!(without_tag(name), cut);
        }
    }
}
