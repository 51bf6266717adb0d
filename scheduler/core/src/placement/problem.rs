//! What the planner is told: groups, shards with work, agents as they are, and what is assigned.

use std::collections::{BTreeMap, BTreeSet};

use picket_wire::id::{AgentId, GroupId, ShardId, ShardSlot};
use picket_wire::name::Name;

use crate::state::{Agent, Assignment, Standing, State};

/// Everything a plan depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The placement groups.
    pub groups: BTreeMap<GroupId, Shape>,
    /// How many checks each shard has; only shards with some are placed.
    pub shards: BTreeMap<(GroupId, ShardId), u32>,
    /// Every agent that was admitted.
    pub agents: BTreeMap<AgentId, Candidate>,
    /// What is assigned now.
    pub current: BTreeMap<ShardSlot, Assignment>,
    /// Regions in which nothing may move.
    pub frozen: BTreeSet<Name>,
    /// How many slots that could stay may be moved.
    pub budget: usize,
}

/// A placement group, with its regions spelled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Where it may be probed from, in order of preference.
    pub regions: Vec<Name>,
    /// Slots of each shard.
    pub replicas: u8,
}

/// An agent that may have slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its region.
    pub region: Name,
    /// Its share of the load, relative to others of its region; not 0.
    pub weight: u16,
    /// Whether it may have slots.
    pub fitness: Fitness,
}

/// Whether an agent may have slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It may.
    Eligible,
    /// It is to give its slots away, and keeps each until somebody else has it.
    Draining,
    /// Its lease ran out. It keeps what nobody else can have: it may still be probing.
    Lost,
    /// It may have nothing.
    Revoked,
}

impl Problem {
    /// The problem as the machine and the leases see it.
    #[must_use]
    pub fn of(
        state: &State,
        live: &BTreeSet<AgentId>,
        frozen: &BTreeSet<Name>,
        budget: usize,
    ) -> Self {
        let serving = state.agents.values().filter(|agent| !agent.is_revoked());
        let everywhere: BTreeSet<&Name> = serving.map(|agent| &agent.region).collect();
        let shape = |group: &crate::state::PlacementGroup| Shape {
            regions: if group.regions.is_empty() {
                everywhere.iter().copied().cloned().collect()
            } else {
                group.regions.clone()
            },
            replicas: group.replicas,
        };
        let candidate = |id: AgentId, agent: &Agent| Candidate {
            region: agent.region.clone(),
            weight: agent.weight.max(1),
            fitness: match agent.standing {
                Standing::Revoked => Fitness::Revoked,
                _ if !live.contains(&id) => Fitness::Lost,
                Standing::Drained => Fitness::Draining,
                Standing::Serving => Fitness::Eligible,
            },
        };
        let pointers = state
            .catalogue
            .iter()
            .filter(|(_, pointer)| pointer.checks > 0);
        Self {
            groups: state
                .groups
                .iter()
                .map(|(&id, group)| (id, shape(group)))
                .collect(),
            shards: pointers
                .map(|(&shard, pointer)| (shard, pointer.checks))
                .collect(),
            agents: state
                .agents
                .iter()
                .map(|(&id, agent)| (id, candidate(id, agent)))
                .collect(),
            current: state.assignments.clone(),
            frozen: frozen.clone(),
            budget,
        }
    }

    /// The regions of a slot, the preferred one first.
    #[must_use]
    pub fn regions_of(&self, slot: ShardSlot) -> Vec<&Name> {
        let regions = self
            .groups
            .get(&slot.group)
            .map_or(&[][..], |shape| &shape.regions);
        let turn = slot.shard.0 as usize + usize::from(slot.slot.0);
        let first = turn.checked_rem(regions.len()).unwrap_or(0);
        regions
            .iter()
            .cycle()
            .skip(first)
            .take(regions.len())
            .collect()
    }
}
