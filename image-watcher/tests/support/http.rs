//! A publisher's HTTP, as small as it can be: one request per connection, blocking.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use landfall_core::ids::Digest;

pub struct Answer {
    pub status: u16,
    pub head: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value.trim())
    }
}

pub fn request(address: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n")?;
    for (key, value) in headers {
        write!(stream, "{key}: {value}\r\n")?;
    }
    write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP answer: {text:?}")))?;
    Ok(Answer { status, head: text.split("\r\n\r\n").next().unwrap_or_default().to_owned() })
}

pub fn push_blob(address: &str, repository: &str, bytes: &[u8]) {
    let begun = request(address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").unwrap();
    assert_eq!(begun.status, 202, "{}", begun.head);
    let location = begun.header("Location");
    let target = location.strip_prefix(&format!("http://{address}")).unwrap_or(location);
    let target = format!("{target}&digest={}", Digest::of(bytes));
    let done = request(address, "PUT", &target, &[("Content-Type", "application/octet-stream")], bytes).unwrap();
    assert_eq!(done.status, 201, "{}", done.head);
}

pub fn push_manifest(address: &str, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let done = request(address, "PUT", &target, &[("Content-Type", media_type)], bytes).unwrap();
    assert_eq!(done.status, 201, "{}", done.head);
}
