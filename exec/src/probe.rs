//! Asks a service once whether it is healthy. One deadline is over the whole: name, connection, question, answer.
//!
//! It never follows a redirect, never uses a proxy, never prints what came: that is the text of strangers.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Probe;
use crate::failure::Failure;
use crate::status::{self, Status};
use crate::target::{Host, Question, Target};

/// What counts as healthy: success, and redirects to wherever.
const HEALTHY: std::ops::RangeInclusive<u16> = 200..=399;
/// The most that is read of an answer.
const ANSWER_LIMIT: usize = 4 * 1024;
/// How long the rest of an answer is waited for when its status is known.
const PARTING: Duration = Duration::from_millis(100);
/// What sockets take for a timeout: zero would be none.
const SHORTEST: Duration = Duration::from_millis(1);

/// When the whole is over, and what it is called then.
struct Deadline {
    at: Instant,
    timeout: Duration,
}

pub fn probe(plan: &Probe) -> Result<(), Failure> {
    let deadline = Deadline { at: Instant::now() + plan.timeout, timeout: plan.timeout };
    ask(&plan.target, &deadline)
        .map_err(|why| Failure::unhealthy(format!("unhealthy: {} {why}", plan.target.authority())))
}

/// The error goes on behind the address.
fn ask(target: &Target, deadline: &Deadline) -> Result<(), String> {
    let addresses = resolve(&target.host, target.port, deadline)?;
    let stream = connect(&addresses, deadline)?;
    match &target.question {
        Question::Connect => Ok(()),
        Question::Get(path) => {
            let agent = concat!("landfall-exec/", env!("CARGO_PKG_VERSION"));
            let host = target.host_header();
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            );
            let code = get(stream, &request, deadline)?;
            if HEALTHY.contains(&code) { Ok(()) } else { Err(format!("answered {code}")) }
        }
    }
}

/// Only a name needs a thread: the resolver takes no deadline.
fn resolve(host: &Host, port: u16, deadline: &Deadline) -> Result<Vec<SocketAddr>, String> {
    let name = match host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        Host::Name(name) => name.clone(),
    };
    let (sender, receiver) = mpsc::channel();
    let look_up = move || sender.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    thread::Builder::new().spawn(look_up).map_err(|error| format!("cannot be resolved: {error}"))?;
    match receiver.recv_timeout(deadline.left()) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err("has no address".to_owned()),
        Ok(resolved) => resolved.map_err(|error| format!("cannot be resolved: {error}")),
        Err(_) => Err(deadline.late("was not resolved")),
    }
}

/// Tries them in turn; one that stays silent leaves its share of the time to those behind it.
fn connect(addresses: &[SocketAddr], deadline: &Deadline) -> Result<TcpStream, String> {
    let mut why = deadline.late("took no connection");
    for (to_try, address) in (1..=addresses.len()).rev().zip(addresses) {
        let share = deadline.left() / u32::try_from(to_try).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share.max(SHORTEST)) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => why = deadline.late("took no connection"),
            Err(error) => why = format!("takes no connection: {error}"),
        }
    }
    Err(why)
}

/// The status of the answer.
fn get(mut stream: TcpStream, request: &str, deadline: &Deadline) -> Result<u16, String> {
    let broken = |error: std::io::Error| format!("broke the connection: {error}");
    stream.set_write_timeout(Some(deadline.left().max(SHORTEST))).map_err(broken)?;
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut head = [0; ANSWER_LIMIT];
    let mut length = 0;
    // Ends: `head` is larger than what `status::read` needs to decide.
    loop {
        match read(&mut stream, &mut head[length..], deadline.left()) {
            Ok(0) => return Err("closed the connection before it answered".to_owned()),
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(deadline.late("did not answer")),
            Err(error) => return Err(broken(error)),
        }
        match status::read(&head[..length]) {
            Status::Begun => {}
            Status::Code(code) => {
                part(&mut stream, &mut head[length..], deadline);
                return Ok(code);
            }
            Status::Foreign => return Err("did not answer in HTTP/1".to_owned()),
        }
    }
}

/// Takes the rest of a small answer, so that the service sees an orderly end and does not log a reset for each probe.
/// The verdict stands.
fn part(stream: &mut TcpStream, mut rest: &mut [u8], deadline: &Deadline) {
    let parted = Instant::now() + deadline.left().min(PARTING);
    loop {
        match read(stream, rest, parted.saturating_duration_since(Instant::now())) {
            Ok(0) | Err(_) => return,
            Ok(more) => rest = &mut rest[more..],
        }
    }
}

/// `WouldBlock` when the time is over.
fn read(stream: &mut TcpStream, into: &mut [u8], within: Duration) -> std::io::Result<usize> {
    if within.is_zero() {
        return Err(ErrorKind::WouldBlock.into());
    }
    stream.set_read_timeout(Some(within))?;
    stream.read(into)
}

impl Deadline {
    fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    fn late(&self, what: &str) -> String {
        format!("{what} within {:?}", self.timeout)
    }
}
