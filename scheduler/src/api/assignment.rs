//! Why an endpoint is probed where it is, from the replicated state and the leader's leases.

use std::collections::BTreeSet;

use picket_scheduler_core::placement::{self, Problem};
use picket_scheduler_core::state::State;
use picket_wire::api::endpoints::{AssignmentExplained, Candidate, SlotExplained};
use picket_wire::id::{AgentId, EndpointId, GroupId, ShardId, ShardSlot, Slot};
use picket_wire::name::Name;

use crate::observed::Observed;

/// Explains every slot of the shard that an endpoint lies in.
pub(super) fn explain(
    state: &State,
    observed: &Observed,
    endpoint: EndpointId,
    group: GroupId,
    shard: ShardId,
) -> AssignmentExplained {
    let live: BTreeSet<AgentId> = observed.leases.keys().copied().collect();
    let frozen: BTreeSet<Name> = observed.frozen.iter().cloned().collect();
    let problem = Problem::of(state, &live, &frozen, 0);
    let replicas = state.groups.get(&group).map_or(0, |group| group.replicas);
    let version = state
        .catalogue
        .get(&(group, shard))
        .map_or(0, |pointer| pointer.version.0);
    AssignmentExplained {
        endpoint,
        group,
        shard,
        catalogue_version: version,
        slots: (0..replicas)
            .map(|slot| {
                explain_slot(
                    state,
                    &problem,
                    ShardSlot {
                        group,
                        shard,
                        slot: Slot(slot),
                    },
                )
            })
            .collect(),
    }
}

fn explain_slot(state: &State, problem: &Problem, slot: ShardSlot) -> SlotExplained {
    let assignment = state.assignments.get(&slot);
    let explained = placement::explain(problem, slot);
    let candidates = explained
        .candidates
        .into_iter()
        .zip(1..)
        .map(|(candidate, rank)| Candidate {
            region: state.agents[&candidate.agent].region.clone(),
            agent: candidate.agent,
            eligible: candidate.eligible,
            rank,
        });
    SlotExplained {
        slot: slot.slot.0,
        preferred_region: explained.preferred,
        agent: assignment.and_then(|assignment| assignment.agent),
        standby: assignment.and_then(|assignment| assignment.standby),
        epoch: assignment.map_or(0, |assignment| assignment.epoch.0),
        cause: assignment.map(|assignment| assignment.cause),
        candidates: candidates.collect(),
    }
}
