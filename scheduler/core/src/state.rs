//! What the replicated machine knows: inert data in ordered maps.
//!
//! Commands and tables decide; nothing here does. Everything is replicated, is in the snapshot
//! and counts for the hash, but [`Index`], which follows from the rest.

pub mod access;
pub mod agent;
pub mod index;
pub mod open;
pub mod order;
pub mod settings;
pub mod settled;
pub mod webhook;

use std::collections::BTreeMap;

use picket_wire::fact::{Fact, NotificationGroup};
use picket_wire::id::{
    AgentId, BlobHash, CatalogueVersion, CheckId, Epoch, FactSeq, GroupId, IncidentId,
    MaintenanceId, NotificationGroupId, OrderId, ShardId, ShardSlot, TokenId, WebhookId,
};
use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

pub use crate::maintenance::Maintenance;
pub use crate::state::access::{ApiToken, JoinToken, Scope};
pub use crate::state::agent::{Agent, Standing};
pub use crate::state::index::Index;
pub use crate::state::open::{Case, OpenVerdict, Says, Stage, Word};
pub use crate::state::order::{Ballot, Order, Vote};
pub use crate::state::settings::{ConfirmPolicy, PlacementGroup, Settings};
pub use crate::state::settled::Settled;
pub use crate::state::webhook::Webhook;

/// Everything the machine knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The time of the last entry; never runs backwards.
    pub last_at: Timestamp,
    /// Set by `InitCluster`.
    pub settings: Option<Settings>,
    /// The ids given last.
    pub last_ids: LastIds,
    /// Placement groups.
    pub groups: BTreeMap<GroupId, PlacementGroup>,
    /// Every agent ever admitted.
    pub agents: BTreeMap<AgentId, Agent>,
    /// Join tokens, also used and expired ones for a while.
    pub join_tokens: BTreeMap<TokenId, JoinToken>,
    /// API tokens.
    pub api_tokens: BTreeMap<TokenId, ApiToken>,
    /// Receivers of notifications.
    pub webhooks: BTreeMap<WebhookId, Webhook>,
    /// Maintenance windows, past ones too: figures need them.
    pub maintenance: BTreeMap<MaintenanceId, Maintenance>,
    /// The catalogue of each shard that has one.
    pub catalogue: BTreeMap<(GroupId, ShardId), Pointer>,
    /// Who probes what.
    pub assignments: BTreeMap<ShardSlot, Assignment>,
    /// Checks that are not plainly up.
    pub open: BTreeMap<CheckId, OpenVerdict>,
    /// What other vantages are asked, now or later.
    pub orders: BTreeMap<OrderId, Order>,
    /// When checks that are plainly up again had their last transition.
    pub settled: Settled,
    /// Notification groups that are open.
    pub notification_groups: BTreeMap<NotificationGroupId, NotificationGroup>,
    /// Facts that some consumer has not passed.
    pub facts: BTreeMap<FactSeq, Fact>,
    /// How far each durable consumer has come.
    pub cursors: BTreeMap<Consumer, FactSeq>,
    /// Evidence that was read and had no effect.
    pub skipped: Skipped,
    /// Ways to look things up; follows from the rest.
    pub index: Index,
}

impl State {
    /// How far `consumer` has come.
    #[must_use]
    pub fn cursor(&self, consumer: Consumer) -> FactSeq {
        self.cursors.get(&consumer).copied().unwrap_or_default()
    }

    /// The facts after `cursor`, in order.
    pub fn facts_after(&self, cursor: FactSeq) -> impl Iterator<Item = &Fact> {
        self.facts.range(cursor.next()..).map(|(_, fact)| fact)
    }

    /// The checks in `slot` that its owner said last are failing: what a new owner is told.
    pub fn failing(&self, slot: ShardSlot) -> impl Iterator<Item = CheckId> {
        let checks = self.index.open_in(slot.group, slot.shard);
        checks.filter(move |check| {
            self.open
                .get(check)
                .is_some_and(|open| open.is_failing(slot))
        })
    }

    /// The slots that `agent` owns.
    pub fn slots_of(&self, agent: AgentId) -> impl Iterator<Item = ShardSlot> {
        self.index.slots_of(agent)
    }
}

/// The ids given last; the next one is one more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LastIds {
    /// Of a placement group.
    pub group: u32,
    /// Of an agent.
    pub agent: u32,
    /// Of a token.
    pub token: u32,
    /// Of a webhook.
    pub webhook: u32,
    /// Of a maintenance window.
    pub maintenance: u32,
    /// Of an incident.
    pub incident: u64,
    /// Of a notification group.
    pub notification_group: u64,
    /// Of an order.
    pub order: u64,
    /// Of a fact.
    pub fact: FactSeq,
}

impl LastIds {
    /// A new incident's id.
    pub(crate) fn incident(&mut self) -> IncidentId {
        self.incident += 1;
        IncidentId(self.incident)
    }

    /// A new order's id.
    pub(crate) fn order(&mut self) -> OrderId {
        self.order += 1;
        OrderId(self.order)
    }

    /// A new notification group's id.
    pub(crate) fn notification_group(&mut self) -> NotificationGroupId {
        self.notification_group += 1;
        NotificationGroupId(self.notification_group)
    }
}

/// Which catalogue a shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Pointer {
    /// Its version.
    pub version: CatalogueVersion,
    /// The blob that holds it.
    pub blob: BlobHash,
    /// How many checks it has; a shard without any is not placed.
    pub checks: u32,
}

/// Who probes a shard slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Assignment {
    /// Its owner; `None` when nobody can have it.
    pub agent: Option<AgentId>,
    /// Who has its blob ready and takes over next.
    pub standby: Option<AgentId>,
    /// Raised at each change of owner.
    pub epoch: Epoch,
    /// Since when this owner has it.
    pub since: Timestamp,
    /// Why it was moved last.
    pub cause: picket_wire::fact::AssignCause,
}

/// A durable consumer of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub enum Consumer {
    /// Writes history to Postgres.
    Projector,
    /// Tells people.
    Delivery,
}

impl Consumer {
    /// Every consumer: a fact is kept until all of them have passed it.
    pub const ALL: [Self; 2] = [Self::Projector, Self::Delivery];
}

/// Counts of evidence that was taken from its lane and had no effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Skipped {
    /// Owner's evidence under an old epoch or by somebody else than the owner.
    pub supplementary: u64,
    /// Votes on an order that is over.
    pub late_votes: u64,
    /// Records that contradict themselves: a vote on another check than was asked, a check that
    /// does not hash to its shard.
    pub malformed: u64,
}
