//! The store of outcomes that the user runs, asked over HTTP: `GET U/<ReleaseId>`. Nothing that it says is believed here;
//! what is read is bounded, every request has a deadline, and its token is shown to the store's own host only.

use std::time::Duration;

use jiff::Timestamp;
use landfall_core::config::is_loopback;
use landfall_core::ids::{ReleaseId, printable};
use landfall_core::outcome::OUTCOME_LIMIT;
use landfall_core::retry_after::retry_after;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};

use crate::failure::{Exit, Failed, chain};

/// Has the token that is shown to the store, where it wants one.
pub const TOKEN: &str = "LANDFALL_WAIT_TOKEN";

/// For a connection to stand.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For one request, redirects and the whole body included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// How often a store may send us on in one request.
const REDIRECTS: usize = 4;
/// How much is shown of what went wrong.
const TEXT: usize = 300;

/// Where outcomes are asked for: `https`, or `http` on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl(Url);

/// What the store said to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It knows nothing of this release yet.
    NotYet,
    /// This, of at most [`OUTCOME_LIMIT`] bytes.
    Document(Vec<u8>),
    /// It gave no answer, this time; perhaps it said how long it wants to be left alone.
    Trouble(String, Option<Duration>),
    /// It will not answer us, however often it is asked.
    Closed(String),
}

/// A store that can be asked.
#[derive(Debug)]
pub struct Store {
    url: StoreUrl,
    client: Client,
}

impl StoreUrl {
    /// Parses what was typed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url: Url = text.parse().map_err(|error| format!("{error}; expected `https://host/path`"))?;
        let loopback = is_loopback(url.host_str().unwrap_or_default());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err("expected `https://`; only a store on loopback is asked by `http://`".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(format!("expected an address without user and fragment; a token goes into {TOKEN}"));
        }
        Ok(Self(url))
    }

    fn of(&self, release: &ReleaseId) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(release.as_str());
        }
        url
    }

    fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

/// Without its query, which may hold a key.
impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}{}", self.0.scheme(), self.host(), self.0.path())
    }
}

impl Store {
    /// With the token that it wants, where it wants one. Nothing is asked yet.
    pub fn new(url: &StoreUrl, token: Option<&str>) -> Result<Self, Failed> {
        // Fails only where a provider is installed already, which then is this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failed::usage(format!("`{TOKEN}` has characters that no header can carry")))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let has_token = token.is_some();
        let mut client = Client::builder()
            .user_agent(concat!("landfall/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_DEADLINE)
            .redirect(Policy::custom(move |attempt| redirected(attempt, has_token)));
        if is_loopback(url.host()) {
            // A proxy of the environment cannot reach our loopback.
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| Failed::new(Exit::Failed, format!("cannot set up TLS for `{url}`: {}", chain(&error))))?;
        Ok(Self { url: url.clone(), client })
    }

    /// Where it is.
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// Asks once, for at most `most`.
    pub async fn ask(&self, release: &ReleaseId, most: Duration) -> Answer {
        let deadline = most.min(REQUEST_DEADLINE);
        match tokio::time::timeout(deadline, self.exchange(release)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Trouble(format!("it gave no whole answer within {:.0} s", deadline.as_secs_f64()), None),
        }
    }

    async fn exchange(&self, release: &ReleaseId) -> Answer {
        let response = match self.client.get(self.url.of(release)).send().await {
            Ok(response) => response,
            // The address may hold a key.
            Err(error) => return Answer::Trouble(printable(&chain(&error.without_url()), TEXT), None),
        };
        let status = response.status();
        match status {
            StatusCode::OK => body(response).await,
            StatusCode::NOT_FOUND => Answer::NotYet,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Answer::Closed(format!("it answered {} and wants another `{TOKEN}`", status.as_u16()))
            }
            _ => {
                let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let pause = header.and_then(|text| retry_after(text, Timestamp::now()));
                Answer::Trouble(format!("it answered {}", status.as_u16()), pause)
            }
        }
    }
}

/// Never off TLS, and with a token never to another host: a redirect must not be a way to get it.
fn redirected(attempt: Attempt<'_>, has_token: bool) -> reqwest::redirect::Action {
    let (to, from) = (attempt.url(), attempt.previous().last());
    let same = from.is_some_and(|from| from.origin() == to.origin());
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} redirects"))
    } else if same || (!has_token && to.scheme() == "https") {
        attempt.follow()
    } else {
        let why = format!("a redirect to `{}`, which is not followed", to.host_str().unwrap_or_default());
        attempt.error(why)
    }
}

async fn body(mut response: Response) -> Answer {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > OUTCOME_LIMIT => {
                return Answer::Trouble(format!("it sent more than {OUTCOME_LIMIT} bytes"), None);
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Answer::Document(bytes),
            Err(error) => return Answer::Trouble(printable(&chain(&error.without_url()), TEXT), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_reached_by_tls_and_keys_in_their_address_are_not_shown() {
        let release: ReleaseId = "ab".repeat(32).parse().expect("an id");
        for (typed, asked, shown) in [
            ("https://s.example/o", "https://s.example/o/RELEASE", "https://s.example/o"),
            ("https://s.example/o/?code=k", "https://s.example/o/RELEASE?code=k", "https://s.example/o/"),
            ("https://s.example:8443", "https://s.example:8443/RELEASE", "https://s.example:8443/"),
            ("http://127.0.0.1:80/x", "http://127.0.0.1/x/RELEASE", "http://127.0.0.1/x"),
            ("http://localhost:8080", "http://localhost:8080/RELEASE", "http://localhost:8080/"),
            ("http://[::1]:8080/", "http://[::1]:8080/RELEASE", "http://[::1]:8080/"),
        ] {
            let url = StoreUrl::parse(typed).expect(typed);
            assert_eq!(url.of(&release).as_str(), asked.replace("RELEASE", release.as_str()));
            assert_eq!(url.to_string(), shown);
        }
        for bad in [
            "s.example/o",
            "http://s.example/o",
            "http://127.0.0.1.s.example/",
            "ftp://s.example/",
            "https://u@s.example/",
            "https://u:p@s.example/",
            "https://s.example/#o",
            "https://",
            "",
        ] {
            assert!(StoreUrl::parse(bad).is_err(), "{bad}");
        }
        assert!(Store::new(&StoreUrl::parse("https://s.example").expect("valid"), Some("a\nb")).is_err());
    }
}
