//! One counting owner per shard slot, and no change of state on anybody else's word.
//!
//! The authoritative interval of an epoch is the stretch of the log between the entry that gave a
//! slot to its owner and the entry that gave it to the next. Epochs only grow, so the intervals
//! cannot overlap; what this watches is that they do, and that nothing follows from what somebody
//! says under an epoch that is not current at that place in the log.

use std::collections::BTreeMap;

use picket_scheduler_core::command::Command;
use picket_scheduler_core::machine::Entry;
use picket_scheduler_core::state::State;
use picket_wire::evidence::{Evidence, Role};
use picket_wire::fact::{AssignedFact, Fact, FactBody};
use picket_wire::id::{AgentId, CheckId, Epoch, ShardSlot};

use crate::oracle::{Complaint, Reading};

/// The books about owners.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    owners: BTreeMap<ShardSlot, (Epoch, Option<AgentId>)>,
    pub(crate) broken: Complaint,
}

impl Ownership {
    /// Whether what `agent` says may change anything now.
    pub(crate) fn counts(&self, agent: AgentId, evidence: &Evidence) -> bool {
        match evidence.role {
            Role::Voter { .. } => true,
            Role::Owner { slot, epoch } => self.owners.get(&slot) == Some(&(epoch, Some(agent))),
        }
    }

    /// An entry was applied.
    pub(crate) fn observe(
        &mut self,
        entry: &Entry,
        reading: &Reading,
        facts: &[Fact],
        state: &State,
    ) {
        let from_evidence = matches!(entry.command, Command::IngestEvidence(_));
        for fact in facts {
            match &fact.body {
                FactBody::Assigned(assigned) => self.assigned(assigned),
                FactBody::Testimony(testimony) => {
                    let counts = self.counts(testimony.agent, &testimony.evidence);
                    self.broken
                        .unless(counts, || format!("a former owner is heard: {testimony:?}"));
                }
                FactBody::Transition(transition) if from_evidence => {
                    self.supported(reading, transition.check.check, fact);
                }
                FactBody::Incident(incident) if from_evidence => {
                    self.supported(reading, incident.check.check, fact);
                }
                FactBody::Transition(_)
                | FactBody::Incident(_)
                | FactBody::Group(_)
                | FactBody::Agent(_) => {}
            }
        }
        let owners = state
            .assignments
            .iter()
            .map(|(slot, now)| (slot, (now.epoch, now.agent)));
        let agree = owners.eq(self.owners.iter().map(|(slot, owner)| (slot, *owner)));
        self.broken.unless(agree, || {
            format!(
                "owners changed without a fact: {:?} is not {:?}",
                state.assignments, self.owners
            )
        });
    }

    fn assigned(&mut self, assigned: &AssignedFact) {
        let before = self
            .owners
            .insert(assigned.slot, (assigned.epoch, assigned.agent));
        let grows = before.is_none_or(|(epoch, _)| epoch < assigned.epoch);
        self.broken
            .unless(grows, || format!("{before:?} was followed by {assigned:?}"));
    }

    fn supported(&mut self, reading: &Reading, check: CheckId, fact: &Fact) {
        let heard = reading.heard.contains(&check);
        self.broken.unless(heard, || {
            format!("nobody whose word counts spoke of it: {fact:?}")
        });
    }
}
