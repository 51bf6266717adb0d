//! An agent enrols: the join token is used up and the agent admitted in one step.

use picket_wire::fact::{AgentChange, AgentFact, FactBody};
use picket_wire::id::{AgentId, Incarnation, Seq, TokenId};
use picket_wire::name::Name;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::{Agent, JoinToken, Standing};

/// Most agents ever admitted: far above any fleet, and small in memory.
const AGENTS_MAX: u32 = 65_536;

/// An agent enrols.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AdmitAgent {
    /// SHA-256 of the join token's secret.
    pub token: [u8; 32],
    /// Name for people, unique among agents that are not revoked.
    pub name: Name,
    /// Region.
    pub region: Name,
    /// Zone inside the region.
    pub zone: Name,
    /// ASN or provider.
    pub network: Name,
    /// SHA-256 of its public key; the request for a certificate proved that it has the key.
    pub fingerprint: [u8; 32],
}

impl AdmitAgent {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let (token_id, token) = self.token(fold)?;
        if let Some(agent) = token.used_by {
            return self.repeat(fold, agent);
        }
        if token.expires_at <= fold.at {
            return Err(Reject::ExpiredToken);
        }
        match &token.region {
            Some(region) if *region != self.region => {
                return Err(Reject::WrongRegion(region.clone()));
            }
            _ => {}
        }
        let reply = match self.namesake(fold) {
            Some((id, agent)) if agent.fingerprint != self.fingerprint => {
                return Err(Reject::NameTaken(id));
            }
            Some((id, _)) => self.readmit(fold, id)?,
            None => self.admit(fold)?,
        };
        if let (Reply::Admitted { agent, .. }, Some(token)) =
            (&reply, fold.state.join_tokens.get_mut(&token_id))
        {
            token.used_by = Some(*agent);
        }
        Ok(reply)
    }

    fn token(&self, fold: &Fold<'_>) -> Result<(TokenId, JoinToken), Reject> {
        fold.state
            .join_tokens
            .iter()
            .find(|(_, token)| token.hash == self.token)
            .map(|(&id, token)| (id, token.clone()))
            .ok_or(Reject::UnknownToken)
    }

    /// The same agent asks again with the same token and key: its answer got lost. It gets the
    /// same answer, as long as it has not begun to speak.
    fn repeat(&self, fold: &Fold<'_>, id: AgentId) -> Result<Reply, Reject> {
        let same = |agent: &&Agent| {
            agent.fingerprint == self.fingerprint
                && agent.name == self.name
                && agent.watermark == Seq(0)
                && !agent.is_revoked()
        };
        let agent = fold
            .state
            .agents
            .get(&id)
            .filter(same)
            .ok_or(Reject::UsedToken)?;
        Ok(Reply::Admitted {
            agent: id,
            incarnation: agent.incarnation,
        })
    }

    fn namesake<'a>(&self, fold: &'a Fold<'_>) -> Option<(AgentId, &'a Agent)> {
        fold.state
            .agents
            .iter()
            .find(|(_, agent)| !agent.is_revoked() && agent.name == self.name)
            .map(|(&id, agent)| (id, agent))
    }

    fn admit(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        if fold.state.last_ids.agent >= AGENTS_MAX {
            return Err(Reject::TooMany {
                what: "agents".to_owned(),
                max: AGENTS_MAX,
            });
        }
        fold.state.last_ids.agent += 1;
        let id = AgentId(fold.state.last_ids.agent);
        let agent = Agent {
            name: self.name.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            network: self.network.clone(),
            fingerprint: self.fingerprint,
            weight: Agent::WEIGHT_PLAIN,
            incarnation: Incarnation(1),
            watermark: Seq(0),
            standing: Standing::Serving,
            admitted_at: fold.at,
        };
        let reply = Reply::Admitted {
            agent: id,
            incarnation: agent.incarnation,
        };
        fold.state.index.agent_came(&agent);
        fold.state.agents.insert(id, agent);
        fold.emit(FactBody::Agent(AgentFact {
            agent: id,
            change: AgentChange::Admitted,
        }));
        Ok(reply)
    }

    /// A new incarnation: the agent lost its spool, and its lanes begin anew.
    fn readmit(&self, fold: &mut Fold<'_>, id: AgentId) -> Result<Reply, Reject> {
        let incarnation = fold.change_agent(id, |agent| {
            agent.incarnation = agent.incarnation.next();
            agent.watermark = Seq(0);
            agent.region = self.region.clone();
            agent.zone = self.zone.clone();
            agent.network = self.network.clone();
            Ok(agent.incarnation)
        })?;
        fold.emit(FactBody::Agent(AgentFact {
            agent: id,
            change: AgentChange::Readmitted,
        }));
        Ok(Reply::Admitted {
            agent: id,
            incarnation,
        })
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::time::Timestamp;

    use super::*;
    use crate::command::{Command, IssueJoinToken, RevokeAgent};
    use crate::testing::{World, name};

    fn issue(world: &mut World, hash: u8) {
        world.apply(Command::IssueJoinToken(IssueJoinToken {
            hash: [hash; 32],
            expires_at: Timestamp(10_000),
            region: Some(name("eu")),
        }));
    }

    fn admit(token: u8, agent: &str, key: u8) -> Command {
        Command::AdmitAgent(AdmitAgent {
            token: [token; 32],
            name: name(agent),
            region: name("eu"),
            zone: name("a"),
            network: name("as1"),
            fingerprint: [key; 32],
        })
    }

    const fn admitted(agent: u32, incarnation: u32) -> Reply {
        Reply::Admitted {
            agent: AgentId(agent),
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn a_token_admits_one_agent_and_no_second() {
        let mut world = World::started();
        issue(&mut world, 1);
        assert_eq!(
            world.apply(admit(9, "a", 1)),
            Reply::Rejected(Reject::UnknownToken)
        );
        assert_eq!(world.apply(admit(1, "a", 1)), admitted(1, 1));
        assert_eq!(
            world.apply(admit(1, "b", 2)),
            Reply::Rejected(Reject::UsedToken)
        );
        assert_eq!(
            world.apply(admit(1, "a", 2)),
            Reply::Rejected(Reject::UsedToken)
        );
    }

    #[test]
    fn a_lost_answer_is_given_again_to_the_same_key() {
        let mut world = World::started();
        issue(&mut world, 1);
        world.apply(admit(1, "a", 1));
        let facts = world.state().facts.len();
        assert_eq!(world.apply(admit(1, "a", 1)), admitted(1, 1));
        assert_eq!(world.state().facts.len(), facts);
    }

    #[test]
    fn the_same_name_and_key_begin_a_new_incarnation_and_another_key_is_refused() {
        let mut world = World::started();
        for token in 1..=4 {
            issue(&mut world, token);
        }
        assert_eq!(world.apply(admit(1, "a", 1)), admitted(1, 1));
        assert_eq!(world.apply(admit(2, "a", 1)), admitted(1, 2));
        let taken = Reply::Rejected(Reject::NameTaken(AgentId(1)));
        assert_eq!(world.apply(admit(3, "a", 2)), taken);
        world.apply(Command::RevokeAgent(RevokeAgent { agent: AgentId(1) }));
        assert_eq!(world.apply(admit(3, "a", 2)), admitted(2, 1));
        assert_eq!(
            world.apply(admit(2, "a", 1)),
            Reply::Rejected(Reject::UsedToken)
        );
    }

    #[test]
    fn time_and_region_bind_a_token() {
        let mut world = World::started();
        issue(&mut world, 1);
        let Command::AdmitAgent(mut elsewhere) = admit(1, "a", 1) else {
            unreachable!()
        };
        elsewhere.region = name("us");
        let refused = world.apply(Command::AdmitAgent(elsewhere));
        assert_eq!(refused, Reply::Rejected(Reject::WrongRegion(name("eu"))));
        assert_eq!(
            world.at(10_000).apply(admit(1, "a", 1)),
            Reply::Rejected(Reject::ExpiredToken)
        );
    }
}
