//! Rollups into Postgres: batches of many agents in one transaction, then their acks.
//!
//! What does not fit the inbox is dropped: the agent has it in its spool, and is told where its lane
//! stands once there is room again. So Postgres may be away for as long as the spools last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use picket_rt::stop::Stop;
use picket_storage::pg::rollup::{LaneAck, RollupStore};
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::lane::rollup::RollupBatch;
use tokio::sync::mpsc;

use super::Backoff;
use crate::gateway::sessions::Sessions;
use crate::telemetry;

/// Batches that wait for a transaction; each has a window of some shards, at most some 300 KB.
/// When it is full, what comes is dropped and its sender asked to send again later.
const INBOX_MAX: usize = 256;
/// Batches in one transaction.
const GROUP_MAX: usize = 64;
/// How long a session waits for Postgres to say where a lane stands. Zero, the answer when it does
/// not, only makes the agent send what Postgres may have already.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// Where sessions put rollups.
#[derive(Debug, Clone)]
pub(crate) struct RollupInbox {
    batches: mpsc::Sender<RollupBatch>,
    store: RollupStore,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    /// What is known to be durable.
    durable: BTreeMap<AgentId, (Incarnation, Seq)>,
    /// Whose batches were dropped since they were last told where their lane stands.
    behind: BTreeSet<AgentId>,
}

impl RollupInbox {
    /// An inbox, and its other end for [`run_writer`].
    pub(crate) fn new(store: RollupStore) -> (Self, mpsc::Receiver<RollupBatch>) {
        let (batches, inbox) = mpsc::channel(INBOX_MAX);
        (
            Self {
                batches,
                store,
                book: Arc::default(),
            },
            inbox,
        )
    }

    /// Takes a batch, or drops it when there is no room.
    pub(crate) fn offer(&self, batch: RollupBatch) {
        let agent = batch.agent;
        if self.batches.try_send(batch).is_err() {
            telemetry::batch_refused("rollup", "full");
            self.book().behind.insert(agent);
        }
    }

    /// How far a lane is durable, as far as can be told now.
    pub(crate) async fn watermark(&self, agent: AgentId, incarnation: Incarnation) -> Seq {
        let known = self.book().durable.get(&agent).copied();
        if let Some((_, seq)) = known.filter(|(known, _)| *known == incarnation) {
            return seq;
        }
        let asked =
            tokio::time::timeout(ASK_WITHIN, self.store.watermark(agent, incarnation)).await;
        match asked {
            Ok(Ok(seq)) => {
                self.remember(agent, incarnation, seq);
                seq
            }
            Ok(Err(_)) | Err(_) => Seq(0),
        }
    }

    fn remember(&self, agent: AgentId, incarnation: Incarnation, seq: Seq) {
        let mut book = self.book();
        let known = book.durable.entry(agent).or_insert((incarnation, seq));
        *known = (*known).max((incarnation, seq));
    }

    fn take_behind(&self) -> BTreeSet<AgentId> {
        std::mem::take(&mut self.book().behind)
    }

    /// Each statement under the lock leaves the book whole, so a panic elsewhere spoils nothing.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes rollups until `stop`.
pub(crate) async fn run_writer(
    inbox: RollupInbox,
    sessions: Sessions,
    mut batches: mpsc::Receiver<RollupBatch>,
    stop: Stop,
) {
    let mut group = Vec::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = stop.requested() => return,
            taken = batches.recv_many(&mut group, GROUP_MAX) => taken,
        };
        if taken == 0 {
            return;
        }
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = write(&inbox, &sessions, &group) => {}
        }
        group.clear();
        for agent in inbox.take_behind() {
            sessions.send_position(agent);
        }
    }
}

/// Writes one group, for as long as it takes.
async fn write(inbox: &RollupInbox, sessions: &Sessions, group: &[RollupBatch]) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        match inbox.store.store(group).await {
            Ok(acks) => {
                telemetry::postgres("rollups", true);
                telemetry::rollups_stored(group.len(), started.elapsed());
                acks.iter().for_each(|ack| conclude(inbox, sessions, ack));
                return;
            }
            Err(error) => {
                telemetry::postgres("rollups", false);
                if !error.is_retryable() {
                    tracing::error!(error = %picket_rt::chain(&error), "rollups are not stored");
                }
            }
        }
        backoff.pause().await;
    }
}

fn conclude(inbox: &RollupInbox, sessions: &Sessions, ack: &LaneAck) {
    inbox.remember(ack.agent, ack.incarnation, ack.watermark);
    sessions.ack_rollup(ack.agent, ack.incarnation, ack.watermark);
    if ack.gap.is_some() {
        telemetry::batch_refused("rollup", "gap");
        sessions.send_position(ack.agent);
    }
}
