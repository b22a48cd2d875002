//! The one HTTP client, under Microsoft's own: no proxy, no redirect, a deadline and a size for each exchange, plain text to IMDS and to
//! nobody else. What is asked and what an answer means is decided elsewhere.
//!
//! Microsoft's client for tokens repeats for 72 s whatever its options say, unless the transport has an error of another kind than
//! input and output: so that is what it gets, and our own schedule decides when IMDS is asked again.

use std::sync::Arc;
use std::time::Duration;

use azure_core::error::{Error, ErrorKind, Result};
use azure_core::http::{AsyncRawResponse, HttpClient, RawResponse, Request, Transport};
use futures_util::StreamExt as _;

/// Where IMDS is on every virtual machine of Azure.
pub const IMDS: &str = "169.254.169.254";
/// How long one request may take, with its answer: less than an attempt, so that it can say who did not answer.
const EXCHANGE: Duration = Duration::from_secs(8);
const CONNECT: Duration = Duration::from_secs(5);
/// A value has at most 25 kB, a token some.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// The client.
#[derive(Debug)]
struct Door(reqwest::Client);

/// The transport for [`azure_core::http::ClientOptions`]. It reads the certificates of authorities; `SSL_CERT_FILE` names others.
pub fn open() -> reqwest::Result<Transport> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .build()?;
    Ok(Transport::new(Arc::new(Door(client))))
}

#[async_trait::async_trait]
impl HttpClient for Door {
    async fn execute_request(&self, request: &Request) -> Result<AsyncRawResponse> {
        let url = request.url();
        let host = url.host_str().unwrap_or_default().to_owned();
        if url.scheme() != "https" && host != IMDS {
            return Err(Error::with_message(ErrorKind::Other, format!("`{host}` is not asked without TLS")));
        }
        match tokio::time::timeout(EXCHANGE, self.exchange(request, &host)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Error::new(ErrorKind::Other, error)),
            Err(_) => {
                let message = format!("`{host}` did not answer within {} s", EXCHANGE.as_secs());
                Err(Error::with_message(ErrorKind::Other, message))
            }
        }
    }
}

impl Door {
    async fn exchange(&self, request: &Request, host: &str) -> Result<AsyncRawResponse> {
        let (status, headers, mut body) = self.0.execute_request(request).await?.deconstruct();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > MAX_ANSWER_BYTES {
                let message = format!("`{host}` answered with more than {MAX_ANSWER_BYTES} bytes");
                return Err(Error::with_message(ErrorKind::Io, message));
            }
        }
        if host == IMDS && !status.is_success() {
            let raw_response = Some(Box::new(RawResponse::from_bytes(status, headers, bytes)));
            let kind = ErrorKind::HttpResponse { status, error_code: None, raw_response };
            return Err(Error::with_message(kind, "IMDS refused"));
        }
        Ok(AsyncRawResponse::from_bytes(status, headers, bytes))
    }
}
