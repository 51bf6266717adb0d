//! Digests and beliefs: each agent's whole assignment, and which of its checks are failing.

use picket_scheduler_core::state::State;
use picket_wire::assignment::Assigned;
use picket_wire::control::{Beliefs, ToAgent};
use picket_wire::id::{AgentId, CheckId, ShardSlot};

use crate::sim::env::Env;
use crate::sim::leader::{ROUND, Term};
use crate::sim::member::Member;

/// What an agent was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    conn: u64,
    digest: Vec<Assigned>,
    failing: Vec<CheckId>,
}

impl Member {
    /// Tells digests and beliefs.
    pub(super) fn tell(&mut self, env: &mut Env, term: &mut Term) {
        let round = env.now >= term.round_at;
        if round {
            term.round_at = env.now + ROUND;
        }
        let sessions = &self.sessions;
        term.told.retain(|agent, _| sessions.contains_key(agent));
        let arrived = sessions.iter().any(|(agent, session)| {
            term.told
                .get(agent)
                .is_none_or(|told| told.conn != session.conn.number)
        });
        if !round && !arrived && term.told_for == self.placement {
            return;
        }
        term.told_for = self.placement;
        let connected: Vec<_> = sessions
            .iter()
            .map(|(&agent, session)| (agent, session.conn.number))
            .collect();
        for (agent, conn) in connected {
            let before = term.told.remove(&agent).filter(|told| told.conn == conn);
            if let Some(told) = self.tell_agent(env, agent, conn, before, round) {
                term.told.insert(agent, told);
            }
        }
    }

    /// Returns what the agent was told, unless something did not fit its queue.
    fn tell_agent(
        &self,
        env: &mut Env,
        agent: AgentId,
        conn: u64,
        before: Option<Told>,
        round: bool,
    ) -> Option<Told> {
        let state = self.machine.state();
        let digest = digest_of(state, agent);
        let slots: Vec<ShardSlot> = digest.iter().map(|line| line.slot).collect();
        let same = before
            .as_ref()
            .is_some_and(|before| before.digest == digest);
        if !round && same {
            return before;
        }
        let failing: Vec<_> = slots.iter().flat_map(|&slot| state.failing(slot)).collect();
        let mut heard = self.say(env, agent, ToAgent::Digest(digest.clone()));
        if !same || before.is_none_or(|before| before.failing != failing) {
            let beliefs = Beliefs {
                slots,
                failing: failing.clone(),
            };
            heard &= self.say(env, agent, ToAgent::Beliefs(beliefs));
        }
        heard.then_some(Told {
            conn,
            digest,
            failing,
        })
    }
}

/// Everything assigned to `agent` that has a catalogue.
fn digest_of(state: &State, agent: AgentId) -> Vec<Assigned> {
    let line = |slot: ShardSlot| {
        let pointer = state.catalogue.get(&(slot.group, slot.shard))?;
        let epoch = state.assignments.get(&slot)?.epoch;
        Some(Assigned {
            slot,
            epoch,
            version: pointer.version,
            blob: pointer.blob,
        })
    };
    state.slots_of(agent).filter_map(line).collect()
}
