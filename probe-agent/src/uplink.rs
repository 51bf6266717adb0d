//! One connection to one scheduler member.
//!
//! The core decides whom to dial and what to say; a task here does it. Reading, saying and sending
//! go on side by side: a batch that waits for the member's credit keeps neither a renewal nor an
//! order waiting. Whatever ends one of them ends the connection, and the core hears of it.

use std::io;

use picket_agent_core::{Input, Lane};
use picket_rt::chain;
use picket_rt::identity::Identity;
use picket_rt::quic::{
    BindError, CloseCode, ConnectError, Mesh, MessageReader, ReadMessageError, SendMessageError,
    close, send_message, send_uni,
};
use picket_rt::task::{Policy, TaskSet};
use picket_wire::codec::{DecodeError, decode, encode};
use picket_wire::control::{FromAgent, ToAgent};
use picket_wire::envelope::Head;
use picket_wire::id::{BlobHash, MemberId};
use picket_wire::lane::live::LiveSecond;
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::mpsc;

use crate::agent::News;
use crate::cache;

/// Things to say that may wait: a renewal every few seconds, requests for blobs, a schedule.
const SAYS: usize = 64;
/// Batches of one lane that may wait: more than the core lets wait for an ack.
const BATCHES: usize = 16;
/// Seconds of the live lane that may wait; an older one is of no use to anybody.
const SECONDS: usize = 2;
/// Evidence goes first, then what is live, then what is counted.
const PRIORITY_EVIDENCE: i32 = 10;
const PRIORITY_LIVE: i32 = 0;
const PRIORITY_ROLLUP: i32 = -10;

/// Where connections are made from: a socket per address family, as far as there is one.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    v4: Option<Mesh>,
    v6: Option<Mesh>,
}

impl Sockets {
    /// Opens them.
    ///
    /// # Errors
    /// When neither family has one.
    pub(crate) fn open(identity: &Identity) -> Result<Self, BindError> {
        let open = |any: std::net::IpAddr| Mesh::bind((any, 0).into(), identity);
        let v6 = open(std::net::Ipv6Addr::UNSPECIFIED.into()).ok();
        match open(std::net::Ipv4Addr::UNSPECIFIED.into()) {
            Ok(v4) => Ok(Self { v4: Some(v4), v6 }),
            Err(error) if v6.is_none() => Err(error),
            Err(_) => Ok(Self { v4: None, v6 }),
        }
    }

    /// Says good-bye to everybody.
    pub(crate) async fn close(&self) {
        for mesh in [&self.v4, &self.v6].into_iter().flatten() {
            mesh.close(CloseCode::Stopping).await;
        }
    }

    /// Tries each address of the member in turn.
    async fn connect(&self, member: MemberId, address: &str) -> Result<Connection, UplinkError> {
        let mut last = UplinkError::NoAddress;
        for addr in tokio::net::lookup_host(address)
            .await
            .map_err(UplinkError::Lookup)?
        {
            let mesh = if addr.is_ipv4() { &self.v4 } else { &self.v6 };
            let Some(mesh) = mesh else { continue };
            match mesh.connect(addr, member).await {
                Ok(link) => return Ok(link.connection),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

/// How a connection ended or why there is none.
#[derive(Debug, thiserror::Error)]
enum UplinkError {
    #[error("look the address up")]
    Lookup(#[source] io::Error),
    #[error("the name has no address that can be dialled from here")]
    NoAddress,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection ended")]
    Ended(#[from] ConnectionError),
    #[error("send")]
    Send(#[from] SendMessageError),
    #[error("read")]
    Read(#[from] ReadMessageError),
    #[error("the member closed the control stream")]
    Closed,
    #[error("the member said something that does not read")]
    Decode(#[from] DecodeError),
    #[error("we hung up")]
    HungUp,
}

/// A handle on the task of one connection; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Uplink {
    says: mpsc::Sender<FromAgent>,
    evidence: mpsc::Sender<Vec<u8>>,
    rollups: mpsc::Sender<Vec<u8>>,
    live: mpsc::Sender<Vec<u8>>,
}

#[derive(Debug)]
struct Queues {
    says: mpsc::Receiver<FromAgent>,
    evidence: mpsc::Receiver<Vec<u8>>,
    rollups: mpsc::Receiver<Vec<u8>>,
    live: mpsc::Receiver<Vec<u8>>,
}

impl Uplink {
    /// Starts to connect; what comes of it is told as news.
    pub(crate) fn dial(
        tasks: &TaskSet,
        sockets: &Sockets,
        member: MemberId,
        address: String,
        news: mpsc::Sender<News>,
    ) -> Self {
        let (says, says_queue) = mpsc::channel(SAYS);
        let (evidence, evidence_queue) = mpsc::channel(BATCHES);
        let (rollups, rollups_queue) = mpsc::channel(BATCHES);
        let (live, live_queue) = mpsc::channel(SECONDS);
        let queues = Queues {
            says: says_queue,
            evidence: evidence_queue,
            rollups: rollups_queue,
            live: live_queue,
        };
        let sockets = sockets.clone();
        tasks.spawn("uplink", Policy::BestEffort, async move {
            let ended = converse(&sockets, member, &address, queues, &news).await;
            if let Err(error) = ended {
                tracing::info!(%member, %address, error = %chain(&error), "not connected");
            }
            if news
                .send(News::Input(Input::Disconnected(member)))
                .await
                .is_err()
            {
                tracing::debug!("the loop has ended");
            }
        });
        Self {
            says,
            evidence,
            rollups,
            live,
        }
    }

    /// Where frames of a lane go.
    pub(crate) fn lane(&self, lane: Lane) -> mpsc::Sender<Vec<u8>> {
        match lane {
            Lane::Evidence => self.evidence.clone(),
            Lane::Rollup => self.rollups.clone(),
        }
    }

    /// Sends a second of the live lane, or drops it when the member is behind.
    pub(crate) fn live(&self, second: &LiveSecond) {
        if self.live.try_send(encode(second, Head::NONE)).is_err() {
            tracing::debug!("a live second was dropped");
        }
    }

    /// Says something; what finds no room is lost like a broken connection would lose it, and is
    /// said again or replaced by what comes after.
    pub(crate) fn say(&self, message: FromAgent) {
        if self.says.try_send(message).is_err() {
            tracing::debug!("not said: the connection is behind or over");
        }
    }
}

async fn converse(
    sockets: &Sockets,
    member: MemberId,
    address: &str,
    queues: Queues,
    news: &mpsc::Sender<News>,
) -> Result<(), UplinkError> {
    let connection = sockets.connect(member, address).await?;
    let (say, hear) = connection.open_bi().await?;
    tracing::info!(%member, %address, "connected");
    tell(news, News::Input(Input::Connected(member))).await?;
    let Queues {
        says,
        evidence,
        rollups,
        live,
    } = queues;
    let ended = tokio::select! {
        biased;
        ended = say_all(say, says) => ended,
        ended = hear_all(hear, member, news) => ended,
        ended = take_blobs(&connection, news) => ended,
        ended = send_all(&connection, PRIORITY_EVIDENCE, evidence) => ended,
        ended = send_all(&connection, PRIORITY_LIVE, live) => ended,
        ended = send_all(&connection, PRIORITY_ROLLUP, rollups) => ended,
    };
    close(&connection, CloseCode::Done);
    ended
}

async fn say_all(
    mut stream: SendStream,
    mut says: mpsc::Receiver<FromAgent>,
) -> Result<(), UplinkError> {
    while let Some(message) = says.recv().await {
        send_message(&mut stream, &encode(&message, Head::NONE)).await?;
    }
    Err(UplinkError::HungUp)
}

async fn hear_all(
    stream: RecvStream,
    member: MemberId,
    news: &mpsc::Sender<News>,
) -> Result<(), UplinkError> {
    let mut reader = MessageReader::new(stream, PAYLOAD_MAX_BYTES);
    while let Some(frame) = reader.next().await? {
        let (_, message) = decode::<ToAgent>(&frame)?;
        tell(news, News::Input(Input::Heard(member, message))).await?;
    }
    Err(UplinkError::Closed)
}

/// Each blob comes on a stream of its own.
async fn take_blobs(connection: &Connection, news: &mpsc::Sender<News>) -> Result<(), UplinkError> {
    loop {
        let stream = connection.accept_uni().await?;
        let mut reader = MessageReader::new(stream, PAYLOAD_MAX_BYTES);
        while let Some(bytes) = reader.next().await? {
            let blob = BlobHash::of(&bytes);
            if let Some(checks) = cache::open(blob, &bytes) {
                tell(news, News::Blob(blob, bytes, checks)).await?;
            }
        }
    }
}

async fn send_all(
    connection: &Connection,
    priority: i32,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> Result<(), UplinkError> {
    while let Some(frame) = frames.recv().await {
        send_uni(connection, priority, &frame).await?;
    }
    Err(UplinkError::HungUp)
}

async fn tell(news: &mpsc::Sender<News>, item: News) -> Result<(), UplinkError> {
    news.send(item)
        .await
        .map_err(|_the_loop_has_ended| UplinkError::HungUp)
}
