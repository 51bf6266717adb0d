//! What the probes are aimed at: a least HTTP server, its TLS faces and its name server.
//!
//! It runs in a process of its own, so that the processor time of the bench is that of the client
//! alone. A body says which handshake brought it, so that a client can be sure of what it measured.

#![expect(
    clippy::disallowed_methods,
    reason = "the tasks end with the runtime of one measurement"
)]

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// Addresses that each face is served on, so that connections to one of them stay well below the
/// number of ports.
pub(super) const TARGETS: u8 = 32;
/// What every host's name ends in.
const DOMAIN: &str = "picket.test";
/// A small page.
const BODY_BYTES: usize = 1_024;
/// Connections that may wait to be accepted: more than the client opens at once.
const BACKLOG: u32 = 1_024;
/// Longer than any round: the name server is not measured.
const TTL_SECS: u32 = 3_600;

/// Where everything is; printed as one line when it is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Served {
    /// Plain HTTP, target by target.
    pub(super) plain: Vec<SocketAddrV4>,
    /// HTTPS behind a P-256 leaf that a P-256 root has signed.
    pub(super) short: Vec<SocketAddrV4>,
    /// HTTPS behind a P-256 leaf, a P-384 intermediate and a P-384 root.
    pub(super) long: Vec<SocketAddrV4>,
    /// The name server.
    pub(super) dns: SocketAddr,
    /// Both roots, DER.
    pub(super) anchors: Vec<Vec<u8>>,
}

/// The host name of a target.
pub(super) fn host(target: usize) -> String {
    format!("h{target}.{DOMAIN}")
}

/// What the body of a plain answer says.
pub(super) const SAYS_PLAIN: &str = "no handshake";
/// What the body says after a full handshake.
pub(super) const SAYS_FULL: &str = "full handshake";
/// What the body says after a resumed handshake.
pub(super) const SAYS_RESUMED: &str = "resumed handshake";

/// The server's process; it ends with its input, and with it at the latest.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) served: Served,
    child: Child,
}

impl Origin {
    /// Starts the server.
    pub(super) fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .args(["bench", "--serve-origin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the origin")?;
        let out = child
            .stdout
            .take()
            .context("the origin's output is piped")?;
        let mut line = String::new();
        std::io::BufReader::new(out)
            .read_line(&mut line)
            .context("read from the origin")?;
        let served = serde_json::from_str(&line).context("the origin did not start")?;
        Ok(Self { served, child })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves until standard input ends.
pub(super) async fn serve() -> anyhow::Result<()> {
    let (short, long) = (
        chain(&PKCS_ECDSA_P256_SHA256, 0)?,
        chain(&PKCS_ECDSA_P384_SHA384, 1)?,
    );
    let anchors = vec![short.anchor.to_vec(), long.anchor.to_vec()];
    let served = Served {
        plain: listen(None)?,
        short: listen(Some(short.acceptor()?))?,
        long: listen(Some(long.acceptor()?))?,
        dns: answer_names().await?,
        anchors,
    };
    say(&serde_json::to_string(&served)?);
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await?.map(drop).context("watch standard input")
}

#[expect(
    clippy::print_stdout,
    reason = "the line that says where things are is the output"
)]
fn say(line: &str) {
    println!("{line}");
}

fn listen(tls: Option<TlsAcceptor>) -> anyhow::Result<Vec<SocketAddrV4>> {
    let mut addresses = Vec::new();
    for target in 1..=TARGETS {
        let socket = TcpSocket::new_v4()?;
        let ip = Ipv4Addr::new(127, 0, 1, target);
        socket
            .bind(SocketAddr::from((ip, 0)))
            .context("bind a loopback address")?;
        let port = socket.local_addr()?.port();
        addresses.push(SocketAddrV4::new(ip, port));
        drop(tokio::spawn(accept(socket.listen(BACKLOG)?, tls.clone())));
    }
    Ok(addresses)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) {
    // An error here (no descriptors left) shows in the client as a failed probe.
    while let Ok((stream, _)) = listener.accept().await {
        match tls.clone() {
            None => drop(tokio::spawn(answer_plain(stream))),
            Some(tls) => drop(tokio::spawn(answer_secured(stream, tls))),
        }
    }
}

/// A client that goes away early is the client's to notice.
async fn answer_plain(mut stream: TcpStream) {
    drop(answer(&mut stream, SAYS_PLAIN).await);
}

async fn answer_secured(stream: TcpStream, tls: TlsAcceptor) {
    drop(stream.set_nodelay(true));
    let Ok(mut stream) = tls.accept(stream).await else {
        return;
    };
    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    drop(answer(&mut stream, if resumed { SAYS_RESUMED } else { SAYS_FULL }).await);
}

/// Answers one request and closes, as `Connection: close` asks.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    says: &str,
) -> std::io::Result<()> {
    let mut request = [0; 2_048];
    let mut n_read = 0;
    while !request[..n_read].ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut request[n_read..]).await?;
        if n == 0 {
            return Ok(());
        }
        n_read += n;
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Cache-Control: no-store\r\nContent-Length: {BODY_BYTES}\r\nConnection: close\r\n\r\n{says}"
    );
    let mut response = head.into_bytes();
    response.resize(response.len() - says.len() + BODY_BYTES, b' ');
    stream.write_all(&response).await?;
    stream.shutdown().await
}

/// A certificate chain and its leaf's key.
struct Chain {
    anchor: CertificateDer<'static>,
    /// Leaf first.
    presented: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A chain of `n_between` intermediates, signed with `algorithm`, to a P-256 leaf.
fn chain(algorithm: &'static SignatureAlgorithm, n_between: usize) -> anyhow::Result<Chain> {
    let (params, key) = authority("root", algorithm)?;
    let anchor = params.self_signed(&key)?.der().clone();
    let mut issuer = Issuer::new(params, key);
    let mut between = Vec::new();
    for _ in 0..n_between {
        let (params, key) = authority("intermediate", algorithm)?;
        between.insert(0, params.signed_by(&key, &issuer)?.der().clone());
        issuer = Issuer::new(params, key);
    }
    let mut params = CertificateParams::new(vec![format!("*.{DOMAIN}")])?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let leaf = params.signed_by(&key, &issuer)?.der().clone();
    let presented = std::iter::once(leaf).chain(between).collect();
    Ok(Chain {
        anchor,
        presented,
        key,
    })
}

fn authority(
    name: &str,
    algorithm: &'static SignatureAlgorithm,
) -> anyhow::Result<(CertificateParams, KeyPair)> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{name} {algorithm:?}"));
    Ok((params, KeyPair::generate_for(algorithm)?))
}

impl Chain {
    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.presented.clone(), key)?;
        config.ticketer = ring::Ticketer::new()?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Answers every question for the address of `h<n>` with that of target n.
async fn answer_names() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    drop(tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut query).await {
            if let Ok(answer) = answer_name(&query[..n]) {
                drop(socket.send_to(&answer, from).await);
            }
        }
    }));
    Ok(address)
}

/// The least answer that is one (RFC 1035, section 4).
fn answer_name(query: &[u8]) -> anyhow::Result<Vec<u8>> {
    const HEADER_BYTES: usize = 12;
    let question = query.get(HEADER_BYTES..).context("a header")?;
    let n_name = question
        .iter()
        .position(|&byte| byte == 0)
        .context("the end of the name")?;
    let question = question.get(..n_name + 5).context("a type and a class")?;
    let label = question
        .get(1..=usize::from(question[0]))
        .context("a first label")?;
    let target: u8 = std::str::from_utf8(label)?
        .trim_start_matches(['h', 'H'])
        .parse()?;
    ensure!(target < TARGETS, "no such target");
    let mut answer = query[..2].to_vec();
    // A response, authoritative, recursion desired and available; one question, one answer.
    answer.extend([0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    // The name of the question, an IPv4 address of the Internet, its time to live, four bytes.
    answer.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    answer.extend(TTL_SECS.to_be_bytes());
    answer.extend([0, 4, 127, 0, 1, target + 1]);
    Ok(answer)
}
