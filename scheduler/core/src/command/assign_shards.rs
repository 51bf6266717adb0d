//! Shard slots get other owners.
//!
//! The planner thinks on a view that may be old when its plan is applied, so each move names the
//! epoch it saw and is skipped when that has passed.

use picket_wire::fact::{AssignCause, AssignedFact, FactBody};
use picket_wire::id::{AgentId, Epoch, ShardSlot};
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::Assignment;

/// Most moves in one entry; a larger plan is several entries.
pub const MOVES_MAX: usize = 16_384;

/// Shard slots get other owners.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AssignShards {
    /// At most [`MOVES_MAX`].
    pub moves: Vec<Move>,
}

/// One slot gets another owner, or only another standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Move {
    /// Which slot.
    pub slot: ShardSlot,
    /// The slot's epoch when this was planned; 0 when it had none.
    pub seen: Epoch,
    /// Its owner from now on.
    pub agent: Option<AgentId>,
    /// Who gets its blob ready.
    pub standby: Option<AgentId>,
    /// Why.
    pub cause: AssignCause,
}

impl AssignShards {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        if self.moves.len() > MOVES_MAX {
            return Err(Reject::TooMany {
                what: "moves".to_owned(),
                max: 16_384,
            });
        }
        let (mut applied, mut stale) = (0, 0);
        for planned in &self.moves {
            if planned.apply(fold) {
                applied += 1;
            } else {
                stale += 1;
            }
        }
        Ok(Reply::Assigned { applied, stale })
    }
}

impl Move {
    fn apply(&self, fold: &mut Fold<'_>) -> bool {
        let before = fold.state.assignments.get(&self.slot).copied();
        let epoch = before.map_or(Epoch(0), |assignment| assignment.epoch);
        if epoch != self.seen || !self.is_possible(fold) {
            return false;
        }
        let owner = before.and_then(|assignment| assignment.agent);
        let moves = before.is_none() || owner != self.agent;
        let after = Assignment {
            agent: self.agent,
            standby: self.standby,
            epoch: if moves { epoch.next() } else { epoch },
            since: before
                .filter(|_| !moves)
                .map_or(fold.at, |assignment| assignment.since),
            cause: before
                .filter(|_| !moves)
                .map_or(self.cause, |assignment| assignment.cause),
        };
        fold.state.assignments.insert(self.slot, after);
        fold.state.index.owner_changed(self.slot, owner, self.agent);
        if moves {
            let Self {
                slot, agent, cause, ..
            } = *self;
            fold.emit(FactBody::Assigned(AssignedFact {
                slot,
                agent,
                epoch: after.epoch,
                cause,
            }));
        }
        true
    }

    /// Whether the group, the shard and the agents exist and may have it.
    fn is_possible(&self, fold: &Fold<'_>) -> bool {
        let serves = |agent: AgentId| {
            fold.state
                .agents
                .get(&agent)
                .is_some_and(|agent| !agent.is_revoked())
        };
        let group = fold.state.groups.get(&self.slot.group);
        group.is_some_and(|group| self.slot.slot.0 < group.replicas)
            && self.slot.shard.0 < fold.settings().shards
            && self.agent.is_none_or(serves)
            && self.standby.is_none_or(serves)
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::id::{GroupId, ShardId, Slot};

    use super::*;
    use crate::command::Command;
    use crate::testing::World;

    const SLOT: ShardSlot = ShardSlot {
        group: GroupId(1),
        shard: ShardId(3),
        slot: Slot(0),
    };

    fn assign(seen: u32, agent: Option<u32>, standby: Option<u32>) -> Command {
        let planned = Move {
            slot: SLOT,
            seen: Epoch(seen),
            agent: agent.map(AgentId),
            standby: standby.map(AgentId),
            cause: AssignCause::Initial,
        };
        Command::AssignShards(AssignShards {
            moves: vec![planned],
        })
    }

    const DONE: Reply = Reply::Assigned {
        applied: 1,
        stale: 0,
    };
    const STALE: Reply = Reply::Assigned {
        applied: 0,
        stale: 1,
    };

    #[test]
    fn each_change_of_owner_raises_the_epoch_and_a_new_standby_does_not() {
        let mut world = World::with_agents(&[("eu", "as1"), ("eu", "as2")]);
        assert_eq!(world.apply(assign(0, Some(1), None)), DONE);
        assert_eq!(world.state().assignments[&SLOT].epoch, Epoch(1));
        let facts = world.state().facts.len();
        assert_eq!(world.apply(assign(1, Some(1), Some(2))), DONE);
        assert_eq!(world.state().assignments[&SLOT].epoch, Epoch(1));
        assert_eq!(world.state().facts.len(), facts);
        assert_eq!(world.apply(assign(1, Some(2), None)), DONE);
        assert_eq!(world.state().assignments[&SLOT].epoch, Epoch(2));
        assert_eq!(world.apply(assign(2, None, None)), DONE);
        assert_eq!(world.state().assignments[&SLOT].epoch, Epoch(3));
        world.check();
    }

    #[test]
    fn a_move_that_was_planned_on_an_old_view_is_skipped() {
        let mut world = World::with_agents(&[("eu", "as1"), ("eu", "as2")]);
        world.apply(assign(0, Some(1), None));
        assert_eq!(world.apply(assign(0, Some(2), None)), STALE);
        assert_eq!(world.apply(assign(1, Some(7), None)), STALE);
        assert_eq!(world.state().assignments[&SLOT].agent, Some(AgentId(1)));
    }
}
