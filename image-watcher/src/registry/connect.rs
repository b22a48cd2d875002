//! Connections: plain ones, and TLS ones that cost nothing until an https registry is asked.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

/// To a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Longer than most polls are apart; a connection that the other side closed is opened again.
const KEPT_ALIVE: Duration = Duration::from_mins(5);

/// What a response carries.
pub(super) type Body = Incoming;

/// Requests have no body.
pub(super) fn empty() -> Empty<Bytes> {
    Empty::new()
}

/// All connections of this process.
#[derive(Default)]
pub(super) struct Connections {
    plain: OnceLock<Client<HttpConnector, Empty<Bytes>>>,
    // The roots alone are 100 KiB: only where they are needed.
    tls: OnceLock<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) async fn request(&self, request: Request<Empty<Bytes>>) -> Result<Response<Body>, Error> {
        if request.uri().scheme_str() == Some("http") {
            self.plain.get_or_init(|| client(connector())).request(request).await
        } else {
            self.tls.get_or_init(|| client(tls_connector())).request(request).await
        }
    }
}

fn client<C>(connector: C) -> Client<C, Empty<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new()).pool_idle_timeout(KEPT_ALIVE).pool_max_idle_per_host(1).build(connector)
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_DEADLINE));
    connector.set_nodelay(true);
    connector
}

fn tls_connector() -> HttpsConnector<HttpConnector> {
    let mut inner = connector();
    inner.enforce_http(false);
    HttpsConnectorBuilder::new().with_webpki_roots().https_only().enable_http1().wrap_connector(inner)
}

/// Why a body was not read.
pub(super) enum ReadError {
    /// It is longer than allowed.
    TooLong,
    /// It broke off.
    Broken(String),
}

/// Reads a body of at most `limit` bytes; what is longer is not read to its end.
pub(super) async fn read(mut body: Body, limit: u64) -> Result<Vec<u8>, ReadError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ReadError::Broken(error.to_string()))?;
        if let Some(data) = frame.data_ref() {
            if data.len() > limit - bytes.len() {
                return Err(ReadError::TooLong);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}
