//! What is on: who opened it, why, and until when. Pure. Its end is counted by how long the machine is up, and shown by its clock.

use jiff::{SignedDuration, Timestamp};
use landfall_core::ids::printable;
use serde::{Deserialize, Serialize};

use super::On;
use crate::terminal::age;

/// The form of the file.
const FORMAT: u32 = 1;
/// The longest text that is shown of it.
const TEXT: usize = 300;

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    format: u32,
    /// Who typed it.
    pub who: String,
    /// The reason.
    pub why: String,
    /// When it ends, by the clock.
    pub until: String,
    /// Where visitors are led.
    pub to: String,
    /// When it ends, in seconds since the machine started.
    ends_at_s: i64,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glass {
    /// Nothing is open.
    Off,
    /// It is open.
    On(Box<Opened>),
    /// Somebody wrote into the file.
    Garbled(String),
}

impl Opened {
    /// From now on, at that uptime.
    pub fn new(who: String, on: &On, now: Timestamp, uptime: SignedDuration) -> Self {
        let period = SignedDuration::try_from(on.period).unwrap_or(SignedDuration::MAX);
        Self {
            format: FORMAT,
            who,
            why: printable(&on.why, TEXT),
            until: now.saturating_add(period).unwrap_or(Timestamp::MAX).to_string(),
            to: on.to.to_string(),
            ends_at_s: uptime.as_secs().saturating_add(period.as_secs()),
        }
    }

    /// Reads the file. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match serde_json::from_str::<Self>(text) {
            Ok(opened) if opened.format == FORMAT => Ok(opened),
            Ok(opened) => Err(format!("it has format {}", opened.format)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether it has to end, at that uptime.
    pub fn is_over(&self, uptime: SignedDuration) -> bool {
        uptime.as_secs() >= self.ends_at_s
    }

    /// Variables of the unit. Nothing but an address is in them.
    pub fn environment(&self) -> String {
        format!("LANDFALL_BREAK_GLASS_TO={}\n", self.to)
    }
}

impl Glass {
    /// Whether it is open and visitors are led there.
    pub fn leads_to(&self, to: &str) -> bool {
        match self {
            Self::On(opened) => opened.to == to,
            Self::Off | Self::Garbled(_) => false,
        }
    }

    /// For people; how much longer only where it is told what time it is.
    pub fn said(&self, now: Option<&Timestamp>) -> String {
        match self {
            Self::Off => "break-glass is off".to_owned(),
            Self::On(opened) => {
                let left = now.and_then(|now| age(&opened.until, &now.to_string()));
                let left = left.map(|left| format!(" ({left} more)")).unwrap_or_default();
                format!(
                    "break-glass is on until {}{left}, by {}: {}; visitors of port 80 are led to {}; next: `sudo landfall break-glass off --why \"…\"`",
                    opened.until, opened.who, opened.why, opened.to
                )
            }
            Self::Garbled(why) => format!(
                "break-glass is on, and nobody can read until when: {why}; next: `sudo landfall break-glass off --why \"…\"`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn opened() -> Opened {
        let on = On {
            why: "the tunnel\nis down".to_owned(),
            period: Duration::from_mins(30),
            to: "127.0.0.1:8080".parse().unwrap(),
        };
        Opened::new("ops".to_owned(), &on, "2026-05-04T10:00:00Z".parse().unwrap(), SignedDuration::from_secs(100))
    }

    #[test]
    fn what_is_on_is_told_with_its_end_and_its_reason_on_one_line() {
        let said = Glass::On(Box::new(opened())).said(Some(&"2026-05-04T10:10:00Z".parse().unwrap()));
        let expected = "break-glass is on until 2026-05-04T10:30:00Z (20m more), by ops: the tunnel\\nis down; visitors of port 80 \
                        are led to 127.0.0.1:8080; next: `sudo landfall break-glass off --why \"…\"`";
        assert_eq!(said, expected);
    }

    #[test]
    fn it_ends_by_the_time_that_the_machine_is_up() {
        for (uptime, over) in [(100, false), (1899, false), (1900, true), (9999, true)] {
            assert_eq!(opened().is_over(SignedDuration::from_secs(uptime)), over, "{uptime}");
        }
    }

    #[test]
    fn the_file_is_read_as_it_was_written_and_another_form_is_not() {
        let text = serde_json::to_string(&opened()).unwrap();
        assert_eq!(Opened::parse(&text), Ok(opened()));
        for text in [text.replace("\"format\":1", "\"format\":2"), text.replace("who", "whom"), String::new()] {
            assert!(Opened::parse(&text).is_err(), "{text}");
        }
        assert!(Glass::On(Box::new(opened())).leads_to("127.0.0.1:8080"));
        assert!(!Glass::On(Box::new(opened())).leads_to("127.0.0.1:8081"));
    }
}
