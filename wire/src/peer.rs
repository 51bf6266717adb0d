//! What scheduler members say to each other: one request and one reply per stream.
//!
//! Raft's own messages and proposals pass as bytes, because their types belong to the scheduler;
//! each is a frame of its own (see [`crate::codec::to_bytes`]).

use rkyv::{Archive, Deserialize, Serialize};

use crate::id::{AgentId, BlobHash, CheckId, MemberId};
use crate::name::Name;
use crate::time::Timestamp;

/// What a member asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PeerRequest {
    /// A message of the consensus protocol.
    Raft(RaftMessage),
    /// A command to propose; only the leader takes it.
    Propose(Vec<u8>),
    /// A blob that the asking member lacks.
    Blob(BlobHash),
    /// What the leader knows that is not replicated, with the last probes of these checks, at most
    /// [`crate::api::PAGE_MAX`].
    Observe(Vec<CheckId>),
}

/// A message of the consensus protocol.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RaftMessage {
    /// Which one, by the scheduler's own numbering.
    pub kind: u8,
    /// The message.
    pub bytes: Vec<u8>,
}

/// The answer to a [`PeerRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PeerReply {
    /// To `Raft`.
    Raft(Vec<u8>),
    /// To `Propose`: the machine's reply.
    Proposed(Vec<u8>),
    /// To `Blob`; `None` when this member lacks it too.
    Blob(Option<Vec<u8>>),
    /// To `Propose` and `Observe`, by a member that does not lead.
    NotLeader(LeaderHint),
    /// To `Observe`.
    Observed(Observed),
    /// The request could not be served; says why, at most
    /// [`crate::limits::DETAIL_MAX_BYTES`].
    Failed(String),
}

/// Who leads, as far as the speaker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LeaderHint {
    /// The leader, when one is known.
    pub leader: Option<MemberId>,
}

/// What a leader knows that is not replicated: it fills again within seconds of a change of leader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Observed {
    /// Who has a lease, and until when.
    pub leases: Vec<(AgentId, Timestamp)>,
    /// Regions in which nothing is moved.
    pub frozen: Vec<Name>,
    /// The agents connected to the leader.
    pub agents: Vec<AgentSeen>,
    /// The last probe of each check that was asked for, in that order.
    pub probes: Vec<Option<ProbeSeen>>,
    /// How late probes started.
    pub lateness: LatenessSeen,
}

/// What an agent said of itself last.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AgentSeen {
    /// Which agent.
    pub agent: AgentId,
    /// Its build.
    pub build: String,
    /// Whether its reference checks were ok.
    pub healthy: bool,
    /// Bytes in its spool that waited for an ack.
    pub spool_bytes: u64,
}

/// A check's last probe, as the live lane told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProbeSeen {
    /// The second it was due in.
    pub at: Timestamp,
    /// The last latency that was ok, in microseconds, the middle of its bucket.
    pub latency_us: Option<u32>,
}

/// How late probes started: per check and window, the latest of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LatenessSeen {
    /// How many were counted.
    pub count: u64,
    /// Median in milliseconds.
    pub p50_ms: u32,
    /// 99th percentile in milliseconds.
    pub p99_ms: u32,
    /// Largest in milliseconds.
    pub max_ms: u32,
}
