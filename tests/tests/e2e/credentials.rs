//! A registry that serves only whom it knows: the credential is a file that changes under running daemons, for the watcher
//! and for the Engine that pulls for the agent.

use anyhow::{Context as _, Result, ensure};
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;

#[test]
fn a_registry_that_closes_is_entered_as_soon_as_its_credential_is_there() {
    on_a_vm("closed", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let credential = vm.registry.close()?;
        // Another layer, so that there is something to pull.
        let v2 = vm.publish_version("v2", &[])?;
        let registry = vm.registry.address().to_owned();
        problem(vm, &["no credential is set", &format!("registries.{registry}.credential")])?;

        let file = vm.directory().join("credential");
        std::fs::write(&file, "bot:wrong\n")?;
        vm.configure_credential(&file)?;
        let said = problem(vm, &["user `bot`", "is not accepted", &file.display().to_string()])?;
        ensure!(!said.contains("wrong"), "the password is told: {said}");
        vm.serves(&v1)?;

        std::fs::write(&file, format!("{}:{}\n", credential.username, credential.password))?;
        vm.live(&v2)?;
        eventually(SOON, "nothing is wrong any more", || {
            let problem = vm.channel_file()?.problem;
            ensure!(problem.is_none(), "{problem:?}");
            Ok(())
        })
    });
}

/// Waits until the watcher has a problem that has all of these words.
fn problem(vm: &Vm, words: &[&str]) -> Result<String> {
    eventually(SOON, &format!("the watcher says {words:?}"), || {
        let problem = vm.channel_file()?.problem.context("it has no problem")?;
        let missing = words.iter().find(|word| !problem.contains(**word));
        missing.map_or(Ok(problem.clone()), |word| Err(anyhow::anyhow!("no `{word}`: {problem}")))
    })
}
