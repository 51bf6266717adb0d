//! Metrics over HTTP/1.1 on a Unix socket.
//!
//! One request a connection, one connection at a time, every step bounded: it serves a scraper on
//! the same machine and nobody else.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::metrics_text::{Metrics, UPKEEP};
use crate::stop::Stop;

/// Largest request head; a scraper's has some 200 bytes.
const HEAD_MAX_BYTES: usize = 4 * 1024;

/// How long one scrape may take before the next in the queue is served.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Owner and group: a scraper is given access through the group.
const SOCKET_MODE: u32 = 0o660;

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("serve metrics on `{}`", .path.display())]
pub struct ServeMetricsError {
    /// Where.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// Serves `GET /metrics` on a Unix socket at `path` until `stop`, then removes the socket. A
/// socket left behind by an earlier process is replaced; any other file is not.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve_metrics_unix(
    path: PathBuf,
    metrics: Metrics,
    stop: Stop,
) -> Result<(), ServeMetricsError> {
    let listener = listen(&path).map_err(|source| ServeMetricsError {
        path: path.clone(),
        source,
    })?;
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        let client = tokio::select! {
            biased;
            () = stop.requested() => break,
            _ = tick.tick() => None,
            accepted = listener.accept() => accepted.ok(),
        };
        match client {
            Some((stream, _)) => {
                let scrape = tokio::time::timeout(SCRAPE_TIMEOUT, answer(stream, &metrics)).await;
                if !matches!(scrape, Ok(Ok(()))) {
                    tracing::debug!("a scrape was not finished");
                }
            }
            None => metrics.tidy(),
        }
    }
    remove(&path);
    Ok(())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "the metrics socket was gone");
    }
}

async fn answer(mut stream: UnixStream, metrics: &Metrics) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let (status, body) = match request_line(&head) {
        Some(("GET", "/metrics")) => ("200 OK", metrics.render()),
        Some(("GET", _)) => ("404 Not Found", String::new()),
        Some(_) => ("405 Method Not Allowed", String::new()),
        None => ("400 Bad Request", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn read_head(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_MAX_BYTES);
    let mut bounded = stream.take(HEAD_MAX_BYTES as u64);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if bounded.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// Method and path, query cut off.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let path = target.split('?').next()?;
    (version.starts_with("HTTP/1.") && words.next().is_none()).then_some((method, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_has_three_words() {
        assert_eq!(
            request_line(b"GET /metrics?a HTTP/1.1\r\n\r\n"),
            Some(("GET", "/metrics"))
        );
        for head in [
            &b"GET /metrics\r\n\r\n"[..],
            b"\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
            b"\xff / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(request_line(head), None);
        }
    }
}
