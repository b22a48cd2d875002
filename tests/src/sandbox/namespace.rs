//! A network namespace in which IMDS has its real address and vaults their real names, so that what ships is tested with the
//! settings of a VM. Nothing is sent there from the machine's own namespace: it has no route to what is in here, and in here
//! there is only loopback.
//!
//! It needs root (`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`), `unshare`, `nsenter` and `mount` of util-linux, and `ip` of iproute2. The
//! namespace lives as long as a process in it. Unix sockets are those of the machine: Docker's, and the sandbox's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// Where a VM of Azure finds its metadata service.
pub const IMDS: &str = "169.254.169.254";

/// The n-th vault: each has an address of its own, so that all have port 443.
pub fn vault_address(index: usize) -> String {
    format!("127.0.1.{}:443", index + 1)
}

/// What is `/etc/hosts` in there.
pub fn hosts(directory: &Path) -> PathBuf {
    directory.join("hosts")
}

/// The command that runs `program` in a new namespace, in which the vaults' names are known.
pub fn enter_new(directory: &Path, vaults: &[&str], program: &Path) -> Result<Command> {
    let hosts = hosts(directory);
    std::fs::write(&hosts, names(vaults)).with_context(|| hosts.display().to_string())?;
    let mut command = Command::new("unshare");
    // Each step becomes the next program, so that the child's id stays that of a process inside.
    let steps =
        format!(r#"ip link set lo up && ip address add {IMDS}/32 dev lo && mount --bind "$0" /etc/hosts && exec "$@""#);
    command.args(["--net", "--mount", "--", "sh", "-c", &steps]).arg(hosts).arg(program);
    Ok(command)
}

/// The command that runs `program` where process `id` is.
pub fn join(id: u32, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &id.to_string(), "--net", "--mount", "--"]).arg(program);
    command
}

/// Whether this process can make one, or why not.
pub fn allowed() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("a network namespace needs root".to_owned());
    }
    let output = Command::new("unshare").args(["--net", "--mount", "--", "ip", "link", "set", "lo", "up"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no network namespace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("cannot run `unshare`: {error}")),
    }
}

fn names(vaults: &[&str]) -> String {
    let mut lines = "127.0.0.1 localhost\n".to_owned();
    for (index, vault) in vaults.iter().enumerate() {
        let address = vault_address(index);
        lines += &format!("{} {vault}.vault.azure.net\n", address.trim_end_matches(":443"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vault_has_a_name_and_an_address() {
        let lines = "127.0.0.1 localhost\n127.0.1.1 one.vault.azure.net\n127.0.1.2 two.vault.azure.net\n";
        assert_eq!(names(&["one", "two"]), lines);
    }
}
