//! A CNCF Distribution of its own for a test, on a free port with its own storage, and the plainest HTTP client there is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use landfall_tests::ports;
use serde_json::{Value, json};

/// For the registry to listen.
const START: Duration = Duration::from_secs(20);

/// A registry that lives as long as this.
pub struct Registry {
    /// `127.0.0.1:port`.
    pub host: String,
    process: Child,
    _storage: tempfile::TempDir,
}

/// User `bot`, password `p:a+/ss`: what breaks naive splitting and base64.
pub const USER: (&str, &str) = ("bot", "p:a+/ss");
const HTPASSWD: &str = "bot:$2b$05$abcdefghijklmnopqrstuuGClslfWhe/UkmscRTaEiXFOQkNUwJ9m\n";

impl Registry {
    /// For everybody.
    pub fn start() -> Self {
        Self::serve(false)
    }

    /// Only for [`USER`].
    pub fn start_closed() -> Self {
        Self::serve(true)
    }

    fn serve(closed: bool) -> Self {
        let storage = tempfile::tempdir().expect("a directory");
        let host = format!("127.0.0.1:{}", ports::free().expect("a free port"));
        let config = storage.path().join("config.yaml");
        let root = storage.path().join("data");
        let mut text = json!({ "version": 0.1, "log": { "level": "error" },
                           "storage": { "filesystem": { "rootdirectory": root } }, "http": { "addr": host } });
        if closed {
            let path = storage.path().join("htpasswd");
            fs::write(&path, HTPASSWD).expect("written");
            text["auth"] = json!({ "htpasswd": { "realm": "test", "path": path } });
        }
        fs::write(&config, text.to_string()).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry (CNCF Distribution) is installed");
        let deadline = Instant::now() + START;
        while TcpStream::connect(&host).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen on {host}");
            std::thread::yield_now();
        }
        Self { host, process, _storage: storage }
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.request("GET", path, "", b"")
    }

    /// A manifest, and its digest as computed here.
    pub fn manifest(&self, repository: &str, version: &str) -> (Value, String) {
        let (status, body) = self.get(&format!("/v2/{repository}/manifests/{version}"));
        assert_eq!(status, 200, "{repository}:{version}");
        (serde_json::from_slice(&body).expect("JSON"), format!("sha256:{}", sha256(&body)))
    }

    /// Pushes an image without layers; its digest.
    pub fn put_image(&self, repository: &str, tag: &str) -> String {
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Env": [repository, tag] },
                             "rootfs": { "type": "layers", "diff_ids": [] } })
        .to_string();
        let digest = format!("sha256:{}", sha256(config.as_bytes()));
        let (status, _, head) = self.exchange("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202);
        let location = head.lines().find_map(|l| l.strip_prefix("Location: ")).expect("a location").trim().to_owned();
        let path = &location[location.find("/v2/").expect("a path")..];
        let put =
            self.request("PUT", &format!("{path}&digest={digest}"), "application/octet-stream", config.as_bytes());
        assert_eq!(put.0, 201);
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len() },
            "layers": [] })
        .to_string();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self.request("PUT", &path, "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        assert_eq!(put.0, 201);
        format!("sha256:{}", sha256(manifest.as_bytes()))
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let (status, body, _) = self.exchange(method, path, content_type, body);
        (status, body)
    }

    fn exchange(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, Vec<u8>, String) {
        let mut stream = TcpStream::connect(&self.host).expect("the registry listens");
        stream.set_read_timeout(Some(START)).expect("set");
        // HTTP/1.0 has no chunks: the body is what comes until the end.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/vnd.oci.image.manifest.v1+json, */*\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, answer[end + 4..].to_vec(), head)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// By the system's own tool, not by ours.
pub fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("written");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}
