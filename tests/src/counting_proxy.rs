//! A TCP proxy that counts the bytes of one program's connections: what goes over the wire, seen from outside. It changes
//! nothing, knows its program by the name in the first request, and ends with this process.

use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::wait::eventually;

/// A moment without a byte that is longer than a request takes.
const QUIET: Duration = Duration::from_millis(200);
/// How long a caller waits for one.
const DEADLINE: Duration = Duration::from_secs(30);

/// What went over the wire so far: TCP's payload, without the headers of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// By the program.
    pub sent: u64,
    /// To it.
    pub received: u64,
}

/// The proxy.
#[derive(Debug)]
pub struct CountingProxy {
    address: String,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug)]
struct Counted {
    bytes: Bytes,
    last: Instant,
}

#[derive(Clone, Copy)]
enum Direction {
    Sent,
    Received,
}

impl CountingProxy {
    /// Before the server at `target`; counts the connections whose first request has this text.
    pub fn start(target: &str, program: &'static str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free()?))?;
        let address = listener.local_addr()?.to_string();
        let counted = Arc::new(Mutex::new(Counted { bytes: Bytes::default(), last: Instant::now() }));
        let (target, shared) = (target.to_owned(), Arc::clone(&counted));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client whose server is gone sees a closed connection, as without a proxy.
                if let Err(error) = join(client, &target, program, &shared) {
                    eprintln!("counting proxy: `{target}`: {error}");
                }
            }
        });
        Ok(Self { address, counted })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until more was counted than `before`, and then nothing for a while.
    pub fn quiet_after(&self, before: Bytes) -> Result<Bytes> {
        eventually(DEADLINE, "a request and its answer", || {
            let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(counted.bytes != before, "nothing was sent");
            ensure!(counted.last.elapsed() > QUIET, "more is sent");
            Ok(counted.bytes)
        })
    }
}

/// Two threads pass on what comes, one for each direction.
fn join(client: TcpStream, target: &str, program: &'static str, counted: &Arc<Mutex<Counted>>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (to_client, from_server) = (client.try_clone()?, server.try_clone()?);
    // Decided by the first bytes of the program, which are passed on before there is an answer.
    let is_counted = Arc::new(AtomicBool::new(false));
    let (there, back) = ((Arc::clone(counted), Arc::clone(&is_counted)), (Arc::clone(counted), is_counted));
    std::thread::spawn(move || {
        let mut is_first = true;
        pass_on(client, server, |bytes| {
            if std::mem::take(&mut is_first) {
                there.1.store(String::from_utf8_lossy(bytes).contains(program), Ordering::SeqCst);
            }
            count(&there.0, &there.1, Direction::Sent, bytes.len());
        })
    });
    std::thread::spawn(move || {
        pass_on(from_server, to_client, |bytes| count(&back.0, &back.1, Direction::Received, bytes.len()))
    });
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return to.shutdown(Shutdown::Write);
        }
        // Before it is passed on: the answer must not be counted before the question.
        count(&buffer[..length]);
        to.write_all(&buffer[..length])?;
    }
}

fn count(counted: &Mutex<Counted>, is_counted: &AtomicBool, direction: Direction, length: usize) {
    if is_counted.load(Ordering::SeqCst) {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        let length = u64::try_from(length).unwrap_or(0);
        match direction {
            Direction::Sent => counted.bytes.sent += length,
            Direction::Received => counted.bytes.received += length,
        }
        counted.last = Instant::now();
    }
}
