//! The shipped watcher against the real registry: staged, republished, refused, killed, told to poll.

mod support;

use std::fs;
use std::time::Duration;

use landfall_core::contract::StagedSource;
use landfall_core::ids::Digest;
use serde_json::json;
use support::{Bundle, Registry, Vm, wait_for};

const QUICK: &str = "poll: 200ms";

#[test]
fn a_channel_is_followed_forward_only() {
    let registry = Registry::start();
    let channel = registry.channel("prod");
    let mut vm = Vm::new(&channel, QUICK);
    vm.start();
    vm.wait_for_problem("has no `");

    // The first release, with a file and a program.
    let v1 = Bundle::new("services: { a: {} }\n").file("conf/nginx.conf", b"server {}\n").layer(
        "application/vnd.landfall.file.v1",
        b"#!/bin/sh\n",
        &json!({"org.opencontainers.image.title": "init.sh", "io.landfall.file.mode": "0755"}),
    );
    let first = registry.publish("prod", &v1.clone().sequence(&channel, 100));
    let shown = vm.wait_for_digest(&first);
    assert_eq!((shown.sequence, shown.problem.as_deref()), (Some(100), None));
    let release = shown.release.unwrap();
    let record = vm.check_staged(&release);
    let StagedSource::Bundle { compose, files } = record.source else { panic!() };
    assert_eq!((compose.len(), files.len()), (1, 2));
    let document = vm.layout.release(&vm.app, &release).join("compose/0.yaml");
    assert_eq!(fs::read_to_string(document).unwrap(), "services: { a: {} }\n");
    assert_eq!(record.provenance["io.landfall.sequence"], "100");

    // The same content again: another manifest, the same release.
    let again = registry.publish("prod", &v1.clone().sequence(&channel, 200));
    let shown = vm.wait_for_digest(&again);
    assert_eq!((shown.release.as_ref(), shown.sequence), (Some(&release), Some(200)));

    // Nothing that goes back, or could have been made for elsewhere.
    let v2 = Bundle::new("services: { b: {} }\n");
    for (bundle, words) in [
        (v2.clone().sequence(&channel, 199), "sequence 199 is older than 200"),
        (v2.clone(), "the release has no `io.landfall.sequence`"),
        (v2.clone().sequence(&registry.channel("staging"), 300), "was published for"),
        (
            v2.clone().sequence(&channel, 300).annotate("io.landfall.not-after", "2020-01-01T00:00:00Z"),
            "until 2020-01-01",
        ),
        (v2.clone().sequence(&channel, 300).file("../x", b"x"), "the title `../x`"),
    ] {
        registry.publish("prod", &bundle);
        let shown = vm.wait_for_problem(words);
        assert_eq!((shown.digest.as_ref(), shown.release.as_ref()), (Some(&again), Some(&release)), "{words}");
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
    registry.push("deploy", "prod", &index, &[]);
    vm.wait_for_problem("an image index");

    // And forward again.
    let second = registry.publish("prod", &v2.sequence(&channel, 300));
    let shown = vm.wait_for_digest(&second);
    assert_ne!(shown.release.as_ref(), Some(&release));
    assert_eq!((shown.sequence, shown.problem), (Some(300), None));

    // It remembers over a restart, also without its channel file.
    vm.kill();
    fs::remove_file(vm.layout.channel(&vm.app)).unwrap();
    registry.publish("prod", &v1.sequence(&channel, 299));
    vm.start();
    let shown = vm.wait_for_problem("sequence 299 is older than 300");
    assert_eq!(shown.release, None);
}

#[test]
fn a_pointer_document_is_staged() {
    let registry = Registry::start();
    let image = format!("{}/api@{}", registry.address, Digest::of(b"image"));
    let document = json!({"format": 1, "images": {"api": image}, "provenance": {"commit": "abc"}}).to_string();
    let mut manifest = Bundle::new("").manifest();
    manifest["artifactType"] = json!("application/vnd.landfall.pointer.v1");
    manifest["layers"] =
        json!([{"mediaType": "application/json", "digest": Digest::of(document.as_bytes()), "size": document.len()}]);
    let digest = registry.push("deploy", "prod", &manifest, &[document.as_bytes()]);

    let mut vm = Vm::new(&registry.channel("prod"), QUICK);
    vm.start();
    vm.wait_for_problem("landfall.yaml says `source: bundle`");
    vm.configure(&format!("apps:\n  web: {{ channel: \"{}\", {QUICK}, source: pointer }}\n", registry.channel("prod")));
    vm.reload();
    let record = vm.check_staged(&vm.wait_for_digest(&digest).release.unwrap());
    assert_eq!(record.source, StagedSource::Pointer { images: [("api".to_owned(), image)].into() });
    assert_eq!(record.provenance["commit"], "abc");
}

/// Killed at ever later moments until a release is staged: what has a name is whole, and the next life finishes the work.
#[test]
fn kill_9_leaves_nothing_half_done() {
    let registry = Registry::start();
    let channel = registry.channel("prod");
    let mut vm = Vm::new(&channel, QUICK);
    let mut lives = 0;
    for number in 1..=6_u64 {
        let mut bundle = Bundle::new(&format!("services: {{ a: {{ image: r{number} }} }}\n"));
        for file in 0..8 {
            bundle = bundle.file(&format!("f{file}"), format!("{number} {file}\n").repeat(1000).as_bytes());
        }
        let digest = registry.publish("prod", &bundle.sequence(&channel, number));
        let mut age = Duration::from_micros(700 * number);
        loop {
            vm.start();
            std::thread::sleep(age);
            vm.kill();
            lives += 1;
            vm.check_all_staged();
            let shown = vm.channel();
            if let Some(release) = shown.as_ref().and_then(|file| file.release.as_ref()) {
                vm.check_staged(release);
            }
            if shown.is_some_and(|file| file.digest.as_ref() == Some(&digest)) {
                break;
            }
            age += Duration::from_millis(4);
        }
    }
    assert!(lives >= 12, "{lives} lives are too few to have met it at work");
    vm.start();
    vm.wait_for_log("is verified and staged");
    for directory in [vm.layout.releases(&vm.app), vm.layout.channels(), vm.layout.watcher()] {
        for entry in fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with('.'), "{} is unfinished", name.display());
        }
    }
}

#[test]
fn a_torn_memory_takes_nothing_new_until_a_person_has_looked() {
    let registry = Registry::start();
    let channel = registry.channel("prod");
    let mut vm = Vm::new(&channel, QUICK);
    let first = registry.publish("prod", &Bundle::new("services: { a: {} }\n").sequence(&channel, 1));
    vm.start();
    vm.wait_for_digest(&first);
    fs::write(vm.layout.watcher_state(), "{\"format\":1,\"seq").unwrap();
    let second = registry.publish("prod", &Bundle::new("services: { b: {} }\n").sequence(&channel, 2));
    let shown = vm.wait_for_problem("state.json");
    assert_eq!(shown.digest, Some(first));
    assert!(shown.problem.unwrap().contains("then remove"));
    fs::remove_file(vm.layout.watcher_state()).unwrap();
    vm.want_poll(1);
    vm.wait_for_digest(&second);
}

#[test]
fn the_agent_can_have_a_poll_now() {
    let registry = Registry::start();
    let channel = registry.channel("prod");
    let mut vm = Vm::new(&channel, "poll: 24h");
    vm.want_poll(7);
    let first = registry.publish("prod", &Bundle::new("services: { a: {} }\n"));
    vm.start();
    vm.wait_for_digest(&first);
    for poll in 8..11 {
        let next = registry.publish("prod", &Bundle::new(&format!("services: {{ p{poll}: {{}} }}\n")));
        vm.want_poll(poll);
        vm.wait_for_digest(&next);
    }
}

#[test]
fn a_mistake_in_the_settings_changes_nothing() {
    let registry = Registry::start();
    let mut vm = Vm::new(&registry.channel("prod"), QUICK);
    vm.start();
    let first = registry.publish("prod", &Bundle::new("services: { a: {} }\n"));
    vm.wait_for_digest(&first);
    vm.configure("apps:\n  web: { chanel: x }\n");
    vm.reload();
    vm.wait_for_log("unknown key `chanel`; did you mean `channel`?");
    vm.reload();
    let second = registry.publish("prod", &Bundle::new("services: { b: {} }\n"));
    vm.wait_for_digest(&second);
    assert_eq!(vm.log().matches("chanel").count(), 1, "{}", vm.log());

    // Without a signal the change is seen at the next look.
    vm.configure(&format!("apps:\n  web: {{ channel: \"{}\", {QUICK} }}\n", registry.channel("next")));
    let third = registry.publish("next", &Bundle::new("services: { c: {} }\n"));
    let shown = vm.wait_for_digest(&third);
    assert_eq!(shown.channel, registry.channel("next"));
}

#[test]
fn without_settings_it_waits_for_them() {
    let registry = Registry::start();
    let mut vm = Vm::new(&registry.channel("prod"), QUICK);
    fs::remove_file(vm.layout.config_file()).unwrap();
    vm.start();
    vm.wait_for_log("landfall.yaml` is not there");
    let digest = registry.publish("prod", &Bundle::new("services: { a: {} }\n"));
    vm.configure(&format!("apps:\n  web: {{ channel: \"{}\", {QUICK} }}\n", registry.channel("prod")));
    vm.reload();
    vm.wait_for_digest(&digest);
}

#[test]
fn a_registry_that_is_down_is_waited_for() {
    let port = support::free_port();
    let mut vm = Vm::new(&format!("127.0.0.1:{port}/deploy:prod"), QUICK);
    vm.start();
    let shown = vm.wait_for_problem("cannot be reached");
    assert_eq!((shown.release, shown.last_good_poll), (None, None));
    let registry = Registry::start_on(port);
    let digest = registry.publish("prod", &Bundle::new("services: { a: {} }\n"));
    let shown = vm.wait_for_digest(&digest);
    assert_eq!(shown.problem, None);
    drop(registry);
    let shown = vm.wait_for_problem("cannot be reached");
    assert_eq!(shown.digest, Some(digest));
    wait_for("the journal", || (vm.log().matches("cannot be read").count() == 2).then_some(()));
}
