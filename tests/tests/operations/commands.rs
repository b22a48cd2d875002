//! How each command of docs/operations.md is run by a test.

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By the story on a machine (`story.rs`), which ends with an error where it has left one out.
    Machine,
    /// By another test: this file of the repository has these words.
    Elsewhere(&'static str, &'static str),
}

use How::{Elsewhere, Machine};

const PACKAGE: &str = "tests/tests/package.rs";
const BESIDE: &str = "tests/tests/whole_vm/beside.rs";
const DEB: &str = "tests/tests/deb.rs";
const WHOLE_VM: &str = "tests/tests/whole_vm.rs";
const DATA_DISK: &str = "tests/tests/whole_vm/data_disk.rs";

/// By the words of the document.
pub const COMMANDS: &[(&str, How)] = &[
    ("$EDITOR /etc/landfall/landfall.yaml", Machine),
    ("apt install", Elsewhere(PACKAGE, "\"install\", \"-y\"")),
    ("apt install ./landfall_0.1.0_amd64.deb", Elsewhere(PACKAGE, "\"install\", \"-y\"")),
    // Of Debian, as the image has it.
    ("apt install caddy", Elsewhere("packaging/image/packages", "caddy\n")),
    ("apt install nftables", Machine),
    ("apt purge landfall", Elsewhere(PACKAGE, "[\"purge\", \"-y\", \"landfall\"]")),
    (
        "apt-get install --only-upgrade docker.io containerd runc docker-cli docker-compose",
        Elsewhere(WHOLE_VM, "apt-get install --only-upgrade docker.io containerd runc docker-cli docker-compose"),
    ),
    ("apt remove landfall", Elsewhere(PACKAGE, "[\"remove\", \"-y\", \"landfall\"]")),
    (
        "cp -a /var/lib/docker/volumes.old/. /var/lib/docker/volumes/",
        Elsewhere(DATA_DISK, "cp -a /var/lib/docker/volumes.old/. /var/lib/docker/volumes/"),
    ),
    ("df -h", Machine),
    ("df -h /var/lib/landfall", Machine),
    ("df -i", Machine),
    ("docker compose -f /var/lib/landfall/agent/apps/APP/current/compose.yaml ps", Machine),
    ("docker compose -f /var/lib/landfall/agent/apps/APP/current/compose.yaml up -d", Machine),
    ("docker compose -p APP down", Machine),
    ("docker compose version", Machine),
    ("docker image ls 'landfall.local/*'", Machine),
    ("docker image prune -a", Machine),
    ("docker login", Elsewhere("core/src/credential.rs", "{ \"auths\": {")),
    ("docker pause", Machine),
    ("docker system df", Machine),
    ("docker unpause", Machine),
    ("docker volume ls", Machine),
    ("du -xsh /var/lib/docker/volumes/*", Machine),
    ("journalctl -u alloy -n 50", Elsewhere(BESIDE, "\"journalctl\", \"-b\", \"-u\", unit")),
    ("journalctl -u cloudflared -n 50", Elsewhere(BESIDE, "\"journalctl\", \"-b\", \"-u\", unit")),
    ("journalctl -u landfall-agent -n 50", Machine),
    ("journalctl -u landfall-data-disk -n 50", Elsewhere(DATA_DISK, "journalctl -u landfall-data-disk -n 50")),
    ("journalctl -u landfall-break-glass.service -n 20", Elsewhere(BESIDE, "\"journalctl\", \"-b\", \"-u\", unit")),
    ("journalctl -u landfall-image-watcher -n 50", Machine),
    ("journalctl -u landfall-secrets-fetcher", Machine),
    ("journalctl -u landfall-secrets-fetcher -n 50", Machine),
    ("journalctl -x -u 'landfall-*'", Machine),
    ("journalctl -x -u 'landfall-*' -e", Machine),
    ("journalctl --vacuum-size=500M", Machine),
    ("journalctl LANDFALL_APP=APP", Machine),
    ("journalctl LANDFALL_APP=APP --since -1h", Machine),
    ("journalctl MESSAGE_ID=148bbb310f3149cf96da33efbf90365e", Machine),
    ("journalctl MESSAGE_ID=811593ed45d7478bbcd4d8f1b1b16d57", Machine),
    (
        "journalctl MESSAGE_ID=0d126c78d60843b8a8adf9be972f9315 MESSAGE_ID=4099d1d6cff24234b9a6dded3d53990d",
        Elsewhere(BESIDE, "format!(\"MESSAGE_ID={id}\")"),
    ),
    ("landfall break-glass", Elsewhere(BESIDE, "[\"landfall\", \"break-glass\"]")),
    ("landfall check", Machine),
    ("landfall diff", Machine),
    ("landfall hands-off --for 1h --why \"…\"", Machine),
    ("landfall history", Machine),
    ("landfall history --json", Machine),
    ("landfall hold --why \"…\"", Machine),
    ("landfall host", Machine),
    ("landfall init", Machine),
    (
        "landfall init --cloud-init staging --values values.yaml --output user-data.yaml",
        Elsewhere("cli/tests/cloud_init.rs", "\"--cloud-init\""),
    ),
    ("landfall logs APP SERVICE", Machine),
    ("landfall logs APP SERVICE --lines 50", Machine),
    ("landfall plan", Machine),
    ("landfall poll", Machine),
    ("landfall promote", Elsewhere("cli/tests/wait.rs", "vec![\"promote\", &from, &to]")),
    ("landfall publish", Elsewhere("tests/src/vm.rs", "[\"publish\", &self.channel(), \"--file\", file]")),
    (
        "landfall publish registry.acme.example/deploy:prod -f compose.yaml --wait-url https://outcomes.acme.example/web --wait-timeout 15m",
        Elsewhere("cli/tests/wait.rs", "\"--wait-url\", &url"),
    ),
    ("landfall resume", Machine),
    ("landfall retry", Machine),
    ("landfall rollback", Machine),
    ("landfall rollback --why \"…\"", Machine),
    ("landfall secrets", Machine),
    ("landfall secrets explain NAME", Machine),
    ("landfall status", Machine),
    ("landfall watch", Machine),
    ("ln -s /run/landfall/agent/metrics/landfall.prom /var/lib/prometheus/node-exporter/landfall.prom", Machine),
    ("man landfall", Elsewhere("cli/tests/manual.rs", "commands(&Cli::command(), \"landfall\", &mut all)")),
    ("man landfall-agent", Elsewhere(DEB, "man/man8/landfall-agent.8.gz")),
    ("man landfall-publish", Elsewhere(DEB, "man/man1/landfall-publish.1.gz")),
    ("man landfall.yaml", Elsewhere(DEB, "man/man5/landfall.yaml.5.gz")),
    (
        "mv /var/lib/docker/volumes /var/lib/docker/volumes.old",
        Elsewhere(DATA_DISK, "mv /var/lib/docker/volumes /var/lib/docker/volumes.old"),
    ),
    ("nft flush ruleset", Machine),
    ("rm -r /var/lib/landfall/secrets/cache", Machine),
    ("sudo landfall break-glass off --why \"…\"", Elsewhere(BESIDE, "off --why 'it works again'")),
    ("sudo landfall break-glass on --why \"…\"", Elsewhere(BESIDE, "on --why longer --for 2h")),
    (
        "sudo landfall init --app web --channel ghcr.io/acme/deploy:prod --vault https://kv-acme.vault.azure.net --vm vm-1 --resource-group rg-acme",
        Machine,
    ),
    ("sudo landfall host", Machine),
    ("sudo landfall host disk", Elsewhere(DATA_DISK, "\"sudo landfall host disk\"")),
    ("sudo landfall host disk --accept", Elsewhere(DATA_DISK, "sudo landfall host disk --accept")),
    ("sudo landfall support-bundle", Machine),
    ("sudo landfall verify", Machine),
    ("sudo nft list table inet landfall_guard", Machine),
    ("systemctl disable --now caddy", Elsewhere(BESIDE, "(\"caddy.service\", \"disabled\")")),
    ("systemctl edit cloudflared", Machine),
    ("systemctl mask --now landfall-agent", Machine),
    ("systemctl reload nftables", Machine),
    ("systemctl restart cloudflared", Machine),
    ("systemctl restart landfall-agent", Machine),
    ("systemctl show -p MemoryMax landfall.slice", Machine),
    ("systemctl start docker", Elsewhere(DATA_DISK, "systemctl start docker")),
    ("systemctl start landfall-agent", Machine),
    ("systemctl status 'landfall-*'", Machine),
    ("systemctl status cloudflared.path", Elsewhere(BESIDE, "[\"path\", \"service\"]")),
    ("systemctl status docker", Machine),
    ("systemctl status landfall-agent", Machine),
    ("systemctl status landfall-image-watcher", Machine),
    ("systemctl stop docker.socket docker", Elsewhere(DATA_DISK, "systemctl stop docker.socket docker")),
    ("systemctl stop cloudflared", Elsewhere("tests/tests/operations/story.rs", "systemctl stop cloudflared")),
    ("systemctl unmask landfall-agent", Machine),
    ("systemd-analyze security", Machine),
];

/// What an on-call must find: a section for each, by its heading.
pub const SECTIONS: &[&str] = &[
    "## Install, upgrade, remove",
    "## When the registry is down",
    "## When the vault is down",
    "## When the agent is broken: start the stack by hand",
    "## Break-glass",
    "## When the VM is replaced",
    "## When Docker Compose was upgraded",
    "## When the Docker Engine is down",
    "## The data disk",
    "### LandfallDiskFull",
];
