//! The door of one service: takes connections, with TLS or without, a thread each, and sends what the world answers. It can be
//! closed, so that clients are refused, and opened again at the same address.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use nix::sys::socket;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::fault::{Delivery, Service};
use super::wire::{self, Share};
use super::world::{Origin, World};

/// The same everywhere: whoever panicked with it left a test that fails anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A service with its address. Nobody listens there before [`Door::open`].
#[derive(Debug)]
pub struct Door {
    service: Service,
    address: SocketAddr,
    /// None: plain HTTP.
    tls: Mutex<Option<Arc<ServerConfig>>>,
    world: Arc<Mutex<World>>,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    listener: TcpListener,
    connections: Arc<Mutex<BTreeMap<u64, TcpStream>>>,
}

impl Door {
    /// Closed.
    pub fn new(service: Service, address: SocketAddr, world: &Arc<Mutex<World>>) -> Arc<Self> {
        let world = Arc::clone(world);
        Arc::new(Self { service, address, tls: Mutex::new(None), world, open: Mutex::new(None) })
    }

    /// Whose it is.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What the next connection speaks TLS with.
    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        *lock(&self.tls) = Some(config);
    }

    /// Takes connections from now on.
    pub fn open(self: &Arc<Self>) -> Result<()> {
        let mut open = lock(&self.open);
        if open.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).with_context(|| format!("cannot listen on {}", self.address))?;
        let connections = Arc::new(Mutex::new(BTreeMap::new()));
        let (door, mine, known) = (Arc::clone(self), listener.try_clone()?, Arc::clone(&connections));
        std::thread::spawn(move || {
            // Until `close` shuts it down.
            while let Ok((stream, remote)) = mine.accept() {
                door.take(stream, remote, Arc::clone(&known));
            }
        });
        *open = Some(Open { listener, connections });
        Ok(())
    }

    /// Refuses connections from now on; those that are there are closed.
    pub fn close(&self) -> Result<()> {
        if let Some(open) = lock(&self.open).take() {
            socket::shutdown(open.listener.as_raw_fd(), socket::Shutdown::Both)?;
            for stream in std::mem::take(&mut *lock(&open.connections)).into_values() {
                // Its client may have closed it before.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr, known: Arc<Mutex<BTreeMap<u64, TcpStream>>>) {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let connection = COUNT.fetch_add(1, Ordering::SeqCst);
        lock(&known).extend(stream.try_clone().map(|copy| (connection, copy)));
        let door = Arc::clone(self);
        std::thread::spawn(move || {
            let done = door.connection(stream, &remote.to_string(), connection);
            // The copy goes too, or the client would not see the end.
            lock(&known).remove(&connection);
            // Clients that do not like the certificate end here: a test wants to read why.
            if let Err(error) = done {
                eprintln!("{:?}, connection {connection} from {remote}: {error}", door.service);
            }
        });
    }

    fn connection(&self, stream: TcpStream, remote: &str, connection: u64) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let tls = lock(&self.tls).clone();
        match tls {
            None => self.answer_all(BufReader::new(stream), remote, connection),
            Some(config) => {
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                self.answer_all(BufReader::new(StreamOwned::new(session, stream)), remote, connection)
            }
        }
    }

    fn answer_all(&self, mut stream: BufReader<impl Read + Write>, remote: &str, connection: u64) -> io::Result<()> {
        while let Some(request) = wire::read(&mut stream)? {
            let origin = Origin { remote: remote.to_owned(), connection, at_ms: now_ms() };
            let delivery = lock(&self.world).answer(&self.service, &request, &origin);
            match delivery {
                Delivery::Whole(response) => wire::write(stream.get_mut(), &response, Share::Whole)?,
                Delivery::CutOff(response) => return wire::write(stream.get_mut(), &response, Share::Half),
                Delivery::Close => return Ok(()),
                // Until the client has enough, or the door is closed.
                Delivery::Hang => return io::copy(&mut stream, &mut io::sink()).map(drop),
            }
            if request.is_last {
                break;
            }
        }
        Ok(())
    }
}
