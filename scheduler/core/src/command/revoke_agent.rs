//! An agent's certificate counts no more. Final: the same name needs a new key.

use picket_wire::fact::{AgentChange, AgentFact, FactBody};
use picket_wire::id::AgentId;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::Standing;

/// An agent's certificate counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RevokeAgent {
    /// Which agent.
    pub agent: AgentId,
}

impl RevokeAgent {
    /// Its slots are the planner's to move: the next plan gives them away at once.
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let before = fold.change_agent(self.agent, |agent| {
            Ok(std::mem::replace(&mut agent.standing, Standing::Revoked))
        })?;
        if before != Standing::Revoked {
            let change = AgentFact {
                agent: self.agent,
                change: AgentChange::Revoked,
            };
            fold.emit(FactBody::Agent(change));
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::testing::World;

    #[test]
    fn revoking_twice_is_one_fact() {
        let mut world = World::with_agents(&[("eu", "as1")]);
        let facts = world.state().facts.len();
        let revoke = Command::RevokeAgent(RevokeAgent { agent: AgentId(1) });
        assert_eq!(world.apply(revoke.clone()), Reply::Done);
        assert_eq!(world.apply(revoke), Reply::Done);
        assert_eq!(world.state().facts.len(), facts + 1);
        let unknown = Command::RevokeAgent(RevokeAgent { agent: AgentId(9) });
        assert_eq!(
            world.apply(unknown),
            Reply::Rejected(Reject::UnknownAgent(AgentId(9)))
        );
    }
}
