//! What a client outside sees: a request at a steady pace, each answer with its time. It never tries again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use landfall_sample::http;
use serde_json::Value;

/// A client that asks until it is dropped.
#[derive(Debug)]
pub struct Prober {
    seen: Arc<Mutex<Vec<Probe>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Probe {
    /// When it was sent.
    pub sent: Instant,
    /// When its answer was there, or was known not to come.
    pub ended: Instant,
    /// What came.
    pub answer: Result<Served, String>,
}

/// What the sample's api answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `VERSION` of the image.
    pub version: String,
    /// The first 12 digits of the id of the container that answered.
    pub container: String,
    /// The proxy's `X-Site`.
    pub site: String,
}

impl Prober {
    /// Asks `url` every `pace`, or as soon as the last answer is there if that took longer.
    pub fn start(url: &str, pace: Duration) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (url, sink, end) = (url.to_owned(), Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                let sent = Instant::now();
                let answer = ask(&url);
                let probe = Probe { sent, ended: Instant::now(), answer };
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
                std::thread::sleep(pace.saturating_sub(sent.elapsed()));
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// All requests up to now.
    pub fn probes(&self) -> Vec<Probe> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests sent since `start` that got no good answer.
    pub fn failures(&self, start: Instant) -> Vec<Probe> {
        let mut probes = self.probes();
        probes.retain(|probe| probe.sent >= start && probe.answer.is_err());
        probes
    }

    /// The longest time since `start` between two good answers, the present counted as one.
    pub fn gap(&self, start: Instant) -> Duration {
        let good = self.probes().into_iter().filter(|p| p.ended >= start && p.answer.is_ok()).map(|p| p.ended);
        let mut last = start;
        let mut longest = Duration::ZERO;
        for time in good.chain([Instant::now()]) {
            longest = longest.max(time.saturating_duration_since(last));
            last = time;
        }
        longest
    }

    /// The versions served since `start`, in order, each once per run of it.
    pub fn versions(&self, start: Instant) -> Vec<String> {
        let probes = self.probes().into_iter().filter(|probe| probe.sent >= start);
        let mut versions: Vec<String> = probes.filter_map(|probe| Some(probe.answer.ok()?.version)).collect();
        versions.dedup();
        versions
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed where it happened.
            let _ = thread.join();
        }
    }
}

/// One request to the sample.
pub fn ask(url: &str) -> Result<Served, String> {
    let answer = http::get(url).map_err(|error| error.to_string())?;
    let site = answer.header("x-site").unwrap_or_default().to_owned();
    if answer.status != 200 {
        return Err(format!("{} {}", answer.status, answer.text().trim()));
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Ok(Served { version: text("version"), container: text("host"), site })
}
