//! Plain URLs in any number, at the least cost per request.
//!
//! A load test measures the watcher, on the machine that also serves what it watches. So each
//! thread runs a loop of its own over its own listeners: accept, read once, write once, close. The
//! server closes first, so that the ports that wait for late segments are not the watcher's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use picket_rt::stop::Stop;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// Connections of one thread at once: more than a watcher of two million sites has in flight.
const CONNECTIONS_MAX: usize = 8_192;
/// A client that says nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(10);
const BACKLOG: u32 = 16_384;
/// A probe's request is some 200 bytes and arrives whole.
const REQUEST_BYTES: usize = 1_024;

const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
const NOT_FOUND: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How much is served and from where.
#[derive(Debug, Clone, Copy)]
pub struct BulkSettings {
    /// The address.
    pub ip: IpAddr,
    /// How many URLs there are: `/t/0` to `/t/<n - 1>`.
    pub n_urls: u64,
    /// Ports, shared out over the threads. One port takes 28,000 connections a minute from one
    /// source address.
    pub n_ports: u16,
    /// Threads.
    pub n_threads: u16,
}

/// Running threads.
#[derive(Debug)]
pub struct Bulk {
    addresses: Vec<SocketAddr>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Bulk {
    /// Starts to serve until `stop`.
    ///
    /// # Errors
    /// When there are no ports or no threads.
    pub fn start(settings: BulkSettings, stop: &Stop) -> io::Result<Self> {
        let n_threads = usize::from(settings.n_threads.max(1));
        let mut shares: Vec<Vec<std::net::TcpListener>> = (0..n_threads).map(|_| vec![]).collect();
        let mut addresses = Vec::new();
        for index in 0..usize::from(settings.n_ports.max(1)) {
            let listener = listen(settings.ip)?;
            addresses.push(listener.local_addr()?);
            shares[index % n_threads].push(listener);
        }
        let start = |listeners| {
            let stop = stop.clone();
            let serving = move || run_thread(listeners, settings.n_urls, &stop);
            thread::Builder::new()
                .name("bulk".to_owned())
                .spawn(serving)
        };
        let threads = shares.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok(Self { addresses, threads })
    }

    /// Where they listen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits for the threads, which end when asked to stop.
    pub fn join(self) {
        for thread in self.threads {
            // A panic has been reported by its hook.
            drop(thread.join());
        }
    }
}

fn listen(ip: IpAddr) -> io::Result<std::net::TcpListener> {
    let socket = if ip.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.bind(SocketAddr::new(ip, 0))?;
    socket.listen(BACKLOG)?.into_std()
}

fn run_thread(listeners: Vec<std::net::TcpListener>, n_urls: u64, stop: &Stop) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a thread that could be started can have an event loop");
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    LocalSet::new().block_on(&runtime, async {
        for listener in listeners {
            let listener = TcpListener::from_std(listener).expect("it came from the same library");
            tokio::task::spawn_local(accept(listener, n_urls, Arc::clone(&connections)));
        }
        stop.requested().await;
    });
}

async fn accept(listener: TcpListener, n_urls: u64, connections: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        // An accept that fails concerns a connection that is gone already.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::task::spawn_local(async move {
            let served = tokio::time::timeout(PATIENCE, serve(stream, n_urls));
            // How it ended is the client's business.
            drop(served.await);
            drop(permit);
        });
    }
}

async fn serve(mut stream: TcpStream, n_urls: u64) -> io::Result<()> {
    let mut request = [0; REQUEST_BYTES];
    let mut n_read = 0;
    while n_read < 4 || !request[..n_read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[n_read..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n_more => n_read += n_more,
        }
    }
    let exists = url_number(&request[..n_read]).is_some_and(|number| number < n_urls);
    stream
        .write_all(if exists { FOUND } else { NOT_FOUND })
        .await
}

/// The `<n>` of a request for `/t/<n>`.
fn url_number(request: &[u8]) -> Option<u64> {
    let target = request.split(|&byte| byte == b' ').nth(1)?;
    std::str::from_utf8(target.strip_prefix(b"/t/")?)
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_the_target() {
        assert_eq!(url_number(b"GET /t/42 HTTP/1.1\r\n\r\n"), Some(42));
        for request in [
            "GET /t/ HTTP/1.1",
            "GET /x HTTP/1.1",
            "GET",
            "GET /t/-1 x",
            "GET /t/4x y",
        ] {
            assert_eq!(url_number(request.as_bytes()), None, "{request}");
        }
    }
}
