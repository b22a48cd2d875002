//! One end-to-end test: a VM and an app of its own, so that tests run side by side and beside a stack in use.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::clean;
use crate::engine::Engine;
use crate::own_engine::{self, OwnEngine};
use crate::process::Lifetime;
use crate::vm::Vm;

/// Runs `body` on a fresh VM with its daemons started. A failure prints the VM's report; all it made is removed.
///
/// # Panics
/// When the test fails.
pub fn on_a_vm(name: &str, body: impl FnOnce(&mut Vm) -> Result<()>) {
    on_a_vm_of("sample", name, |vm| {
        vm.start()?;
        body(vm)
    });
}

/// As [`on_a_vm`], with the project of another fixture; `body` starts the daemons.
///
/// # Panics
/// When the test fails.
pub fn on_a_vm_of(fixture: &str, name: &str, body: impl FnOnce(&mut Vm) -> Result<()>) {
    static SWEEP: Once = Once::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Inside, other processes have other numbers, and the Engine is new.
    if std::env::var_os(own_engine::INSIDE).is_none() {
        SWEEP.call_once(|| clean::leftovers(&Engine::of_this_machine()).expect("the Engine answers"));
    }
    let app = format!("{}{}-{}-{name}", clean::PREFIX, std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let directory = temporary_directory().expect("a temporary directory");
    let mut vm = Vm::of_fixture(fixture, directory.path(), &app, None, Lifetime::Test).expect("a VM");
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut vm)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("{}", vm.report());
    }
    drop(vm);
    match outcome {
        Ok(done) => done.unwrap_or_else(|error| panic!("{name}: {error:#}")),
        Err(panicked) => resume_unwind(panicked),
    }
}

/// As [`on_a_vm`], with a dockerd that `body` may kill. `test` is the test's own path, as `cargo test` prints it: outside
/// it is run again inside, and only there `body` runs.
///
/// # Panics
/// When the test fails.
pub fn with_own_engine(test: &str, name: &str, body: impl FnOnce(&mut Vm, &mut OwnEngine) -> Result<()>) {
    if std::env::var_os(own_engine::INSIDE).is_none() {
        return again_inside(test).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    let mut engine = OwnEngine::start().expect("a dockerd");
    on_a_vm(name, |vm| body(vm, &mut engine));
    engine.stop().expect("dockerd ends");
}

fn again_inside(test: &str) -> Result<()> {
    let directory = temporary_directory()?;
    let mut command: Command = own_engine::inside(directory.path(), &std::env::current_exe()?);
    let output = command.args(["--exact", test, "--nocapture"]).output().context("cannot run `unshare`")?;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (lossy(&output.stdout), lossy(&output.stderr));
    print!("{stdout}");
    eprint!("{stderr}");
    ensure!(output.status.success(), "it failed inside; its dockerd said: {}", dockerd_said(directory.path()));
    ensure!(stdout.contains("1 passed"), "there is no test `{test}`");
    Ok(())
}

fn temporary_directory() -> Result<tempfile::TempDir> {
    let prefix = format!("{}{}-", clean::DIRECTORY, std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir()?)
}

fn dockerd_said(directory: &std::path::Path) -> String {
    let log = crate::process::tail(&directory.join("dockerd.log"), 200);
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).collect();
    lines.join("\n")
}
