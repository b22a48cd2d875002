//! What a VM of Azure finds outside: the metadata service and `WireServer` at their addresses, on the far end of a cable. The near end is
//! in the network namespace of the thread that asks, which must be the test's own (`own_engine`): its default route goes there, and so
//! does whatever containers send away.
//!
//! The far end answers everybody, and translates IPv6 as a NAT64 gateway would: what does not get through was stopped on the VM.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};

/// The metadata service.
pub const IMDS: &str = "http://169.254.169.254/";
/// The same, through a translator (RFC 6052).
pub const IMDS_BY_NAT64: &str = "http://[64:ff9b::a9fe:a9fe]/";
/// The same, as a program writes it that has IPv6 sockets only.
pub const IMDS_MAPPED: &str = "http://[::ffff:169.254.169.254]/";
/// `WireServer` on its two ports.
pub const WIRESERVER: [&str; 2] = ["http://168.63.129.16/", "http://168.63.129.16:32526/"];
/// The name server on its third.
pub const NAME_SERVER: &str = "168.63.129.16";
/// What every service there answers.
pub const ANSWER: &str = "the cloud answers";

const LISTEN: &[&str] = &["169.254.169.254:80", "[64:ff9b::a9fe:a9fe]:80", "168.63.129.16:80", "168.63.129.16:32526"];

/// Makes the far end, which goes with the process, and leads all of this namespace's traffic to it.
pub fn start() -> Result<()> {
    let (say, said) = channel();
    let (go, may_go) = channel();
    thread::spawn(move || far_end(&say, &may_go));
    let place = said.recv().context("no far end")??;
    for line in [
        "link add azure0 type veth peer name azure1",
        &format!("link set azure1 netns {place}"),
        "address add 10.0.0.4/24 dev azure0",
        "address add fd00:1::4/64 dev azure0 nodad",
        "link set azure0 up",
        "route add default via 10.0.0.1",
        "route add 64:ff9b::/96 via fd00:1::1",
    ] {
        ip(line)?;
    }
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    go.send(()).context("the far end is gone")?;
    said.recv().context("the far end is gone")?.map(drop)
}

fn far_end(say: &Sender<Result<String>>, may_go: &Receiver<()>) {
    let place = unshare(CloneFlags::CLONE_NEWNET).context("no network namespace").and_then(|()| {
        // By number: this link is of the thread that reads it.
        let own = std::fs::read_link("/proc/thread-self")?;
        Ok(format!("/proc/{}/ns/net", own.display()))
    });
    // Whoever asked is there, or the test is over.
    let _ = say.send(place);
    let served = may_go.recv().context("nobody asked").and_then(|()| serve());
    let _ = say.send(served.map(|()| String::new()));
}

fn serve() -> Result<()> {
    for line in [
        "link set lo up",
        "address add 10.0.0.1/24 dev azure1",
        "address add 169.254.169.254/32 dev azure1",
        "address add 168.63.129.16/32 dev azure1",
        "address add fd00:1::1/64 dev azure1 nodad",
        "address add 64:ff9b::a9fe:a9fe/128 dev azure1 nodad",
        "link set azure1 up",
        "route add default via 10.0.0.4",
        "route add default via fd00:1::4",
    ] {
        ip(line)?;
    }
    // These threads are in its namespace too, and keep it.
    for address in LISTEN {
        let listener = TcpListener::bind(address).with_context(|| (*address).to_owned())?;
        thread::spawn(move || listener.incoming().flatten().for_each(answer));
    }
    let names = UdpSocket::bind((NAME_SERVER, 53))?;
    thread::spawn(move || answer_names(&names));
    Ok(())
}

fn answer(mut stream: std::net::TcpStream) {
    let mut request = [0; 2048];
    // A client that goes away is its own business.
    let _ = stream.read(&mut request);
    let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len());
}

/// Every name is 10.9.8.7, and has no IPv6 address.
fn answer_names(socket: &UdpSocket) {
    let mut packet = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut packet) {
        let Some(question) = packet.get(12..length).filter(|question| question.len() > 4) else { continue };
        let is_a = question.get(question.len() - 4..question.len() - 2) == Some(&[0, 1]);
        let mut reply = vec![packet[0], packet[1], 0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
        reply.extend_from_slice(question);
        if is_a {
            reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 8, 7]);
        }
        let _ = socket.send_to(&reply, client);
    }
}

/// `ip` in the namespace of the thread that calls.
pub fn ip(line: &str) -> Result<()> {
    run("ip", &line.split(' ').collect::<Vec<_>>()).map(drop)
}

/// A program that must end well; what it wrote.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run `{program}`"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!("`{program} {}` ended with {}: {}", arguments.join(" "), output.status, text(&output.stderr).trim());
    }
    Ok(text(&output.stdout))
}

/// A static program with everything that a container tries: shell, HTTP and DNS clients, `ip`.
pub fn busybox() -> Result<&'static str> {
    let path = "/bin/busybox";
    let mut head = [0; 4];
    let opened = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    opened.with_context(|| format!("no `{path}`; next: run `make test`"))?;
    ensure!(head == *b"\x7fELF", "`{path}` is no program");
    Ok(path)
}
