//! Statements that hold of every state and of every sequence of facts.
//!
//! Checked after every entry in tests and in the simulator. A violation is a bug of ours, never
//! an input.

pub mod history;

use std::collections::BTreeMap;
use std::fmt;

use picket_wire::id::{NotificationGroupId, OrderId};
use picket_wire::state::State as Public;

use crate::state::{Consumer, Index, OpenVerdict, Says, Stage, State};

/// A statement that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InvariantId {
    /// What is looked up is what the rest of the state says.
    IndexAgrees,
    /// Every open verdict but a blocked one has exactly one order, and every order one verdict.
    OneOrderEach,
    /// An open incident has the public state of its stage and no end.
    IncidentMatchesStage,
    /// An incident never begins after the state it is in.
    BeganBefore,
    /// A notification group counts the open incidents in it, and is open while there are any.
    GroupCounts,
    /// No two open notification groups have the same cause.
    OneGroupPerCause,
    /// Kept facts are those after the slowest cursor, without a gap.
    FactsAreDense,
    /// An assignment's slot exists in its group, and its agents were admitted.
    SlotsExist,
    /// Names of agents that are not revoked differ.
    NamesDiffer,
    /// A join token admitted at most one agent, and that agent exists.
    TokensAdmitOnce,
    /// Nothing lies in the future of the last entry.
    NoFuture,
    /// A blocked check is one that no owner sees up or down.
    BlockedMeansBlocked,
    /// Transitions of a check form a chain: each leaves the state that the one before entered, for
    /// another one, and never begins before it.
    TransitionsChain,
    /// A check has at most one open incident.
    OneIncidentEach,
    /// An incident's beginning and check never change, and a closed one never changes at all.
    IncidentsKeep,
    /// `Down` is entered only with an incident that is confirmed.
    DownIsConfirmed,
    /// Facts are numbered without a gap.
    FactsInOrder,
}

impl InvariantId {
    /// Every invariant.
    pub const ALL: &'static [Self] = &[
        Self::IndexAgrees,
        Self::OneOrderEach,
        Self::IncidentMatchesStage,
        Self::BeganBefore,
        Self::GroupCounts,
        Self::OneGroupPerCause,
        Self::FactsAreDense,
        Self::SlotsExist,
        Self::NamesDiffer,
        Self::TokensAdmitOnce,
        Self::NoFuture,
        Self::BlockedMeansBlocked,
        Self::TransitionsChain,
        Self::OneIncidentEach,
        Self::IncidentsKeep,
        Self::DownIsConfirmed,
        Self::FactsInOrder,
    ];
}

/// A statement that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id:?} is violated: {detail}")]
pub struct Violation {
    /// Which statement.
    pub id: InvariantId,
    /// By what.
    pub detail: String,
}

/// Fails with `id` unless `holds`.
pub(crate) fn ensure(
    holds: bool,
    id: InvariantId,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            id,
            detail: detail(),
        })
    }
}

/// Checks everything that can be seen in a state.
///
/// # Errors
/// Names the first statement that does not hold, and by what.
pub fn check(state: &State) -> Result<(), Violation> {
    ensure(
        state.index == Index::of(state),
        InvariantId::IndexAgrees,
        || format!("{:?} is not {:?}", state.index, Index::of(state)),
    )?;
    let mut orders: BTreeMap<OrderId, u32> = BTreeMap::new();
    let mut groups: BTreeMap<NotificationGroupId, u32> = BTreeMap::new();
    for (check, open) in &state.open {
        ensure(
            open.check.check == *check,
            InvariantId::OneOrderEach,
            || named(open),
        )?;
        check_open(state, open)?;
        if let Some(order) = open.stage.order() {
            *orders.entry(order).or_default() += 1;
        }
        if let Some(group) = open.stage.incident().and_then(|incident| incident.group) {
            *groups.entry(group).or_default() += 1;
        }
    }
    ensure(
        orders.keys().eq(state.orders.keys()) && orders.values().all(|&n| n == 1),
        InvariantId::OneOrderEach,
        || format!("named {:?}, kept {:?}", orders, state.orders.keys()),
    )?;
    let counted = state
        .notification_groups
        .iter()
        .map(|(&id, group)| (id, group.open));
    ensure(counted.eq(groups), InvariantId::GroupCounts, || {
        format!("{:?}", state.notification_groups)
    })?;
    check_groups(state)?;
    check_facts(state)?;
    check_mesh(state)
}

fn named(what: &impl fmt::Debug) -> String {
    format!("{what:?}")
}

fn check_open(state: &State, open: &OpenVerdict) -> Result<(), Violation> {
    let order = open.stage.order().and_then(|id| state.orders.get(&id));
    let blocked = open.stage == Stage::Blocked;
    let about = order.is_some_and(|order| {
        order.check == open.check && order.group == open.group && order.shard == open.shard
    });
    ensure(about != blocked, InvariantId::OneOrderEach, || named(open))?;
    ensure(open.since <= state.last_at, InvariantId::NoFuture, || {
        named(open)
    })?;
    if let Some(incident) = open.stage.incident() {
        let matches = incident.state == open.stage.state()
            && incident.check == open.check
            && incident.ended_at.is_none();
        ensure(matches, InvariantId::IncidentMatchesStage, || named(open))?;
        ensure(
            incident.started_at <= open.since,
            InvariantId::BeganBefore,
            || named(open),
        )?;
        let decided = incident.decided_at.is_some() && incident.verdict.is_some();
        let undecided = incident.state == Public::SeemsDown;
        ensure(
            decided != undecided,
            InvariantId::IncidentMatchesStage,
            || named(open),
        )?;
    }
    if blocked {
        let none = open
            .words
            .values()
            .all(|word| matches!(word.says, Says::Blocked(_)));
        ensure(none, InvariantId::BlockedMeansBlocked, || named(open))?;
    }
    ensure(!open.words.is_empty(), InvariantId::OneOrderEach, || {
        named(open)
    })
}

fn check_groups(state: &State) -> Result<(), Violation> {
    let mut causes: Vec<_> = state
        .notification_groups
        .values()
        .map(|group| &group.cause)
        .collect();
    causes.sort_unstable();
    let unique = causes.windows(2).all(|pair| pair.first() != pair.last());
    ensure(unique, InvariantId::OneGroupPerCause, || named(&causes))?;
    for group in state.notification_groups.values() {
        let open = group.open > 0 && group.open <= group.total && group.closed_at.is_none();
        ensure(open, InvariantId::GroupCounts, || named(group))?;
    }
    Ok(())
}

fn check_facts(state: &State) -> Result<(), Violation> {
    let passed = Consumer::ALL
        .into_iter()
        .map(|consumer| state.cursor(consumer).0)
        .min();
    let expected = passed.unwrap_or(0) + 1..=state.last_ids.fact.0;
    ensure(
        state.facts.keys().map(|seq| seq.0).eq(expected),
        InvariantId::FactsAreDense,
        || {
            format!(
                "{:?} to {:?}",
                state.facts.keys().next(),
                state.last_ids.fact
            )
        },
    )?;
    let ahead = state.facts.values().find(|fact| fact.at > state.last_at);
    ensure(ahead.is_none(), InvariantId::NoFuture, || named(&ahead))
}

fn check_mesh(state: &State) -> Result<(), Violation> {
    for (slot, assignment) in &state.assignments {
        let known = |agent: &picket_wire::id::AgentId| state.agents.contains_key(agent);
        let group = state.groups.get(&slot.group);
        let exists = group.is_some_and(|group| slot.slot.0 < group.replicas)
            && assignment
                .agent
                .iter()
                .chain(&assignment.standby)
                .all(known)
            && assignment.since <= state.last_at
            && assignment.epoch.0 > 0;
        ensure(exists, InvariantId::SlotsExist, || {
            format!("{slot}: {assignment:?}")
        })?;
    }
    let serving = state.agents.values().filter(|agent| !agent.is_revoked());
    let mut names: Vec<_> = serving.map(|agent| &agent.name).collect();
    names.sort_unstable();
    let unique = names.windows(2).all(|pair| pair.first() != pair.last());
    ensure(unique, InvariantId::NamesDiffer, || named(&names))?;
    for token in state.join_tokens.values() {
        let exists = token
            .used_by
            .is_none_or(|agent| state.agents.contains_key(&agent));
        ensure(exists, InvariantId::TokensAdmitOnce, || named(token))?;
    }
    Ok(())
}
