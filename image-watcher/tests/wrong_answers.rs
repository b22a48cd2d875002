//! The shipped watcher against a registry that misbehaves to order: it asks no more than it must, believes no header, and
//! waits as long as it is told.

mod support;

use std::time::Duration;

use landfall_core::ids::Digest;
use support::fake::{Fake, Says};
use support::{Bundle, Vm, wait_for};

const QUICK: &str = "poll: 200ms";

fn bundle() -> Bundle {
    Bundle::new("services: { a: {} }\n").file("nginx.conf", b"server {}\n")
}

#[test]
fn an_idle_poll_is_one_head_on_one_connection() {
    let fake = Fake::start();
    let digest = fake.serve_bundle(&bundle());
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    vm.wait_for_digest(&digest);
    let (taken, connections) = (fake.requests().len(), fake.connections());
    let idle = wait_for("ten idle polls", || fake.requests().get(taken..taken + 10).map(<[_]>::to_vec));
    for (_, request) in &idle {
        assert_eq!(request, "HEAD /v2/deploy/manifests/prod");
    }
    let took = idle[9].0 - idle[0].0;
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert_eq!(fake.connections(), connections, "kept alive");
}

#[test]
fn without_a_digest_header_the_manifest_itself_decides() {
    let fake = Fake::start();
    let manifest = bundle().manifest().to_string().into_bytes();
    fake.serve_bundle(&bundle());
    fake.says("manifests/prod", Says::ok(&manifest));
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    vm.wait_for_digest(&Digest::of(&manifest));
}

#[test]
fn a_file_that_is_here_is_not_fetched_again() {
    let fake = Fake::start();
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    vm.wait_for_digest(&fake.serve_bundle(&bundle()));
    let second = Bundle::new("services: { b: {} }\n").file("nginx.conf", b"server {}\n");
    vm.wait_for_digest(&fake.serve_bundle(&second));
    let file = format!("blobs/{}", Digest::of(b"server {}\n"));
    assert_eq!(fake.requests().iter().filter(|(_, request)| request.ends_with(&file)).count(), 1);
}

#[test]
fn every_byte_is_checked() {
    let manifest = bundle().manifest().to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let other = Digest::of(b"other");
    let file = format!("blobs/{}", Digest::of(b"server {}\n"));
    let by_digest = format!("manifests/{digest}");
    let broken = Says { breaks_off: true, ..Says::ok(b"server {}\n") };
    let cases: Vec<(&str, &str, Says, &str)> = vec![
        ("a manifest that is another", &by_digest, Says::ok(b"{}"), "it has digest"),
        (
            "a header that lies",
            "manifests/prod",
            Says::ok(&manifest).header("Docker-Content-Digest", other.as_str()),
            "has no",
        ),
        (
            "a header that is no digest",
            "manifests/prod",
            Says::ok(&manifest).header("Docker-Content-Digest", "md5:1"),
            "is not a valid digest",
        ),
        ("a manifest without end", &by_digest, Says::ok(&vec![b' '; (1 << 20) + 1]), "more than 1048576 bytes came"),
        ("a blob that is another", &file, Says::ok(b"server []\n"), "10 bytes with digest"),
        ("a blob that is longer", &file, Says::ok(b"server {}\nmore"), "more than 10 bytes came"),
        ("a blob that is shorter", &file, Says::ok(b"server"), "6 bytes with digest"),
        ("a blob that breaks off", &file, broken, "cannot be reached"),
        ("a blob that is missing", &file, Says::status(404), "has no blob"),
        ("a wish for credentials", "manifests/prod", Says::status(401), "no credential is set"),
        (
            "a redirect off to elsewhere",
            &file,
            Says::status(307).header("Location", "http://169.254.169.254/x"),
            "a redirect to `http://169.254.169.254/x`",
        ),
        ("a redirect to a file", &file, Says::status(307).header("Location", "file:///etc/passwd"), "a redirect to"),
        (
            "a redirect in a circle",
            &file,
            Says::status(307).header("Location", format!("/v2/deploy/{file}")),
            "more than 4 redirects",
        ),
        ("a status of no use", &by_digest, Says::status(418), "status 418"),
    ];
    let digest = &digest;
    std::thread::scope(|scope| {
        for (name, path, says, words) in cases {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, move || check_refused(path, says, words, digest))
                .unwrap();
        }
    });
}

/// The answer `says` at `path` is told with these words, nothing is staged, and when the registry is well again so are we.
fn check_refused(path: &str, says: Says, words: &str, digest: &Digest) {
    let fake = Fake::start();
    fake.serve_bundle(&bundle());
    fake.says(path, says);
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    let shown = vm.wait_for_problem(words);
    assert_eq!(shown.release, None);
    vm.check_all_staged();
    fake.serve_bundle(&bundle());
    vm.wait_for_digest(digest);
}

#[test]
fn a_redirect_on_the_same_registry_is_followed() {
    let fake = Fake::start();
    let digest = fake.serve_bundle(&bundle());
    fake.says("elsewhere", Says::ok(b"server {}\n"));
    let file = format!("blobs/{}", Digest::of(b"server {}\n"));
    fake.says(&file, Says::status(307).header("Location", "/v2/deploy/elsewhere"));
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    vm.wait_for_digest(&digest);
}

#[test]
fn a_busy_registry_is_left_alone_as_long_as_it_asks() {
    for (status, header, least) in [(429, Some("1"), 1000), (503, Some("1.2"), 1200), (500, None, 900)] {
        let fake = Fake::start();
        let digest = fake.serve_bundle(&bundle());
        let says = header.into_iter().fold(Says::status(status), |says, value| says.header("Retry-After", value));
        fake.says("manifests/prod", says);
        let mut vm = Vm::new(&fake.channel(), QUICK);
        vm.start();
        vm.wait_for_problem(&format!("answered {status}"));
        fake.serve_bundle(&bundle());
        vm.wait_for_digest(&digest);
        let requests = fake.requests();
        let waited = requests[1].0 - requests[0].0;
        assert!(waited >= Duration::from_millis(least), "{status}: {waited:?}");
    }
}
