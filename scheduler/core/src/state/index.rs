//! Ways to look things up in the state that follow from the rest of it.
//!
//! They are not in the snapshot: a restored machine builds them anew, and an invariant compares
//! them with what they follow from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use picket_wire::id::{
    AgentId, CheckId, GroupId, NotificationGroupId, OrderId, ShardId, ShardSlot,
};
use picket_wire::name::Name;
use picket_wire::time::Timestamp;

use crate::state::{Agent, Standing, State};

/// Ways to look things up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Orders by the instant from which they ask. All orders wait equally long for votes, so this
    /// is the order of their deadlines too.
    agenda: BTreeSet<(Timestamp, OrderId)>,
    /// Open verdicts by shard.
    open: BTreeSet<(GroupId, ShardId, CheckId)>,
    /// Assigned slots by owner.
    owned: BTreeSet<(AgentId, ShardSlot)>,
    /// Open notification groups by cause.
    causes: BTreeMap<String, NotificationGroupId>,
    /// How many agents serve in each region and network.
    serving: BTreeMap<Name, BTreeMap<Name, u32>>,
    /// How many regions and networks have any.
    vantages: usize,
}

impl Index {
    /// The index of `state`, built from nothing.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let owned = |(&slot, assignment): (&ShardSlot, &crate::state::Assignment)| {
            assignment.agent.map(|agent| (agent, slot))
        };
        let mut index = Self {
            agenda: state
                .orders
                .iter()
                .map(|(&id, order)| (order.asked_at, id))
                .collect(),
            open: state
                .open
                .iter()
                .map(|(&id, open)| (open.group, open.shard, id))
                .collect(),
            owned: state.assignments.iter().filter_map(owned).collect(),
            causes: state
                .notification_groups
                .iter()
                .map(|(&id, group)| (group.cause.clone(), id))
                .collect(),
            serving: BTreeMap::new(),
            vantages: 0,
        };
        for agent in state.agents.values() {
            index.agent_came(agent);
        }
        index
    }

    /// The orders that ask at `now` or did before, those with the earliest deadline first.
    pub fn asking(&self, now: Timestamp) -> impl Iterator<Item = OrderId> {
        self.agenda
            .range(..=(now, OrderId(u64::MAX)))
            .map(|&(_, order)| order)
    }

    /// The same from one place in that order on.
    pub fn asking_after(
        &self,
        place: (Timestamp, OrderId),
        now: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, OrderId)> {
        let last = (now, OrderId(u64::MAX));
        let range = (Bound::Excluded(place.min(last)), Bound::Included(last));
        self.agenda.range(range).copied()
    }

    /// From when on the next order after `now` asks.
    #[must_use]
    pub fn next_asking(&self, now: Timestamp) -> Option<Timestamp> {
        self.agenda
            .range((now + picket_wire::time::Span(1), OrderId(0))..)
            .next()
            .map(|&(at, _)| at)
    }

    /// The open verdicts of one shard.
    pub fn open_in(&self, group: GroupId, shard: ShardId) -> impl Iterator<Item = CheckId> {
        let all = (group, shard, CheckId(0))..=(group, shard, CheckId(u64::MAX));
        self.open.range(all).map(|&(_, _, check)| check)
    }

    /// The slots that `agent` owns.
    pub fn slots_of(&self, agent: AgentId) -> impl Iterator<Item = ShardSlot> {
        self.owned
            .range((agent, FIRST_SLOT)..)
            .take_while(move |(owner, _)| *owner == agent)
            .map(|&(_, slot)| slot)
    }

    /// The open notification group of a cause.
    #[must_use]
    pub fn group_of(&self, cause: &str) -> Option<NotificationGroupId> {
        self.causes.get(cause).copied()
    }

    /// How many distinct vantages serve: regions and networks in them.
    #[must_use]
    pub const fn vantages(&self) -> usize {
        self.vantages
    }

    /// Whether any agent serves in this region and network.
    #[must_use]
    pub fn vantage_exists(&self, region: &Name, network: &Name) -> bool {
        self.serving
            .get(region)
            .is_some_and(|networks| networks.contains_key(network))
    }

    /// An agent is there, as it is now; only a serving one counts.
    pub(crate) fn agent_came(&mut self, agent: &Agent) {
        if agent.standing == Standing::Serving {
            let networks = self.serving.entry(agent.region.clone()).or_default();
            let agents = networks.entry(agent.network.clone()).or_default();
            self.vantages += usize::from(*agents == 0);
            *agents += 1;
        }
    }

    /// An agent as it was is there no more.
    pub(crate) fn agent_went(&mut self, agent: &Agent) {
        if agent.standing != Standing::Serving {
            return;
        }
        let Some(networks) = self.serving.get_mut(&agent.region) else {
            return;
        };
        let Some(agents) = networks.get_mut(&agent.network) else {
            return;
        };
        *agents -= 1;
        if *agents == 0 {
            networks.remove(&agent.network);
            self.vantages -= 1;
        }
        if networks.is_empty() {
            self.serving.remove(&agent.region);
        }
    }

    pub(crate) fn order_opened(&mut self, asked_at: Timestamp, order: OrderId) {
        self.agenda.insert((asked_at, order));
    }

    pub(crate) fn order_closed(&mut self, asked_at: Timestamp, order: OrderId) {
        self.agenda.remove(&(asked_at, order));
    }

    pub(crate) fn verdict_opened(&mut self, group: GroupId, shard: ShardId, check: CheckId) {
        self.open.insert((group, shard, check));
    }

    pub(crate) fn verdict_closed(&mut self, group: GroupId, shard: ShardId, check: CheckId) {
        self.open.remove(&(group, shard, check));
    }

    pub(crate) fn owner_changed(
        &mut self,
        slot: ShardSlot,
        before: Option<AgentId>,
        after: Option<AgentId>,
    ) {
        if let Some(agent) = before {
            self.owned.remove(&(agent, slot));
        }
        if let Some(agent) = after {
            self.owned.insert((agent, slot));
        }
    }

    pub(crate) fn group_opened(&mut self, cause: String, group: NotificationGroupId) {
        self.causes.insert(cause, group);
    }

    pub(crate) fn group_closed(&mut self, cause: &str) {
        self.causes.remove(cause);
    }
}

/// Before every other slot.
const FIRST_SLOT: ShardSlot = ShardSlot {
    group: GroupId(0),
    shard: ShardId(0),
    slot: picket_wire::id::Slot(0),
};
