//! Asks for a credential of a systemd unit as systemd does (systemd.exec(5), `LoadCredential=`): its own end of the connection is bound
//! to an abstract name that says which unit and which credential, and it sends nothing.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};

/// Longer than anything is waited for on the other side.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the unit gets; nothing is an empty credential.
pub fn load(path: &Path, unit: &str, id: &str) -> Result<String> {
    let client: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(client.as_raw_fd(), &UnixAddr::new_abstract(own_name(unit, id).as_bytes())?)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?).with_context(|| path.display().to_string())?;
    let mut stream = UnixStream::from(client);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut value = String::new();
    stream.read_to_string(&mut value)?;
    Ok(value)
}

/// The same as user 65534, who is let to the socket by its mode.
pub fn load_as_nobody(path: &Path, unit: &str, id: &str) -> Result<String> {
    let script = "use Socket; my ($own, $path) = @ARGV; socket(S, PF_UNIX, SOCK_STREAM, 0) or die $!; \
         bind(S, pack_sockaddr_un(\"\\0$own\")) or die $!; connect(S, pack_sockaddr_un($path)) or die $!; \
         local $/; print <S> // ''";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", script]);
    let output = command.arg(own_name(unit, id)).arg(path).output().context("cannot run `setpriv`")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn own_name(unit: &str, id: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let random = (u64::from(std::process::id()) << 32) | NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{random:x}/unit/{unit}/{id}")
}
