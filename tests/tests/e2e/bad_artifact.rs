//! What anybody who may write to the channel can put there, past all that `landfall publish` checks: each is told in
//! `landfall status` with the thing and the next step, and the stack that serves is not touched.

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::Digest;
use landfall_tests::artifact::{self, BUNDLE, COMPOSE, FILE, INDEX, Layer, MANIFEST};
use landfall_tests::events::Recorder;
use landfall_tests::images::{self, Image};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;
use serde_json::json;

/// What is put on the channel, and what status must say.
struct Case {
    name: &'static str,
    push: fn(&Vm) -> Result<Digest>,
    says: &'static [&'static str],
}

/// Refused by the watcher, before anything is staged.
const ARTIFACTS: &[Case] = &[
    Case {
        name: "a container image",
        push: |vm| {
            let repository = format!("deploy/{}", vm.app);
            images::push(&vm.registry, &Image { repository: &repository, tag: "prod", ..Image::default() })
        },
        says: &["a container image, not a release", "`landfall publish`"],
    },
    Case {
        name: "a list of manifests",
        push: |vm| {
            let digest = bundle(vm, "services: {}", &[])?;
            let entry = json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 });
            artifact::push_manifest(vm, INDEX, json!({ "manifests": [entry] }))
        },
        says: &["an image index", "`landfall publish`"],
    },
    Case {
        name: "an artifact of a foreign type",
        push: |vm| artifact::push(vm, "application/vnd.cncf.helm.chart", &[Layer::compose("services: {}")]),
        says: &["`application/vnd.cncf.helm.chart`", "`landfall publish`"],
    },
    Case {
        name: "a layer of a foreign type",
        push: |vm| bundle(vm, "services: {}", &[Layer::new("application/x-sh", "install.sh", "rm -rf /")]),
        says: &["layer 2", "`application/x-sh`", "publish the release again"],
    },
    Case {
        name: "a path that leaves the project",
        push: |vm| bundle(vm, "services: {}", &[Layer::new(FILE, "../../../../tmp/escaped", "out")]),
        says: &["layer 2", "`../../../../tmp/escaped`", "`..`", "rename"],
    },
    Case {
        name: "an absolute path",
        push: |vm| bundle(vm, "services: {}", &[Layer::new(FILE, "/etc/cron.d/root", "* * * * * root id")]),
        says: &["layer 2", "`/etc/cron.d/root`", "relative to the project", "rename"],
    },
    Case {
        name: "a file that is too large",
        push: |vm| bundle(vm, "services: {}", &[Layer::new(FILE, "large", vec![b'x'; (1 << 20) + 1])]),
        says: &["layer 2 (`large`)", "1048577 bytes", "at most 1048576", "smaller"],
    },
    Case {
        name: "a compose file that is too large",
        push: |vm| bundle(vm, &" ".repeat((256 << 10) + 1), &[]),
        says: &["layer 1 (`compose.yaml`)", "262145 bytes", "at most 262144", "smaller"],
    },
    Case {
        name: "too many layers",
        push: |vm| {
            let files: Vec<Layer> = (0..64).map(|n| Layer::new(FILE, &format!("f{n}"), "x")).collect();
            bundle(vm, "services: {}", &files)
        },
        says: &["65 layers", "at most 64", "smaller"],
    },
    Case {
        name: "no compose file",
        push: |vm| artifact::push(vm, BUNDLE, &[Layer::new(FILE, "a", "x")]),
        says: &["a bundle without a compose file", "`landfall publish`"],
    },
    Case {
        name: "a layer cut short",
        push: |vm| {
            let layer = Layer::new(FILE, "cut", "the whole of it");
            let digest = bundle(vm, "services: {}", std::slice::from_ref(&layer));
            vm.registry.spoil(&layer.digest(), |bytes| bytes.truncate(3))?;
            digest
        },
        says: &["3 bytes with digest", "check the registry"],
    },
    Case {
        name: "a layer with other bytes",
        push: |vm| {
            let layer = Layer::new(COMPOSE, "compose.yaml", "services: {} # as it was published");
            let digest = artifact::push(vm, BUNDLE, std::slice::from_ref(&layer));
            vm.registry.spoil(&layer.digest(), |bytes| bytes[0] = b'S')?;
            digest
        },
        says: &["34 bytes with digest", "check the registry"],
    },
];

/// Staged by the watcher, refused by the agent.
const PROJECTS: &[Case] = &[
    Case {
        name: "no YAML",
        push: |vm| changed(vm, "volumes:\n", "volumes: [\n"),
        says: &["compose file 1", "does not parse", "publish again"],
    },
    Case {
        name: "a bomb",
        push: |vm| bundle(vm, &bomb(), &[]),
        says: &["compose file 1", "aliases", "larger or deeper than any project", "publish again"],
    },
    Case {
        name: "a file of the host as env_file",
        push: |vm| changed(vm, STORE, &format!("{STORE}    env_file: /etc/environment\n")),
        says: &["`store`", "env_file", "/etc/environment", "put the file into the project"],
    },
    Case {
        name: "the Docker socket by another word",
        push: |vm| changed(vm, STORE, &format!("{STORE}    use_api_socket: true\n")),
        says: &["`store`", "use_api_socket", "remove it"],
    },
    Case {
        name: "a directory that is not in the bundle",
        push: |vm| changed(vm, "      - data:/data\n", "      - ./data:/data\n"),
        says: &["`store`", "./data", "named volume", "allow_binds"],
    },
    Case {
        name: "a file that is not in the bundle",
        push: |vm| artifact::push(vm, BUNDLE, &[Layer::compose(&artifact::compose_text(vm)?)]),
        says: &["`proxy`", "./proxy.conf", "published with it"],
    },
    Case {
        name: "a tag that does not exist",
        push: |vm| changed(vm, "/sample/api:v1\n", "/sample/api:never-pushed\n"),
        says: &["/sample/api:never-pushed", "push it"],
    },
    Case {
        name: "a digest that does not exist",
        push: |vm| changed(vm, "/sample/api:v1\n", &format!("/sample/api@{}\n", Digest::of(b"never pushed"))),
        says: &["/sample/api@sha256:", "push it"],
    },
];

const STORE: &str = "    command: [\"store\"]\n";

#[test]
fn what_is_no_release_is_told_and_touches_nothing() {
    refused("artifact", ARTIFACTS);
}

#[test]
fn a_release_past_the_checks_of_publish_is_told_and_touches_nothing() {
    refused("project", PROJECTS);
}

fn refused(name: &str, cases: &[Case]) {
    on_a_vm(name, |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let app = vm.app.to_string();
        let serving = vm.engine.serving_ids(&app)?;
        let recorder = Recorder::start(&vm.engine, &[&app, vm.registry.address()])?;
        for case in cases {
            (case.push)(vm).and_then(|_| told(vm, case.says)).with_context(|| format!("case `{}`", case.name))?;
            let changes = recorder.changes();
            ensure!(changes.is_empty(), "case `{}`: {changes:?}", case.name);
        }
        assert_eq!(vm.engine.serving_ids(&app)?, serving);
        ensure!(vm.ask()?.version == "v1", "another version serves");
        // And a good one goes through after all of them.
        vm.live(&vm.publish_version("v2", &[])?)?;
        Ok(())
    });
}

fn told(vm: &Vm, says: &[&str]) -> Result<()> {
    eventually(SOON, "status says it", || {
        let reason = vm.status()?.reason.context("status gives no reason")?;
        for words in says {
            ensure!(reason.contains(words), "no `{words}` in: {reason}");
        }
        Ok(())
    })
}

fn bundle(vm: &Vm, compose: &str, more: &[Layer]) -> Result<Digest> {
    artifact::push(vm, BUNDLE, &[&[Layer::compose(compose)], more].concat())
}

/// The project as it is, but for one thing.
fn changed(vm: &Vm, from: &str, to: &str) -> Result<Digest> {
    let text = artifact::compose_text(vm)?;
    ensure!(text.contains(from), "no `{from}` in the compose file");
    let conf = std::fs::read(vm.project.directory().join("proxy.conf"))?;
    bundle(vm, &text.replace(from, to), &[Layer::new(FILE, "proxy.conf", conf)])
}

/// Ten levels of ten aliases each: a few hundred bytes that unfold to ten billion nodes.
fn bomb() -> String {
    let levels = (1..10).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")));
    format!("a0: &a0 [{}]\n{}services: {{}}\n", ["x"; 10].join(","), levels.collect::<String>())
}
