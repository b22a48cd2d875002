//! The socket that operators talk to: one JSON line in, JSON lines out. It reads views and passes intents on to the
//! apps' loops; it changes nothing by itself. Who asks is the kernel's word (`SO_PEERCRED`), and is written down.

use std::os::unix::fs::PermissionsExt as _;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use landfall_core::ids::{AppName, ReleaseId, printable};
use landfall_core::protocol::{Answer, Command, Failure, LogLine, PROTOCOL, Request};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::shared::{Intent, Mail, Shared};
use crate::{live_files, plan_view, preflight, secret_sets, status};

/// A request is one line and no longer than this.
const LONGEST_REQUEST: u64 = 64 * 1024;
/// A client that says nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer that needs preflight takes at most this long.
const ANSWER: Duration = Duration::from_mins(2);

/// Listens where the layout says; the socket is for its owner and the group.
pub fn listen(shared: &Shared) -> Result<UnixListener> {
    let path = shared.layout.agent_socket();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
    }
    // A socket left by a killed agent: the lock says that no other agent runs.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on `{}`", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves clients until the agent stops.
pub async fn serve(shared: Rc<Shared>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    // A client that hangs up is its own affair.
                    let _ = serve_one(&shared, stream).await;
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a client on the agent's socket: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_one(shared: &Rc<Shared>, stream: UnixStream) -> Result<()> {
    let uid = stream.peer_cred().map_or(u32::MAX, |c| c.uid());
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(LONGEST_REQUEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let result = match parse(&line) {
        Ok(command) => tokio::time::timeout(ANSWER, answer(shared, command, uid)).await.unwrap_or_else(|_| {
            Err(failure(
                "waiting",
                "there was no answer within two minutes".into(),
                "see `journalctl -u landfall-agent`",
            ))
        }),
        Err(failure) => Err(failure),
    };
    let mut out = String::new();
    let end = match result {
        Ok(lines) => {
            for data in lines {
                push(&mut out, &Answer { end: false, ok: None, error: None, data: Some(data) })?;
            }
            Answer { end: true, ok: Some(true), error: None, data: None }
        }
        Err(error) => Answer { end: true, ok: Some(false), error: Some(error), data: None },
    };
    push(&mut out, &end)?;
    tokio::time::timeout(PATIENCE, write.write_all(out.as_bytes())).await??;
    Ok(())
}

fn push(out: &mut String, answer: &Answer) -> Result<()> {
    out.push_str(&serde_json::to_string(answer)?);
    out.push('\n');
    Ok(())
}

fn failure(code: &str, message: String, next: &str) -> Failure {
    Failure { code: code.to_owned(), message, next: next.to_owned() }
}

fn parse(line: &str) -> Result<Command, Failure> {
    #[derive(serde::Deserialize)]
    struct Head {
        protocol: u32,
    }
    let head: Head = serde_json::from_str(line).map_err(|e| {
        failure("usage", format!("not a request: {e}"), "send one JSON line with `protocol` and `command`")
    })?;
    if head.protocol > PROTOCOL {
        return Err(failure(
            "protocol",
            format!("this agent speaks protocol {PROTOCOL}"),
            "update landfall-agent, or use the `landfall` of its version",
        ));
    }
    serde_json::from_str::<Request>(line)
        .map(|r| r.command)
        .map_err(|e| failure("usage", format!("not a command of this agent: {e}"), "see `landfall --help`"))
}

fn values<T: Serialize>(items: impl IntoIterator<Item = T>) -> Result<Vec<serde_json::Value>, Failure> {
    items.into_iter().map(|i| serde_json::to_value(i).map_err(|e| internal(&e.into()))).collect()
}

fn internal(error: &anyhow::Error) -> Failure {
    failure("internal", format!("{error:#}"), "see `journalctl -u landfall-agent`")
}

async fn answer(shared: &Rc<Shared>, command: Command, uid: u32) -> Result<Vec<serde_json::Value>, Failure> {
    match command {
        Command::Status {} => values([status::status(shared, status::Memory::Asked).await]),
        Command::Glance {} => values([status::status(shared, status::Memory::LeftOut).await]),
        Command::History { app, last } => {
            known(shared, &app)?;
            let history = crate::history::History::open(&shared.layout.history(&app)).map_err(|e| internal(&e))?;
            values(history.tail(last).map_err(|e| internal(&e))?)
        }
        Command::Plan { app, release } => {
            known(shared, &app)?;
            let id = find_release(shared, &app, release.as_deref())?;
            let done = preflight::preflight(Rc::clone(shared), app.clone(), id, None).await;
            let warned = done.warnings.iter().fold(String::new(), |text, warning| text + "\nCompose warns: " + warning);
            let deployment = done.result.map_err(|stop| match stop {
                preflight::Stop::Refused(why) => {
                    failure("refused", why + &warned, "publish a release that this host accepts")
                }
                preflight::Stop::Later(why) | preflight::Stop::NoRoom(why) => {
                    failure("waiting", why + &warned, "try again when it is there")
                }
            })?;
            let live = shared.views.borrow().get(&app).and_then(|v| v.state.current().cloned());
            values([plan_view::view(live.as_ref(), &deployment, done.warnings)])
        }
        Command::Logs { app, service, lines } => {
            known(shared, &app)?;
            logs(shared, &app, service.as_deref(), lines).await
        }
        Command::Hold { app, why } => intent(shared, &app, Intent::Hold(by(uid, &why))).await,
        Command::Resume { app } => intent(shared, &app, Intent::Resume).await,
        Command::HandsOff { app, seconds, why } => intent(shared, &app, Intent::HandsOff(seconds, by(uid, &why))).await,
        Command::Rollback { app, why } => intent(shared, &app, Intent::Rollback(by(uid, &why))).await,
        Command::Retry { app } => intent(shared, &app, Intent::Retry).await,
        Command::Secrets { app } => {
            known(shared, &app)?;
            values(secret_sets::shown(shared, &app))
        }
        Command::Poll { app } => {
            known(shared, &app)?;
            live_files::raise_poll(shared, &app).map_err(|e| internal(&e))?;
            values(["the watcher is told to ask the channel now"])
        }
    }
}

fn by(uid: u32, why: &str) -> String {
    format!("{} (uid {uid})", printable(why, 200))
}

fn known(shared: &Shared, app: &AppName) -> Result<(), Failure> {
    if shared.mailboxes.borrow().contains_key(app) {
        return Ok(());
    }
    let apps: Vec<String> = shared.mailboxes.borrow().keys().map(ToString::to_string).collect();
    let there = if apps.is_empty() { "none".to_owned() } else { apps.join(", ") };
    Err(failure("unknown-app", format!("there is no app `{app}` on this VM"), &format!("use one of: {there}")))
}

async fn intent(shared: &Shared, app: &AppName, intent: Intent) -> Result<Vec<serde_json::Value>, Failure> {
    known(shared, app)?;
    let (sender, receiver) = oneshot::channel();
    let mailbox = shared.mailboxes.borrow().get(app).cloned();
    let gone = || failure("internal", format!("the loop of `{app}` has ended"), "restart landfall-agent");
    mailbox.ok_or_else(gone)?.send(Mail::Intent(intent, sender)).map_err(|_| gone())?;
    let done = receiver.await.map_err(|_| gone())??;
    values([done])
}

/// A staged release by a unique prefix of 8 or more digits; none means what the channel points at.
fn find_release(shared: &Shared, app: &AppName, prefix: Option<&str>) -> Result<ReleaseId, Failure> {
    let Some(prefix) = prefix else {
        let newest = shared.views.borrow().get(app).and_then(|v| v.channel.as_ref()?.release.clone());
        return newest.ok_or_else(|| {
            failure("waiting", format!("no release of `{app}` is staged yet"), "see `landfall status` for the channel")
        });
    };
    if prefix.len() < 8 {
        return Err(failure(
            "usage",
            format!("`{}` is too short", printable(prefix, 80)),
            "give 8 or more digits of the release id",
        ));
    }
    let entries = std::fs::read_dir(shared.layout.releases(app)).into_iter().flatten().flatten();
    let mut found: Vec<ReleaseId> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    found.retain(|id: &ReleaseId| id.as_str().starts_with(prefix));
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(failure(
            "usage",
            format!("no release of `{app}` that is staged begins with `{}`", printable(prefix, 80)),
            "see `landfall history`",
        )),
        _ => Err(failure(
            "usage",
            format!("more than one release begins with `{}`", printable(prefix, 80)),
            "give more digits",
        )),
    }
}

async fn logs(
    shared: &Shared,
    app: &AppName,
    service: Option<&str>,
    lines: usize,
) -> Result<Vec<serde_json::Value>, Failure> {
    let view = shared.views.borrow().get(app).cloned().unwrap_or_default();
    let Some(generation) = view.state.current() else {
        return Err(failure("waiting", format!("nothing of `{app}` runs yet"), "see `landfall status`"));
    };
    if let Some(service) = service
        && !generation.containers.contains_key(service)
    {
        let names: Vec<&str> = generation.containers.keys().map(String::as_str).collect();
        return Err(failure(
            "usage",
            format!("`{app}` has no service `{}`", printable(service, 80)),
            &format!("use one of: {}", names.join(", ")),
        ));
    }
    let mut out = Vec::new();
    for (name, ids) in generation.containers.iter().filter(|(name, _)| service.is_none_or(|s| s == name.as_str())) {
        for id in ids {
            for text in shared.engine.logs(id, lines.min(10_000)).await.map_err(|e| internal(&e))? {
                out.push(LogLine { service: name.clone(), text });
            }
        }
    }
    values(out)
}
