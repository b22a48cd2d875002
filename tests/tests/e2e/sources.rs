//! Other ways to a channel than `landfall publish`: what Docker Compose publishes, what is copied from tag to tag, what `landfall
//! promote` takes from one channel to another.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::artifact::{self, MANIFEST};
use landfall_tests::programs;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{ROLLOUT, SOON, Vm};
use landfall_tests::wait::eventually;

/// A project without files: all that Compose's own artifact can carry. (`publish` of 5.x cannot read the short form of ports where it
/// has a variable.)
const COMPOSE: &str = r#"services:
  api:
    image: REGISTRY/sample/api:VERSION
    ports: [{ target: 8080, published: "${PORT}", host_ip: 127.0.0.1 }]
    healthcheck:
      test: ["CMD", "/landfall-sample", "probe", "http://127.0.0.1:8080/health"]
      interval: 1s
    deploy:
      resources: { limits: { memory: 32M } }
      update_config: { monitor: 1s }
"#;

#[test]
fn what_docker_compose_publishes_is_rolled_out() {
    let own = programs::compose_plugin().expect("a Compose plugin");
    let other = programs::other_compose_plugin().expect("another Compose plugin");
    on_a_vm("compose-publish", |vm| {
        publish_by_compose(vm, &own, "v1")?;
        served(vm, "v1")?;
        publish_by_compose(vm, &other, "v2")?;
        served(vm, "v2")
    });
}

/// The manifest of a release, put under another tag: the registry cannot tell, the watcher can.
#[test]
fn a_copied_release_is_refused_and_a_promoted_one_taken() {
    on_a_vm("promote", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let (production, staging) = (vm.channel(), vm.channel().replace(":prod", ":staging"));
        let repository = format!("deploy/{}", vm.app);
        let v2 = vm.project.set_version(&vm.registry, "v2", &[])?;
        publish_to(vm, &staging)?;
        vm.registry.copy_tag(&repository, "staging", "prod", MANIFEST)?;
        let line = format!("landfall promote {staging} {production}");
        eventually(SOON, "the watcher refuses the copy, with the line to type", || {
            let problem = vm.channel_file()?.problem.context("no problem")?;
            ensure!(problem.contains(&line), "{problem}");
            Ok(())
        })?;
        vm.serves(&v1)?;

        // The line as it stands there.
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let promoted = vm.landfall(&words)?;
        ensure!(promoted.code == 0 && promoted.stdout.contains("\ndigest sha256:"), "{promoted:?}");
        served(vm, "v2")?;
        let shown = vm.channel_file()?.release.context("no release is shown")?;
        ensure!(promoted.stdout.starts_with(&format!("release {shown}\n")), "{shown} is shown: {promoted:?}");
        let digests = vm.engine.image_digests(&vm.ask()?.container)?;
        ensure!(digests.contains(&v2.to_string()), "{digests:?}");

        // And back: the old content as the newest publication, from a tag that still has it.
        let file = vm.project.compose_file();
        let same = vm.landfall(&["diff", &production, "--file", &file.display().to_string()])?;
        ensure!(same.code == 0, "{same:?}");
        vm.project.set_version(&vm.registry, "v3", &[])?;
        let differs = vm.landfall(&["diff", &production, "--file", &file.display().to_string()])?;
        ensure!(differs.code == 10 && differs.stdout.contains("~ image api\n"), "{differs:?}");
        ensure!(differs.stdout.contains("~ file  compose.yaml\n"), "{differs:?}");
        let last = vm.last_seq()?;
        publish_to(vm, &production)?;
        vm.recorded(last, HistoryEvent::Live, None)?;
        served(vm, "v3")?;
        let back = vm.landfall(&["publish", &production, "--from", &staging])?;
        ensure!(back.code == 0, "{back:?}");
        served(vm, "v2")
    });
}

/// With a file beside the compose file, by the commands of the README; then the same artifact at another tag, by skopeo.
#[test]
fn what_oras_pushes_and_skopeo_copies_is_rolled_out() {
    on_a_vm("oras", |vm| {
        vm.project.set_version(&vm.registry, "v1", &[])?;
        oras_push(vm, &vm.channel())?;
        served(vm, "v1")?;
        vm.project.set_version(&vm.registry, "v2", &[])?;
        let candidate = vm.channel().replace(":prod", ":candidate");
        oras_push(vm, &candidate)?;
        let mut skopeo = Command::new(programs::publisher("skopeo")?);
        skopeo.args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        run(skopeo.arg(format!("docker://{candidate}")).arg(format!("docker://{}", vm.channel())))?;
        served(vm, "v2")
    });
}

fn oras_push(vm: &Vm, channel: &str) -> Result<()> {
    let mut oras = Command::new(programs::publisher("oras")?);
    oras.current_dir(vm.project.directory()).args(["push", "--plain-http"]);
    oras.args(["--artifact-type", artifact::BUNDLE, channel]);
    run(oras.arg(format!("compose.yaml:{}", artifact::COMPOSE)).arg(format!("proxy.conf:{}", artifact::FILE)))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// Another tag's own manifest without `io.landfall.*`, on a channel that never had a sequence: as stock tools do it.
#[test]
fn an_artifact_retagged_by_stock_tools_is_rolled_out() {
    on_a_vm("retag", |vm| {
        let own = programs::compose_plugin()?;
        write_project(vm, "v1")?;
        let repository = format!("deploy/{}", vm.app);
        compose_publish(vm, &own, &vm.channel().replace(":prod", ":candidate"))?;
        vm.registry.copy_tag(&repository, "candidate", "prod", MANIFEST)?;
        served(vm, "v1")
    });
}

fn publish_to(vm: &Vm, channel: &str) -> Result<()> {
    let file = vm.project.compose_file();
    let ran = vm.landfall(&["publish", channel, "--file", &file.display().to_string()])?;
    ensure!(ran.code == 0, "{ran:?}");
    Ok(())
}

fn publish_by_compose(vm: &Vm, plugin: &Path, version: &str) -> Result<()> {
    write_project(vm, version)?;
    compose_publish(vm, plugin, &vm.channel())
}

fn write_project(vm: &Vm, version: &str) -> Result<()> {
    vm.project.push_api(&vm.registry, version, version, &[])?;
    let text = COMPOSE.replace("REGISTRY", vm.registry.address()).replace("VERSION", version);
    Ok(std::fs::write(vm.directory().join("compose.yaml"), text)?)
}

fn compose_publish(vm: &Vm, plugin: &Path, channel: &str) -> Result<()> {
    let (plugin, verb) = if let Some(verb) = publishing(plugin)? {
        (plugin.to_owned(), verb)
    } else {
        let other = programs::other_compose_plugin()?;
        let verb = publishing(&other)?.context("neither Compose publishes without TLS")?;
        (other, verb)
    };
    let file = vm.directory().join("compose.yaml");
    let mut command = Command::new(plugin);
    command.arg("--file").arg(file).args(verb).arg(channel).env("PORT", vm.port().to_string());
    run(&mut command)
}

/// The words with which it publishes to a registry without TLS. 2.26 has that among what is in trial, and cannot write its newer form to
/// a registry of before; 5.x asks for TLS even on loopback unless it is told; 2.40 always does, which is none.
fn publishing(plugin: &Path) -> Result<Option<&'static [&'static str]>> {
    let knows = |words: &[&str]| -> Result<bool> {
        Ok(Command::new(plugin).args(words).arg("--help").output()?.status.success())
    };
    Ok(match (knows(&["publish"])?, knows(&["publish", "--insecure-registry"])?) {
        (_, true) => Some(&["publish", "--yes", "--insecure-registry"]),
        (false, false) => Some(&["alpha", "publish", "--oci-version", "1.0"]),
        (true, false) => None,
    })
}

fn served(vm: &Vm, version: &str) -> Result<()> {
    eventually(ROLLOUT, &format!("{version} is served"), || {
        let served = vm.ask()?;
        ensure!(served.version == version, "{} is", served.version);
        Ok(())
    })
}
