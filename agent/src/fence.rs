//! The fence around the Compose plugin: `landfall-agent fence --read DIR… --cpu SECONDS --memory BYTES -- PROGRAM ARGS`
//! limits itself and then becomes PROGRAM; with `--with-parent` it dies with the one who asked. Never code between fork and exec in the
//! daemon: a process of its own needs no unsafe. The agent's own children ([`crate::child`]) narrow themselves by the same [`confine`].
//!
//! The plugin reads what a release says, and a release is untrusted text: it may read the named directories, itself and its libraries, write
//! nothing, open no TCP port, and use so much CPU and memory. Where the kernel has no Landlock the limits hold alone; the policy on the sources
//! (`raw_policy`) does not depend on it. Connecting to a socket by path is not restricted, so that `up` reaches Docker.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

/// What the dynamic loader and the C library need, and nothing of the host's configuration.
const LIBRARIES: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null"];

/// The exit code where the fence itself failed.
const FENCE_FAILED: i32 = 125;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Fence {
    read: Vec<PathBuf>,
    cpu_seconds: u64,
    memory_bytes: u64,
    with_parent: bool,
    program: Vec<String>,
}

/// What a process may still do, for itself and all that it becomes or starts.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// Then it is ended.
    pub cpu_seconds: u64,
    /// Of data.
    pub memory_bytes: u64,
    /// Programs that it may run.
    pub run: &'a [&'a Path],
    /// What it may read, with all below.
    pub read: &'a [&'a Path],
    /// Where it may write.
    pub write: &'a [&'a Path],
}

/// Narrows this process. It opens no TCP port from here on, whatever it may write.
pub fn confine(to: &Confinement<'_>) -> anyhow::Result<()> {
    // One second between the soft limit (SIGXCPU) and the hard one (SIGKILL).
    limit(Resource::RLIMIT_CPU, to.cpu_seconds, to.cpu_seconds + 1)?;
    // Data, not address space: Go reserves a gigabyte that it never touches.
    limit(Resource::RLIMIT_DATA, to.memory_bytes, to.memory_bytes)?;
    limit(Resource::RLIMIT_CORE, 0, 0)?;
    restrict(to).context("Landlock")
}

/// Has the kernel kill this process when its parent dies, also after it became another program.
pub fn die_with_parent() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("cannot ask to die with the parent")
}

/// Runs the fence with the arguments after `fence`; does not return.
pub fn main(arguments: impl Iterator<Item = String>) -> ! {
    let Err(error) = parse(arguments).and_then(|fence| become_program(&fence));
    // Not the journal: this process has no log of its own, its stderr goes to the one who asked.
    let mut stderr = std::io::stderr();
    let _ = std::io::Write::write_all(&mut stderr, format!("landfall-agent fence: {error:#}\n").as_bytes());
    std::process::exit(FENCE_FAILED)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Fence> {
    let mut fence =
        Fence { read: Vec::new(), cpu_seconds: 0, memory_bytes: 0, with_parent: false, program: Vec::new() };
    while let Some(argument) = arguments.next() {
        if argument == "--with-parent" {
            fence.with_parent = true;
            continue;
        }
        let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--read" => fence.read.push(value()?.into()),
            "--cpu" => fence.cpu_seconds = value()?.parse().context("`--cpu` takes seconds")?,
            "--memory" => fence.memory_bytes = value()?.parse().context("`--memory` takes bytes")?,
            "--" => fence.program = arguments.by_ref().collect(),
            other => bail!("unknown argument `{other}`"),
        }
    }
    if fence.cpu_seconds == 0 || fence.memory_bytes == 0 || fence.program.is_empty() {
        bail!("`--cpu`, `--memory` and `-- PROGRAM` are required");
    }
    Ok(fence)
}

fn become_program(fence: &Fence) -> anyhow::Result<std::convert::Infallible> {
    if fence.with_parent {
        die_with_parent()?;
    }
    let read: Vec<&Path> = fence.read.iter().map(PathBuf::as_path).collect();
    let (cpu_seconds, memory_bytes) = (fence.cpu_seconds, fence.memory_bytes);
    confine(&Confinement { cpu_seconds, memory_bytes, run: &[Path::new(&fence.program[0])], read: &read, write: &[] })?;
    let arguments: Vec<CString> =
        fence.program.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<_, _>>().context("an argument")?;
    let program = CString::new(Path::new(&fence.program[0]).as_os_str().as_bytes())?;
    nix::unistd::execv(&program, &arguments).with_context(|| format!("cannot run `{}`", fence.program[0]))
}

fn limit(resource: Resource, soft: u64, hard: u64) -> anyhow::Result<()> {
    setrlimit(resource, soft, hard).with_context(|| format!("cannot set {resource:?}"))
}

fn restrict(to: &Confinement<'_>) -> anyhow::Result<()> {
    let abi = ABI::V5;
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(abi))?;
    // No rule allows a port: the plugin speaks to Docker's socket or to nobody.
    let mut ruleset = ruleset.handle_access(AccessNet::from_all(abi))?.create()?;
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let libraries = LIBRARIES.iter().map(Path::new);
    for path in to.run.iter().copied().chain(libraries) {
        ruleset = allow(ruleset, path, look | AccessFs::Execute)?;
    }
    for path in to.read {
        ruleset = allow(ruleset, path, look)?;
    }
    for path in to.write {
        ruleset = allow(ruleset, path, look | AccessFs::from_write(abi))?;
    }
    ruleset.restrict_self()?;
    Ok(())
}

fn allow(
    ruleset: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> anyhow::Result<landlock::RulesetCreated> {
    // What is not there cannot be read either.
    let Ok(descriptor) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V5) };
    Ok(ruleset.add_rule(PathBeneath::new(descriptor, access))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = String> {
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_command_line_is_read_whole() {
        let fence = parse(words("--read /a --cpu 10 --read /b --memory 4096 -- /bin/x --cpu 1")).unwrap();
        assert_eq!(fence.read, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!((fence.cpu_seconds, fence.memory_bytes), (10, 4096));
        assert_eq!(fence.program, ["/bin/x", "--cpu", "1"]);
        assert!(!fence.with_parent);
        assert!(parse(words("--with-parent --cpu 1 --memory 1 -- x")).unwrap().with_parent);
    }

    #[test]
    fn a_fence_without_limits_is_refused() {
        for bad in ["", "-- /bin/x", "--cpu 1 --memory 1", "--cpu 1 -- x", "--cpu", "--cpu x", "--what 1"] {
            assert!(parse(words(bad)).is_err(), "{bad}");
        }
    }
}
