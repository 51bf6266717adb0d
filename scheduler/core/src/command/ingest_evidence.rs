//! Agents said something: deduplicated, fenced, and handed to the verdict.
//!
//! A batch is taken once and whole: its place in the lane of its agent's incarnation is the next
//! after the watermark, and the watermark moves in the same step as everything that follows from
//! the batch.

use picket_wire::control::Refusal;
use picket_wire::dispersal::shard_of;
use picket_wire::evidence::{Evidence, EvidenceBatch, Role};
use picket_wire::id::{AgentId, Epoch, Seq, ShardSlot};
use picket_wire::limits::EVIDENCE_BATCH_MAX;
use rkyv::{Archive, Deserialize, Serialize};

use crate::admission::admitted;
use crate::machine::Fold;
use crate::reply::{Ingested, Reject, Reply};
use crate::state::Agent;

/// Agents said something.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct IngestEvidence {
    /// Batches of one or more agents; those of one agent in the order of its lane.
    pub batches: Vec<EvidenceBatch>,
}

impl IngestEvidence {
    #[expect(clippy::unnecessary_wraps, reason = "every command has this shape")]
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        Ok(Reply::Ingested(
            self.batches
                .iter()
                .map(|batch| ingest(fold, batch))
                .collect(),
        ))
    }
}

fn ingest(fold: &mut Fold<'_>, batch: &EvidenceBatch) -> Ingested {
    let agent = batch.agent;
    let answer = |watermark, refused| Ingested {
        agent,
        watermark,
        refused,
    };
    let watermark = match place(fold, batch) {
        Ok(Place::Next(watermark)) => watermark,
        Ok(Place::Known(watermark)) => return answer(watermark, None),
        Err((watermark, refusal)) => return answer(watermark, Some(refusal)),
    };
    for evidence in &batch.records {
        record(fold, agent, evidence);
    }
    if let Some(speaker) = fold.state.agents.get_mut(&agent) {
        speaker.watermark.advance_to(watermark);
    }
    answer(watermark, None)
}

/// Where a batch stands in its lane.
enum Place {
    /// It is the next one; this is the watermark once its effect is in the state.
    Next(Seq),
    /// Its effect is in the state.
    Known(Seq),
}

fn place(fold: &Fold<'_>, batch: &EvidenceBatch) -> Result<Place, (Seq, Refusal)> {
    let refuse = |agent: Option<&Agent>, refusal| {
        Err((agent.map_or(Seq(0), |agent| agent.watermark), refusal))
    };
    let agent = match admitted(fold.state, batch.agent, batch.incarnation) {
        Ok(agent) => agent,
        Err(refusal) => return refuse(fold.state.agents.get(&batch.agent), refusal),
    };
    if batch.records.len() > EVIDENCE_BATCH_MAX {
        let text = format!(
            "{} records, at most {EVIDENCE_BATCH_MAX}",
            batch.records.len()
        );
        return refuse(Some(agent), Refusal::Malformed(text));
    }
    let again = fold.faults.dedupe_off_by_one && batch.seq == agent.watermark;
    if batch.seq <= agent.watermark && !again {
        return Ok(Place::Known(agent.watermark));
    }
    if batch.seq > agent.watermark.next() {
        let refusal = Refusal::Gap {
            expected: agent.watermark.next(),
            got: batch.seq,
        };
        return refuse(Some(agent), refusal);
    }
    Ok(Place::Next(batch.seq))
}

fn record(fold: &mut Fold<'_>, agent: AgentId, evidence: &Evidence) {
    match evidence.role {
        Role::Voter { order } => fold.vantage_voted(order, agent, evidence),
        Role::Owner { slot, epoch } if !owns(fold, agent, slot, epoch) => {
            fold.state.skipped.supplementary += 1;
        }
        Role::Owner { slot, .. } => {
            if shard_of(evidence.check.endpoint, fold.settings().shards) == slot.shard {
                fold.owner_spoke(slot, agent, evidence);
            } else {
                fold.state.skipped.malformed += 1;
            }
        }
    }
}

/// Whether the agent owns the slot under this very epoch.
fn owns(fold: &Fold<'_>, agent: AgentId, slot: ShardSlot, epoch: Epoch) -> bool {
    fold.state.assignments.get(&slot).is_some_and(|assignment| {
        let exact = assignment.agent == Some(agent) && assignment.epoch == epoch;
        exact || (fold.faults.epoch_ge && assignment.epoch >= epoch)
    })
}
