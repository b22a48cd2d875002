//! Knows at once when the Engine takes no more requests. Decides nothing; changes nothing on the Engine.
//!
//! A dockerd that got SIGTERM closes its listener and its idle connections, stops its containers, and then waits up to 5 s
//! for open requests (measured on 26.1.5). The stream of events is one: whoever holds it open makes each restart of
//! dockerd 5 s longer. So one connection is kept idle: when it closes and no other can be had, the stream is let go.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An Engine that does not answer a ping within this takes no requests.
const PATIENCE: Duration = Duration::from_secs(30);
/// Something between us and the Engine may close idle connections: not more than one attempt in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Resolves when the Engine at this socket takes no more requests.
pub async fn ended(socket: &Path) {
    while let Ok(connection) = idle_connection(socket).await {
        tokio::time::sleep(PAUSE).await;
        closed(connection).await;
    }
}

/// A connection on which one request was answered: it is idle from then on, and the first to be closed.
async fn idle_connection(socket: &Path) -> io::Result<UnixStream> {
    let ping = async {
        let mut connection = UnixStream::connect(socket).await?;
        connection.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").await?;
        match connection.read(&mut [0; 1024]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            // The rest of the answer, if any, is read while we wait for the end.
            _ => Ok(connection),
        }
    };
    tokio::time::timeout(PATIENCE, ping).await?
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

    /// Answers one request and gives the connection back.
    async fn serve(listener: &UnixListener) -> UnixStream {
        let (mut connection, _) = listener.accept().await.unwrap();
        let length = connection.read(&mut [0; 1024]).await.unwrap();
        assert!(length > 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        connection
    }

    #[tokio::test]
    async fn a_closed_idle_connection_is_the_end_only_where_no_other_can_be_had() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = async {
            drop(serve(&listener).await);
            // It came again: a closed connection alone is no end.
            let second = serve(&listener).await;
            drop(listener);
            std::fs::remove_file(&socket).unwrap();
            drop(second);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = engine => {}
            ended = tokio::time::timeout(LONG, ended(&socket)) => ended.expect("the end is seen"),
        }
    }

    #[tokio::test]
    async fn where_nothing_listens_it_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        tokio::time::timeout(LONG, ended(&directory.path().join("none"))).await.unwrap();
    }
}
