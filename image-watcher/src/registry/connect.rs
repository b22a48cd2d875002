//! Connections: plain ones, and TLS ones that cost nothing until an https registry is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use landfall_core::config::Settings;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::chain::chain;

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

type TlsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// All connections of this process.
pub(super) struct Connections {
    plain: OnceLock<Client<HttpConnector, Empty<Bytes>>>,
    // The roots alone are 100 KiB: only where they are needed.
    tls: OnceLock<TlsClient>,
    /// By host (and port): registries with a CA of their own, which vouches for nobody else.
    own: BTreeMap<String, (PathBuf, OnceLock<TlsClient>)>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    /// For the registries of these settings; nothing is connected yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let with_ca = settings.registries.iter().filter_map(|(host, registry)| {
            registry.ca.as_ref().map(|path| (host.clone(), (path.clone(), OnceLock::new())))
        });
        Self { plain: OnceLock::new(), tls: OnceLock::new(), own: with_ca.collect() }
    }

    /// The answer's head; the error says why there is none.
    pub(super) async fn request(&self, request: Request<Empty<Bytes>>) -> Result<Response<Body>, String> {
        if request.uri().scheme_str() == Some("http") {
            return self
                .plain
                .get_or_init(|| client(connector()))
                .request(request)
                .await
                .map_err(|error| chain(&error));
        }
        let host = request.uri().authority().map_or("", |authority| authority.as_str());
        let client = match self.own.get(host) {
            None => self.tls.get_or_init(|| client(tls_connector())),
            Some((path, client)) => {
                if client.get().is_none() {
                    // Whoever comes second here has made one for nothing.
                    let _ = client.set(client_trusting(path)?);
                }
                client.get().ok_or("no client")?
            }
        };
        client.request(request).await.map_err(|error| chain(&error))
    }
}

/// A client for which only the certificates of this file vouch.
fn client_trusting(path: &Path) -> Result<TlsClient, String> {
    let unusable = |why: String| format!("its `ca` file `{}` cannot be used: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it has no PEM certificate".to_owned()));
    }
    let mut inner = connector();
    inner.enforce_http(false);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(client(HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(inner)))
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
