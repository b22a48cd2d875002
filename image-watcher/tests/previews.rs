//! The shipped watcher and the tags of a repository that has one for each pull request: which of them have an app, and that no
//! trouble of a registry takes one away.

mod support;

use support::{Bundle, Registry, Vm, wait_for};

fn bundle(text: &str) -> Bundle {
    Bundle::new(&format!("services: {{ a: {{ labels: {{ n: \"{text}\" }} }} }}\n"))
}

#[test]
fn a_tag_that_matches_has_an_app_and_a_follower_of_its_own() {
    let registry = Registry::start();
    registry.publish("prod", &bundle("prod"));
    let first = registry.publish("pr-1", &bundle("1"));
    let mut vm = Vm::with_previews(&registry.address, "ttl: 1h");
    vm.start();
    let shown = vm.wait_for_digest(&first);
    assert_eq!(shown.channel, registry.channel("pr-1"));
    vm.check_staged(shown.release.as_ref().unwrap());
    let file = vm.wait_for_tags(&["pr-1"]);
    assert_eq!((file.channel, file.ttl_ms), (format!("{}/deploy:pr-*", registry.address), 3_600_000));
    // More tags, and more publications of one.
    registry.publish("pr-22", &bundle("22"));
    vm.wait_for_tags(&["pr-1", "pr-22"]);
    vm.wait_for_digest(&registry.publish("pr-1", &bundle("1b")));
    let channels = || std::fs::read_dir(vm.layout.channels()).unwrap().count();
    wait_for("a channel file for each", || (channels() == 2).then_some(()));
    assert_eq!(vm.log().matches("is followed from now on").count(), 2, "{}", vm.log());
}
