//! Connections to the other members: one each, kept warm, dialled anew when it breaks.
//!
//! A request uses the connection that stands or fails at once; waiting for a handshake would only
//! hide from consensus that a member is away. One task per member owns the dialling.
//!
//! A process that was killed leaves its connections looking alive until the idle timeout, so a
//! connection that was asked and has answered nothing at all for a while is given up early.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use picket_rt::quic::{self, CloseCode, Link, Mesh};
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};
use picket_wire::codec::{decode, encode};
use picket_wire::envelope::Head;
use picket_wire::id::MemberId;
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use picket_wire::peer::{PeerReply, PeerRequest};
use tokio::sync::watch;

/// Pause between two attempts to dial: a restarted member is reached before an election is due,
/// and a dead one costs four handshakes a second.
const DIAL_PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt may take; QUIC itself would try for the whole idle timeout.
const DIAL_WITHIN: Duration = Duration::from_secs(2);
/// How long a connection may answer nothing before it is given up: four heartbeats, and less than
/// it takes to an election.
const SILENCE_MAX: Duration = Duration::from_millis(1_000);

/// Why another member did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// No such member in the configuration.
    #[error("{0} is not a configured member")]
    Unknown(MemberId),
    /// No connection stands: the request was not sent.
    #[error("{0} cannot be reached")]
    Unreachable(MemberId),
    /// The connection broke, or the answer was not one: the request may have been served.
    #[error("{member} gave no answer: {why}")]
    Broken {
        /// Who.
        member: MemberId,
        /// What happened.
        why: String,
    },
    /// No answer in time: the request may have been served.
    #[error("no answer in time")]
    Timeout,
}

impl PeerError {
    /// Whether the request certainly never reached the other side.
    pub(crate) const fn is_certainly_not_served(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Unreachable(_) => true,
            Self::Broken { .. } | Self::Timeout => false,
        }
    }
}

/// The lines to all other members.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    lines: Arc<BTreeMap<MemberId, Line>>,
}

#[derive(Debug)]
struct Line {
    member: MemberId,
    address: String,
    link: watch::Sender<Option<Link>>,
    /// When the first request after the last answer was made, in milliseconds since `origin`, plus
    /// one; 0 when nothing is unanswered.
    asked_at: AtomicU64,
    origin: Instant,
}

impl Peers {
    /// Lines to everybody in `members` but `me`; not dialled yet.
    pub(crate) fn new(me: MemberId, members: &[(MemberId, String)]) -> Self {
        let others = members.iter().filter(|(id, _)| *id != me);
        let line = |(member, address): &(MemberId, String)| Line {
            member: *member,
            address: address.clone(),
            link: watch::Sender::new(None),
            asked_at: AtomicU64::new(0),
            origin: Instant::now(),
        };
        Self {
            lines: Arc::new(others.map(|other| (other.0, line(other))).collect()),
        }
    }

    /// Starts to keep the lines up, from `mesh`, until `stop`.
    pub(crate) fn keep_up(&self, mesh: &Mesh, tasks: &TaskSet, stop: &Stop) {
        for &member in self.lines.keys() {
            let (peers, mesh, stop) = (self.clone(), mesh.clone(), stop.clone());
            tasks.spawn("peer line", Policy::Essential, async move {
                if let Some(line) = peers.lines.get(&member) {
                    line.keep_up(&mesh, &stop).await;
                }
            });
        }
    }

    /// The other members.
    pub(crate) fn ids(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.lines.keys().copied()
    }

    /// Asks `member` and waits for its answer.
    pub(crate) async fn request(
        &self,
        member: MemberId,
        request: &PeerRequest,
        within: Duration,
    ) -> Result<PeerReply, PeerError> {
        self.request_with_body(member, request, &[], within).await
    }

    /// The same with bytes behind the request that the request announces.
    pub(crate) async fn request_with_body(
        &self,
        member: MemberId,
        request: &PeerRequest,
        body: &[u8],
        within: Duration,
    ) -> Result<PeerReply, PeerError> {
        let line = self.lines.get(&member).ok_or(PeerError::Unknown(member))?;
        let link = line.standing().ok_or(PeerError::Unreachable(member))?;
        let message = encode(request, Head::default());
        let answer = tokio::time::timeout(within, ask(&link, &message, body)).await;
        let reply = answer
            .map_err(|_elapsed| PeerError::Timeout)?
            .map_err(|why| PeerError::Broken { member, why })?;
        line.answered();
        Ok(reply)
    }
}

impl Line {
    /// The connection that stands, unless it has been silent for too long.
    fn standing(&self) -> Option<Link> {
        let link = self.link.borrow().clone()?;
        let now = u64::try_from(self.origin.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let asked = self
            .asked_at
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let silent = asked.err().map_or(0, |since| now.saturating_sub(since));
        if u128::from(silent) > SILENCE_MAX.as_millis() {
            quic::close(&link.connection, CloseCode::Done);
            return None;
        }
        Some(link)
    }

    fn answered(&self) {
        self.asked_at.store(0, Ordering::Relaxed);
    }

    async fn keep_up(&self, mesh: &Mesh, stop: &Stop) {
        loop {
            let line_was_up = tokio::select! {
                biased;
                () = stop.requested() => break,
                up = self.hold_one(mesh) => up,
            };
            if !line_was_up {
                tokio::select! {
                    biased;
                    () = stop.requested() => break,
                    () = tokio::time::sleep(DIAL_PAUSE) => {}
                }
            }
        }
        self.link.send_replace(None);
    }

    /// Dials once and waits until the connection ends; says whether there was one.
    async fn hold_one(&self, mesh: &Mesh) -> bool {
        let Ok(Some(link)) = tokio::time::timeout(DIAL_WITHIN, self.dial(mesh)).await else {
            return false;
        };
        tracing::debug!(member = %self.member, "line up");
        self.answered();
        let connection = link.connection.clone();
        self.link.send_replace(Some(link));
        let reason = connection.closed().await;
        self.link.send_replace(None);
        tracing::info!(member = %self.member, %reason, "line down");
        true
    }

    async fn dial(&self, mesh: &Mesh) -> Option<Link> {
        let mut addresses = tokio::net::lookup_host(self.address.as_str()).await.ok()?;
        let connected = mesh.connect(addresses.next()?, self.member).await;
        connected
            .inspect_err(
                |e| tracing::debug!(member = %self.member, error = %picket_rt::chain(e), "dial"),
            )
            .ok()
    }
}

async fn ask(link: &Link, message: &[u8], body: &[u8]) -> Result<PeerReply, String> {
    let text = |error: &dyn std::error::Error| picket_rt::chain(error).to_string();
    let (mut send, mut receive) = link.connection.open_bi().await.map_err(|e| text(&e))?;
    quic::send_message(&mut send, message)
        .await
        .map_err(|e| text(&e))?;
    send.write_all(body).await.map_err(|e| text(&e))?;
    send.finish().map_err(|e| text(&e))?;
    let reply = quic::read_message(&mut receive, PAYLOAD_MAX_BYTES)
        .await
        .map_err(|e| text(&e))?;
    let reply = reply.ok_or_else(|| "the stream ended without an answer".to_owned())?;
    let (_head, reply) = decode::<PeerReply>(&reply).map_err(|e| text(&e))?;
    Ok(reply)
}
