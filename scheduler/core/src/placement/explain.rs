//! Why a slot is where it is: everybody who was considered, best first.

use picket_wire::id::{AgentId, ShardSlot};
use picket_wire::name::Name;

use crate::placement::problem::{Fitness, Problem};
use crate::placement::score::score;

/// Who was considered for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The region it prefers.
    pub preferred: Option<Name>,
    /// Every agent that could be considered, best first: by the slot's order of regions, then by
    /// rendezvous.
    pub candidates: Vec<Considered>,
}

/// An agent that was considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Considered {
    /// Which agent.
    pub agent: AgentId,
    /// Whether it may have slots now.
    pub eligible: bool,
}

/// Who was considered for `slot`.
#[must_use]
pub fn explain(problem: &Problem, slot: ShardSlot) -> Explained {
    let regions = problem.regions_of(slot);
    let place = |region: &Name| regions.iter().position(|&known| known == region);
    let mut ranked: Vec<_> = problem
        .agents
        .iter()
        .filter(|(_, agent)| agent.fitness != Fitness::Revoked)
        .filter_map(|(&id, agent)| {
            let eligible =
                agent.fitness == Fitness::Eligible && !problem.frozen.contains(&agent.region);
            let rank = (place(&agent.region)?, score(slot, id, agent.weight), id);
            Some((
                rank,
                Considered {
                    agent: id,
                    eligible,
                },
            ))
        })
        .collect();
    ranked.sort_unstable_by_key(|&(rank, _)| rank);
    Explained {
        preferred: regions.first().copied().cloned(),
        candidates: ranked
            .into_iter()
            .map(|(_, considered)| considered)
            .collect(),
    }
}
