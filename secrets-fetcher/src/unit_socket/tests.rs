//! A client that binds its end as systemd does.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, connect, socket};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::*;

const UNIT: &str = "tunnel.service";

fn own_user() -> u32 {
    nix::unistd::getuid().as_raw()
}

struct World {
    root: TempDir,
    socket: UnitSocket,
}

impl World {
    fn new(user: u32) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/credentials.sock");
        let socket = UnitSocket::open_for(&path, Offer::new(), user).unwrap();
        Self { root, socket }
    }

    /// Offers `TOKEN` of [`UNIT`] with this value.
    fn offer(&self, value: Option<&[u8]>) {
        let path = self.root.path().join("value");
        if let Some(value) = value {
            fs::write(&path, value).unwrap();
        }
        let problem = value.is_none().then(|| "the vault is down".to_owned());
        let offered = Offered { path, is_there: value.is_some(), problem };
        self.socket.offer([((UNIT.to_owned(), "TOKEN".to_owned()), offered)].into());
    }

    fn connect(&self, name: &str) -> UnixStream {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let random = u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed);
        let client: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let name = format!("{random:x}{name}");
        let own = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        bind(client.as_fd().as_raw_fd(), &own).unwrap();
        connect(client.as_fd().as_raw_fd(), &UnixAddr::new(&self.socket.path).unwrap()).unwrap();
        let stream = StdStream::from(client);
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }

    async fn get(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.connect(name).read_to_end(&mut bytes).await.unwrap();
        bytes
    }
}

#[tokio::test]
async fn a_unit_gets_what_is_its_own_and_nothing_else() {
    let world = World::new(own_user());
    world.offer(Some(b"hunter2\n"));
    let mode = fs::metadata(&world.socket.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(world.get("/unit/tunnel.service/TOKEN").await, b"hunter2\n");
    for other in [
        "/unit/other.service/TOKEN",
        "/unit/tunnel.service/KEY",
        "/unit/tunnel.service/TOKEN/x",
        "/unit/tunnel.service/../tunnel.service/TOKEN",
        "/user/tunnel.service/TOKEN",
        "/unit//TOKEN",
        "",
    ] {
        assert_eq!(world.get(other).await, b"", "{other}");
    }
    let path = world.socket.path.clone();
    drop(world.socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn nobody_but_the_service_manager_is_answered() {
    let world = World::new(own_user() + 1);
    world.offer(Some(b"hunter2"));
    assert_eq!(world.get("/unit/tunnel.service/TOKEN").await, b"");
}

#[tokio::test(start_paused = true)]
async fn who_comes_before_the_vault_has_answered_waits_for_a_while() {
    let world = World::new(own_user());
    world.offer(None);
    let mut early = world.connect("/unit/tunnel.service/TOKEN");
    let mut byte = [0; 8];
    assert!(timeout(PATIENCE / 2, early.read(&mut byte)).await.is_err(), "it waits");
    world.offer(Some(b"late"));
    let mut bytes = Vec::new();
    early.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"late");

    world.offer(None);
    let begun = Instant::now();
    assert_eq!(world.get("/unit/tunnel.service/TOKEN").await, b"");
    assert!((PATIENCE..PATIENCE + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn one_that_does_not_read_is_let_go_and_keeps_up_nobody() {
    let world = World::new(own_user());
    let large = vec![b'x'; 1 << 20];
    world.offer(Some(&large));
    let slow: Vec<UnixStream> = (0..=AT_ONCE).map(|_| world.connect("/unit/tunnel.service/TOKEN")).collect();
    let begun = Instant::now();
    assert_eq!(world.get("/unit/tunnel.service/TOKEN").await, large);
    assert!(begun.elapsed() < 3 * WRITE, "{:?}", begun.elapsed());
    let mut bytes = Vec::new();
    let mut first = slow.into_iter().next().unwrap();
    first.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.len() < large.len(), "it was let go");
}

#[test]
fn names() {
    for (name, wanted) in [
        ("adf9d86b6eda275e/unit/foobar.service/credx", Some(("foobar.service", "credx"))),
        ("1/unit/a@b.service/c", Some(("a@b.service", "c"))),
        ("/unit/a.service/c", None),
        ("xyz/unit/a.service/c", None),
        ("1/unit/a.service/", None),
        ("1/unit/a.service", None),
    ] {
        let found = parse(name.as_bytes());
        let found = found.as_ref().map(|(unit, id)| (unit.as_str(), id.as_str()));
        assert_eq!(found, wanted, "{name}");
    }
}
