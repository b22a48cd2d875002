//! Waiting on a condition with a deadline: the only place of the tests that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks until `look` is `Ok`; past the deadline the error says what was waited for and what was seen last.
pub fn eventually<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > deadline => {
                bail!("not within {} s: {what}; last seen: {error:#}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(PAUSE),
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
