//! As much HTTP/1 as the sample and the test harness need: one request per connection, answered and closed.
//! Connections are never kept, so that a client can never meet one that leads to a container that is gone.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The largest head and body that are read.
const MAX_MESSAGE_BYTES: u64 = 64 << 20;
/// How long a client or server may keep the other waiting.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// A stopped container's address answers nothing for seconds: give up long before.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a stopping server waits for the requests it has begun.
const DRAIN: Duration = Duration::from_secs(2);

/// Requests that are being answered in this process.
static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);

/// What a server is asked.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Empty where there is none.
    pub body: Vec<u8>,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty where there is none.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer without headers of its own.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, whatever it holds.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// From now on SIGTERM and SIGINT end the process with code 0 once the requests it has begun are answered. Needed in
/// a container: as PID 1 a process without a handler is deaf to SIGTERM.
pub fn stop_on_sigterm() -> io::Result<()> {
    stop_on_sigterm_with(|| {})
}

/// The same, with something to do last.
pub fn stop_on_sigterm_with(last: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let end = Instant::now() + DRAIN;
            while IN_FLIGHT.load(Ordering::SeqCst) > 0 && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
            last();
            std::process::exit(0);
        }
    });
    Ok(())
}

/// Answers every request on `port` with `handler`, a thread each; returns only if it cannot listen.
pub fn serve(port: u16, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    eprintln!("listens on port {port}");
    let handler = Arc::new(handler);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let handler = Arc::clone(&handler);
        IN_FLIGHT.fetch_add(1, Ordering::SeqCst);
        thread::spawn(move || {
            if let Err(error) = answer(stream, handler.as_ref()) {
                eprintln!("a client went away: {error}");
            }
            IN_FLIGHT.fetch_sub(1, Ordering::SeqCst);
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, handler: &impl Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut reader = BufReader::new(stream.try_clone()?).take(MAX_MESSAGE_BYTES);
    let (first, headers) = read_head(&mut reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::Error::other("no request line"));
    };
    let mut body = vec![0; content_length(&headers).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let request = Request { method: method.to_owned(), target: target.to_owned(), body };
    let response = handler(&request);
    let mut bytes = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        if name != "connection" && name != "content-length" {
            write!(bytes, "{name}: {value}\r\n")?;
        }
    }
    write!(bytes, "Content-Length: {}\r\n\r\n", response.body.len())?;
    bytes.extend(&response.body);
    stream.write_all(&bytes)
}

/// Reads the first line and the headers (names in lower case) and leaves `reader` at the body.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<(String, Vec<(String, String)>)> {
    let mut line = || {
        let mut text = String::new();
        match reader.read_line(&mut text)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed before an answer")),
            _ => Ok(text.trim_end().to_owned()),
        }
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        match text.split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok((first, headers)),
        }
    }
}

fn content_length(headers: &[(String, String)]) -> Option<usize> {
    let value = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    (value as u64 <= MAX_MESSAGE_BYTES).then_some(value)
}

/// Sends a request, as HTTP/1.0 so that the answer comes unchunked and the connection is closed behind it.
pub fn send(
    stream: &mut impl Write,
    (method, target): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    let mut bytes = format!("{method} {target} HTTP/1.0\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    stream.write_all(&bytes)
}

/// Reads the status and the headers of an answer and leaves `reader` at the body.
pub fn read_status(reader: &mut impl BufRead) -> io::Result<Response> {
    let (first, headers) = read_head(reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not an HTTP answer: {first}")))?;
    Ok(Response { status, headers, body: Vec::new() })
}

/// Sends a request and reads the whole answer. An answer that was cut off is an error.
pub fn exchange<S: Read + Write>(
    mut stream: S,
    request: (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    send(&mut stream, request, headers, body)?;
    let mut reader = BufReader::new(stream).take(MAX_MESSAGE_BYTES);
    let mut response = read_status(&mut reader)?;
    reader.read_to_end(&mut response.body)?;
    match content_length(&response.headers) {
        Some(length) if request.0 != "HEAD" && response.body.len() < length => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off"))
        }
        _ => Ok(response),
    }
}

/// The addresses that `host:port` has right now.
pub fn resolve(authority: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(authority.to_socket_addrs()?.collect())
}

/// A connection with the time limits of this module.
pub fn connect(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    Ok(stream)
}

/// One request to the first address of `host:port`.
pub fn call(authority: &str, request: (&str, &str), body: &[u8]) -> io::Result<Response> {
    let addresses = resolve(authority)?;
    let address = addresses.first().ok_or_else(|| io::Error::other(format!("`{authority}` has no address")))?;
    exchange(connect(address)?, request, &[("Host", authority)], body)
}

/// Gets `http://host[:port][/path]`.
pub fn get(url: &str) -> io::Result<Response> {
    let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other(format!("`{url}` is not a http:// URL")))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    if authority.contains(':') {
        call(authority, ("GET", path), &[])
    } else {
        call(&format!("{authority}:80"), ("GET", path), &[])
    }
}
