//! A store of outcomes as a user might run it, which answers by a script: each question takes the next answer, the last one
//! stays. What it was asked is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// One answer. `RELEASE` in it is the id that was asked for.
#[derive(Clone)]
pub enum Says {
    /// Status, more headers (each with its line end), body.
    Whole(u16, String, String),
    /// Nothing, and the connection stays.
    Hangs,
    /// A body that does not end.
    Endless,
}

impl Says {
    pub fn status(status: u16) -> Self {
        Self::Whole(status, String::new(), String::new())
    }

    pub fn header(status: u16, header: &str) -> Self {
        Self::Whole(status, format!("{header}\r\n"), String::new())
    }

    pub fn body(text: &str) -> Self {
        Self::Whole(200, String::new(), text.to_owned())
    }
}

/// What was asked, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub target: String,
    /// The `Authorization` that was shown.
    pub shown: Option<String>,
}

pub struct Store {
    /// `127.0.0.1:port`.
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Store {
    pub fn start(script: Vec<Says>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let store = Self { host: listener.local_addr().expect("an address").to_string(), asked: Arc::default() };
        let asked = Arc::clone(&store.asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, script) = (Arc::clone(&asked), script.clone());
                std::thread::spawn(move || serve(stream, &asked, &script));
            }
        });
        store
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>, script: &[Says]) {
    let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
    let head: Vec<String> = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(target) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let shown = head.iter().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
    let says = {
        let mut asked = asked.lock().expect("not poisoned");
        asked.push(Asked { at: Instant::now(), target: target.to_owned(), shown });
        script[(asked.len() - 1).min(script.len() - 1)].clone()
    };
    let release = target.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    // A client that gave up is no fault of ours.
    let _ = match says {
        Says::Whole(status, headers, body) => {
            let (headers, body) = (headers.replace("RELEASE", release), body.replace("RELEASE", release));
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            )
        }
        Says::Hangs => reader.read_line(&mut String::new()).map(drop),
        Says::Endless => (|| {
            write!(stream, "HTTP/1.1 200 -\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        })(),
    };
}
