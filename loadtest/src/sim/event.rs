//! What can happen next. Whoever it happens to must still be the same process: a `boot` that has
//! passed makes an event void.

use picket_agent_core::{Input, Lane};
use picket_scheduler_core::reply::Reply;
use picket_wire::assignment::Assigned;
use picket_wire::control::{FromAgent, ToAgent};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, BlobHash, Incarnation, MemberId, Seq};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::time::Timestamp;

use crate::sim::fault::{Mend, Plague};
use crate::sim::net::Conn;
use crate::sim::postgres::Work;
use crate::sim::raft::{self, Place};
use crate::sim::trace::Node;

/// A process that was started: a restarted one is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot<T> {
    pub(crate) of: T,
    pub(crate) number: u32,
}

/// What an agent sends.
#[derive(Debug, Clone)]
pub(crate) enum Uplink {
    Control(FromAgent),
    Evidence(EvidenceBatch),
    Rollup(RollupBatch),
}

/// What a member sends to an agent.
#[derive(Debug, Clone)]
pub(crate) enum Downlink {
    Control(ToAgent),
    Blob(BlobHash),
}

/// What became of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The facts are projected.
    Projected,
    /// How far each lane is durable, and whether a batch did not follow.
    Stored(Vec<(AgentId, Incarnation, Seq, bool)>),
    /// Postgres is away; what was under way may have been done.
    Failed { rollups: bool },
}

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpId(pub(crate) usize);

/// What can happen to an agent's process.
#[derive(Debug)]
pub(crate) enum AgentEvent {
    /// The time has come for which its core asked.
    Wake(Timestamp),
    /// Its core gets an input.
    Input(Input),
    /// Its disk has a lane up to here.
    Synced(Lane, Seq),
    /// Its disk has the assignment.
    Persisted(Vec<Assigned>),
    /// A connection ended, or could not be made.
    HungUp(MemberId, Option<Conn>),
}

/// What can happen to a member's process.
#[derive(Debug)]
pub(crate) enum MemberEvent {
    /// Its disk has the log up to here.
    LogSynced(Place),
    /// As leader of this term it says that it is there.
    Heartbeat(u64),
    /// It applies what is committed.
    Apply,
    /// Evidence that has come goes into the log.
    Flush,
    /// As leader of this term it looks at its duties.
    Duty(u64),
    /// A transaction of this term ended.
    Answer(u64, Outcome),
}

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    Agent(Boot<AgentId>, AgentEvent),
    Member(Boot<MemberId>, MemberEvent),
    /// A member looks whether it should stand for election.
    Election(Boot<MemberId>),
    /// Two members talk.
    Raft {
        from: MemberId,
        to: MemberId,
        message: raft::Message,
    },
    /// An agent has reached a member, if that is there.
    Dialled(Boot<AgentId>, MemberId),
    /// Something arrives at a member.
    Up(Conn, Uplink),
    /// Something arrives at an agent.
    Down(Conn, Downlink),
    /// A member sees that a connection is gone.
    SessionLost(Conn),
    /// Nothing was heard on a connection for as long as one lives without.
    Idle(Conn),
    /// A transaction begins.
    Begin {
        member: Boot<MemberId>,
        term: u64,
        work: Work,
    },
    /// A transaction commits.
    Commit(u64),
    /// An operator asks, or asks again.
    Operate(OpId),
    /// An operator gets an answer.
    Operated(OpId, Reply),
    /// Something goes wrong.
    Strike(Plague),
    /// It is mended.
    Mend(Mend),
    /// Everything is, for good.
    Heal,
}

impl Event {
    /// Who has to be awake for it.
    pub(crate) const fn whom(&self) -> Option<Node> {
        match self {
            Self::Agent(boot, _) => Some(Node::Agent(boot.of)),
            Self::Down(conn, _) => Some(Node::Agent(conn.agent)),
            Self::Member(boot, _) | Self::Election(boot) => Some(Node::Member(boot.of)),
            Self::Up(conn, _) | Self::SessionLost(conn) => Some(Node::Member(conn.member)),
            Self::Dialled(_, member) | Self::Raft { to: member, .. } => Some(Node::Member(*member)),
            Self::Idle(_)
            | Self::Begin { .. }
            | Self::Commit(_)
            | Self::Operate(_)
            | Self::Operated(..)
            | Self::Strike(_)
            | Self::Mend(_)
            | Self::Heal => None,
        }
    }
}
