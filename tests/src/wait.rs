//! Waiting on a condition with a deadline: the only place of the tests that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(40);
/// Between two looks at what is over in a fraction of a second.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// Looks until `look` is `Ok`; past the deadline the error says what was waited for and what was seen last.
pub fn eventually<T>(deadline: Duration, what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    look_every(PAUSE, deadline, what, look)
}

/// As [`eventually`], looking so often that what lives for some 100 ms is met near its beginning.
pub fn closely<T>(deadline: Duration, what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    look_every(SHORT_PAUSE, deadline, what, look)
}

/// Returns at that moment: for a kill at a chosen offset, never to hope that something has happened.
pub fn until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn look_every<T>(pause: Duration, deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > deadline => {
                bail!("not within {} s: {what}; last seen: {error:#}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
    }
}

/// Looks for the whole of `duration`; the first `Err` ends it.
pub fn throughout(duration: Duration, what: &str, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < duration {
        if let Err(error) = look() {
            bail!("{what} did not hold, after {:.1} s: {error:#}", started.elapsed().as_secs_f32());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
