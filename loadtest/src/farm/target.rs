//! One target: a tiny HTTP server that is healthy, or faulty in its own way.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::farm::authority::{Authority, AuthorityError, Flaw};
use crate::farm::plan::Expected;

/// Connections of the whole farm at once; further ones wait in the listeners' queues.
pub const CONNECTIONS_MAX: usize = 2_048;
/// Longest life of a connection: longer than any probe's timeout.
const CONNECTION_LIFE: Duration = Duration::from_secs(90);
/// Largest request head; a probe's is some 200 bytes.
const REQUEST_MAX_BYTES: usize = 4_096;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How long a slow target takes: noticeable, and below any timeout.
const SLOW: Duration = Duration::from_millis(700);
/// Clients that a flapping target tells apart; more are taken for one.
const CLIENTS_MAX: usize = 1_024;

const HEALTHY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const TRUNCATED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nConnection: close\r\n\r\ncut";

/// How a target fails while it is faulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Healthy,
    /// It answers late.
    Slow,
    /// Every other answer to each client is a 503: whoever looks twice sees it work.
    Flapping,
    /// It answers 503.
    Unavailable,
    /// Nobody listens.
    Refused,
    /// It accepts and says nothing.
    Hanging,
    /// Its body ends early.
    Truncated,
    /// Its certificate has expired.
    ExpiredCertificate,
    /// Its certificate names another host.
    WrongHost,
    /// It answers 503 to some clients only.
    Regional,
}

impl Kind {
    /// Every kind, in the order in which targets are made.
    pub const ALL: [Self; 10] = [
        Self::Healthy,
        Self::Slow,
        Self::Flapping,
        Self::Unavailable,
        Self::Refused,
        Self::Hanging,
        Self::Truncated,
        Self::ExpiredCertificate,
        Self::WrongHost,
        Self::Regional,
    ];

    /// The name in the plan.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Flapping => "flapping",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Hanging => "hanging",
            Self::Truncated => "truncated",
            Self::ExpiredCertificate => "expired-certificate",
            Self::WrongHost => "wrong-host",
            Self::Regional => "regional",
        }
    }

    /// What a watcher should make of its faults.
    #[must_use]
    pub const fn expected(self) -> Expected {
        match self {
            Self::Healthy | Self::Slow | Self::Flapping => Expected::None,
            Self::Regional => Expected::Regional,
            Self::Unavailable
            | Self::Refused
            | Self::Hanging
            | Self::Truncated
            | Self::ExpiredCertificate
            | Self::WrongHost => Expected::Down,
        }
    }

    const fn flaw(self) -> Option<Flaw> {
        match self {
            Self::ExpiredCertificate => Some(Flaw::Expired),
            Self::WrongHost => Some(Flaw::WrongHost),
            _ => None,
        }
    }
}

/// What happens to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answer(&'static [u8]),
    AnswerLate(&'static [u8]),
    Hang,
}

/// What a target needs besides its kind.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Clients for which a regional target fails.
    pub regional_for: Vec<IpAddr>,
    /// Shared by all targets.
    pub connections: Arc<Semaphore>,
    /// Ends it.
    pub stop: Stop,
    /// Runs its connections.
    pub tasks: TaskSet,
}

/// Both faces of an HTTPS target.
struct Faces {
    good: TlsAcceptor,
    bad: TlsAcceptor,
}

/// A target.
pub struct Target {
    kind: Kind,
    address: SocketAddr,
    faulty: watch::Sender<bool>,
    faces: Option<Faces>,
    around: Surroundings,
    /// Bound and never listening: keeps the port while nobody listens on it.
    _placeholder: TcpSocket,
    /// Answers per client, for flapping.
    n_answers: Mutex<BTreeMap<IpAddr, u64>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.url())
            .field("kind", &self.kind)
            .finish()
    }
}

/// Why a target could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No port.
    #[error("listen")]
    Listen(#[from] io::Error),
    /// No certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Target {
    /// A healthy target on a free port of `ip`, that listens from now on.
    ///
    /// # Errors
    /// When there is no port, or no certificate could be made.
    pub fn start(
        kind: Kind,
        ip: IpAddr,
        authority: &Authority,
        around: Surroundings,
    ) -> Result<Arc<Self>, TargetError> {
        let placeholder = bound(SocketAddr::new(ip, 0))?;
        let faces = kind
            .flaw()
            .map(|flaw| {
                let good = authority.acceptor(ip, Flaw::None)?;
                Ok::<_, AuthorityError>(Faces {
                    good,
                    bad: authority.acceptor(ip, flaw)?,
                })
            })
            .transpose()?;
        let target = Arc::new(Self {
            kind,
            address: placeholder.local_addr()?,
            faulty: watch::Sender::new(false),
            faces,
            around,
            _placeholder: placeholder,
            n_answers: Mutex::default(),
        });
        let listener = target.listen()?;
        let serving = Arc::clone(&target).serve(listener);
        target
            .around
            .tasks
            .spawn("target", Policy::Essential, serving);
        Ok(target)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.kind.flaw().is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}/", self.address)
    }

    /// Begins or ends its fault.
    pub fn set_faulty(&self, faulty: bool) {
        self.faulty.send_replace(faulty);
    }

    fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address)?.listen(BACKLOG)
    }

    /// Accepts until the farm stops; a refusing target lets go of its listener while faulty.
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut faulty = self.faulty.subscribe();
        let mut listener = Some(listener);
        loop {
            let refuses = *faulty.borrow_and_update() && self.kind == Kind::Refused;
            if refuses {
                listener = None;
            } else if listener.is_none() {
                // The placeholder holds the port, so only a lack of sockets can fail here.
                listener = self.listen().ok();
            }
            tokio::select! {
                biased;
                () = self.around.stop.requested() => return,
                changed = faulty.changed() => if changed.is_err() { return },
                accepted = next(listener.as_ref()) => self.on_accepted(accepted),
            }
        }
    }

    fn on_accepted(self: &Arc<Self>, accepted: io::Result<(TcpStream, SocketAddr)>) {
        // An accept that fails concerns a connection that is gone already.
        let Ok((stream, client)) = accepted else {
            return;
        };
        let connection = Arc::clone(self).connection(stream, client.ip());
        self.around
            .tasks
            .spawn("connection", Policy::BestEffort, connection);
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, client: IpAddr) {
        let Ok(_permit) = self.around.connections.acquire().await else {
            return;
        };
        let mut faulty = self.faulty.subscribe();
        let is_faulty = *faulty.borrow_and_update();
        let talking = async {
            match &self.faces {
                None => self.talk(stream, client, is_faulty).await,
                Some(faces) => {
                    let face = if is_faulty { &faces.bad } else { &faces.good };
                    self.talk(face.accept(stream).await?, client, is_faulty)
                        .await
                }
            }
        };
        // How a connection ends is the client's business: it may leave whenever it likes.
        tokio::select! {
            biased;
            () = self.around.stop.requested() => {}
            _ended = talking => {}
            // What hangs is let go when the fault is over.
            _changed = faulty.changed(), if is_faulty => {}
            () = tokio::time::sleep(CONNECTION_LIFE) => {}
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        client: IpAddr,
        is_faulty: bool,
    ) -> io::Result<()> {
        read_request(&mut stream).await?;
        let manner = if is_faulty {
            self.fault(client)
        } else {
            Manner::Answer(HEALTHY)
        };
        let answer = match manner {
            Manner::Answer(answer) => answer,
            Manner::AnswerLate(answer) => {
                tokio::time::sleep(SLOW).await;
                answer
            }
            Manner::Hang => std::future::pending().await,
        };
        stream.write_all(answer).await?;
        stream.shutdown().await
    }

    /// How this client is treated while the target is faulty.
    fn fault(&self, client: IpAddr) -> Manner {
        match self.kind {
            Kind::Slow => Manner::AnswerLate(HEALTHY),
            Kind::Unavailable => Manner::Answer(UNAVAILABLE),
            Kind::Truncated => Manner::Answer(TRUNCATED),
            Kind::Hanging => Manner::Hang,
            Kind::Regional if self.around.regional_for.contains(&client) => {
                Manner::Answer(UNAVAILABLE)
            }
            Kind::Flapping if self.count_answer(client).is_multiple_of(2) => {
                Manner::Answer(UNAVAILABLE)
            }
            Kind::Healthy
            | Kind::Flapping
            | Kind::Regional
            | Kind::Refused
            | Kind::ExpiredCertificate
            | Kind::WrongHost => Manner::Answer(HEALTHY),
        }
    }

    /// How many answers this client had before.
    fn count_answer(&self, client: IpAddr) -> u64 {
        let mut answers = self
            .n_answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_known = answers.contains_key(&client) || answers.len() < CLIENTS_MAX;
        let client = if is_known { client } else { self.address.ip() };
        let n_answers = answers.entry(client).or_default();
        *n_answers += 1;
        *n_answers - 1
    }
}

async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// A socket that shares its port with the placeholder of the same target.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Reads one request head; nothing in it matters.
pub(crate) async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.ends_with(b"\r\n\r\n") {
        let room = REQUEST_MAX_BYTES - request.len();
        if room == 0 || stream.take(room as u64).read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
