//! What a daemon owes its service manager: READY, STATUS, WATCHDOG, STOPPING, an answer to SIGTERM, an exit code.
//! It decides nothing about the daemon's work, and does nothing where there is no service manager.
//!
//! The watchdog is a promise, not a pulse: the loop says how soon it will be back ([`Daemon::pet`]), and only while that
//! holds is systemd told that we live. A loop that hangs in one await is found although the runtime still turns.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::ids::printable;
use crate::layout::Layout;

/// The exit code of a daemon that was stopped as it should be.
pub const EXIT_DONE: u8 = 0;
/// The exit code of a daemon that cannot go on: systemd starts it again.
pub const EXIT_FAILED: u8 = 1;
/// The exit code for arguments that it does not know: starting it again does not help.
pub const EXIT_USAGE: u8 = 2;

/// The environment variable that names the root.
pub const ROOT_VARIABLE: &str = "LANDFALL_ROOT";

/// `STATUS=` is one line in `systemctl status`.
const STATUS_LENGTH: usize = 200;
/// How long the loop has until its first promise.
const FIRST_PROMISE: Duration = Duration::from_mins(1);

/// A running daemon, as its service manager sees it.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    promise: Arc<Mutex<Instant>>,
    last_status: Mutex<String>,
    stop: watch::Receiver<bool>,
    reload: watch::Receiver<u64>,
}

impl Daemon {
    /// Begins to listen for signals and to keep the watchdog quiet. Must be called inside a tokio runtime.
    pub fn start(name: &'static str) -> io::Result<Self> {
        let promise = Arc::new(Mutex::new(Instant::now() + FIRST_PROMISE));
        let (stop_sender, stop) = watch::channel(false);
        let (reload_sender, reload) = watch::channel(0);
        let stops = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        tokio::spawn(forward_stop(stops, stop_sender));
        tokio::spawn(forward_reload(signal(SignalKind::hangup())?, reload_sender));
        if let Some(interval) = sd_notify::watchdog_enabled() {
            tokio::spawn(keep_quiet(interval / 3, Arc::clone(&promise)));
        }
        Ok(Self { name, promise, last_status: Mutex::default(), stop, reload })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Says that start-up is done.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// Shows one line in `systemctl status`; the same line again costs nothing.
    pub fn status(&self, text: &str) {
        let text = printable(text, STATUS_LENGTH);
        let mut last = self.last_status.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != text {
            notify(&[NotifyState::Status(&text)]);
            *last = text;
        }
    }

    /// Promises to call again within `within`; a broken promise lets the watchdog bite.
    pub fn pet(&self, within: Duration) {
        *self.promise.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + within;
    }

    /// Resolves on SIGTERM or SIGINT, at once if one came before.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        async move {
            // The sender lives in a task that ends only after it has said so.
            let _ = stop.wait_for(|asked| *asked).await;
            notify(&[NotifyState::Stopping]);
        }
    }

    /// Resolves on the next SIGHUP that nobody has waited for yet.
    pub async fn reload(&mut self) {
        if self.reload.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What `--version` as the first argument is answered with.
pub fn version(name: &str, mut arguments: impl Iterator<Item = OsString>) -> Option<String> {
    arguments.next().filter(|word| word == "--version").map(|_| format!("{name} {}", env!("CARGO_PKG_VERSION")))
}

/// Where the tree is: `--root DIR`, else the environment's `LANDFALL_ROOT`, else `/`. Daemons know no other argument.
pub fn layout(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Option<OsString>,
) -> Result<Layout, UnknownArgument> {
    let mut root = environment.filter(|value| !value.is_empty()).unwrap_or_else(|| "/".into());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        root = match (text.as_ref(), text.strip_prefix("--root=")) {
            ("--root", _) => arguments.next().ok_or_else(|| UnknownArgument("--root".into()))?,
            (_, Some(directory)) => directory.into(),
            _ => return Err(UnknownArgument(printable(&text, 80))),
        };
    }
    Ok(Layout::new(root))
}

/// An argument that daemons do not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unexpected argument `{0}`; there are `--root DIR` and `--version`, and settings live in `/etc/landfall/landfall.yaml`"
)]
pub struct UnknownArgument(String);

/// The end of `main`: prints the whole chain of an error once, and gives the exit code.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => EXIT_DONE.into(),
        Err(error) => {
            tracing::error!("{}", printable(&format!("{error:#}"), 2000));
            if error.is::<UnknownArgument>() { EXIT_USAGE.into() } else { EXIT_FAILED.into() }
        }
    }
}

async fn forward_stop(mut signals: [Signal; 2], stop: watch::Sender<bool>) {
    let [terminate, interrupt] = &mut signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(true);
}

async fn forward_reload(mut hangup: Signal, reload: watch::Sender<u64>) {
    while hangup.recv().await.is_some() {
        reload.send_modify(|count| *count += 1);
    }
}

async fn keep_quiet(interval: Duration, promise: Arc<Mutex<Instant>>) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        let until = *promise.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < until {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Nobody to tell, or a manager that is going away: neither is ours to handle.
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_an_argument_then_the_environment_then_the_machine() {
        for (arguments, environment, root) in [
            (vec![], None, Some("/")),
            (vec![], Some(""), Some("/")),
            (vec![], Some("/a"), Some("/a")),
            (vec!["--root", "/b"], Some("/a"), Some("/b")),
            (vec!["--root=/c"], None, Some("/c")),
            (vec!["--root"], None, None),
            (vec!["--rot", "/b"], None, None),
        ] {
            let found = layout(arguments.iter().map(OsString::from), environment.map(OsString::from));
            assert_eq!(found.ok().map(|l| l.root().to_owned()), root.map(Into::into), "{arguments:?}");
        }
    }

    #[test]
    fn the_version_is_answered_where_it_is_the_first_word() {
        let asked = |words: &[&str]| version("x", words.iter().map(OsString::from));
        assert_eq!(asked(&["--version"]), Some(format!("x {}", env!("CARGO_PKG_VERSION"))));
        assert_eq!(asked(&["--root", "--version"]), None);
        assert_eq!(asked(&[]), None);
    }

    #[tokio::test]
    async fn sigterm_resolves_shutdown_for_everyone_and_sighup_reload() {
        let mut daemon = Daemon::start("test").unwrap();
        let waiters = [daemon.shutdown(), daemon.shutdown()];
        let me = nix::unistd::Pid::this();
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGHUP).unwrap();
        tokio::time::timeout(Duration::from_secs(10), daemon.reload()).await.unwrap();
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGTERM).unwrap();
        for waiter in waiters {
            tokio::time::timeout(Duration::from_secs(10), waiter).await.unwrap();
        }
        tokio::time::timeout(Duration::from_secs(10), daemon.shutdown()).await.unwrap();
    }
}
