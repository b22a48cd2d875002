//! Knows at once when the Engine stops. Decides nothing; changes nothing on the Engine.
//!
//! A dockerd that got SIGTERM closes its listener and its idle connections, stops its containers, and then waits up to 5 s
//! for open requests (measured on 26.1.5). The stream of events is one: whoever holds it open makes each restart of
//! dockerd 5 s longer. So one connection is kept idle: when it is closed, the stream is let go. Whether another could be
//! had is no better sign: where systemd holds the listener, one can, and nobody answers on it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A connection that is closed sooner than this is no sign: something between us and the Engine keeps none idle.
const SIGN_AFTER: Duration = Duration::from_millis(200);

/// Resolves when the Engine at this socket closes an idle connection; never where none can be kept.
pub async fn stops(socket: &Path) {
    if let Ok(connection) = idle_connection(socket).await {
        let began = Instant::now();
        closed(connection).await;
        if began.elapsed() >= SIGN_AFTER {
            return;
        }
    }
    // The stream's own end must tell.
    std::future::pending::<()>().await;
}

/// A connection on which one request was answered: it is idle from then on, and among the first to be closed.
async fn idle_connection(socket: &Path) -> io::Result<UnixStream> {
    let mut connection = UnixStream::connect(socket).await?;
    connection.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").await?;
    match connection.read(&mut [0; 1024]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        // The rest of the answer, if any, is read while we wait for the end.
        _ => Ok(connection),
    }
}

async fn closed(mut connection: UnixStream) {
    let mut rest = [0; 1024];
    while connection.read(&mut rest).await.is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Answers one request, and keeps the connection for that long.
    async fn serve(listener: &UnixListener, idle: Duration) {
        let (mut connection, _) = listener.accept().await.unwrap();
        let length = connection.read(&mut [0; 1024]).await.unwrap();
        assert!(length > 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        tokio::time::sleep(idle).await;
    }

    #[tokio::test]
    async fn an_idle_connection_that_is_closed_is_the_sign_though_the_listener_stays() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (seen, ()) = tokio::join!(tokio::time::timeout(LONG, stops(&socket)), serve(&listener, SIGN_AFTER * 2));
        assert!(seen.is_ok());
    }

    #[tokio::test]
    async fn where_none_can_be_kept_idle_there_is_no_sign() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let short = Duration::from_secs(1);
        assert!(tokio::time::timeout(short, stops(&socket)).await.is_err(), "nothing listens");
        let listener = UnixListener::bind(&socket).unwrap();
        let (seen, ()) = tokio::join!(tokio::time::timeout(short, stops(&socket)), serve(&listener, Duration::ZERO));
        assert!(seen.is_err(), "closed after each answer");
    }
}
