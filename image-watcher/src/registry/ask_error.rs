//! Why a registry gave no answer, for people and for the back-off.

use std::fmt;
use std::time::Duration;

use landfall_core::clock_doubt::{SEE_THE_CLOCK, doubts_the_clock};

/// Why there is no answer. Each is worth another try later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No connection, no answer in time, or a broken one.
    #[error("`{registry}` cannot be reached: {why}; {}", way_on(why))]
    Unreachable {
        /// Which.
        registry: String,
        /// What happened.
        why: String,
    },
    /// It is busy, or has trouble of its own.
    #[error("`{registry}` answered {status}; nothing to do here, it is asked again later")]
    Busy {
        /// Which.
        registry: String,
        /// What it said.
        status: u16,
        /// What it asked for.
        retry_after: Option<Duration>,
    },
    /// There is no such thing.
    #[error("`{registry}` has no {what}; {next}")]
    NotFound {
        /// Which.
        registry: String,
        /// What was asked for.
        what: String,
        /// What to do.
        next: Next,
    },
    /// It wants credentials.
    #[error("`{registry}` does not let us read {what}: {why}")]
    Denied {
        /// Which.
        registry: String,
        /// What was asked for.
        what: String,
        /// Which credential, and what to do.
        why: String,
    },
    /// It answered, but not what was asked for.
    #[error("`{registry}` sent a wrong answer for {what}: {why}; check the registry or the proxy before it")]
    Wrong {
        /// Which.
        registry: String,
        /// What was asked for.
        what: String,
        /// What is wrong.
        why: String,
    },
}

/// What a person does where a registry has no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A tag, or a repository, that a channel names.
    Publish,
    /// The tag of an image.
    Push,
    /// A part of something that was published.
    PublishAgain,
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish a release there, or correct `channel` in landfall.yaml",
            Self::Push => "push that image, or correct `channel` in landfall.yaml or the compose file on this machine",
            Self::PublishAgain => "it was published and is not whole there any more: publish it again",
        })
    }
}

fn way_on(why: &str) -> &'static str {
    if doubts_the_clock(why) { SEE_THE_CLOCK } else { "check the network and the registry" }
}

impl AskError {
    /// As it is told where an image was asked for.
    #[must_use]
    pub fn of_image(self) -> Self {
        match self {
            Self::NotFound { registry, what, next: Next::Publish | Next::Push } => {
                Self::NotFound { registry, what, next: Next::Push }
            }
            other @ (Self::NotFound { .. }
            | Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Denied { .. }
            | Self::Wrong { .. }) => other,
        }
    }

    /// How long the registry wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::NotFound { .. } | Self::Denied { .. } | Self::Wrong { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_depends_on_what_was_asked_for() {
        let error = |next| AskError::NotFound { registry: "r".into(), what: "x".into(), next };
        for (error, wanted) in [
            (error(Next::Publish), "`r` has no x; publish a release there, or correct `channel` in landfall.yaml"),
            (error(Next::Publish).of_image(), "`r` has no x; push that image, or correct `channel` in"),
            (error(Next::PublishAgain).of_image(), "`r` has no x; it was published and is not whole there any more"),
        ] {
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }

    /// A machine whose clock is wrong reaches nobody.
    #[test]
    fn a_certificate_of_another_time_leads_to_the_clock() {
        for (why, next) in [
            ("refused", "check the network and the registry"),
            ("invalid peer certificate: certificate expired", SEE_THE_CLOCK),
            ("invalid peer certificate: certificate not valid yet", SEE_THE_CLOCK),
        ] {
            let error = AskError::Unreachable { registry: "r".into(), why: why.into() };
            assert_eq!(error.to_string(), format!("`r` cannot be reached: {why}; {next}"));
        }
    }
}
