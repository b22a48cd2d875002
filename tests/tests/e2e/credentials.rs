//! A registry that serves only whom it knows: the credential is a file that changes under running daemons, for the watcher
//! and for the Engine that pulls for the agent.

use anyhow::{Context as _, Result, ensure};
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::suite::{on_a_vm, on_a_vm_of};
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

/// The credential comes from the vault: nobody writes a file, and a rotation needs no restart, of the watcher, of the agent, nor
/// of anything that runs.
#[test]
fn a_credential_from_the_vault_is_waited_for_and_rotates_under_running_daemons() {
    on_a_vm_of("sample", "vaulted", |vm| {
        let sandbox = vm.sandbox("kv")?;
        sandbox.grant("kv", "system", Grant::GET)?;
        let first = vm.registry.close()?;
        vm.configure_registry_secret(sandbox.vault_url("kv")?, &first.username, "pull")?;
        let v1 = vm.publish_version("v1", &[])?;
        vm.start()?;
        problem(vm, &["waits for the registry's credential from the vault", "`pull`"])?;
        vm.start_fetcher(&sandbox)?;
        eventually(SOON, "the missing secret is told", || {
            let told = vm.landfall(&["secrets"])?;
            ensure!(told.code == 10 && told.stdout.contains("(registry)") && told.stdout.contains("pull"), "{told:?}");
            Ok(())
        })?;
        sandbox.set_secret("kv", "pull", &first.password)?;
        vm.live(&v1)?;
        let told = vm.landfall(&["secrets"])?;
        ensure!(told.code == 0 && told.stdout.contains(vm.registry.address()), "{told:?}");

        let second = vm.registry.rotate()?;
        problem(vm, &["user `bot` in the vault, as secret `pull`", "is not accepted any more"])?;
        let before = (vm.watcher_id()?, vm.agent_id()?, vm.engine.serving_ids(vm.app.as_str())?);
        sandbox.set_secret("kv", "pull", &second.password)?;
        eventually(SOON, "nothing is wrong any more", || {
            let problem = vm.channel_file()?.problem;
            ensure!(problem.is_none(), "{problem:?}");
            Ok(())
        })?;
        ensure!(vm.engine.serving_ids(vm.app.as_str())? == before.2, "containers were replaced");
        // Another layer, so that the Engine has something to pull.
        vm.live(&vm.publish_version("v2", &[])?)?;
        ensure!((vm.watcher_id()?, vm.agent_id()?) == (before.0, before.1), "a daemon was restarted");
        let report = vm.report();
        let password = [&first, &second].into_iter().find(|credential| report.contains(&credential.password));
        ensure!(password.is_none(), "a password is told: {report}");
        Ok(())
    });
}

/// A credential that says itself when it ends (a JSON web token, here of 2001): nobody has to find out by a missed release.
#[test]
fn a_credential_that_has_ended_is_something_to_do() {
    on_a_vm("expired", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let file = vm.directory().join("credential");
        std::fs::write(&file, "bot:h.eyJleHAiOjEwMDAwMDAwMDB9.s\n")?;
        vm.configure_credential(&file)?;
        eventually(SOON, "status says so", || {
            let status = vm.status()?;
            let credential = status.credentials.first().context("no credential is shown")?;
            ensure!(credential.registry == vm.registry.address(), "{credential:?}");
            ensure!(credential.expires == "2001-09-09T01:46:40.000Z", "{credential:?}");
            let renew = format!("renew the credential of `{}` in `{}`", credential.registry, file.display());
            ensure!(status.next.contains(&renew), "{}", status.next);
            let shown = vm.landfall(&["status"])?;
            ensure!(shown.code == 0 && shown.stdout.contains("credential of `"), "{shown:?}");
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
