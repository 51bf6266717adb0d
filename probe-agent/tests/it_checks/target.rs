//! Servers that behave as badly as a test wants.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a target does with each connection.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Reads the request, writes these bytes, closes.
    Answer(Vec<u8>),
    /// Reads the request, waits, answers, closes.
    AnswerAfter(Duration, Vec<u8>),
    /// Reads the request, writes these bytes, then says nothing more and keeps the connection.
    AnswerThenHang(Vec<u8>),
    /// Reads the request, writes the first bytes, then the second again and again.
    AnswerEndlessly(Vec<u8>, Vec<u8>),
    /// Reads the request, writes these bytes, resets the connection.
    AnswerThenReset(Vec<u8>),
    /// Accepts and neither reads nor writes.
    Hang,
    /// Writes these bytes at once, closes.
    Greet(Vec<u8>),
}

impl Manner {
    pub(crate) fn answer(text: &str) -> Self {
        Self::Answer(text.as_bytes().to_vec())
    }
}

/// A 200 with this body.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A running target; it ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    n_connections: AtomicU64,
    n_written: AtomicU64,
    n_resumed: AtomicU64,
    requests: Mutex<Vec<String>>,
    peers: Mutex<Vec<IpAddr>>,
}

impl Target {
    pub(crate) async fn plain(manner: Manner) -> Self {
        Self::start(manner, None).await
    }

    pub(crate) async fn secured(manner: Manner, acceptor: TlsAcceptor) -> Self {
        Self::start(manner, Some(acceptor)).await
    }

    /// A target that speaks first, as mail servers do.
    pub(crate) async fn greeting(bytes: &[u8]) -> Self {
        Self::start(Manner::Greet(bytes.to_vec()), None).await
    }

    async fn start(manner: Manner, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        tokio::spawn(accept(listener, manner, acceptor, Arc::clone(&seen)));
        Self { address, seen }
    }

    pub(crate) fn n_connections(&self) -> u64 {
        self.seen.n_connections.load(Ordering::SeqCst)
    }

    /// Bytes that the operating system took from the target.
    pub(crate) fn n_written(&self) -> u64 {
        self.seen.n_written.load(Ordering::SeqCst)
    }

    /// TLS handshakes that resumed a session.
    pub(crate) fn n_resumed(&self) -> u64 {
        self.seen.n_resumed.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn peers(&self) -> Vec<IpAddr> {
        self.seen.peers.lock().unwrap().clone()
    }
}

async fn accept(
    listener: TcpListener,
    manner: Manner,
    acceptor: Option<TlsAcceptor>,
    seen: Arc<Seen>,
) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        seen.n_connections.fetch_add(1, Ordering::SeqCst);
        seen.peers.lock().unwrap().push(peer.ip());
        let (manner, acceptor, seen) = (manner.clone(), acceptor.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            match acceptor {
                None if matches!(manner, Manner::AnswerThenReset(_)) => {
                    reset(stream, manner, &seen).await;
                }
                None => serve(stream, manner, &seen).await,
                Some(acceptor) => {
                    // A client that rejects the certificate ends the handshake: expected.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let kind = stream.get_ref().1.handshake_kind();
                        let resumed = u64::from(kind == Some(HandshakeKind::Resumed));
                        seen.n_resumed.fetch_add(resumed, Ordering::SeqCst);
                        serve(stream, manner, &seen).await;
                    }
                }
            }
        });
    }
}

async fn reset(mut stream: TcpStream, manner: Manner, seen: &Seen) {
    let Manner::AnswerThenReset(bytes) = manner else {
        unreachable!("the caller matched it")
    };
    read_request(&mut stream, seen).await;
    write(&mut stream, &bytes, seen).await;
    stream.set_zero_linger().unwrap();
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, manner: Manner, seen: &Seen) {
    if !matches!(manner, Manner::Hang | Manner::Greet(_)) {
        read_request(&mut stream, seen).await;
    }
    match manner {
        Manner::Answer(bytes) | Manner::Greet(bytes) => {
            write(&mut stream, &bytes, seen).await;
            finish(&mut stream).await;
        }
        Manner::AnswerAfter(pause, bytes) => {
            tokio::time::sleep(pause).await;
            write(&mut stream, &bytes, seen).await;
            finish(&mut stream).await;
        }
        Manner::AnswerThenHang(bytes) => {
            write(&mut stream, &bytes, seen).await;
            std::future::pending::<()>().await;
        }
        Manner::AnswerEndlessly(first, again) => {
            write(&mut stream, &first, seen).await;
            while write(&mut stream, &again, seen).await {}
        }
        Manner::Hang => std::future::pending().await,
        Manner::AnswerThenReset(_) => unreachable!("only plain targets reset"),
    }
}

async fn finish<S: AsyncWrite + Unpin>(stream: &mut S) {
    match stream.shutdown().await {
        Ok(()) => {}
        Err(error) => assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}"),
    }
}

/// Writes; false when the client has gone.
async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], seen: &Seen) -> bool {
    let written = stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok();
    if written {
        seen.n_written
            .fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
    written
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, seen: &Seen) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_gone) => return,
        }
    }
    seen.requests
        .lock()
        .unwrap()
        .push(String::from_utf8(request).unwrap());
}

/// An address at which nobody listens.
pub(crate) fn refusing() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A listener whose queue is full, so that further connection attempts stay unanswered, and the
/// connections that fill it.
pub(crate) async fn unanswering() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    let wait = Duration::from_millis(500);
    while let Ok(filler) = tokio::time::timeout(wait, TcpStream::connect(address)).await {
        fillers.push(filler.unwrap());
        assert!(fillers.len() < 64, "the queue never fills");
    }
    (listener, fillers)
}
