//! What scheduler members say to each other: one request and one reply per stream.
//!
//! Raft's own messages and proposals pass as bytes, because their types belong to the scheduler;
//! each is a frame of its own (see [`crate::codec::to_bytes`]).

use rkyv::{Archive, Deserialize, Serialize};

use crate::id::{BlobHash, MemberId};

/// What a member asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PeerRequest {
    /// A message of the consensus protocol.
    Raft(RaftMessage),
    /// A command to propose; only the leader takes it.
    Propose(Vec<u8>),
    /// A blob that the asking member lacks.
    Blob(BlobHash),
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
    /// To `Propose`, by a member that does not lead.
    NotLeader(LeaderHint),
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
