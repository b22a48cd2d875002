//! Load at a fixed rate, whatever becomes of the answers: request `n` is due `n / rate` after the start, and a slow
//! answer delays none of the others. A request is sent once and never again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::prober::{Probe, Served, ask};

/// An answer that takes longer is a failure.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Requests under way at once. If all are, the next is sent late, and its time counts from when it was due.
const WORKERS: usize = 100;
/// Of a worker's stack: it asks and parses one short answer.
const STACK_BYTES: usize = 256 << 10;

/// Load until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    started: Instant,
    between: Duration,
    next: AtomicU32,
    stop: AtomicBool,
    seen: Mutex<Vec<Probe>>,
}

/// All requests of a time and what became of them, in the order in which they were due.
#[derive(Debug, Clone)]
pub struct Answers(pub Vec<Probe>);

impl Load {
    /// Sends `per_second` requests a second to `url` from now on.
    pub fn start(url: &str, per_second: u32) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            started: Instant::now(),
            between: Duration::from_secs(1) / per_second,
            next: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
        });
        let mut load = Self { shared, workers: Vec::new() };
        for _ in 0..WORKERS {
            let shared = Arc::clone(&load.shared);
            let worker = std::thread::Builder::new().stack_size(STACK_BYTES);
            load.workers.push(worker.spawn(move || shared.work(ask))?);
        }
        Ok(load)
    }

    /// What was answered up to now; requests under way are not in it.
    pub fn so_far(&self) -> Answers {
        self.shared.answers()
    }

    /// Sends no more, waits for what is under way, and says how it went.
    pub fn stop(mut self) -> Answers {
        self.end();
        self.shared.answers()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            // A panic in the thread has been printed where it happened.
            let _ = worker.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn work(&self, ask: impl Fn(&str) -> Result<Served, String>) {
        while !self.stop.load(Ordering::SeqCst) {
            let due = self.started + self.between * self.next.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = ask(&self.url);
            let probe = Probe { sent: due, ended: Instant::now(), answer };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
        }
    }

    fn answers(&self) -> Answers {
        let mut probes = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        probes.sort_by_key(|probe| probe.sent);
        Answers(probes)
    }
}

impl Answers {
    /// What a client would complain of, in words: no answer, one that is not 200, or one after more than [`LIMIT`].
    pub fn failures(&self) -> Vec<String> {
        let Some(first) = self.0.first() else { return Vec::new() };
        let complaint = |probe: &Probe| {
            let took = probe.ended.saturating_duration_since(probe.sent);
            let why = match &probe.answer {
                Err(why) => why.clone(),
                Ok(served) if took > LIMIT => format!("{} answered late", served.version),
                Ok(_) => return None,
            };
            let at = probe.sent.saturating_duration_since(first.sent).as_secs_f64();
            Some(format!("at {at:.3} s, after {:.3} s: {why}", took.as_secs_f64()))
        };
        self.0.iter().filter_map(complaint).collect()
    }

    /// The versions that answered, each once, by their first answer: while two serve, they take turns.
    pub fn versions(&self) -> Vec<&str> {
        let mut known = BTreeSet::new();
        let versions = self.0.iter().filter_map(|probe| Some(probe.answer.as_ref().ok()?.version.as_str()));
        versions.filter(|version| known.insert(*version)).collect()
    }
}

#[cfg(test)]
mod tests {
    use landfall_sample::http::{self, Response};

    use super::*;
    use crate::ports;
    use crate::wait::eventually;

    /// A server whose `/` behaves as the sample's api: every third answer is 503, the first takes over a second.
    fn server() -> String {
        let port = ports::free().unwrap();
        let count = AtomicU32::new(0);
        let answer = move || match count.fetch_add(1, Ordering::SeqCst) {
            0 => {
                std::thread::sleep(LIMIT + Duration::from_millis(50));
                Response::new(200, "{\"version\":\"v1\"}")
            }
            number if number % 3 == 2 => Response::new(503, "busy"),
            number => Response::new(200, format!("{{\"version\":\"v{}\"}}", 1 + number % 3)),
        };
        std::thread::spawn(move || http::serve(port, move |_| answer()));
        let url = format!("http://127.0.0.1:{port}/");
        eventually(LIMIT, "the server listens", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).map(drop)?))
            .unwrap();
        url
    }

    #[test]
    fn a_slow_answer_delays_no_other_and_each_failure_is_told() {
        let load = Load::start(&server(), 100).unwrap();
        eventually(LIMIT * 10, "150 answers", || {
            let count = load.so_far().0.len();
            anyhow::ensure!(count >= 150, "{count}");
            Ok(())
        })
        .unwrap();
        let answers = load.stop();
        let failures = answers.failures();
        let late = failures.iter().filter(|text| text.contains("v1 answered late")).count();
        let busy = failures.iter().filter(|text| text.contains("503 busy")).count();
        assert!(late >= 1, "{failures:?}");
        assert_eq!(busy, answers.0.len() / 3, "{failures:?}");
        assert_eq!(failures.len(), late + busy, "{failures:?}");
        assert_eq!(BTreeSet::from_iter(answers.versions()), BTreeSet::from(["v1", "v2"]));
        // Also while the slow one was under way.
        let due: Vec<_> = answers.0.iter().map(|probe| probe.sent).collect();
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(10)), "requests are missing");
    }
}
