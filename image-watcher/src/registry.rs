//! The one HTTP client: asks registries for manifests and blobs over kept-alive connections. Every answer has a deadline
//! and a size limit, and the digest of every byte is verified here, whatever a header says. It keeps no state but its
//! connections, what gets us in, and when a registry wants to be left alone, and decides nothing about releases.

mod access;
mod ask_error;
pub mod challenge;
mod connect;
pub mod pacer;
mod tags_list;

use std::time::Duration;

use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use jiff::Timestamp;
use landfall_core::config::{Channel, Settings};
use landfall_core::credential::Credential;
use landfall_core::ids::{Digest, printable};
use landfall_core::retry_after::retry_after;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::manifest::{Blob, MANIFEST_LIMIT};
use access::{Access, Accesses, Way};
pub use ask_error::{AskError, Next};
use challenge::{Challenge, Token};
use connect::{Body, Connections};
use pacer::Pacers;

/// From the request to the last byte of an answer.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
const MANIFEST_DEADLINE: Duration = Duration::from_secs(30);
const BLOB_DEADLINE: Duration = Duration::from_mins(1);
/// Registries send blobs elsewhere, once or twice.
const REDIRECTS: u32 = 4;
/// All manifest types that exist: what is not a release is told apart by reading it, not by a 404.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The answer of a token service.
const TOKEN_LIMIT: u64 = 64 << 10;
const DIGEST_HEADER: &str = "docker-content-digest";

/// The registries of the settings.
#[derive(Debug)]
pub struct Registries {
    settings: Settings,
    connections: Connections,
    accesses: Accesses,
    pacers: Pacers,
}

/// What is asked for.
struct Question<'a> {
    channel: &'a Channel,
    method: Method,
    path: String,
    accept: &'static str,
    what: String,
    /// What a person does where it is not there.
    next: Next,
    limit: u64,
    deadline: Duration,
}

/// An answer that was read whole.
struct Answer {
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Registries {
    /// The registries of these settings; nothing is connected yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            connections: Connections::new(settings),
            accesses: Accesses::default(),
            pacers: Pacers::default(),
        }
    }

    /// What a channel points at, in one request; `None` where the registry does not say.
    pub async fn head(&self, channel: &Channel) -> Result<Option<Digest>, AskError> {
        let question = Question {
            channel,
            method: Method::HEAD,
            path: format!("manifests/{}", channel.tag),
            accept: MANIFEST_TYPES,
            what: format!("`{channel}`"),
            next: Next::Publish,
            limit: 0,
            deadline: HEAD_DEADLINE,
        };
        self.ask(&question).await?.digest(&question)
    }

    /// What a channel points at, in as many requests as the registry needs.
    pub async fn digest(&self, channel: &Channel) -> Result<Digest, AskError> {
        match self.head(channel).await? {
            Some(digest) => Ok(digest),
            None => Ok(self.manifest(channel, None).await?.0),
        }
    }

    /// A manifest, by digest where it is known and by tag where not.
    pub async fn manifest(&self, channel: &Channel, digest: Option<&Digest>) -> Result<(Digest, Vec<u8>), AskError> {
        let question = Question {
            channel,
            method: Method::GET,
            path: format!("manifests/{}", digest.map_or(channel.tag.as_str(), Digest::as_str)),
            accept: MANIFEST_TYPES,
            what: format!("the manifest of `{channel}`"),
            next: if digest.is_some() { Next::PublishAgain } else { Next::Publish },
            limit: u64::try_from(MANIFEST_LIMIT).unwrap_or(u64::MAX),
            deadline: MANIFEST_DEADLINE,
        };
        let answer = self.ask(&question).await?;
        let named = match digest {
            Some(digest) => Some(digest.clone()),
            None => answer.digest(&question)?,
        };
        let found = Digest::of(&answer.bytes);
        match named {
            Some(named) if named != found => Err(question.wrong(format!("it has digest `{found}`, not `{named}`"))),
            Some(_) | None => Ok((found, answer.bytes)),
        }
    }

    /// The content of a layer.
    pub async fn blob(&self, channel: &Channel, blob: &Blob) -> Result<Vec<u8>, AskError> {
        if let Some(bytes) = &blob.inline {
            return Ok(bytes.clone());
        }
        let question = Question {
            channel,
            method: Method::GET,
            path: format!("blobs/{}", blob.digest),
            accept: "*/*",
            what: format!("blob `{}`", blob.digest),
            next: Next::PublishAgain,
            limit: blob.size,
            deadline: BLOB_DEADLINE,
        };
        let bytes = self.ask(&question).await?.bytes;
        let found = Digest::of(&bytes);
        if found == blob.digest && u64::try_from(bytes.len()).ok() == Some(blob.size) {
            Ok(bytes)
        } else {
            Err(question.wrong(format!("{} bytes with digest `{found}` came", bytes.len())))
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Answer, AskError> {
        // One request at a time and registry: one connection, and a queue in place of a burst.
        let pacer = self.pacers.of(&question.channel.registry);
        let exchange = tokio::time::timeout(question.deadline, self.exchange(question));
        let unanswered = || question.unreachable(&format!("no answer within {} s", question.deadline.as_secs()));
        pacer.ask(async { exchange.await.unwrap_or_else(|_| Err(unanswered())) }).await
    }

    async fn exchange(&self, question: &Question<'_>) -> Result<Answer, AskError> {
        let (Channel { registry, repository, .. }, host) = (question.channel, question.channel.api_host());
        let scheme = if self.settings.plain_http(registry) { "http" } else { "https" };
        let target = format!("{scheme}://{host}/v2/{repository}/{}", question.path);
        let start: Uri = target.parse().map_err(|error| question.unreachable(&format!("`{target}`: {error}")))?;
        let access = self.accesses.of(registry, &self.settings);
        let (mut uri, mut redirects, mut challenged) = (start.clone(), 0, false);
        loop {
            // What gets us in at the registry is shown to the registry and to nobody it sends us to.
            let own = uri.authority() == start.authority();
            let shown = if own { self.authorization(question, &access, &start).await? } else { None };
            let response = self.send(question, &question.method, &uri, shown.as_deref()).await?;
            let status = response.status();
            if own && status == StatusCode::UNAUTHORIZED {
                let wants = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
                let challenge = Challenge::of(wants);
                let basic = challenge == Some(Challenge::Basic);
                let again = challenge.is_some_and(|c| access.challenged(c, repository, shown.as_deref()));
                if again && !challenged {
                    (uri, challenged) = (start.clone(), true);
                    continue;
                }
                // A fresh token that does not open this repository says nothing against the credential.
                let why = if basic { access.refused(401) } else { access.why_refused(403) };
                return Err(question.denied(why));
            }
            if status == StatusCode::FORBIDDEN {
                let why = if own { access.why_refused(403) } else { "the store it sent us to answered 403".to_owned() };
                return Err(question.denied(why));
            }
            if shown.is_some() {
                access.accepted();
            }
            if !status.is_redirection() || question.method == Method::HEAD {
                return receive(question, response).await;
            }
            if redirects == REDIRECTS {
                return Err(question.wrong(format!("more than {REDIRECTS} redirects")));
            }
            redirects += 1;
            uri = self.redirected(question, &uri, response.headers())?;
        }
    }

    /// What to show the registry; fetches a token where one is wanted.
    async fn authorization(
        &self,
        question: &Question<'_>,
        access: &Access,
        registry: &Uri,
    ) -> Result<Option<String>, AskError> {
        let way = access.way(&question.channel.repository).map_err(|why| question.denied(why))?;
        let (realm, service, scope) = match way {
            Way::Ask(shown) => return Ok(shown),
            Way::Fetch { realm, service, scope } => (realm, service, scope),
        };
        let fetched = self.fetch_token(question, access, registry, (&realm, service.as_deref(), &scope)).await;
        let token = fetched.inspect_err(|_| access.ask_anew())?;
        let shown = format!("Bearer {}", token.value);
        access.keep(scope, token);
        Ok(Some(shown))
    }

    async fn fetch_token(
        &self,
        question: &Question<'_>,
        access: &Access,
        registry: &Uri,
        (realm, service, scope): (&str, Option<&str>, &str),
    ) -> Result<Token, AskError> {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let between = if realm.contains('?') { '&' } else { '?' };
        let service = service.map(|service| format!("service={}&", escaped(service))).unwrap_or_default();
        let target = format!("{realm}{between}{service}scope={}", escaped(scope));
        let wrong = |why: &str| question.wrong(format!("its token service `{}` {why}", printable(realm, 200)));
        let uri: Uri = target.parse().map_err(|_| wrong("has no valid address"))?;
        if !self.may_be_sent_to(registry, &uri) {
            return Err(wrong("is not reached by TLS"));
        }
        let credential = access.credential().map_err(|why| question.denied(why))?;
        let shown = credential.as_ref().map(Credential::basic);
        let response = self.send(question, &Method::GET, &uri, shown.as_deref()).await?;
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(question.denied(access.refused(401))),
            StatusCode::FORBIDDEN => return Err(question.denied(access.why_refused(403))),
            other if other == StatusCode::TOO_MANY_REQUESTS || other.is_server_error() => {
                return Err(busy(question.registry(), status.as_u16(), response.headers()));
            }
            _ => return Err(wrong(&format!("answered {}", status.as_u16()))),
        }
        let body = connect::read(response.into_body(), TOKEN_LIMIT).await.map_err(|_| wrong("sent no whole answer"))?;
        let token = Token::parse(&body).ok_or_else(|| wrong("sent no token"))?;
        if credential.is_some() {
            access.accepted();
        }
        Ok(token)
    }

    async fn send(
        &self,
        question: &Question<'_>,
        method: &Method,
        uri: &Uri,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, AskError> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(ACCEPT, question.accept)
            .header(hyper::header::USER_AGENT, concat!("landfall-image-watcher/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(connect::empty()).map_err(|error| question.unreachable(&error.to_string()))?;
        self.connections.request(request).await.map_err(|why| question.unreachable(&why))
    }

    fn redirected(&self, question: &Question<'_>, from: &Uri, headers: &HeaderMap) -> Result<Uri, AskError> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let next = if location.starts_with('/') && !location.starts_with("//") {
            let authority = from.authority().map_or("", |a| a.as_str());
            format!("{}://{authority}{location}", from.scheme_str().unwrap_or("https"))
        } else {
            location.to_owned()
        };
        let wrong = || question.wrong(format!("a redirect to `{}`", printable(location, 200)));
        let next: Uri = next.parse().map_err(|_| wrong())?;
        if self.may_be_sent_to(from, &next) { Ok(next) } else { Err(wrong()) }
    }

    /// A registry may not move us off TLS, nor to a service of this machine that it could not reach itself.
    fn may_be_sent_to(&self, from: &Uri, to: &Uri) -> bool {
        let host = to.authority().map_or("", |authority| authority.as_str());
        match to.scheme_str() {
            Some("https") => true,
            Some("http") => {
                (from.authority() == to.authority() && from.scheme() == to.scheme())
                    || self.settings.registries.get(host).is_some_and(|r| r.plain_http)
            }
            _ => false,
        }
    }

    /// Whether a credential's file has changed: whoever waits after a refusal may ask again.
    pub fn credentials_changed(&self) -> bool {
        self.accesses.have_news()
    }
}

impl Question<'_> {
    fn registry(&self) -> String {
        self.channel.registry.clone()
    }

    fn unreachable(&self, why: &str) -> AskError {
        AskError::Unreachable { registry: self.registry(), why: printable(why, 300) }
    }

    fn denied(&self, why: String) -> AskError {
        AskError::Denied { registry: self.registry(), what: self.what.clone(), why }
    }

    fn wrong(&self, why: String) -> AskError {
        AskError::Wrong { registry: self.registry(), what: self.what.clone(), why }
    }
}

impl Answer {
    fn digest(&self, question: &Question<'_>) -> Result<Option<Digest>, AskError> {
        let Some(value) = self.headers.get(DIGEST_HEADER) else { return Ok(None) };
        let text = value.to_str().unwrap_or("bytes that are no text");
        text.parse().map(Some).map_err(|error| question.wrong(format!("{error}")))
    }
}

async fn receive(question: &Question<'_>, response: Response<Body>) -> Result<Answer, AskError> {
    let (head, body) = response.into_parts();
    let registry = question.registry();
    let status = head.status.as_u16();
    let what = question.what.clone();
    match head.status {
        StatusCode::OK => {
            let bytes = connect::read(body, question.limit).await.map_err(|why| match why {
                connect::ReadError::TooLong => question.wrong(format!("more than {} bytes came", question.limit)),
                connect::ReadError::Broken(why) => question.unreachable(&why),
            })?;
            Ok(Answer { headers: head.headers, bytes })
        }
        StatusCode::NOT_FOUND => Err(AskError::NotFound { registry, what, next: question.next }),
        StatusCode::TOO_MANY_REQUESTS => Err(busy(registry, status, &head.headers)),
        other if other.is_server_error() => Err(busy(registry, status, &head.headers)),
        _ => Err(question.wrong(format!("status {status}"))),
    }
}

fn busy(registry: String, status: u16, headers: &HeaderMap) -> AskError {
    let header = headers.get(RETRY_AFTER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    AskError::Busy { registry, status, retry_after: header.and_then(|text| retry_after(&text, Timestamp::now())) }
}
