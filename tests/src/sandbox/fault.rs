//! What goes wrong on demand: for which service and path, how often, and how. Values only; the door and the services ask.

use landfall_sample::http::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::wire;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The metadata service of the VM.
    Imds,
    /// The Key Vault of that name.
    Vault(String),
}

impl Service {
    /// The Key Vault of that name.
    pub fn vault(name: &str) -> Self {
        Self::Vault(name.to_owned())
    }
}

/// Which requests a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// All, also those without a token.
    Door,
    /// Those that show a good token (of IMDS: a good request).
    Inside,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The connection is closed without an answer.
    Close,
    /// There is no answer until the client gives up.
    Hang,
    /// This answer instead.
    Answer {
        /// The status code.
        status: u16,
        /// With names as they go over the wire.
        headers: Vec<(String, String)>,
        /// Whatever it says it is.
        body: String,
    },
    /// The right answer with half of its body, then the connection is closed.
    CutOff,
    /// Half of the right body as a whole answer: JSON that ends in the middle.
    Garbled,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose.
    pub service: Service,
    /// Where the path of the request begins; empty: all.
    pub path: String,
    /// Which requests.
    pub stage: Stage,
    /// How many more; none: until the faults are cleared.
    pub left: Option<u32>,
    /// What goes wrong.
    pub trouble: Trouble,
}

impl Fault {
    /// Until cleared, of all paths. What breaks a connection meets all requests, an answer those that show a token.
    pub fn new(service: Service, trouble: Trouble) -> Self {
        let stage = match trouble {
            Trouble::Close | Trouble::Hang => Stage::Door,
            Trouble::Answer { .. } | Trouble::CutOff | Trouble::Garbled => Stage::Inside,
        };
        Self { service, path: String::new(), stage, left: None, trouble }
    }

    /// An error of Key Vault with its own words: 429 and 5xx have some.
    pub fn of_vault(vault: &str, status: u16, retry_after: Option<&str>) -> Self {
        let (code, message) = match status {
            429 => ("Throttled", "Request was not processed because too many requests were received."),
            503 => ("ServiceUnavailable", "The service is temporarily unavailable."),
            _ => ("InternalServerError", "The server encountered an internal error."),
        };
        let body = json!({ "error": { "code": code, "message": message } });
        Self::new(
            Service::vault(vault),
            answer(status, retry_after, "application/json; charset=utf-8", body.to_string()),
        )
    }

    /// An error of IMDS with its own words.
    pub fn of_imds(status: u16, retry_after: Option<&str>) -> Self {
        let (code, description) = match status {
            400 => ("invalid_request", "Identity not found"),
            404 => ("not_found", "The endpoint is being updated"),
            410 => ("gone", "The service is going through updates"),
            429 => ("too_many_requests", "Temporarily throttled, too many requests"),
            _ => ("unknown", "Failed to retrieve token from the Active directory."),
        };
        let body = json!({ "error": code, "error_description": description });
        Self::new(Service::Imds, answer(status, retry_after, "application/json; charset=utf-8", body.to_string()))
    }

    /// What a proxy or portal in between answers: HTML.
    pub fn html(service: Service, status: u16) -> Self {
        Self::new(service, answer(status, None, "text/html", "<!doctype html><title>Sign in</title>".to_owned()))
    }

    /// Only so often.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.left = Some(count);
        self
    }

    /// Only where the path begins so.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// All requests, also those without a token.
    #[must_use]
    pub fn at_the_door(mut self) -> Self {
        self.stage = Stage::Door;
        self
    }
}

fn answer(status: u16, retry_after: Option<&str>, content_type: &str, body: String) -> Trouble {
    let mut headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
    headers.extend(retry_after.map(|value| ("Retry-After".to_owned(), value.to_owned())));
    Trouble::Answer { status, headers, body }
}

/// The faults in force, in the order in which they were told.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// One more.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// None any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The first that meets this request, counted down.
    pub fn take(&mut self, service: &Service, path: &str, stage: Stage) -> Option<Trouble> {
        let met =
            |f: &Fault| f.service == *service && f.stage == stage && path.starts_with(&f.path) && f.left != Some(0);
        let fault = self.0.iter_mut().find(|fault| met(fault))?;
        fault.left = fault.left.map(|left| left - 1);
        Some(fault.trouble.clone())
    }
}

/// What is sent: how much, and whether the connection is kept behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// This answer, whole.
    Whole(Response),
    /// This answer, cut off.
    CutOff(Response),
    /// The connection is closed.
    Close,
    /// Nothing.
    Hang,
}

/// What becomes of the right answer. It is made only where it is needed.
pub fn deliver(trouble: Option<Trouble>, right: impl FnOnce() -> Response) -> Delivery {
    match trouble {
        None => Delivery::Whole(right()),
        Some(Trouble::Close) => Delivery::Close,
        Some(Trouble::Hang) => Delivery::Hang,
        Some(Trouble::Answer { status, headers, body }) => {
            Delivery::Whole(Response { status, headers, body: body.into_bytes() })
        }
        Some(Trouble::CutOff) => Delivery::CutOff(right()),
        Some(Trouble::Garbled) => {
            let mut response = right();
            response.body.truncate(response.body.len() / 2);
            Delivery::Whole(response)
        }
    }
}

impl Delivery {
    /// The status that goes over the wire.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Whole(response) | Self::CutOff(response) => Some(response.status),
            Self::Close | Self::Hang => None,
        }
    }

    /// The answer and how much of it, if there is one.
    pub fn response(&self) -> Option<(&Response, wire::Share)> {
        match self {
            Self::Whole(response) => Some((response, wire::Share::Whole)),
            Self::CutOff(response) => Some((response, wire::Share::Half)),
            Self::Close | Self::Hang => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_its_service_path_and_stage_so_often() {
        let mut faults = Faults::default();
        faults.add(Fault::of_vault("one", 429, Some("3")).below("/secrets/a").times(2));
        let one = Service::vault("one");
        assert_eq!(faults.take(&Service::Imds, "/secrets/a/", Stage::Inside), None);
        assert_eq!(faults.take(&Service::vault("two"), "/secrets/a/", Stage::Inside), None);
        assert_eq!(faults.take(&one, "/secrets/b", Stage::Inside), None);
        assert_eq!(faults.take(&one, "/secrets/a/", Stage::Door), None);
        for _ in 0..2 {
            let trouble = faults.take(&one, "/secrets/a/", Stage::Inside).unwrap();
            assert!(matches!(trouble, Trouble::Answer { status: 429, .. }));
        }
        assert_eq!(faults.take(&one, "/secrets/a/", Stage::Inside), None);
    }

    #[test]
    fn without_a_count_a_fault_stays_until_it_is_cleared() {
        let mut faults = Faults::default();
        faults.add(Fault::new(Service::Imds, Trouble::Hang));
        for _ in 0..9 {
            assert_eq!(faults.take(&Service::Imds, "/x", Stage::Door), Some(Trouble::Hang));
        }
        faults.clear();
        assert_eq!(faults.take(&Service::Imds, "/x", Stage::Door), None);
    }

    #[test]
    fn a_garbled_answer_is_half_of_the_right_one() {
        let right = || Response::new(200, "{\"a\":1}");
        assert_eq!(deliver(Some(Trouble::Garbled), right), Delivery::Whole(Response::new(200, "{\"a")));
        assert_eq!(deliver(Some(Trouble::CutOff), right), Delivery::CutOff(right()));
        assert_eq!(deliver(None, right).status(), Some(200));
        assert_eq!(deliver(Some(Trouble::Close), right).status(), None);
    }
}
