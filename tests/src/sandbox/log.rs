//! The requests that the sandbox saw, from which a test counts them. A token is named by its fingerprint, so that a log shown
//! in a report is no place where a token can be found.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Service;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since the epoch, by the machine's clock: jumps of the sandbox's own do not show.
    pub at_ms: u64,
    /// Who was asked.
    pub service: Service,
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Whose token it showed, or who IMDS gave one to.
    pub identity: Option<String>,
    /// The first 12 hex digits of the token's sha256.
    pub token: Option<String>,
    /// None where the connection was closed or hangs.
    pub status: Option<u16>,
    /// The client's address.
    pub remote: String,
    /// Counts connections, from 1.
    pub connection: u64,
    /// Who the client says it is.
    pub user_agent: String,
}

impl Entry {
    /// Without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// The most requests within any span of that length.
pub fn busiest(entries: &[Entry], span: Duration) -> usize {
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let ends =
        |first: &Entry| entries.iter().filter(|e| e.at_ms >= first.at_ms && e.at_ms - first.at_ms < span).count();
    entries.iter().map(ends).max().unwrap_or(0)
}

/// Those of one service.
pub fn of(entries: &[Entry], service: &Service) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.service == *service).cloned().collect()
}

/// The status codes, 0 where there was no answer.
pub fn statuses(entries: &[Entry]) -> Vec<u16> {
    entries.iter().map(|entry| entry.status.unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_minute_is_any_minute() {
        let at = |seconds: u64| Entry {
            at_ms: seconds * 1000,
            service: Service::Imds,
            method: "GET".to_owned(),
            target: "/a?b".to_owned(),
            identity: None,
            token: None,
            status: Some(200),
            remote: String::new(),
            connection: 1,
            user_agent: String::new(),
        };
        let entries: Vec<Entry> = [0, 50, 70, 100, 109, 200].into_iter().map(at).collect();
        assert_eq!(busiest(&entries, Duration::from_mins(1)), 4);
        assert_eq!(busiest(&[], Duration::from_mins(1)), 0);
        assert_eq!(entries[0].path(), "/a");
        assert_eq!(of(&entries, &Service::vault("one")), []);
    }
}
