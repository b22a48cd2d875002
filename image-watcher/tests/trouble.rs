//! The shipped watcher against a registry in trouble, for longer than one poll: what is wrong is told once, is asked about no
//! more often than what is well, reaches no other registry's channel, and leaves what was staged alone. What a single wrong
//! answer does is in `wrong_answers.rs`.

mod support;

use std::time::Duration;

use landfall_core::contract::{self, ChannelFile, Read};
use landfall_core::ids::Digest;
use serde_json::json;
use support::fake::{Fake, Says};
use support::{Bundle, Vm, wait_for};

const QUICK: &str = "poll: 200ms";
/// As in `wrong_answers.rs`, KiB.
const MOST_MEMORY: u64 = 24 << 10;
/// Of the journal's two kinds of bad news about a channel, a part that both have.
const BAD_NEWS: [&str; 2] = ["the channel cannot be read: ", "nothing new is taken from the channel: "];

fn bundle() -> Bundle {
    Bundle::new("services: { a: {} }\n").file("nginx.conf", b"server {}\n")
}

fn bad_news(vm: &Vm) -> Vec<String> {
    vm.log().lines().filter(|line| BAD_NEWS.iter().any(|words| line.contains(words))).map(str::to_owned).collect()
}

/// Waits for so many requests that begin so, and gives the times between them.
fn gaps(fake: &Fake, begin: &str, count: usize) -> Vec<Duration> {
    let times = wait_for(&format!("{count} times `{begin}`"), || {
        let requests = fake.requests();
        let times: Vec<_> = requests.iter().filter(|(_, what)| what.starts_with(begin)).map(|(at, _)| *at).collect();
        (times.len() >= count).then_some(times)
    });
    times.windows(2).take(count - 1).map(|pair| pair[1] - pair[0]).collect()
}

fn challenge(fake: &Fake) -> String {
    format!("Bearer realm=\"http://{}/token\",service=\"r\"", fake.address)
}

/// Names of the cases, what is done to a registry that is well, words of what is told.
type Case = (&'static str, Box<dyn Fn(&Fake) + Send>, &'static str);

fn cases(elsewhere: &str) -> Vec<Case> {
    let at_tag =
        |says: Says| -> Box<dyn Fn(&Fake) + Send> { Box::new(move |fake| fake.says("manifests/prod", says.clone())) };
    let away = Says::status(307).header("Location", format!("http://{elsewhere}/x"));
    let by_digest = format!("manifests/{}", Digest::of(bundle().manifest().to_string().as_bytes()));
    let manifest_away = away.clone();
    vec![
        ("no such tag", at_tag(Says::status(404)), "has no `127.0.0.1"),
        ("a wish without a way to meet it", at_tag(Says::status(401)), "no credential is set"),
        (
            "a token that never lets us in",
            Box::new(|fake| {
                fake.says_at("/token", Says::ok(br#"{"token":"t1","expires_in":300}"#));
                fake.wants("Bearer another", &challenge(fake));
            }),
            "no credential is set",
        ),
        (
            "a service that gives no token",
            Box::new(|fake| {
                fake.says_at("/token", Says::status(401));
                fake.wants("Bearer t1", &challenge(fake));
            }),
            "no credential is set",
        ),
        ("no entry", at_tag(Says::status(403)), "no credential is set"),
        ("trouble of its own", at_tag(Says::status(500)), "answered 500"),
        ("a proxy before nothing", at_tag(Says::status(502)), "answered 502"),
        ("too much asked", at_tag(Says::status(429)), "answered 429"),
        ("a tag that is elsewhere", at_tag(away), "status 307"),
        (
            "a manifest that is elsewhere",
            Box::new(move |fake| fake.says(&by_digest, manifest_away.clone())),
            "a redirect to",
        ),
        (
            "a blob that is elsewhere, with an escape",
            Box::new(|fake| {
                let file = format!("blobs/{}", Digest::of(b"server {}\n"));
                fake.says(&file, Says::status(302).header("Location", "http://x/\u{9b}2J\u{202e}"));
            }),
            "a redirect to",
        ),
    ]
}

#[test]
fn what_stays_wrong_is_told_once_and_asked_about_no_more_than_what_is_well() {
    let elsewhere = Fake::start();
    std::thread::scope(|scope| {
        for (name, spoil, words) in cases(&elsewhere.address) {
            let check = move || {
                let fake = Fake::start();
                fake.serve_bundle(&bundle());
                spoil(&fake);
                let mut vm = Vm::new(&fake.channel(), QUICK);
                vm.start();
                let shown = vm.wait_for_problem(words);
                assert_eq!((shown.release, vm.layout.releases(&vm.app).exists()), (None, false), "{name}");
                for gap in gaps(&fake, "", 6).windows(4) {
                    // A poll is four requests at most, whatever the answers are.
                    assert!(gap.iter().sum::<Duration>() >= Duration::from_millis(170), "{name}: {gap:?}");
                }
                let told = bad_news(&vm);
                assert_eq!(told.len(), 1, "{name}: {told:#?}");
                assert!(
                    told[0].contains(words) && !told[0].chars().any(|c| c.is_control() || c == '\u{202e}'),
                    "{told:?}"
                );
                assert!(vm.peak_memory() < MOST_MEMORY, "{name}: {} KiB", vm.peak_memory());
                fake.well();
                vm.wait_for_digest(&fake.serve_bundle(&bundle()));
                vm.wait_for_log("nothing is wrong with the channel any more");
            };
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, check).unwrap();
        }
    });
    assert!(elsewhere.requests().is_empty(), "{:?}", elsewhere.requests());
}

/// As a registry does whose tag is deleted and pushed again, or that is restored from a copy.
#[test]
fn a_tag_that_comes_and_goes_leaves_what_is_staged_alone() {
    let fake = Fake::start();
    let first = fake.serve_bundle(&bundle());
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    let shown = vm.wait_for_digest(&first);
    for round in 1..=3 {
        fake.says("manifests/prod", Says::status(404));
        let gone = vm.wait_for_problem("has no `127.0.0.1");
        assert_eq!((&gone.release, &gone.digest), (&shown.release, &shown.digest), "what was there is shown on");
        vm.check_staged(gone.release.as_ref().unwrap());
        fake.serve_bundle(&bundle());
        wait_for("the problem to end", || vm.channel().filter(|file| file.problem.is_none()));
        assert_eq!(bad_news(&vm).len(), round, "{:?}", bad_news(&vm));
    }
    assert_eq!(vm.log().matches("is verified and staged").count(), 1, "{}", vm.log());
    let blobs = fake.requests().iter().filter(|(_, what)| what.contains("/blobs/")).count();
    assert_eq!(blobs, 2, "nothing is fetched again");
    fake.says("manifests/prod", Says::status(404));
    vm.wait_for_problem("has no");
    vm.wait_for_digest(&fake.serve_bundle(&Bundle::new("services: { b: {} }\n")));
}

/// The least and the most of a pause, in milliseconds.
type Pause = (u64, u64);

/// `Retry-After`, and the pauses after the first and the fifth answer. The most that any
/// registry may ask for, 5 min, is in the table of `landfall_core::retry_after`.
#[test]
fn a_wish_to_be_left_alone_has_a_floor_and_garbage_is_none() {
    let spread = 1400;
    let cases: [(Option<&str>, [Pause; 2]); 8] = [
        // The floor is 100 ms, and up to a poll interval is added by chance; the rest is for a machine under load.
        (Some("0"), [(100, 100 + spread); 2]),
        (Some("0.0002"), [(100, 100 + spread); 2]),
        (Some("634.5\u{b5}s"), [(100, 100 + spread); 2]),
        (Some("Wed, 21 Oct 2015 07:28:00 GMT"), [(100, 100 + spread); 2]),
        // No wish: doubled from the poll interval.
        (None, [(180, 600), (2880, 4000)]),
        (Some("soon\u{1b}[2J"), [(180, 600), (2880, 4000)]),
        (Some("-1"), [(180, 600), (2880, 4000)]),
        (Some("99999999999999999999999999999999999999999999999999e999"), [(180, 600), (2880, 4000)]),
    ];
    std::thread::scope(|scope| {
        for (header, pauses) in cases {
            scope.spawn(move || {
                let fake = Fake::start();
                let busy = header.into_iter().fold(Says::status(429), |says, value| says.header("Retry-After", value));
                fake.says("manifests/prod", busy);
                let mut vm = Vm::new(&fake.channel(), QUICK);
                vm.start();
                let gaps = gaps(&fake, "HEAD", 6);
                for (gap, (least, most)) in [gaps[0], gaps[4]].iter().zip(pauses) {
                    let allowed = Duration::from_millis(least)..Duration::from_millis(most);
                    assert!(allowed.contains(gap), "{header:?}: {gaps:?}, not {allowed:?}");
                }
                assert_eq!(bad_news(&vm).len(), 1, "{:?}", bad_news(&vm));
                vm.wait_for_digest(&fake.serve_bundle(&bundle()));
            });
        }
    });
}

#[test]
fn a_registry_that_wants_peace_for_long_silences_no_other() {
    let (busy, well) = (Fake::start(), Fake::start());
    busy.says("manifests/prod", Says::status(429).header("Retry-After", "86400"));
    let digest = well.serve_bundle(&bundle());
    let mut vm = Vm::new(&busy.channel(), QUICK);
    let app = |fake: &Fake| format!("{{ channel: \"{}\", poll: 200ms }}", fake.channel());
    vm.configure(&format!("apps:\n  web: {}\n  also: {}\n  other: {}\n", app(&busy), app(&busy), app(&well)));
    vm.start();
    let file = |app: &str| match contract::read::<ChannelFile>(&vm.layout.channel(&app.parse().unwrap())) {
        Read::Found(file) => Some(file),
        Read::Absent => None,
        other => panic!("{other:?}"),
    };
    let shown = |digest: &Digest| {
        wait_for("the other app's release", || file("other").filter(|file| file.digest.as_ref() == Some(digest)));
    };
    shown(&digest);
    for app in ["web", "also"] {
        let told = || file(app)?.problem.filter(|problem| problem.contains("answered 429"));
        wait_for("each app of the busy registry to say so", told);
    }
    gaps(&well, "HEAD", 10);
    shown(&well.serve_bundle(&Bundle::new("services: { b: {} }\n")));
    assert_eq!(busy.requests().len(), 1, "its second app waits too: {:?}", busy.requests());
}

/// Through the program what `access.rs` has of the library: the store that a registry sends us to gets the request and no token.
#[test]
fn a_token_is_not_sent_along_to_where_a_registry_keeps_its_blobs() {
    let (fake, store) = (Fake::start(), Fake::start());
    let digest = fake.serve_bundle(&bundle());
    fake.says_at("/token", Says::ok(br#"{"token":"t1","expires_in":300}"#));
    fake.wants("Bearer t1", &challenge(&fake));
    let file = format!("blobs/{}", Digest::of(b"server {}\n"));
    fake.says(&file, Says::status(307).header("Location", format!("http://{}/stored?signed=x", store.address)));
    store.says_at("/stored", Says::ok(b"server {}\n"));
    let mut vm = Vm::new(&fake.channel(), QUICK);
    let app = format!("apps:\n  web: {{ channel: \"{}\", poll: 200ms }}\n", fake.channel());
    vm.configure(&format!("{app}registries:\n  \"{}\": {{ plain_http: true }}\n", store.address));
    vm.start();
    vm.wait_for_digest(&digest);
    assert_eq!(store.shown(), [("/stored?signed=x".to_owned(), None)]);
}

/// What is odd and allowed is staged as it is; what is told of it can be shown anywhere.
#[test]
fn names_of_any_script_are_staged_and_a_mebibyte_of_annotations_is_borne() {
    let fake = Fake::start();
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    let named = ["grüße/日本.conf", "שלום", "e\u{301}", "\u{e9}", "a b", "👍.sh", "x\u{202e}fdp.exe"];
    let odd = named.iter().fold(bundle(), |bundle, title| bundle.file(title, title.as_bytes()));
    let odd = odd.annotate("org.opencontainers.image.source", "\u{1b}[31m\u{202e}red");
    let shown = vm.wait_for_digest(&fake.serve_bundle(&odd));
    let record = vm.check_staged(&shown.release.unwrap());
    assert_eq!(record.provenance["org.opencontainers.image.source"], "\\u{1b}[31m\\u{202e}red");

    let mut manifest = bundle().file("more", b"more").manifest();
    let many = (0..8000).map(|n| (format!("org.opencontainers.image.k{n}"), json!("v".repeat(70))));
    manifest["annotations"] = serde_json::Value::Object(many.collect());
    let bytes = manifest.to_string().into_bytes();
    assert!((800_000..1 << 20).contains(&bytes.len()), "{}", bytes.len());
    fake.serve_bundle(&bundle().file("more", b"more"));
    vm.wait_for_digest(&fake.serve_manifest(&bytes));
    assert!(vm.peak_memory() < MOST_MEMORY, "{} KiB", vm.peak_memory());

    let twice = bundle().file("x\u{202e}y", b"1").file("x\u{202e}y", b"2");
    fake.serve_bundle(&twice);
    let problem = vm.wait_for_problem("is used twice").problem.unwrap();
    assert!(problem.contains("x\\u{202e}y"), "{problem}");
    assert!(!vm.log().chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{}", vm.log());
}
