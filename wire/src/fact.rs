//! Committed statements that the replicated machine emits, numbered.
//!
//! Consumers (projector, delivery, the event stream) fold facts in order and remember a cursor;
//! replaying a fact changes nothing.

use rkyv::{Archive, Deserialize, Serialize};

use crate::evidence::{CheckRef, Evidence, TraceContext};
use crate::id::{AgentId, Epoch, FactSeq, IncidentId, NotificationGroupId, OrderId, ShardSlot};
use crate::name::Name;
use crate::reason::Reason;
use crate::state::{State, Verdict};
use crate::time::Timestamp;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Fact {
    /// Its place in the order of all facts.
    pub seq: FactSeq,
    /// When it was decided: the time in the log entry, stamped by the leader.
    pub at: Timestamp,
    /// What it says.
    pub body: FactBody,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "testimony is what most facts of a storm are; a box would cost each of them more"
)]
pub enum FactBody {
    /// An endpoint changed state.
    Transition(Transition),
    /// An incident was opened, promoted or closed: its whole row as of now.
    Incident(Incident),
    /// An agent said something about an open incident; kept as evidence.
    Testimony(Testimony),
    /// A group of incidents with one cause changed.
    Group(NotificationGroup),
    /// An agent was admitted, drained or revoked: audit.
    Agent(AgentFact),
    /// A shard slot changed its owner: audit and `explain`.
    Assigned(AssignedFact),
}

/// A stored change of an endpoint's state; append-only.
///
/// `at` is the instant from which the new state holds. It never lies before the previous
/// transition's `at` of the same endpoint, and may equal it: a verdict refines the suspicion from
/// the same instant on, so that `Down` begins with the first failure and a false alarm lasts no
/// time at all.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Transition {
    /// Which check and endpoint.
    pub check: CheckRef,
    /// The state it left.
    pub from: State,
    /// The state it entered.
    pub to: State,
    /// From when on.
    pub at: Timestamp,
    /// Why, when it is not ok.
    pub reason: Option<Reason>,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
}

/// The interval a human cares about.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// Which check and endpoint.
    pub check: CheckRef,
    /// What it is now.
    pub state: State,
    /// The first failure; never moves.
    pub started_at: Timestamp,
    /// When a verdict was reached.
    pub decided_at: Option<Timestamp>,
    /// The first success that ended it; rows with this set are immutable.
    pub ended_at: Option<Timestamp>,
    /// The verdict, once reached.
    pub verdict: Option<Verdict>,
    /// The reason of the first failure.
    pub reason: Reason,
    /// The group it is told in, once confirmed.
    pub group: Option<NotificationGroupId>,
    /// Where its trace began.
    pub trace: Option<TraceContext>,
}

/// What one agent said about an incident.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Testimony {
    /// The incident.
    pub incident: IncidentId,
    /// Who spoke.
    pub agent: AgentId,
    /// From which region.
    pub region: Name,
    /// From which network.
    pub network: Name,
    /// By which order, when it was a vote.
    pub order: Option<OrderId>,
    /// Whether the machine counted it, and if not, why.
    pub counted: Counted,
    /// What it saw.
    pub evidence: Evidence,
}

/// Whether testimony counted towards the verdict.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// It did.
    Yes,
    /// The agent's own reference checks failed.
    UnhealthyVantage,
    /// It came after the verdict.
    Late,
    /// The agent had voted on this order before.
    Repeated,
    /// An agent of the same region and network had voted.
    SameVantage,
    /// The agent may not or could not look.
    Abstained,
}

/// Incidents with one cause, told as one.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct NotificationGroup {
    /// Its id.
    pub id: NotificationGroupId,
    /// The shared cause: the address that was dialled, or the host where none was.
    pub cause: String,
    /// When its first incident was confirmed.
    pub opened_at: Timestamp,
    /// Confirmed incidents that are open now.
    pub open: u32,
    /// Confirmed incidents that ever belonged to it.
    pub total: u32,
    /// When its last incident closed.
    pub closed_at: Option<Timestamp>,
}

/// What happened to an agent's registration.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AgentFact {
    /// Which agent.
    pub agent: AgentId,
    /// What happened.
    pub change: AgentChange,
}

/// What can happen to an agent's registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum AgentChange {
    /// It enrolled.
    Admitted,
    /// It enrolled again: a new incarnation.
    Readmitted,
    /// It gives its shards away.
    Drained,
    /// It takes shards again.
    Resumed,
    /// Its certificate counts no more.
    Revoked,
}

/// A shard slot's new owner.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AssignedFact {
    /// Which slot.
    pub slot: ShardSlot,
    /// Its owner from now on; `None` when nobody can have it.
    pub agent: Option<AgentId>,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Why.
    pub cause: AssignCause,
}

/// Why a shard slot moved.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AssignCause {
    /// It had no owner.
    Initial,
    /// Its owner's lease ran out.
    LeaseExpired,
    /// Its owner is being drained.
    Drained,
    /// Its owner was revoked.
    Revoked,
    /// To even out the load.
    Rebalanced,
    /// Its shard has nothing left to probe.
    Emptied,
}
