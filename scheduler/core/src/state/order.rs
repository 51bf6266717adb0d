//! An order: other vantages are asked to probe a check now and vote.

use picket_wire::evidence::{CheckRef, TraceContext};
use picket_wire::id::{AgentId, GroupId, ShardId};
use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

/// Most votes that an order takes; there are never more distinct vantages asked.
pub const VOTES_MAX: usize = 32;

/// Other vantages are asked to probe a check now and vote.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Order {
    /// Which check and endpoint.
    pub check: CheckRef,
    /// Its placement group.
    pub group: GroupId,
    /// Its shard, whose blob has the check's spec.
    pub shard: ShardId,
    /// How many distinct vantages besides the owner end it when they have spoken.
    pub wanted: u8,
    /// Nobody is asked before this.
    pub asked_at: Timestamp,
    /// From when on it is decided with the votes that are there.
    pub deadline: Timestamp,
    /// The votes, in the order in which they came.
    pub votes: Vec<Vote>,
    /// The trace to continue.
    pub trace: Option<TraceContext>,
}

/// One agent's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub agent: AgentId,
    /// When it probed, by its wall clock.
    pub at: Timestamp,
    /// What it is worth.
    pub says: Ballot,
}

/// What a vote is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Ballot {
    /// The check is ok from here.
    Up,
    /// It fails from here too.
    Down,
    /// Nothing: the vantage is not healthy, may not look, or has spoken.
    Void,
}
