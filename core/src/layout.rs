//! Every path on the VM, under one root, so that a test or a second instance can live anywhere.
//! Who writes where is a contract (docs/architecture.md): each directory has exactly one writer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, DeploymentId, ReleaseId};
use crate::secrets::SecretNeed;

/// The name of the fetcher's credential: the key that it seals with.
pub const CACHE_KEY: &str = "landfall-cache-key";

/// The tree under a root, `/` on a VM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The tree under `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The main configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.at("etc/landfall/landfall.yaml")
    }

    /// Drop-ins, `*.yaml`, read in file-name order after the main file.
    pub fn config_drop_ins(&self) -> PathBuf {
        self.at("etc/landfall/landfall.d")
    }

    /// The project of an app whose compose file is on this machine (`source: pointer` or `tags`); cloud-init writes it.
    pub fn host_app(&self, app: &AppName) -> PathBuf {
        self.at("etc/landfall/apps").join(app.as_str())
    }

    /// The compose file in it.
    pub fn host_compose(&self, app: &AppName) -> PathBuf {
        self.host_app(app).join("compose.yaml")
    }

    /// landfall-exec, which containers mount.
    pub fn exec_program(&self) -> PathBuf {
        self.at("usr/libexec/landfall/landfall-exec")
    }

    /// All that the watcher writes.
    pub fn watcher(&self) -> PathBuf {
        self.at("var/lib/landfall/watcher")
    }

    /// The watcher's own memory: sequences seen, digests taken, last good polls.
    pub fn watcher_state(&self) -> PathBuf {
        self.watcher().join("state.json")
    }

    /// Where all channel files lie, one `<app>.json` each; the agent watches this directory.
    pub fn channels(&self) -> PathBuf {
        self.watcher().join("channels")
    }

    /// What the watcher says of an app's channel: a [`crate::contract::ChannelFile`].
    pub fn channel(&self, app: &AppName) -> PathBuf {
        self.channels().join(format!("{app}.json"))
    }

    /// Where the watcher says which tags have an app, one `<entry>.json` for each entry of `previews`; the agent watches this directory.
    pub fn previews_dir(&self) -> PathBuf {
        self.watcher().join("previews")
    }

    /// The tags of an entry: a [`crate::contract::PreviewsFile`].
    pub fn previews(&self, entry: &AppName) -> PathBuf {
        self.previews_dir().join(format!("{entry}.json"))
    }

    /// The staged releases of an app.
    pub fn releases(&self, app: &AppName) -> PathBuf {
        self.watcher().join("releases").join(app.as_str())
    }

    /// A staged release: `release.json` (a [`crate::contract::StagedRelease`]), `compose/`, `project/`.
    pub fn release(&self, app: &AppName, id: &ReleaseId) -> PathBuf {
        self.releases(app).join(id.as_str())
    }

    /// Bundle files by content: `<sha256>/<name>` (mode 0444), `<sha256>-x/<name>` (mode 0555).
    pub fn watcher_files(&self) -> PathBuf {
        self.watcher().join("files")
    }

    /// All that the agent keeps on disk.
    pub fn agent(&self) -> PathBuf {
        self.at("var/lib/landfall/agent")
    }

    /// Where all `wanted` files lie; the watcher watches this directory.
    pub fn wanted_dir(&self) -> PathBuf {
        self.agent().join("wanted")
    }

    /// What the agent asks of the other daemons for an app: a [`crate::contract::WantedFile`].
    pub fn wanted(&self, app: &AppName) -> PathBuf {
        self.wanted_dir().join(format!("{app}.json"))
    }

    /// Inline configs and bundle directories, by content.
    pub fn agent_files(&self) -> PathBuf {
        self.agent().join("files")
    }

    /// What the agent wrote for an app: `current/compose.yaml` starts what is live by a plain `docker compose up -d`.
    pub fn agent_app(&self, app: &AppName) -> PathBuf {
        self.agent().join("apps").join(app.as_str())
    }

    /// What the containers of a deployment are created from, JSON.
    pub fn deployment_model(&self, app: &AppName, deployment: &DeploymentId) -> PathBuf {
        self.agent_app(app).join("deployments").join(deployment.as_str()).join("model.json")
    }

    /// Where the compose file of what is live lies.
    pub fn current(&self, app: &AppName) -> PathBuf {
        self.agent_app(app).join("current")
    }

    /// The write-ahead ledger of an app, JSON lines.
    pub fn ledger(&self, app: &AppName) -> PathBuf {
        self.agent().join("ledger").join(format!("{app}.jsonl"))
    }

    /// How each rollout of an app ended, JSON lines of [`crate::protocol::HistoryEntry`].
    pub fn history(&self, app: &AppName) -> PathBuf {
        self.agent().join("history").join(format!("{app}.jsonl"))
    }

    /// The last valid settings, so that a typo in landfall.yaml stops new releases and nothing else.
    pub fn last_settings(&self) -> PathBuf {
        self.agent().join("settings.json")
    }

    /// The apps that the agent has made of tags, and which ports each has.
    pub fn preview_slots(&self) -> PathBuf {
        self.agent().join("previews.json")
    }

    /// Held with flock while an agent runs.
    pub fn agent_lock(&self) -> PathBuf {
        self.agent().join("lock")
    }

    /// Memory, mounted: all secrets in plain text lie below it and nowhere else.
    pub fn secrets(&self) -> PathBuf {
        self.at("run/landfall/secrets")
    }

    /// One set of a service: a file for each secret.
    pub fn secret_set(&self, app: &AppName, service: &str, set: &str) -> PathBuf {
        self.secrets().join(app.as_str()).join(service).join(set)
    }

    /// Credentials of registries that the fetcher has from vaults: memory too, which those may read who pull.
    pub fn registry_credentials(&self) -> PathBuf {
        self.at("run/landfall/credentials")
    }

    /// The one of this registry, by its host (and port): a name without `/` that is not hidden.
    pub fn registry_credential(&self, host: &str) -> PathBuf {
        self.registry_credentials().join(host)
    }

    /// What systemd units get: a directory for each, hidden so that it is no app's.
    pub fn unit_secrets(&self) -> PathBuf {
        self.secrets().join(".units")
    }

    /// One credential of a unit.
    pub fn unit_secret(&self, unit: &str, id: &str) -> PathBuf {
        self.unit_secrets().join(unit).join(id)
    }

    /// Where systemd fetches credentials of units (`LoadCredential=`).
    pub fn unit_socket(&self) -> PathBuf {
        self.at("run/landfall/secrets-socket/credentials.sock")
    }

    /// What `landfall break-glass` opened, by whom and until when. In memory: a reboot ends it.
    pub fn break_glass(&self) -> PathBuf {
        self.at("run/landfall/break-glass.json")
    }

    /// The same for `landfall-break-glass.service`: variables of its configuration.
    pub fn break_glass_environment(&self) -> PathBuf {
        self.at("run/landfall/break-glass.env")
    }

    /// Who gives files of secrets to other users (`landfall-secrets-owner.socket`).
    pub fn owner_socket(&self) -> PathBuf {
        self.at("run/landfall/secrets-socket/owner.sock")
    }

    /// A live directory of a service: containers mount it whole, and its link `..data` says which set they see.
    pub fn live_secrets(&self, app: &AppName, service: &str, directory: &str) -> PathBuf {
        self.secrets().join(app.as_str()).join(service).join(directory)
    }

    /// Where a set of a need lies: by itself, or in the need's live directory as `..<set>`.
    pub fn set_of(&self, app: &AppName, need: &SecretNeed, set: &str) -> PathBuf {
        match &need.live {
            None => self.secret_set(app, &need.service, set),
            Some(directory) => self.live_secrets(app, &need.service, directory).join(format!("..{set}")),
        }
    }

    /// The key that versions of a directory's secrets are made with: random, no value follows from it, and it outlives a reboot.
    pub fn secrets_key(&self) -> PathBuf {
        self.at("var/lib/landfall/secrets/key")
    }

    /// Where the fetcher keeps what it sealed for a boot without a vault: ciphertext, `<app>/<need id>`.
    pub fn secrets_cache(&self) -> PathBuf {
        self.at("var/lib/landfall/secrets/cache")
    }

    /// What was sealed of one need.
    pub fn sealed_need(&self, app: &AppName, need: &str) -> PathBuf {
        self.secrets_cache().join(app.as_str()).join(need)
    }

    /// The key of that, encrypted by `systemd-creds` for this machine; the service manager hands it to the fetcher.
    pub fn cache_key(&self) -> PathBuf {
        self.at("etc/credstore.encrypted").join(CACHE_KEY)
    }

    /// Which machine this is: systemd's id.
    pub fn machine_id(&self) -> PathBuf {
        self.at("etc/machine-id")
    }

    /// There where the machine has a TPM2: the kernel shows a resource manager for no other.
    pub fn tpm2(&self) -> PathBuf {
        self.at("sys/class/tpmrm/tpmrm0")
    }

    /// Where the fetcher says what sets there are, one `<app>.json` each; the agent watches this directory.
    pub fn secrets_index_dir(&self) -> PathBuf {
        self.at("run/landfall/index")
    }

    /// The sets of an app: a [`crate::secrets::SecretsFile`].
    pub fn secrets_index(&self, app: &AppName) -> PathBuf {
        self.secrets_index_dir().join(format!("{app}.json"))
    }

    /// What the fetcher has of what the machine itself needs: a [`crate::machine_secrets::MachineSecretsFile`]. No app's name has a `_`.
    pub fn machine_secrets_index(&self) -> PathBuf {
        self.secrets_index_dir().join("_machine.json")
    }

    /// The socket that operators talk to.
    pub fn agent_socket(&self) -> PathBuf {
        self.at("run/landfall/agent/agent.sock")
    }

    /// The agent's status, for those who may not use the socket.
    pub fn agent_status(&self) -> PathBuf {
        self.at("run/landfall/agent/status.json")
    }

    /// What `landfall host` remembers of the guard that it laid down in this boot.
    pub fn guard_state(&self) -> PathBuf {
        self.at("run/landfall/host/guard.json")
    }

    /// Which data disk this machine took, for its next boot.
    pub fn data_disk_record(&self) -> PathBuf {
        self.at("var/lib/landfall/host/data-disk.json")
    }

    /// What became of the data disk in this boot.
    pub fn data_disk_state(&self) -> PathBuf {
        self.at("run/landfall/host/data-disk.json")
    }

    /// Where Docker keeps volumes, and so where the data disk is mounted.
    pub fn docker_volumes(&self) -> PathBuf {
        self.at("var/lib/docker/volumes")
    }

    /// The number of dockerd's process.
    pub fn docker_pid(&self) -> PathBuf {
        self.at("run/docker.pid")
    }

    /// There where systemd is what runs the machine (`sd_booted(3)`).
    pub fn systemd(&self) -> PathBuf {
        self.at("run/systemd/system")
    }

    /// The agent's metrics, for `node_exporter`'s textfile collector: a directory with this one file.
    pub fn agent_metrics(&self) -> PathBuf {
        self.at("run/landfall/agent/metrics/landfall.prom")
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
