//! docs/operations.md holds: it has a section for whatever an on-call is called for, and each command in it is run by a test. Most are run by
//! a story on a machine (`make test-units`), as they stand in the document, with an app that is rolled out by the units that ship; the rest
//! is named with the test that runs it. Beside the story, on the same machine: what `landfall verify` sees, who may use the socket, who puts
//! the guard back, and what a hostile registry can write into the journal.

mod commands;
mod document;
mod people;
mod stage;
mod story;
mod verify;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use commands::{COMMANDS, How, SECTIONS};
use stage::Stage;

fn repository(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?.join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn operations() -> Result<String> {
    repository("docs/operations.md")
}

#[test]
fn every_command_of_the_document_is_run_by_a_test() -> Result<()> {
    let found = document::commands(&operations()?)?;
    for one in &found {
        ensure!(
            COMMANDS.iter().any(|(command, _)| *command == one.command),
            "docs/operations.md:{}: no test runs `{}`; next: run it in story.rs, and name it in commands.rs",
            one.line,
            one.command
        );
    }
    let told: BTreeSet<&str> = found.iter().map(|one| one.command.as_str()).collect();
    let mut known = BTreeSet::new();
    for (command, how) in COMMANDS {
        ensure!(told.contains(command), "docs/operations.md has no `{command}`; next: remove it from commands.rs");
        ensure!(known.insert(command), "`{command}` is there twice");
        if let How::Elsewhere(file, words) = how {
            ensure!(repository(file)?.contains(words), "`{command}`: {file} has no `{words}` any more");
        }
    }
    Ok(())
}

#[test]
fn there_is_a_section_for_whatever_an_on_call_is_called_for() -> Result<()> {
    let text = operations()?;
    for section in SECTIONS {
        ensure!(text.lines().any(|line| line == *section), "docs/operations.md has no `{section}`");
    }
    Ok(())
}

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn the_story_of_the_document_on_a_machine() -> Result<()> {
    on_a_stage("story", story::play)
}

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn verify_sees_what_is_wrong_with_a_machine() -> Result<()> {
    on_a_stage("verify", |stage| {
        stage.first_app()?;
        verify::each_fault_is_seen(stage)
    })
}

#[test]
#[ignore = "needs a machine of its own: `make test-units`"]
fn only_operators_use_the_socket_and_nobody_forges_the_journal() -> Result<()> {
    on_a_stage("people", |stage| {
        stage.first_app()?;
        people::an_operator_needs_no_root(stage)?;
        people::a_hostile_registry_forges_nothing(stage)?;
        people::a_guard_that_was_taken_away_comes_back()
    })
}

/// A failure shows what the daemons said.
fn on_a_stage(name: &str, body: impl FnOnce(&mut Stage) -> Result<()>) -> Result<()> {
    let mut stage = Stage::set(name)?;
    let told = body(&mut stage);
    if told.is_err() {
        eprintln!("{}\n{}", stage.vm.report(), stage::run("journalctl -u 'landfall-*' -n 60 --no-pager")?);
    }
    told
}
