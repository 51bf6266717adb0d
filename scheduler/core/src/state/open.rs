//! An open verdict: a check that is not plainly up, and how far deciding about it has come.
//!
//! Not here: the decisions (`verdict`, `incident`).

#![allow(
    missing_docs,
    reason = "rkyv's derive writes resolvers whose fields have no documentation; ours have"
)]

use std::collections::BTreeMap;

use picket_wire::evidence::CheckRef;
use picket_wire::fact::Incident;
use picket_wire::id::{AgentId, GroupId, OrderId, ShardId, ShardSlot, Slot};
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

use crate::cause::Cause;

/// A check that is not plainly up.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OpenVerdict {
    /// Which check and endpoint.
    pub check: CheckRef,
    /// Its placement group.
    pub group: GroupId,
    /// Its shard.
    pub shard: ShardId,
    /// What the owner of each slot said last, where it said anything since this opened.
    #[rkyv(with = rkyv::with::AsVec)]
    pub words: BTreeMap<Slot, Word>,
    /// From when the present state holds: the `at` of the last transition.
    pub since: Timestamp,
    /// How far deciding has come.
    pub stage: Stage,
}

impl OpenVerdict {
    /// Whether the owner of `slot` said last that the check fails.
    #[must_use]
    pub fn is_failing(&self, slot: ShardSlot) -> bool {
        self.group == slot.group
            && self.shard == slot.shard
            && self
                .words
                .get(&slot.slot)
                .is_some_and(|word| !matches!(word.says, Says::Ok))
    }
}

/// What an owner said last.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Word {
    /// Who.
    pub agent: AgentId,
    /// The first probe that found it.
    pub at: Timestamp,
    /// What it found.
    pub says: Says,
    /// Whether the agent's own reference checks were ok.
    pub healthy: bool,
}

/// What an owner found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Says {
    /// What was expected.
    Ok,
    /// The check fails.
    Fails(Reason),
    /// It may not or cannot look: our own trouble.
    Blocked(Reason),
}

/// An incident and what it is told under.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Case {
    /// The incident, as last stated.
    pub incident: Incident,
    /// What its first failure had in common with others.
    pub cause: Cause,
}

/// How far deciding about a check has come. Every stage but `Blocked` has one order, which asks
/// now or later.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Stage {
    /// No owner may or can look. Publicly `Unknown`; no incident, since it says nothing of the
    /// site.
    Blocked,
    /// The owner alone sees it fail. Publicly `Up`; asked about again, because the owner, which
    /// speaks only when it changes its mind, would not mention an outage that follows.
    Watched {
        /// What asks.
        order: OrderId,
    },
    /// The owner fails, nobody else has spoken yet. Publicly `SeemsDown`.
    Suspected {
        /// The incident.
        case: Box<Case>,
        /// What asks.
        order: OrderId,
    },
    /// Too few healthy vantages answered. Publicly `Unknown`.
    Unconfirmed {
        /// The incident.
        case: Box<Case>,
        /// What asks.
        order: OrderId,
    },
    /// Some vantages see it fail, others do not. Publicly `Degraded`.
    Regional {
        /// The incident.
        case: Box<Case>,
        /// What asks.
        order: OrderId,
    },
    /// Confirmed. Publicly `Down`.
    Down {
        /// The incident.
        case: Box<Case>,
        /// What asks.
        order: OrderId,
    },
}

impl Stage {
    /// The state that everybody sees.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Blocked | Self::Unconfirmed { .. } => State::Unknown,
            Self::Watched { .. } => State::Up,
            Self::Suspected { .. } => State::SeemsDown,
            Self::Regional { .. } => State::Degraded,
            Self::Down { .. } => State::Down,
        }
    }

    /// The incident, where there is one.
    #[must_use]
    pub fn incident(&self) -> Option<&Incident> {
        match self {
            Self::Blocked | Self::Watched { .. } => None,
            Self::Suspected { case, .. }
            | Self::Unconfirmed { case, .. }
            | Self::Regional { case, .. }
            | Self::Down { case, .. } => Some(&case.incident),
        }
    }

    /// The case, where there is one, to change it.
    pub(crate) fn case_mut(&mut self) -> Option<&mut Case> {
        match self {
            Self::Blocked | Self::Watched { .. } => None,
            Self::Suspected { case, .. }
            | Self::Unconfirmed { case, .. }
            | Self::Regional { case, .. }
            | Self::Down { case, .. } => Some(case),
        }
    }

    /// The case, where there is one, with the order about it.
    pub(crate) fn into_case(self) -> Option<(Box<Case>, OrderId)> {
        match self {
            Self::Blocked | Self::Watched { .. } => None,
            Self::Suspected { case, order }
            | Self::Unconfirmed { case, order }
            | Self::Regional { case, order }
            | Self::Down { case, order } => Some((case, order)),
        }
    }

    /// The order, where there is one.
    #[must_use]
    pub const fn order(&self) -> Option<OrderId> {
        match self {
            Self::Blocked => None,
            Self::Watched { order }
            | Self::Suspected { order, .. }
            | Self::Unconfirmed { order, .. }
            | Self::Regional { order, .. }
            | Self::Down { order, .. } => Some(*order),
        }
    }

    /// Replaces the order, where there is one.
    pub(crate) const fn set_order(&mut self, next: OrderId) {
        match self {
            Self::Blocked => {}
            Self::Watched { order }
            | Self::Suspected { order, .. }
            | Self::Unconfirmed { order, .. }
            | Self::Regional { order, .. }
            | Self::Down { order, .. } => *order = next,
        }
    }
}
