//! The ingress of the sample. It resolves its upstream by name at each request, and tries again at most once, at
//! another address if there is one, and only after a connection error: never after an answer, never after a timeout.

use std::io;

use crate::http::{self, Request, Response};
use crate::proxy_config::{self, Config, Location};

/// Serves what the configuration file says, and `/proxy-health` by itself.
pub fn run(file: &str) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let config = proxy_config::parse(&text).map_err(|error| io::Error::other(format!("{file}: {error}")))?;
    http::serve(config.listen, move |request| answer(&config, request))
}

fn answer(config: &Config, request: &Request) -> Response {
    if request.target == "/proxy-health" {
        return Response::new(200, "ok\n");
    }
    let Some(location) = config.location(&request.target) else {
        return Response::new(404, format!("no location for `{}`\n", request.target));
    };
    let mut response = forward(location, request).unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Response::new(504, format!("{error}\n")),
        _ => Response::new(502, format!("{error}\n")),
    });
    response.headers.extend(location.headers.iter().cloned());
    response
}

fn forward(location: &Location, request: &Request) -> io::Result<Response> {
    let mut tried = None;
    for left in (0..=location.retry).rev() {
        let done = attempt(location, request, &mut tried);
        match &done {
            // A connection that was refused, reset or ended without an answer; a timeout while waiting is none.
            Err(error) if left > 0 && error.kind() != io::ErrorKind::WouldBlock => {}
            _ => return done,
        }
    }
    Err(io::Error::other("`retry` is out of range"))
}

fn attempt(location: &Location, request: &Request, tried: &mut Option<std::net::SocketAddr>) -> io::Result<Response> {
    let addresses = http::resolve(&location.upstream)?;
    let other = addresses.iter().find(|address| Some(**address) != *tried).or(addresses.first());
    let address = other.ok_or_else(|| io::Error::other(format!("`{}` has no address", location.upstream)))?;
    *tried = Some(*address);
    let headers = [("Host", location.upstream.as_str())];
    http::exchange(http::connect(address)?, (&request.method, &request.target), &headers, &request.body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// A server that does `script` in order, one entry a connection: an answer, or nothing and a closed connection.
    fn upstream(script: &'static [&'static str]) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            for answer in script {
                let (mut stream, _) = listener.accept().unwrap();
                http::read_head(&mut io::BufReader::new(stream.try_clone().unwrap())).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (address, server)
    }

    #[test]
    fn it_tries_again_once_and_on_connection_errors_only() {
        const OK: &str = "HTTP/1.1 200 -\r\n\r\nyes";
        const BUSY: &str = "HTTP/1.1 503 -\r\n\r\nbusy";
        for (retry, script, status) in [
            (1, &[OK] as &'static [&'static str], 200),
            (1, &["", OK], 200),
            (1, &["", ""], 502),
            (0, &[""], 502),
            (1, &[BUSY], 503),
        ] {
            let (upstream, server) = upstream(script);
            let location =
                Location { prefix: "/".into(), upstream, retry, headers: vec![("x-site".into(), "1".into())] };
            let config = Config { listen: 80, locations: vec![location] };
            let request = Request { method: "GET".into(), target: "/".into(), body: Vec::new() };
            let response = answer(&config, &request);
            assert_eq!(response.status, status, "{script:?}");
            assert_eq!(response.header("x-site"), Some("1"));
            server.join().unwrap();
        }
    }
}
