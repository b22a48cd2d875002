//! The shipped watcher against a registry that misbehaves to order: it asks no more than it must, believes no header, and
//! waits as long as it is told.

mod support;

use std::time::Duration;

use landfall_core::ids::Digest;
use serde_json::{Value, json};
use support::fake::{End, Fake, Says};
use support::{Bundle, Vm, wait_at_most, wait_for};

const QUICK: &str = "poll: 200ms";
/// What a watcher may ever have held, KiB: an idle one has 2,600 in its shipped build, and a manifest at most 1 MiB.
const MOST_MEMORY: u64 = 24 << 10;

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
    let mut annotated = bundle().manifest();
    let many = (0..25_000).map(|n| (format!("key-{n}"), json!("v".repeat(40))));
    annotated["annotations"] = Value::Object(many.collect());
    let annotated = annotated.to_string().into_bytes();
    let broken = |sent| Says::ok(b"server {}\n").ends(End::BreaksOff(sent));
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
        ("a blob that breaks off at once", &file, broken(0), "cannot be reached"),
        ("a blob that breaks off in the middle", &file, broken(5), "cannot be reached"),
        ("a blob without end", &file, Says::ok(&[b'x'; 1000]).ends(End::Never), "more than 10 bytes came"),
        ("annotations of a megabyte", &by_digest, Says::ok(&annotated), "more than 1048576 bytes came"),
        ("a manifest that never ends", &by_digest, Says::ok(&[b' '; 4000]).ends(End::Never), "more than 1048576 bytes"),
        ("no entry", "manifests/prod", Says::status(403), "no credential is set"),
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

/// What a stranger may put at the tag: it is told, once, with one HEAD a poll from then on, and in little memory.
#[test]
fn what_is_no_release_is_refused_for_good() {
    let good = bundle().manifest();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };
    let titled = |title: &str| {
        let layers = Bundle::new("services: { a: {} }\n").file(title, b"x").file("nginx.conf", b"y");
        layers.manifest().to_string().into_bytes()
    };
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] });
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "does not parse"),
        ("no JSON", b"<html>".to_vec(), "does not parse"),
        ("a list of manifests", index.to_string().into_bytes(), "an image index"),
        ("a list in a list", vec![b'['; 100_000], "does not parse"),
        (
            "another type",
            with(&|m| m["artifactType"] = json!("text/\u{1b}[31mred")),
            "an artifact of type `text/\\u{1b}[31mred`",
        ),
        (
            "an image",
            with(&|m| m["artifactType"] = json!("application/vnd.oci.image.config.v1+json")),
            "a container image",
        ),
        ("a wrong layer", with(&|m| m["layers"][1]["mediaType"] = json!("text/plain")), "layer 2"),
        ("a wrong digest", with(&|m| m["layers"][1]["digest"] = json!("sha256:abc")), "layer 2"),
        ("a size beyond all", with(&|m| m["layers"][1]["size"] = json!(u64::MAX)), "bytes, and at most"),
        ("two of one title", titled("nginx.conf"), "layer 3"),
        ("a way out", titled("../../etc/cron.d/x"), "has a `.` or `..` part"),
        ("an absolute title", titled("/etc/passwd"), "is an absolute path"),
        ("a title with an escape", titled("a\u{1b}[2Jb"), "has control characters"),
        ("a title that is long", titled(&"x".repeat(2000)), "is longer than 1024 bytes"),
    ];
    std::thread::scope(|scope| {
        for (name, bytes, words) in cases {
            let refused = move || {
                let fake = Fake::start();
                fake.serve_manifest(&bytes);
                let mut vm = Vm::new(&fake.channel(), QUICK);
                vm.start();
                let shown = vm.wait_for_problem(words);
                assert_eq!(shown.release, None, "{name}");
                assert!(shown.problem.is_some_and(|text| !text.chars().any(char::is_control)), "{name}");
                let before = fake.requests().len();
                wait_for("three more polls", || (fake.requests().len() >= before + 3).then_some(()));
                let after = fake.requests().split_off(before);
                assert!(after.iter().all(|(_, request)| request.starts_with("HEAD ")), "{name}: {after:?}");
                let peak = vm.peak_memory();
                assert!(peak < MOST_MEMORY, "{name}: {peak} KiB");
                vm.wait_for_digest(&fake.serve_bundle(&bundle()));
            };
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, refused).unwrap();
        }
    });
}

/// Each part of an answer may be the last for a long time; no other app waits for that.
#[test]
fn a_registry_that_stalls_is_given_up() {
    let manifest = bundle().manifest().to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let file = format!("blobs/{}", Digest::of(b"server {}\n"));
    let by_digest = format!("manifests/{digest}");
    let stalls = |body: &[u8], sent| Says::ok(body).ends(End::Stalls(sent));
    let cases = [
        ("manifests/prod", Says::status(200).ends(End::Silent), "no answer within 15 s"),
        (&by_digest, Says::status(200).ends(End::Silent), "no answer within 30 s"),
        (&by_digest, stalls(&manifest, 0), "no answer within 30 s"),
        (&by_digest, stalls(&manifest, manifest.len() - 1), "no answer within 30 s"),
        (&file, stalls(b"server {}\n", 0), "no answer within 60 s"),
        (&file, stalls(b"server {}\n", 9), "no answer within 60 s"),
    ];
    std::thread::scope(|scope| {
        for (path, says, words) in cases {
            let digest = &digest;
            scope.spawn(move || {
                let fake = Fake::start();
                fake.serve_bundle(&bundle());
                fake.says(path, says);
                let mut vm = Vm::new(&fake.channel(), QUICK);
                vm.start();
                wait_at_most(Duration::from_secs(90), words, || {
                    vm.channel().filter(|f| f.problem.as_ref().is_some_and(|p| p.contains(words)))
                });
                vm.check_all_staged();
                fake.serve_bundle(&bundle());
                vm.wait_for_digest(digest);
            });
        }
    });
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
    for (status, header, least) in [(429, Some("1"), 1000), (503, Some("1.2"), 1200), (500, None, 180)] {
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
