//! As much HTTP/1.1 as Azure's clients need of a server: connections that are kept, requests with their headers, and answers
//! that can be cut off on purpose. What is answered is decided elsewhere.

use std::io::{self, BufRead, ErrorKind, Read as _, Write};

use landfall_sample::http::{Response, read_head};
use percent_encoding::percent_decode_str;

/// Nobody has a reason to send more.
const MAX_BODY_BYTES: u64 = 1 << 20;

/// What a client asks.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether the client wants the connection closed behind the answer.
    pub is_last: bool,
}

impl Request {
    /// A `GET`.
    pub fn get(target: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
        Self { method: "GET".to_owned(), target: target.to_owned(), headers, is_last: false }
    }

    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Without the query, as it came.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A value of the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// How much of an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// Half of the body, under a length that promises all of it.
    Half,
}

/// The next request of a connection; nothing once the client has closed it. A body is read and dropped.
pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let (first, headers) = match read_head(reader) {
        Ok(head) => head,
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::Error::other("no request line"));
    };
    let mut request = Request { method: method.to_owned(), target: target.to_owned(), headers, is_last: false };
    request.is_last = words.next() == Some("HTTP/1.0")
        || request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    io::copy(&mut reader.take(MAX_BODY_BYTES.min(length)), &mut io::sink())?;
    Ok(Some(request))
}

/// Sends an answer. Whether the connection is kept is the caller's.
pub fn write(stream: &mut impl Write, response: &Response, share: Share) -> io::Result<()> {
    let mut bytes = format!("HTTP/1.1 {} -\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    write!(bytes, "Content-Length: {}\r\n\r\n", response.body.len())?;
    bytes.extend(match share {
        Share::Whole => &response.body[..],
        Share::Half => &response.body[..response.body.len() / 2],
    });
    stream.write_all(&bytes)?;
    stream.flush()
}

/// An answer in JSON.
pub fn json(status: u16, body: &serde_json::Value) -> Response {
    let mut response = Response::new(status, body.to_string());
    response.headers.push(("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_of_one_connection_are_read_one_after_the_other() {
        let mut bytes =
            &b"POST /a?x=1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.0\r\nMetadata: true\r\n\r\n"[..];
        let first = read(&mut bytes).unwrap().unwrap();
        assert_eq!((first.method.as_str(), first.path(), first.is_last), ("POST", "/a", false));
        let second = read(&mut bytes).unwrap().unwrap();
        assert_eq!((second.target.as_str(), second.header("metadata"), second.is_last), ("/b", Some("true"), true));
        assert!(read(&mut bytes).unwrap().is_none());
    }

    #[test]
    fn a_query_is_decoded_and_its_order_does_not_count() {
        let request = Request::get("/t?resource=https%3A%2F%2Fvault.azure.net&%24skiptoken=a+b&empty", &[]);
        assert_eq!(request.query("resource").as_deref(), Some("https://vault.azure.net"));
        assert_eq!(request.query("$skiptoken").as_deref(), Some("a b"));
        assert_eq!(request.query("empty").as_deref(), Some(""));
        assert_eq!(request.query("absent"), None);
    }

    #[test]
    fn half_an_answer_promises_the_whole() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Response::new(200, "abcd"), Share::Half).unwrap();
        assert_eq!(bytes, b"HTTP/1.1 200 -\r\nContent-Length: 4\r\n\r\nab");
    }
}
