//! A TCP proxy that lets so many bytes through to its clients and then holds the rest until it is opened: a download that stands
//! still where a test wants to look at it. It changes nothing, and ends with this process.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::Result;

/// The proxy.
#[derive(Debug)]
pub struct Gate {
    address: String,
    left: Arc<(Mutex<usize>, Condvar)>,
}

impl Gate {
    /// Before the server at `target`; its clients get `bytes` in all until it is opened.
    pub fn start(target: &str, bytes: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free()?))?;
        let address = listener.local_addr()?.to_string();
        let left = Arc::new((Mutex::new(bytes), Condvar::new()));
        let (target, shared) = (target.to_owned(), Arc::clone(&left));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Err(error) = join(client, &target, &shared) {
                    eprintln!("gate: `{target}`: {error}");
                }
            }
        });
        Ok(Self { address, left })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets all through from now on.
    pub fn open(&self) {
        *self.left.0.lock().unwrap_or_else(PoisonError::into_inner) = usize::MAX;
        self.left.1.notify_all();
    }
}

fn join(client: TcpStream, target: &str, left: &Arc<(Mutex<usize>, Condvar)>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut to_server, mut from_client) = (server.try_clone()?, client.try_clone()?);
    // What ends one of them ends its connection; the other sees that.
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    let left = Arc::clone(left);
    std::thread::spawn(move || pass_on(server, client, &left));
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, left: &(Mutex<usize>, Condvar)) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let closed = |left: &mut usize| *left < length;
        let guard = left.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = left.1.wait_while(guard, closed).unwrap_or_else(PoisonError::into_inner);
        *guard -= length;
        drop(guard);
        to.write_all(&buffer[..length])?;
    }
}
