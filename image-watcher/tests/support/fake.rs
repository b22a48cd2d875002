//! A registry that misbehaves to order, and counts. Keep-alive, blocking, one thread per connection.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use landfall_core::ids::Digest;

use super::Bundle;

/// What is said to a request; without a word for its path the answer is 404.
#[derive(Clone)]
pub struct Says {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// How the body ends.
    pub end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// After this many bytes of the body it hangs up.
    BreaksOff(usize),
    /// After this many bytes of the body it says nothing more and keeps the connection.
    Stalls(usize),
    /// It says nothing at all and keeps the connection.
    Silent,
    /// The body is said again and again, without a length.
    Never,
}

impl Says {
    pub fn ok(body: &[u8]) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_vec(), end: End::Whole }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok(b"") }
    }

    pub fn ends(self, end: End) -> Self {
        Self { end, ..self }
    }

    pub fn header(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((key, value.into()));
        self
    }
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Says>,
    /// What `/v2/` wants to be shown, and what it says to whoever shows something else.
    wants: Option<(String, Says)>,
    requests: Vec<(Instant, String)>,
    shown: Vec<(String, Option<String>)>,
    connections: usize,
}

pub struct Fake {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self { address: listener.local_addr().unwrap().to_string(), state: Arc::default() };
        let state = Arc::clone(&fake.state);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                state.lock().unwrap().connections += 1;
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        fake
    }

    pub fn channel(&self) -> String {
        format!("{}/deploy:prod", self.address)
    }

    /// `path` is below `/v2/deploy/`.
    pub fn says(&self, path: &str, says: Says) {
        self.state.lock().unwrap().answers.insert(format!("/v2/deploy/{path}"), says);
    }

    /// `path` is whole; with its query it is said to requests with just that query, without to all others.
    pub fn says_at(&self, path: &str, says: Says) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), says);
    }

    /// Serves nothing below `/v2/` but to requests with this `Authorization`; the others get a 401 with this challenge.
    pub fn wants(&self, authorization: &str, challenge: &str) {
        let says = Says::status(401).header("WWW-Authenticate", challenge);
        self.state.lock().unwrap().wants = Some((authorization.to_owned(), says));
    }

    /// Serves everybody from now on.
    pub fn well(&self) {
        self.state.lock().unwrap().wants = None;
    }

    /// Path and `Authorization` of each request so far.
    pub fn shown(&self) -> Vec<(String, Option<String>)> {
        self.state.lock().unwrap().shown.clone()
    }

    /// Serves any bytes as the channel's manifest. Gives their digest.
    pub fn serve_manifest(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let says = Says::ok(bytes).header("Docker-Content-Digest", digest.as_str());
        self.says(&format!("manifests/{digest}"), says.clone());
        self.says("manifests/prod", says);
        digest
    }

    /// Serves a bundle as a good registry does. Gives the manifest's digest.
    pub fn serve_bundle(&self, bundle: &Bundle) -> Digest {
        let digest = self.serve_manifest(&bundle.manifest().to_string().into_bytes());
        for (descriptor, content) in &bundle.layers {
            self.says(&format!("blobs/{}", descriptor["digest"].as_str().unwrap()), Says::ok(content));
        }
        digest
    }

    /// Serves these as all tags.
    pub fn lists(&self, tags: &[&str]) {
        self.says("tags/list", Says::ok(serde_json::json!({ "name": "deploy", "tags": tags }).to_string().as_bytes()));
    }

    /// Serves a bundle at a tag. Gives the manifest's digest.
    pub fn serve_at(&self, tag: &str, bundle: &Bundle) -> Digest {
        let manifest = bundle.manifest().to_string().into_bytes();
        let digest = Digest::of(&manifest);
        let says = Says::ok(&manifest).header("Docker-Content-Digest", digest.as_str());
        self.says(&format!("manifests/{digest}"), says.clone());
        self.says(&format!("manifests/{tag}"), says);
        for (descriptor, content) in &bundle.layers {
            self.says(&format!("blobs/{}", descriptor["digest"].as_str().unwrap()), Says::ok(content));
        }
        digest
    }

    /// A tag is there no more.
    pub fn forgets(&self, tag: &str) {
        self.state.lock().unwrap().answers.remove(&format!("/v2/deploy/manifests/{tag}"));
    }

    /// Method and path of each request so far.
    pub fn requests(&self) -> Vec<(Instant, String)> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How many requests there were that begin so.
    pub fn count(&self, begin: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|(_, what)| what.starts_with(begin)).count()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => lines.push(line),
            }
        }
        let mut words = lines[0].split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let says = {
            let mut state = state.lock().unwrap();
            state.requests.push((Instant::now(), format!("{method} {path}")));
            let shown = lines.iter().find_map(|line| line.trim().strip_prefix("authorization: ")).map(str::to_owned);
            state.shown.push((path.to_owned(), shown.clone()));
            let plain = path.split('?').next().unwrap_or(path);
            match &state.wants {
                Some((wanted, says)) if path.starts_with("/v2/") && shown.as_ref() != Some(wanted) => says.clone(),
                _ => [path, plain]
                    .iter()
                    .find_map(|path| state.answers.get(*path))
                    .cloned()
                    .unwrap_or_else(|| Says::status(404)),
            }
        };
        if answer(stream, method, &says).is_err() || says.end != End::Whole {
            if matches!(says.end, End::Stalls(_) | End::Silent) {
                // Until the other side gives up.
                let _ = reader.read_line(&mut String::new());
            }
            return;
        }
    }
}

fn answer(mut stream: &TcpStream, method: &str, says: &Says) -> std::io::Result<()> {
    if says.end == End::Silent {
        return Ok(());
    }
    write!(stream, "HTTP/1.1 {} x\r\n", says.status)?;
    if says.end == End::Never {
        write!(stream, "Connection: close\r\n")?;
    } else {
        write!(stream, "Content-Length: {}\r\n", says.body.len())?;
    }
    for (key, value) in &says.headers {
        write!(stream, "{key}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if method == "HEAD" {
        return Ok(());
    }
    match says.end {
        End::Whole | End::Silent => stream.write_all(&says.body),
        End::BreaksOff(sent) | End::Stalls(sent) => stream.write_all(&says.body[..sent]),
        End::Never => loop {
            stream.write_all(&says.body)?;
        },
    }
}
