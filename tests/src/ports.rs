//! Free ports on the loopback, below the range from which the kernel takes the ports of outgoing connections: a probe
//! could otherwise sit on a port between our look and the bind.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, anyhow};

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// The first of so many ports in a row that nobody listens on.
pub fn free_range(count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = free()?;
        // Those between are handed out to nobody else.
        let rest = (1..count).map(|_| free()).collect::<Result<Vec<_>>>()?;
        if rest.iter().zip(first + 1..).all(|(port, next)| *port == next) {
            return Ok(first);
        }
    }
    Err(anyhow!("no {count} free ports in a row between {FIRST} and {}", FIRST + COUNT))
}

/// A port that nobody listens on and that this process hands out once.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another test run at the same time begins elsewhere.
    let start = u16::try_from(u32::from(COUNT).min(std::process::id() * 97 % u32::from(COUNT)))?;
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::SeqCst) % COUNT) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| anyhow!("no free port between {FIRST} and {}", FIRST + COUNT))
}
