//! The socket that systemd fetches credentials of units from (`LoadCredential=ID:SOCKET`). systemd says for which unit and which
//! credential it asks in the name of its own end of the connection (systemd.exec(5)); a unit gets what the settings name for it and
//! nothing else. Only root is answered: anybody else could have taken any name. The protocol has no word for no: who gets nothing
//! gets an empty credential, and the journal says why.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfall_core::ids::printable;
use landfall_core::journal::event;
use landfall_core::publish;
use nix::sys::socket::{UnixAddr, getpeername};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::directory::read_value;

/// How long a unit's start waits for a vault. systemd's own deadline for a start is 90 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to take a value.
const WRITE: Duration = Duration::from_secs(5);
/// So many are served at a time; others wait to be accepted.
const AT_ONCE: usize = 64;
/// Who is answered: the service manager.
const ROOT: u32 = 0;

/// What there is, by unit and the credential's id.
pub type Offer = BTreeMap<(String, String), Offered>;

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Where its value is.
    pub path: PathBuf,
    /// Whether it is there.
    pub is_there: bool,
    /// Why it is not, or not the newest.
    pub problem: Option<String>,
}

/// The listening socket; it ends with this.
#[derive(Debug)]
pub struct UnitSocket {
    path: PathBuf,
    offer: watch::Sender<Offer>,
    task: JoinHandle<()>,
}

impl UnitSocket {
    /// Listens there.
    pub fn open(path: &Path, offer: Offer) -> io::Result<Self> {
        Self::open_for(path, offer, ROOT)
    }

    fn open_for(path: &Path, offer: Offer, user: u32) -> io::Result<Self> {
        path.parent().map_or(Ok(()), publish::make_directories)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let (offer, offered) = watch::channel(offer);
        Ok(Self { path: path.to_owned(), offer, task: tokio::spawn(serve(listener, offered, user)) })
    }

    /// What there is now.
    pub fn offer(&self, offer: Offer) {
        self.offer.send_if_modified(|before| {
            let is_other = *before != offer;
            *before = offer;
            is_other
        });
    }
}

/// The socket as it should be: there where a unit has something.
#[derive(Debug)]
pub struct Service {
    path: PathBuf,
    socket: Option<UnitSocket>,
    /// Why it cannot listen, told once.
    problem: Option<String>,
}

impl Service {
    /// Does not listen yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, socket: None, problem: None }
    }

    /// Offers this; `None` where no unit has anything: then there is no socket.
    pub fn keep(&mut self, offer: Option<Offer>) {
        match (offer, &self.socket) {
            (None, _) => self.socket = None,
            (Some(offer), Some(socket)) => socket.offer(offer),
            (Some(offer), None) => match UnitSocket::open(&self.path, offer) {
                Ok(socket) => (self.socket, self.problem) = (Some(socket), None),
                Err(error) => {
                    let problem = format!("cannot listen on `{}`: {error}; check its owner", self.path.display());
                    if self.problem.as_ref() != Some(&problem) {
                        tracing::error!("no unit gets its credentials: {problem}");
                        self.problem = Some(problem);
                    }
                }
            },
        }
    }
}

impl Drop for UnitSocket {
    fn drop(&mut self) {
        self.task.abort();
        // One that cannot be removed refuses connections, which says the same.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, offer: watch::Receiver<Offer>, user: u32) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // They end with this task.
    let mut served = JoinSet::new();
    loop {
        while served.try_join_next().is_some() {}
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let offer = offer.clone();
                served.spawn(async move {
                    let _place = place;
                    if let Err(why) = answer(stream, offer, user).await {
                        tracing::warn!(MESSAGE_ID = event::CREDENTIAL_REFUSED, "{why}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection for credentials of units: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Answers one request; the error is for the journal.
async fn answer(mut stream: UnixStream, mut offer: watch::Receiver<Offer>, user: u32) -> Result<(), String> {
    let who = stream.peer_cred().map_err(|error| format!("cannot see who asks for a credential: {error}"))?.uid();
    let name = getpeername::<UnixAddr>(stream.as_raw_fd()).ok();
    let asked = name.as_ref().and_then(UnixAddr::as_abstract).and_then(parse);
    let Some((unit, id)) = asked else {
        return Err(format!(
            "a process of user {who} asked for a credential of no unit, and got nothing; next: have systemd ask, by `LoadCredential=` in a unit"
        ));
    };
    let (unit_shown, id_shown) = (printable(&unit, 300), printable(&id, 300));
    let what = format!("credential `{id_shown}` of unit `{unit_shown}`");
    if who != user {
        return Err(format!(
            "user {who} asked for {what}, and got nothing: only the system's own service manager gets any; next: find out who that is"
        ));
    }
    let key = (unit, id);
    // Gone, or there.
    let is_settled = |offer: &Offer| offer.get(&key).is_none_or(|offered| offered.is_there);
    let settled = timeout(PATIENCE, offer.wait_for(is_settled)).await.is_ok();
    let Some(offered) = offer.borrow().get(&key).cloned() else {
        return Err(format!(
            "{what} was asked for, and is none: it gets an empty one; next: add `{id_shown}: NAME-IN-THE-VAULT` to `units.{unit_shown}` in landfall.yaml and restart the unit, or correct the unit"
        ));
    };
    if !settled {
        let why = offered.problem.unwrap_or_else(|| "the vault has not answered".to_owned());
        return Err(format!(
            "{what} is not here after {} s, it gets an empty one: {why}; next: restart the unit when it is here",
            PATIENCE.as_secs()
        ));
    }
    let value = read_value(&offered.path)
        .map_err(|error| format!("{what} cannot be read, it gets an empty one: {error}; next: restart the unit"))?;
    match timeout(WRITE, stream.write_all(value.bytes())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{what} was not taken whole: {error}; next: restart the unit")),
        Err(_) => Err(format!("{what} was not taken within {} s; next: restart the unit", WRITE.as_secs())),
    }
}

/// Unit and id in what systemd calls its end: random digits, `/unit/`, the unit, `/`, the id.
fn parse(name: &[u8]) -> Option<(String, String)> {
    let mut parts = std::str::from_utf8(name).ok()?.split('/');
    let (random, kind, unit, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let valid = !random.is_empty() && random.bytes().all(|b| b.is_ascii_hexdigit()) && kind == "unit";
    (valid && !unit.is_empty() && !id.is_empty() && parts.next().is_none()).then(|| (unit.to_owned(), id.to_owned()))
}

#[cfg(test)]
mod tests;
