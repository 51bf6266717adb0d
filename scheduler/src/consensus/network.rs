//! openraft's messages over the mesh: one request and one reply per QUIC stream.
//!
//! A snapshot is a head followed by its bytes on the same stream, however long it is. Whatever goes
//! wrong on the way is told to openraft as “unreachable” or “try again”; what it means is
//! openraft's business.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetwork, RaftNetworkFactory};
use picket_wire::id::MemberId;
use picket_wire::peer::{PeerReply, PeerRequest, RaftMessage};

use super::codec::{Frame, FrameError};
use super::types::{Raft, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::peers::{PeerError, Peers};

/// [`RaftMessage::kind`]s.
const VOTE: u8 = 1;
const APPEND: u8 = 2;
const SNAPSHOT: u8 = 3;
const READ_INDEX: u8 = 4;

/// Pause before a member that could not be reached is tried again: short beside an election, so
/// that a restarted member is found before anybody misses it.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Why a request of another member was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// It does not read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No such kind of request.
    #[error("unknown kind {0} of Raft message")]
    Kind(u8),
    /// openraft has stopped.
    #[error("raft is stopped")]
    Stopped,
    /// A snapshot that is too long, or shorter than announced.
    #[error("the snapshot did not arrive whole")]
    Snapshot,
    /// Asked for what only the leader knows.
    #[error("this member does not lead")]
    NotLeader,
}

/// Makes openraft's clients.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) peers: Peers,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerLink;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> PeerLink {
        PeerLink {
            target: MemberId(target),
            peers: self.peers.clone(),
        }
    }
}

/// openraft's client for one other member.
#[derive(Debug)]
pub(crate) struct PeerLink {
    target: MemberId,
    peers: Peers,
}

type RpcError = RPCError<u64, BasicNode, RaftError<u64>>;

impl PeerLink {
    async fn call<Q: Frame, A: Frame>(
        &self,
        kind: u8,
        request: &Q,
        within: Duration,
    ) -> Result<A, LinkError> {
        let message = RaftMessage {
            kind,
            bytes: request.to_frame(),
        };
        let reply = self
            .peers
            .request(self.target, &PeerRequest::Raft(message), within)
            .await?;
        raft_reply(reply)
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
        within: Duration,
    ) -> Result<Vote, LinkError> {
        let head = SnapshotHead {
            vote,
            meta: snapshot.meta.clone(),
            bytes: u64::try_from(snapshot.snapshot.len()).unwrap_or(u64::MAX),
        };
        let message = RaftMessage {
            kind: SNAPSHOT,
            bytes: head.to_frame(),
        };
        let request = PeerRequest::Raft(message);
        let reply = self
            .peers
            .request_with_body(self.target, &request, &snapshot.snapshot, within)
            .await?;
        raft_reply(reply)
    }
}

impl RaftNetwork<TypeConfig> for PeerLink {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        self.call(APPEND, &request, option.hard_ttl())
            .await
            .map_err(LinkError::into_rpc)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        self.call(VOTE, &request, option.hard_ttl())
            .await
            .map_err(LinkError::into_rpc)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, &snapshot, option.hard_ttl()) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_PAUSE))
    }
}

/// What is said before a snapshot's bytes.
pub(crate) struct SnapshotHead {
    vote: Vote,
    meta: SnapshotMeta,
    /// How many bytes follow on the stream.
    pub(crate) bytes: u64,
}

impl Frame for SnapshotHead {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.meta.put(out);
        self.bytes.put(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(Self {
            vote: Vote::read(input)?,
            meta: SnapshotMeta::read(input)?,
            bytes: u64::read(input)?,
        })
    }
}

/// The request for the index up to which a linearizable read must have applied.
pub(crate) fn read_index_request() -> PeerRequest {
    PeerRequest::Raft(RaftMessage {
        kind: READ_INDEX,
        bytes: Vec::new(),
    })
}

/// The answer to it.
pub(crate) fn read_index_reply(reply: PeerReply) -> Result<Option<u64>, LinkError> {
    raft_reply(reply)
}

/// The head of a snapshot, when `message` announces one.
pub(crate) fn snapshot_head(message: &RaftMessage) -> Result<Option<SnapshotHead>, FrameError> {
    if message.kind == SNAPSHOT {
        SnapshotHead::from_frame(Bytes::copy_from_slice(&message.bytes)).map(Some)
    } else {
        Ok(None)
    }
}

/// Answers another member's message.
pub(crate) async fn serve(raft: &Raft, message: RaftMessage) -> Result<Vec<u8>, ServeError> {
    let bytes = Bytes::from(message.bytes);
    match message.kind {
        VOTE => {
            let reply = raft.vote(VoteRequest::from_frame(bytes)?).await;
            Ok(reply.map_err(|_fatal| ServeError::Stopped)?.to_frame())
        }
        APPEND => {
            let reply = raft
                .append_entries(AppendEntriesRequest::from_frame(bytes)?)
                .await;
            Ok(reply.map_err(|_fatal| ServeError::Stopped)?.to_frame())
        }
        READ_INDEX => {
            let (index, _applied) = raft
                .get_read_log_id()
                .await
                .map_err(|_error| ServeError::NotLeader)?;
            Ok(index.map(|id| id.index).to_frame())
        }
        kind => Err(ServeError::Kind(kind)),
    }
}

/// Installs a snapshot that another member sent.
pub(crate) async fn install(
    raft: &Raft,
    head: SnapshotHead,
    data: Bytes,
) -> Result<Vec<u8>, ServeError> {
    let snapshot = Snapshot {
        meta: head.meta,
        snapshot: Box::new(data),
    };
    let reply = raft.install_full_snapshot(head.vote, snapshot).await;
    Ok(reply.map_err(|_fatal| ServeError::Stopped)?.vote.to_frame())
}

/// Why another member gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No answer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// An answer that does not read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It says that it could not serve.
    #[error("the member answered: {0}")]
    Refused(String),
}

impl LinkError {
    fn into_rpc(self) -> RpcError {
        match &self {
            Self::Peer(PeerError::Timeout) => RPCError::Network(NetworkError::new(&self)),
            Self::Peer(_) | Self::Frame(_) | Self::Refused(_) => {
                RPCError::Unreachable(Unreachable::new(&self))
            }
        }
    }
}

fn raft_reply<A: Frame>(reply: PeerReply) -> Result<A, LinkError> {
    match reply {
        PeerReply::Raft(bytes) => Ok(A::from_frame(Bytes::from(bytes))?),
        PeerReply::Failed(why) => Err(LinkError::Refused(why)),
        PeerReply::Proposed(_)
        | PeerReply::Blob(_)
        | PeerReply::NotLeader(_)
        | PeerReply::Observed(_) => Err(LinkError::Frame(FrameError(
            "reply: not one to a Raft message",
        ))),
    }
}
