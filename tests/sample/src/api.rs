//! The role that is released again and again. Its environment says how it fares: quick, slow, never healthy, crashing.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use crate::http::{self, Request, Response};

/// What the api's environment says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `VERSION`, shown in every answer.
    pub version: String,
    /// `START_DELAY_MS`: how long after its start it listens.
    pub start_delay: Duration,
    /// `BURN=1`: the delay is processor time used, not time slept.
    pub burn: bool,
    /// `MODE`.
    pub mode: Mode,
    /// `STORE`, as `host:port`: asked at each request.
    pub store: Option<String>,
    /// The content of the file `SECRET_FILE`, or `API_KEY`, when it started or last got SIGHUP; one that begins with `broken` makes it
    /// unhealthy.
    pub secret: Option<String>,
    /// How often it got SIGHUP.
    pub hangups: u32,
}

/// How the api fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Ok,
    /// Listens, and answers 503 for ever.
    NeverHealthy,
    /// Ends with code 1 in place of listening.
    Crash,
    /// Serves when its container is started for the first time, ends with code 1 whenever that is started again.
    CrashAgain,
    /// Answers 503 after so long.
    UnhealthyAfter(Duration),
}

impl Settings {
    /// Reads the environment of the process; what is absent or not understood is the default.
    pub fn from_env() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let millis = |text: &str| text.parse().map_or(Duration::ZERO, Duration::from_millis);
        let mode = match read("MODE").as_deref() {
            Some("never-healthy") => Mode::NeverHealthy,
            Some("crash") => Mode::Crash,
            Some("crash-again") => Mode::CrashAgain,
            Some(other) => {
                other.strip_prefix("unhealthy-after:").map_or(Mode::Ok, |after| Mode::UnhealthyAfter(millis(after)))
            }
            None => Mode::Ok,
        };
        Self {
            version: read("VERSION").unwrap_or_else(|| "unknown".to_owned()),
            start_delay: read("START_DELAY_MS").map_or(Duration::ZERO, |text| millis(&text)),
            burn: read("BURN").is_some_and(|value| value == "1"),
            mode,
            store: read("STORE"),
            hangups: 0,
            secret: secret_file().or_else(|| read("API_KEY")),
        }
    }
}

/// What is in the file `SECRET_FILE` now.
fn secret_file() -> Option<String> {
    std::fs::read_to_string(std::env::var("SECRET_FILE").ok()?).ok()
}

/// Says what `SAY` is, as it is, waits as told, then serves `/` and `/health` on port 8080.
pub fn run(settings: &Settings) -> io::Result<()> {
    if let Ok(words) = std::env::var("SAY") {
        println!("{words}");
    }
    if settings.burn {
        burn(settings.start_delay);
    } else {
        std::thread::sleep(settings.start_delay);
    }
    // The container's own file system tells a first start from a restart.
    let again = File::create_new("/started").is_err();
    if settings.mode == Mode::Crash || (settings.mode == Mode::CrashAgain && again) {
        return Err(io::Error::other("crashes because MODE=crash says so"));
    }
    let settings = Arc::new(Mutex::new(settings.clone()));
    let read_again = Arc::clone(&settings);
    let mut signals = Signals::new([SIGHUP])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if let (Some(secret), Ok(mut settings)) = (secret_file(), read_again.lock()) {
                settings.secret = Some(secret);
                settings.hangups += 1;
            }
        }
    });
    let started = Instant::now();
    http::serve(8080, move |request| {
        let settings = settings.lock().map_or_else(|broken| broken.into_inner().clone(), |settings| settings.clone());
        answer(&settings, started.elapsed(), request)
    })
}

fn answer(settings: &Settings, up: Duration, request: &Request) -> Response {
    let well = match settings.mode {
        Mode::Ok | Mode::CrashAgain => true,
        Mode::NeverHealthy | Mode::Crash => false,
        Mode::UnhealthyAfter(limit) => up < limit,
    };
    let well = well && !settings.secret.as_ref().is_some_and(|secret| secret.starts_with("broken"));
    let status = if well { 200 } else { 503 };
    match request.target.as_str() {
        "/health" => Response::new(status, if well { "ok\n" } else { "not well\n" }),
        // For the tests' judge, which knows what it put into the vault.
        "/secret" => match &settings.secret {
            Some(secret) => Response::new(200, secret.clone()),
            None => Response::new(404, "no secret\n"),
        },
        // As the program finds the file now, whatever it started with.
        "/secret/now" => match secret_file() {
            Some(secret) => Response::new(200, secret),
            None => Response::new(404, "no secret\n"),
        },
        "/hangups" => Response::new(200, settings.hangups.to_string()),
        "/" => {
            let schema = match settings.store.as_deref().map(|store| http::call(store, ("GET", "/keys/schema"), &[])) {
                None => "null".to_owned(),
                Some(Ok(value)) if value.status == 200 => format!("\"{}\"", value.text().trim()),
                Some(Ok(value)) => return Response::new(503, format!("the store answered {}\n", value.status)),
                Some(Err(error)) => return Response::new(503, format!("the store is not reached: {error}\n")),
            };
            let (version, pid) = (&settings.version, std::process::id());
            let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
            let host = host.trim();
            let body = format!("{{\"version\":\"{version}\",\"pid\":{pid},\"host\":\"{host}\",\"schema\":{schema}}}\n");
            Response::new(status, body)
        }
        other => Response::new(404, format!("no `{other}` here\n")),
    }
}

/// Uses `amount` of processor time, or passes it where the kernel does not count per thread.
fn burn(amount: Duration) {
    let started = Instant::now();
    let used = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    let before = used().unwrap_or_default();
    while used().map_or(started.elapsed(), |now| now.saturating_sub(before)) < amount {
        std::hint::black_box((0..10_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_answers_as_named() {
        let seconds = Duration::from_secs;
        for (mode, up, status) in [
            (Mode::Ok, seconds(900), 200),
            (Mode::NeverHealthy, seconds(900), 503),
            (Mode::UnhealthyAfter(seconds(5)), seconds(4), 200),
            (Mode::UnhealthyAfter(seconds(5)), seconds(6), 503),
        ] {
            let settings = Settings {
                version: "v1".into(),
                start_delay: Duration::ZERO,
                burn: false,
                mode,
                store: None,
                secret: None,
                hangups: 0,
            };
            for target in ["/", "/health"] {
                let request = Request { method: "GET".into(), target: target.into(), body: Vec::new() };
                assert_eq!(answer(&settings, up, &request).status, status, "{mode:?} {target}");
            }
        }
    }
}
