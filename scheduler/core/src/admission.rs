//! Whether an agent may speak: admitted, not revoked, and in the incarnation that counts.

use std::cmp::Ordering;

use picket_wire::control::Refusal;
use picket_wire::id::{AgentId, Incarnation};

use crate::state::{Agent, State};

/// The agent, if it may speak in the incarnation `theirs`.
///
/// # Errors
/// Why not. An incarnation that the state does not know yet is one of an agent not admitted yet:
/// incarnations are given by the log, so whoever reads this state lags behind it.
pub fn admitted(state: &State, agent: AgentId, theirs: Incarnation) -> Result<&Agent, Refusal> {
    let known = state.agents.get(&agent).filter(|agent| !agent.is_revoked());
    let known = known.ok_or(Refusal::NotAdmitted(agent))?;
    let current = known.incarnation;
    match theirs.cmp(&current) {
        Ordering::Equal => Ok(known),
        Ordering::Less => Err(Refusal::OldIncarnation { theirs, current }),
        Ordering::Greater => Err(Refusal::NotAdmitted(agent)),
    }
}
