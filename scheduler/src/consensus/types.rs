//! The types that openraft is instantiated with.
//!
//! An entry's payload and a snapshot are opaque bytes here: the log, the network and openraft carry
//! them without looking inside, and only the state machine decodes them.

use std::fmt;

use bytes::Bytes;
use openraft::BasicNode;
use picket_scheduler_core::reply::Reply;

openraft::declare_raft_types!(
    /// Picket's instance of openraft.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = Bytes,
);

/// An encoded [`picket_scheduler_core::Entry`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proposal of {} bytes", self.0.len())
    }
}

/// What the machine answered; `None` for entries that openraft itself wrote.
#[derive(Debug)]
pub(crate) struct Outcome(pub(crate) Option<Reply>);

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type RaftEntry = openraft::Entry<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;

/// A log id from its parts. Leaders of one term are told apart by their node, as openraft does
/// unless told otherwise: a split vote then needs no second election.
pub(crate) fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, node), index)
}
