//! Nothing that was acknowledged is lost, and nothing is applied twice.
//!
//! Books: what each agent's disk has synced, batch by batch; what the log has committed; what
//! Postgres has committed; what each agent was told to forget. An acknowledgement may never run
//! ahead of what it speaks of, a batch counts once and as it was written, and after the healing
//! everything that was ever synced has counted.

use std::collections::{BTreeMap, BTreeSet};

use picket_agent_core::{Batch, Lane};
use picket_scheduler_core::command::Command;
use picket_scheduler_core::machine::Entry;
use picket_scheduler_core::state::State;
use picket_wire::evidence::{Evidence, EvidenceBatch};
use picket_wire::fact::{Fact, FactBody, Testimony};
use picket_wire::id::{AgentId, Epoch, Incarnation, Seq, ShardSlot};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::oracle::{Complaint, Reading};
use crate::sim::coverage::{Coverage, Met};

/// One lane of one incarnation.
type Key = (AgentId, Incarnation, Lane);

/// The books about batches.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// What was synced, and when.
    spooled: BTreeMap<(Key, Seq), (Batch, Timestamp)>,
    /// The last batch of each lane whose effect is committed.
    taken: BTreeMap<Key, Seq>,
    /// Stretches that rollups in Postgres cover.
    covered: BTreeMap<(AgentId, ShardSlot, Epoch), BTreeMap<Timestamp, Timestamp>>,
    /// Incarnations whose disk was lost.
    abandoned: BTreeSet<(AgentId, Incarnation)>,
    /// Whether some agent's clock was set: then stretches may overlap.
    clocks_set: bool,
    pub(crate) broken: Complaint,
}

impl Delivery {
    /// A batch is on its sender's disk.
    pub(crate) fn spooled(&mut self, batch: Batch, now: Timestamp) {
        let place = place_of(&batch);
        let before = self.spooled.insert(place, (batch, now));
        self.broken
            .unless(before.is_none(), || format!("{place:?} was synced twice"));
    }

    /// An agent's disk is lost; what it had not told is lost with it.
    pub(crate) fn abandon(&mut self, agent: AgentId, incarnation: Incarnation) {
        self.abandoned.insert((agent, incarnation));
    }

    /// Some agent's clock was set.
    pub(crate) const fn clocks_were_set(&mut self) {
        self.clocks_set = true;
    }

    /// An agent was told that everything up to `through` is durable.
    pub(crate) fn acked(
        &mut self,
        agent: AgentId,
        incarnation: Incarnation,
        lane: Lane,
        through: Seq,
    ) {
        let taken = self.last(&(agent, incarnation, lane));
        self.broken.unless(through <= taken, || {
            format!(
                "{agent} was told that its {} up to {through} is durable; it is up to {taken}",
                lane.name()
            )
        });
    }

    /// An agent was told of batches that it never made.
    pub(crate) fn stuck(&mut self, detail: String) {
        self.broken.unless(false, || detail);
    }

    fn last(&self, key: &Key) -> Seq {
        self.taken.get(key).copied().unwrap_or_default()
    }

    /// Whether a batch of an entry that is being committed counts.
    pub(crate) fn is_next(
        &mut self,
        batch: &EvidenceBatch,
        state: &State,
        coverage: &mut Coverage,
    ) -> bool {
        let known = state
            .agents
            .get(&batch.agent)
            .filter(|agent| !agent.is_revoked());
        if known.is_none_or(|agent| agent.incarnation != batch.incarnation) {
            return false;
        }
        let key = (batch.agent, batch.incarnation, Lane::Evidence);
        let last = self.last(&key);
        coverage.met_times(Met::DuplicateBatch, u64::from(batch.seq <= last));
        coverage.met_times(Met::GapRefused, u64::from(batch.seq > last.next()));
        let next = batch.seq == last.next();
        if next {
            self.take(key, batch.seq, &Batch::Evidence(batch.clone()));
        }
        next
    }

    /// Postgres has committed a batch.
    pub(crate) fn stored(&mut self, batch: &RollupBatch) {
        let key = (batch.agent, batch.incarnation, Lane::Rollup);
        let last = self.last(&key);
        self.broken.unless(batch.seq == last.next(), || {
            format!("{key:?}: {} after {last}", batch.seq)
        });
        self.take(key, batch.seq, &Batch::Rollup(batch.clone()));
        for rollup in &batch.shards {
            self.cover((batch.agent, rollup.slot, rollup.epoch), rollup.covered);
        }
    }

    fn take(&mut self, key: Key, seq: Seq, batch: &Batch) {
        let written = self
            .spooled
            .get(&(key, seq))
            .is_some_and(|(written, _)| written == batch);
        self.broken.unless(written, || {
            format!("{key:?} {seq} counts, and its sender's disk has another or none")
        });
        self.taken.insert(key, seq);
    }

    /// No owner says twice that it watched.
    fn cover(&mut self, whose: (AgentId, ShardSlot, Epoch), part: Interval) {
        if part.is_empty() || self.clocks_set {
            return;
        }
        let parts = self.covered.entry(whose).or_default();
        let before = parts
            .range(..part.until)
            .next_back()
            .map(|(&from, &until)| Interval::new(from, until));
        let apart = before.is_none_or(|before| before.until <= part.from);
        parts.insert(part.from, part.until);
        self.broken.unless(apart, || {
            format!("{whose:?} covered {part:?} after {before:?}")
        });
    }

    /// An entry was applied.
    pub(crate) fn observe(
        &mut self,
        entry: &Entry,
        reading: Reading,
        facts: &[Fact],
        state: &State,
    ) {
        let Command::IngestEvidence(ingest) = &entry.command else {
            return;
        };
        for batch in &ingest.batches {
            let Some(agent) = state.agents.get(&batch.agent) else {
                continue;
            };
            let taken = self.last(&(batch.agent, agent.incarnation, Lane::Evidence));
            self.broken.unless(agent.watermark == taken, || {
                format!(
                    "the watermark of {} is {}, not {taken}",
                    batch.agent, agent.watermark
                )
            });
        }
        let news: BTreeSet<_> = reading
            .fresh
            .iter()
            .map(|(_, record)| record.check.check)
            .collect();
        let mut fresh = reading.fresh;
        for fact in facts {
            let about = match &fact.body {
                FactBody::Transition(transition) => transition.check.check,
                FactBody::Incident(incident) => incident.check.check,
                FactBody::Testimony(testimony) => {
                    self.testified(&mut fresh, testimony);
                    continue;
                }
                FactBody::Group(_) | FactBody::Agent(_) | FactBody::Assigned(_) => continue,
            };
            self.broken.unless(news.contains(&about), || {
                format!("follows from nothing new: {fact:?}")
            });
        }
    }

    /// Each record is testimony once at most.
    fn testified(&mut self, fresh: &mut Vec<(AgentId, Evidence)>, testimony: &Testimony) {
        let said = |(agent, evidence): &(AgentId, Evidence)| {
            *agent == testimony.agent && *evidence == testimony.evidence
        };
        let at = fresh.iter().position(said);
        at.map(|at| fresh.swap_remove(at));
        self.broken
            .unless(at.is_some(), || format!("counted again: {testimony:?}"));
    }

    /// A batch that was synced `grace` ago and has not counted yet.
    pub(crate) fn overdue(&self, now: Timestamp, grace: Span) -> Option<String> {
        let late = self.spooled.iter().find(|((key, seq), (_, at))| {
            !self.abandoned.contains(&(key.0, key.1))
                && now.since(*at) > grace
                && *seq > self.last(key)
        });
        late.map(|((key, seq), (_, at))| format!("{key:?} {seq}, synced {} ago", now.since(*at)))
    }
}

const fn place_of(batch: &Batch) -> (Key, Seq) {
    match batch {
        Batch::Evidence(batch) => ((batch.agent, batch.incarnation, Lane::Evidence), batch.seq),
        Batch::Rollup(batch) => ((batch.agent, batch.incarnation, Lane::Rollup), batch.seq),
    }
}
