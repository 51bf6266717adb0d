//! The mesh's transport: QUIC with mutual TLS on one UDP socket.
//!
//! Members listen and dial, agents only dial. TLS 1.3 alone, one ALPN, no 0-RTT and no resumption:
//! a resumed session would skip the look at the certificate, and handshakes are rare. Who stands at
//! the other end is settled before a [`Link`] exists; whether it may do what it asks, and whether it
//! was revoked, is for the owner of the link to say.
//!
//! A dialler's handshake ends before the listener has judged its certificate (RFC 8446, section
//! 2): count as connected only after the first answer.

mod enrol;
mod message;
mod socket;
mod tls;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picket_wire::id::MemberId;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use crate::identity::{Identity, Peer, PeerError, key_fingerprint_of, member_name, peer_of};

pub use enrol::{EnrolLink, connect_to_enrol};
pub use message::{
    AskError, MessageReader, ReadMessageError, SendMessageError, ask, read_message, reply,
    send_message, send_uni,
};
pub use quinn;
pub use tls::TlsError;

/// The application protocol of the mesh.
pub const ALPN: &[u8] = b"picket/1";

/// Priority of the control stream: leases and acks go before everything.
pub const PRIORITY_CONTROL: i32 = 20;
/// Priority of evidence.
pub const PRIORITY_EVIDENCE: i32 = 10;
/// Priority of the live lane.
pub const PRIORITY_LIVE: i32 = 0;
/// Priority of catalogue blobs.
pub const PRIORITY_BLOB: i32 = 0;
/// Priority of rollups: they may be hours old and can wait.
pub const PRIORITY_ROLLUP: i32 = -10;

/// Least time between two resets that a process sends to peers of its former life: a fleet of ten
/// thousand is told within ten seconds, and nobody can make it send more.
const RESET_EVERY: Duration = Duration::from_millis(1);
/// How long a listener gives a handshake: three tries over a slow line.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a dialler tries: less than an idle link lives, so that another member gets its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closing endpoint waits for its peers to hear of it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Unfinished handshakes above which a stranger must show that its address is real.
const HANDSHAKES_CROWDED: usize = 200;
/// Unfinished handshakes above which strangers are turned away: each holds up to 64 KiB.
const HANDSHAKES_MAX: usize = 1_024;

/// Why a connection was closed, as its peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseCode {
    /// Everything was said.
    Done = 0,
    /// The process stops.
    Stopping = 1,
    /// The peer is not admitted, or was revoked.
    Refused = 2,
    /// The same peer connected again.
    Replaced = 3,
    /// The peer broke the protocol.
    Malformed = 4,
}

impl CloseCode {
    const ALL: [Self; 5] = [
        Self::Done,
        Self::Stopping,
        Self::Refused,
        Self::Replaced,
        Self::Malformed,
    ];

    /// Why the peer closed a connection, when it said so in our terms.
    #[must_use]
    pub fn of(error: &ConnectionError) -> Option<Self> {
        let ConnectionError::ApplicationClosed(close) = error else {
            return None;
        };
        Self::ALL
            .into_iter()
            .find(|code| code.number() == close.error_code)
    }

    fn number(self) -> VarInt {
        VarInt::from_u32(u32::from(self as u8))
    }

    const fn reason(self) -> &'static [u8] {
        match self {
            Self::Done => b"done",
            Self::Stopping => b"stopping",
            Self::Refused => b"refused",
            Self::Replaced => b"replaced",
            Self::Malformed => b"malformed",
        }
    }
}

/// Closes one connection and says why.
pub fn close(connection: &Connection, code: CloseCode) {
    connection.close(code.number(), code.reason());
}

/// A connection whose other end is known.
#[derive(Debug, Clone)]
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// Who the other end is.
    pub peer: Peer,
    /// SHA-256 of its public key; `None` for an anonymous peer.
    pub key_fingerprint: Option<[u8; 32]>,
}

/// One process's end of the mesh: a clonable handle on one UDP socket.
#[derive(Debug, Clone)]
pub struct Mesh {
    endpoint: Endpoint,
    dialler: Arc<Mutex<ClientConfig>>,
    handshakes: Arc<AtomicUsize>,
}

/// Why an end of the mesh cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket cannot be opened.
    #[error("open UDP socket {addr}")]
    Socket {
        /// Which address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The identity is of no use to TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A socket to dial from cannot be opened.
    #[error("open a UDP socket")]
    Socket(#[source] io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be dialled.
    #[error("dial {addr}")]
    Dial {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: quinn::ConnectError,
    },
    /// Nobody answered in time.
    #[error("{addr} did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Which address.
        addr: SocketAddr,
    },
    /// Somebody else answered: nothing was said to it.
    #[error("{addr} is not who it should be: {reason}")]
    Untrusted {
        /// Which address.
        addr: SocketAddr,
        /// What its certificate lacks.
        reason: String,
    },
    /// The connection broke before it was made.
    #[error("connect to {addr}")]
    Lost {
        /// Which address.
        addr: SocketAddr,
        /// How.
        #[source]
        source: ConnectionError,
    },
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The handshake took too long.
    #[error("the handshake took longer than {} s", ACCEPT_TIMEOUT.as_secs())]
    Timeout,
    /// The handshake failed.
    #[error("the handshake failed")]
    Handshake(#[from] ConnectionError),
    /// The certificate names nobody.
    #[error("the peer has a certificate without a name")]
    Nameless(#[from] PeerError),
}

impl Mesh {
    /// Opens the socket at `addr`. A member listens on it; an agent only dials from it.
    ///
    /// # Errors
    /// When the socket cannot be opened, or the identity is of no use.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(addr: SocketAddr, identity: &Identity) -> Result<Self, BindError> {
        let (dialler, listener) = configs(identity)?;
        let endpoint = socket::open(addr)
            .and_then(|socket| endpoint(settings(identity), listener, socket))
            .map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self {
            endpoint,
            dialler: Arc::new(Mutex::new(dialler)),
            handshakes: Arc::default(),
        })
    }

    /// The address of the socket.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Connects to `member` at `addr`; whoever answers must hold that member's certificate.
    ///
    /// # Errors
    /// When nobody answers, or somebody else does.
    pub async fn connect(&self, addr: SocketAddr, member: MemberId) -> Result<Link, ConnectError> {
        let config = self
            .dialler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let name = member_name(member);
        let link = link(dial(&self.endpoint, config, addr, &name).await?);
        let untrusted = |reason| ConnectError::Untrusted { addr, reason };
        let link = link.map_err(|error| untrusted(error.to_string()))?;
        // The name in TLS has settled it; the URI is what everybody else goes by, so both must agree.
        if link.peer != Peer::Member(member) {
            close(&link.connection, CloseCode::Refused);
            return Err(untrusted(format!(
                "expected {}, found {}",
                Peer::Member(member),
                link.peer
            )));
        }
        Ok(link)
    }

    /// The next peer that wants to connect; `None` when the mesh was closed. Safe to cancel.
    pub async fn accept(&self) -> Option<Arrival> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let busy = self.handshakes.load(Ordering::Relaxed);
            if busy >= HANDSHAKES_MAX {
                incoming.refuse();
            } else if busy >= HANDSHAKES_CROWDED && incoming.may_retry() {
                if incoming.retry().is_err() {
                    tracing::debug!("a stranger could not be asked to prove its address");
                }
            } else {
                return Some(Arrival {
                    incoming,
                    place: Place::take(&self.handshakes),
                });
            }
        }
    }

    /// Uses another identity for connections that are made from now on, such as a renewed
    /// certificate; those that stand are not touched.
    ///
    /// # Errors
    /// When the identity is of no use to TLS.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), TlsError> {
        let (dialler, listener) = configs(identity)?;
        self.endpoint.set_server_config(listener);
        *self.dialler.lock().unwrap_or_else(PoisonError::into_inner) = dialler;
        Ok(())
    }

    /// Closes every connection and waits a little for the peers to hear of it.
    pub async fn close(&self, code: CloseCode) {
        self.endpoint.close(code.number(), code.reason());
        if tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle())
            .await
            .is_err()
        {
            tracing::debug!("not every peer has heard of the end");
        }
    }
}

/// A peer that wants to connect.
#[derive(Debug)]
pub struct Arrival {
    incoming: Incoming,
    place: Place,
}

impl Arrival {
    /// Where it comes from; not proven yet.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether it has shown to receive at that address. Asked of strangers when many are waiting.
    #[must_use]
    pub fn is_address_proven(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Shakes hands. Run it in a task of its own: a slow peer keeps nobody else waiting.
    ///
    /// # Errors
    /// When the handshake fails, or takes too long.
    pub async fn complete(self) -> Result<Link, AcceptError> {
        let Self {
            incoming,
            place: _place,
        } = self;
        let connecting = incoming.accept()?;
        let connection = tokio::time::timeout(ACCEPT_TIMEOUT, connecting)
            .await
            .map_err(|_elapsed| AcceptError::Timeout)??;
        let link = link(connection)?;
        if link.peer != Peer::Anonymous {
            transport::raise_limits(&link.connection);
        }
        Ok(link)
    }
}

/// One of the bounded number of unfinished handshakes.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn configs(identity: &Identity) -> Result<(ClientConfig, Option<quinn::ServerConfig>), TlsError> {
    let dialler = transport::dialler(tls::dialler(identity)?);
    let listener = match identity.peer() {
        Peer::Member(_) => Some(transport::listener(tls::listener(identity)?)),
        Peer::Agent(_) | Peer::Anonymous => None,
    };
    Ok((dialler, listener))
}

/// A process that was killed and is back knows none of its connections. Its connection ids and reset
/// tokens come from its identity, so that it can tell the peers so at their next packet; otherwise
/// they would talk to nobody until the links are idle for too long.
fn settings(identity: &Identity) -> EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &identity.secret(b"quic stateless reset"));
    let [a, b, c, d, e, f, g, h, ..] = identity.secret(b"quic connection ids");
    let ids = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut settings = EndpointConfig::new(Arc::new(reset_key));
    settings
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)))
        .min_reset_interval(RESET_EVERY);
    settings
}

fn endpoint(
    settings: EndpointConfig,
    listener: Option<quinn::ServerConfig>,
    socket: std::net::UdpSocket,
) -> io::Result<Endpoint> {
    Endpoint::new(settings, listener, socket, Arc::new(quinn::TokioRuntime))
}

async fn dial(
    endpoint: &Endpoint,
    config: ClientConfig,
    addr: SocketAddr,
    name: &str,
) -> Result<Connection, ConnectError> {
    let connecting = endpoint
        .connect_with(config, addr, name)
        .map_err(|source| ConnectError::Dial { addr, source })?;
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(broken(addr, source)),
        Err(_elapsed) => Err(ConnectError::Timeout { addr }),
    }
}

/// A TLS error of our own side means that we refused the certificate we were shown.
fn broken(addr: SocketAddr, source: ConnectionError) -> ConnectError {
    match source {
        ConnectionError::TransportError(error) if tls::is_alert(error.code) => {
            ConnectError::Untrusted {
                addr,
                reason: error.reason,
            }
        }
        ConnectionError::TimedOut => ConnectError::Timeout { addr },
        source => ConnectError::Lost { addr, source },
    }
}

fn link(connection: Connection) -> Result<Link, PeerError> {
    let peer =
        peer_of(&connection).inspect_err(|_nameless| close(&connection, CloseCode::Refused))?;
    let key_fingerprint = key_fingerprint_of(&connection);
    Ok(Link {
        connection,
        peer,
        key_fingerprint,
    })
}
