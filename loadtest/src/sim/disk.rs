//! An agent's disk: spools, the last assignment, blobs. What was not synced dies with the process.

use std::collections::{BTreeMap, BTreeSet};

use picket_agent_core::belief::Seen;
use picket_agent_core::{Batch, Lane, LaneMarks, Resume, Said};
use picket_wire::assignment::Assigned;
use picket_wire::evidence::{Evidence, Role};
use picket_wire::id::{BlobHash, Seq};
use picket_wire::time::{Span, Timestamp};

/// One lane's spool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spool {
    batches: BTreeMap<Seq, Batch>,
    durable: Seq,
    /// Forgotten up to and including this; synced with the next batch.
    acked: Seq,
    acked_synced: Seq,
    /// The disk is busy until then: syncs follow each other.
    busy_until: Timestamp,
}

impl Spool {
    /// Writes a batch; returns when it will be synced.
    pub(crate) fn write(&mut self, batch: Batch, now: Timestamp, takes: Span) -> Timestamp {
        self.batches.insert(batch.seq(), batch);
        self.busy_until = self.busy_until.max(now) + takes;
        self.busy_until
    }

    /// Everything up to `seq` is synced; gives what is durable since.
    pub(crate) fn synced(&mut self, seq: Seq) -> Vec<Batch> {
        let new = self.durable.next()..=seq;
        self.durable = self.durable.max(seq);
        self.acked_synced = self.acked;
        self.batches = self.batches.split_off(&self.acked.next());
        if new.is_empty() {
            Vec::new()
        } else {
            self.batches.range(new).map(|(_, b)| b.clone()).collect()
        }
    }

    /// A batch, unless it is forgotten.
    pub(crate) fn read(&self, seq: Seq) -> Option<&Batch> {
        self.batches
            .get(&seq)
            .filter(|_| seq <= self.durable && seq > self.acked)
    }

    /// Everything up to `seq` need not be kept.
    pub(crate) fn forget(&mut self, seq: Seq) {
        self.acked = self.acked.max(seq);
    }

    /// The process died; returns how many batches were lost.
    pub(crate) fn crash(&mut self) -> usize {
        self.acked = self.acked_synced;
        self.batches.split_off(&self.durable.next()).len()
    }

    /// How many batches wait for an ack.
    pub(crate) fn unacked(&self) -> u64 {
        self.durable.0.saturating_sub(self.acked.0)
    }

    const fn marks(&self) -> LaneMarks {
        LaneMarks {
            acked: self.acked_synced,
            tail: self.durable,
        }
    }
}

/// Everything that an agent has on its disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    evidence: Spool,
    rollup: Spool,
    pub(crate) assigned: Vec<Assigned>,
    pub(crate) blobs: BTreeSet<BlobHash>,
}

impl Disk {
    /// A lane's spool.
    pub(crate) const fn spool(&mut self, lane: Lane) -> &mut Spool {
        match lane {
            Lane::Evidence => &mut self.evidence,
            Lane::Rollup => &mut self.rollup,
        }
    }

    /// What the process that starts now is told.
    pub(crate) fn resume(&self) -> Resume {
        let waiting = self.evidence.batches.values();
        let waiting = waiting.filter_map(|batch| match batch {
            Batch::Evidence(batch) => Some(batch),
            Batch::Rollup(_) => None,
        });
        let said = waiting.flat_map(|batch| {
            let records = batch.records.iter();
            records.filter_map(|record| said(batch.seq, record))
        });
        Resume {
            evidence: self.evidence.marks(),
            rollup: self.rollup.marks(),
            said: said.collect(),
        }
    }
}

fn said(seq: Seq, evidence: &Evidence) -> Option<Said> {
    let seen = Seen::of(evidence.retry.as_ref().unwrap_or(&evidence.probe));
    match evidence.role {
        Role::Owner { slot, epoch } => Some(Said {
            slot,
            epoch,
            check: evidence.check.check,
            seen,
            seq,
        }),
        Role::Voter { .. } => None,
    }
}
