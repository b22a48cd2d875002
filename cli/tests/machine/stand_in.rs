//! A stand-in for a machine: a root with programs that say what a test wants, and containers of an image that is landfall-exec and no more.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use landfall_core::layout::Layout;
use landfall_core::protocol::{Command as Asked, Request};
use serde_json::{Value, json};

pub fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    fs::write(path, text).expect("written");
}

/// A program of the machine, as a shell script. A child writes it: what this process has open for writing, a child of another test has
/// too until its exec, and nobody can start it meanwhile.
pub fn program(root: &Path, path: &str, script: &str) {
    write(root, path, "");
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
    let ended = Command::new("/bin/sh").args(["-c", write]).arg(root.join(path)).arg(script).status();
    assert!(ended.expect("/bin/sh").success(), "{path}");
}

/// An agent that gives each question the answer of its kind, for as long as the test runs.
pub fn agent(root: &Path, answer: impl Fn(Asked) -> Vec<Value> + Send + 'static) {
    let socket = Layout::new(root).agent_socket();
    fs::create_dir_all(socket.parent().expect("a parent")).expect("created");
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a request");
            let request: Request = serde_json::from_str(&line).expect("the request is per protocol");
            let lines = answer(request.command).into_iter().map(|data| json!({ "data": data }));
            for line in lines.chain([json!({ "end": true, "ok": true })]) {
                writeln!(stream, "{line}").expect("sent");
            }
        }
    });
}

pub fn landfall(root: &Path, docker: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.env_clear().env("LANDFALL_ROOT", root).env("LANDFALL_DOCKER_HOST", docker);
    command.current_dir(root).args(arguments).output().expect("landfall runs")
}

/// The docker client; its trimmed stdout.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// An image and containers of it, gone with it.
pub struct Containers {
    pub image: String,
    ids: Vec<String>,
}

impl Containers {
    pub fn new(word: &str) -> Self {
        let image = format!("landfall-test/{word}:{}", std::process::id());
        let mut archive = tar::Builder::new(Vec::new());
        let program = landfall_tests::programs::exec().expect("`make build` was run");
        archive.append_path_with_name(program, "landfall-exec").expect("archived");
        let archive = archive.into_inner().expect("archived");
        let mut import =
            Command::new("docker").args(["import", "-", &image]).stdin(Stdio::piped()).spawn().expect("docker runs");
        import.stdin.take().expect("a pipe").write_all(&archive).expect("sent");
        assert!(import.wait().expect("it ends").success());
        Self { image, ids: Vec::new() }
    }

    /// Makes one, with these arguments before and behind the image.
    pub fn make(&mut self, verb: &[&str], command: &[&str]) -> String {
        let id = docker(&[verb, &[&self.image], command].concat());
        self.ids.push(id.clone());
        id
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for id in &self.ids {
            let _ = Command::new("docker").args(["rm", "-f", "-v", id]).output();
        }
        let _ = Command::new("docker").args(["rmi", "-f", &self.image]).output();
    }
}

/// Where containers on the default bridge reach this machine, with something that takes connections and says nothing.
pub fn listener() -> (IpAddr, TcpListener) {
    let gateway = docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]);
    let gateway: IpAddr = gateway.parse().expect("the bridge has a gateway");
    (gateway, TcpListener::bind((gateway, 0)).expect("bound"))
}
