//! An agent gives its shards away, or takes shards again.

use picket_wire::fact::{AgentChange, AgentFact, FactBody};
use picket_wire::id::AgentId;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::Standing;

/// An agent gives its shards away, or takes shards again.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DrainAgent {
    /// Which agent.
    pub agent: AgentId,
    /// Give away rather than take.
    pub drain: bool,
}

impl DrainAgent {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let (standing, change) = if self.drain {
            (Standing::Drained, AgentChange::Drained)
        } else {
            (Standing::Serving, AgentChange::Resumed)
        };
        let before = fold.change_agent(self.agent, |agent| match agent.standing {
            Standing::Revoked => Err(Reject::RevokedAgent(self.agent)),
            before @ (Standing::Serving | Standing::Drained) => {
                agent.standing = standing;
                Ok(before)
            }
        })?;
        if before != standing {
            fold.emit(FactBody::Agent(AgentFact {
                agent: self.agent,
                change,
            }));
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, RevokeAgent};
    use crate::testing::World;

    #[test]
    fn a_drained_agent_can_resume_and_a_revoked_one_cannot() {
        let mut world = World::with_agents(&[("eu", "as1")]);
        let agent = AgentId(1);
        world.apply(Command::DrainAgent(DrainAgent { agent, drain: true }));
        assert!(world.state().agents[&agent].is_drained());
        world.apply(Command::DrainAgent(DrainAgent {
            agent,
            drain: false,
        }));
        assert!(!world.state().agents[&agent].is_drained());
        world.apply(Command::RevokeAgent(RevokeAgent { agent }));
        let again = world.apply(Command::DrainAgent(DrainAgent {
            agent,
            drain: false,
        }));
        assert_eq!(again, Reply::Rejected(Reject::RevokedAgent(agent)));
    }
}
