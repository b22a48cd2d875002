//! `landfall-exec probe` against servers that answer well, badly, for ever, and not at all; `--help` and `--version`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// For answers that come at once: no verdict may have to do with it.
const AMPLE: &str = "30s";

fn landfall_exec(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_landfall-exec")).args(words).output().unwrap();
    assert_eq!(output.stdout, b"");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn probe(url: &str, timeout: &str) -> (Option<i32>, String) {
    landfall_exec(&["probe", url, "--timeout", timeout])
}

fn assert_unhealthy((code, line): (Option<i32>, String), why: &str) {
    assert_eq!(code, Some(1), "{line}");
    assert!(line.starts_with("landfall-exec: unhealthy: ") && line.lines().count() == 1, "{line}");
    assert!(line.contains(why), "{line}");
}

/// Takes one connection; the thread's result is `serve`'s.
fn server<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// The question, to the empty line that ends it.
fn question(stream: &mut TcpStream) -> String {
    let mut question = Vec::new();
    let mut byte = [0];
    while !question.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        question.push(byte[0]);
    }
    String::from_utf8(question).unwrap()
}

/// What a probe says of a server that reads the question, sends this, and closes.
fn probe_answer(answer: &'static [u8]) -> (Option<i32>, String) {
    let (port, served) = server(move |mut stream| {
        question(&mut stream);
        stream.write_all(answer).unwrap();
    });
    let probed = probe(&format!("http://:{port}/health"), AMPLE);
    served.join().unwrap();
    probed
}

#[test]
fn the_status_decides() {
    let healthy: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n",
        b"HTTP/1.1 399\n",
    ];
    for answer in healthy {
        assert_eq!(probe_answer(answer), (Some(0), String::new()), "{}", answer.escape_ascii());
    }
    let unhealthy: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 500 \x1b[31m\r\n\r\n", "answered 500"),
        (b"HTTP/1.1 400 Bad\r\n\r\n", "answered 400"),
        (b"HTTP/1.1 199 No\r\n\r\n", "answered 199"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP/1"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "did not answer in HTTP/1"),
        (b"HTTP/1.1 200", "closed the connection before it answered"),
        (b"", "closed the connection before it answered"),
    ];
    for (answer, why) in unhealthy {
        assert_unhealthy(probe_answer(answer), why);
    }
}

#[test]
fn the_question_and_an_orderly_end() {
    let (port, served) = server(|mut stream| {
        let question = question(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        stream.write_all(&[b'x'; 1000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Not a reset, which many servers would log.
        (question, stream.read(&mut [0]).unwrap())
    });
    assert_eq!(probe(&format!("http://:{port}/health?deep=1"), AMPLE).0, Some(0));
    let (question, rest) = served.join().unwrap();
    let agent = concat!("landfall-exec/", env!("CARGO_PKG_VERSION"));
    let lines = ["GET /health?deep=1 HTTP/1.1", &format!("Host: 127.0.0.1:{port}"), &format!("User-Agent: {agent}")];
    assert_eq!(question, format!("{}\r\nAccept: */*\r\nConnection: close\r\n\r\n", lines.join("\r\n")));
    assert_eq!(rest, 0);
}

#[test]
fn one_that_never_answers_is_left_in_time() {
    for begin in [&b""[..], b"HTTP/1.1 2"] {
        let (port, served) = server(move |mut stream| {
            stream.write_all(begin).unwrap();
            // Until the probe is gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let started = Instant::now();
        assert_unhealthy(probe(&format!("http://:{port}/"), "300ms"), "did not answer within 300ms");
        let took = started.elapsed();
        assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&took), "{took:?}");
        served.join().unwrap();
    }
}

#[test]
fn one_that_never_ends_is_left_at_once() {
    let for_ever = |begin: &'static str, rest: &'static str| {
        server(move |mut stream| {
            question(&mut stream);
            let begun = stream.write_all(begin.as_bytes());
            begun.and_then(|()| {
                loop {
                    stream.write_all(rest.as_bytes())?;
                }
            })
        })
    };
    let answers = [
        ("HTTP/1.1 200 OK\r\n", "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", Some(0)),
        ("HTTP/1.1 200 ", "OK OK OK OK OK OK OK OK OK OK OK OK OK ", Some(0)),
        ("HTTP/1.1 500 ", "no no no no no no no no no no no no no ", Some(1)),
        ("", "garbage without an end ", Some(1)),
        ("", "\r\n\r\n\r\n\r\n", Some(1)),
    ];
    for (begin, rest, code) in answers {
        let (port, served): (_, JoinHandle<std::io::Result<()>>) = for_ever(begin, rest);
        let started = Instant::now();
        assert_eq!(probe(&format!("http://:{port}/"), AMPLE).0, code, "{begin}{rest}");
        assert!(started.elapsed() < Duration::from_secs(10), "{begin}{rest}");
        served.join().unwrap().unwrap_err();
    }
}

#[test]
fn nobody_there() {
    // An address that no server of the tests beside this one is given: a port that was free a moment ago may be theirs by now.
    let nobody = Ipv4Addr::new(127, 9, 9, 9);
    let listener = TcpListener::bind((nobody, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for url in [format!("http://{nobody}:{port}/"), format!("tcp://{nobody}:{port}")] {
        assert_unhealthy(probe(&url, AMPLE), "takes no connection: Connection refused");
    }
}

#[test]
fn tcp_is_healthy_when_it_connects() {
    let (port, served) = server(drop);
    assert_eq!(probe(&format!("tcp://:{port}"), AMPLE), (Some(0), String::new()));
    served.join().unwrap();
}

#[test]
fn names_and_ipv6() {
    let (port, served) = server(drop);
    assert_eq!(probe(&format!("tcp://localhost:{port}"), AMPLE), (Some(0), String::new()));
    served.join().unwrap();
    // RFC 6761: it never has an address. Without a network the resolver may take its time to say so.
    let (code, line) = probe("http://landfall.invalid/", "2s");
    assert!(code == Some(1) && line.contains("resolved"), "{line}");
    // A machine may have no IPv6.
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe(&format!("tcp://[::1]:{port}"), AMPLE), (Some(0), String::new()));
    }
}

#[test]
fn what_is_not_understood() {
    let refused: [&[&str]; 6] = [
        &[],
        &["start"],
        &["probe"],
        &["probe", "https://example/"],
        &["probe", "tcp://:1", "--timeout", "soon"],
        &["probe", "tcp://\u{1b}[31m:1"],
    ];
    for words in refused {
        let (code, line) = landfall_exec(words);
        assert_eq!((code, line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains("; next: `landfall-exec --help`") && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn help_and_version() {
    let said = |word: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_landfall-exec")).arg(word).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said("--help"), include_str!("../src/help.txt"));
    assert_eq!(said("--version"), concat!("landfall-exec ", env!("CARGO_PKG_VERSION"), "\n"));
}
