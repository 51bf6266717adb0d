//! The leader's way from rollup batches to Postgres: one group at a time, again until it is done.

use std::collections::{BTreeMap, VecDeque};

use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::time::{Span, Timestamp};

use crate::sim::env::Env;
use crate::sim::leader::Behind;

/// Batches that wait for a transaction; small, so that runs see it full.
const INBOX_MAX: usize = 24;
/// Batches in one transaction.
const GROUP_MAX: usize = 8;
/// How long Postgres is left alone after it failed.
const PAUSE: Span = Span::from_secs(1);

/// What waits for Postgres, and what is known to be durable.
#[derive(Debug, Default)]
pub(crate) struct Rollups {
    inbox: VecDeque<RollupBatch>,
    group: Vec<RollupBatch>,
    under_way: bool,
    again_at: Timestamp,
    durable: BTreeMap<(AgentId, Incarnation), Seq>,
    /// Whom to tell where the lanes stand.
    pub(crate) behind: Behind,
    dropped: Behind,
}

impl Rollups {
    /// Takes a batch, or drops it when there is no room.
    pub(crate) fn offer(&mut self, batch: RollupBatch) {
        if self.inbox.len() < INBOX_MAX {
            self.inbox.push_back(batch);
        } else {
            self.dropped.insert(batch.agent);
        }
    }

    /// How far a lane is durable, as far as can be told now.
    pub(crate) fn watermark(&mut self, env: &Env, agent: AgentId, incarnation: Incarnation) -> Seq {
        let lane = (agent, incarnation);
        if let Some(&seq) = self.durable.get(&lane) {
            return seq;
        }
        let asked = env.rows.watermark(agent, incarnation);
        if let Some(seq) = asked {
            self.durable.insert(lane, seq);
        }
        asked.unwrap_or_default()
    }

    /// The batches of the next transaction, when one may begin.
    pub(crate) fn next_group(&mut self, now: Timestamp) -> Option<Vec<RollupBatch>> {
        if self.under_way || now < self.again_at {
            return None;
        }
        if self.group.is_empty() {
            let n = self.inbox.len().min(GROUP_MAX);
            self.group.extend(self.inbox.drain(..n));
        }
        self.under_way = !self.group.is_empty();
        self.under_way.then(|| self.group.clone())
    }

    /// The group was not stored, as far as one knows.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        self.under_way = false;
        self.again_at = now + PAUSE;
    }

    /// The group was stored.
    pub(crate) fn stored(&mut self, acks: &[(AgentId, Incarnation, Seq, bool)]) {
        self.under_way = false;
        self.group.clear();
        for &(agent, incarnation, seq, _) in acks {
            let known = self.durable.entry((agent, incarnation)).or_default();
            *known = seq.max(*known);
        }
        let dropped = std::mem::take(&mut self.dropped);
        self.behind.extend(dropped);
    }

    /// Whom to tell now.
    pub(crate) fn take_behind(&mut self) -> Behind {
        std::mem::take(&mut self.behind)
    }
}
