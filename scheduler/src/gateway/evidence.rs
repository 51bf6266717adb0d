//! Evidence of all agents on its way into the log: many batches in one entry.
//!
//! An entry costs a flush and a round trip whatever it carries, so batches that arrive while earlier
//! entries are under way travel together. A lone batch does not wait at all. Entries are handed to
//! the log one after the other and are applied in that order, so several may be under way.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use picket_rt::stop::Stop;
use picket_scheduler_core::command::{Command, IngestEvidence};
use picket_scheduler_core::reply::{Ingested, Reply};
use picket_wire::control::{Refusal, ToAgent};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, Incarnation};
use tokio::sync::mpsc;

use super::sessions::Sessions;
use crate::replica::{ProposeError, ReplicaHandle};
use crate::telemetry;

/// Batches that wait for an entry. Each has at most a thousand records; sessions wait when it is
/// full, and agents then spool.
const INBOX_MAX: usize = 512;
/// Bytes of batches in one entry, after which no more are added: some 4,000 records, which a
/// follower takes within one heartbeat.
const ENTRY_BYTES: usize = 1024 * 1024;
/// Entries under way. One is being flushed while the next is collected; more only queue up in the
/// log.
const UNDER_WAY_MAX: usize = 4;
/// How long a batch waits for company while entries are under way.
const LINGER: Duration = Duration::from_millis(5);

/// A batch, how long its message was and when it arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) batch: EvidenceBatch,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
}

/// Where sessions put evidence.
#[derive(Debug, Clone)]
pub(crate) struct EvidenceInbox {
    batches: mpsc::Sender<Received>,
}

/// The batcher has ended: the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopping;

impl EvidenceInbox {
    /// An inbox, and its other end for [`run_batcher`].
    pub(crate) fn new() -> (Self, mpsc::Receiver<Received>) {
        let (batches, inbox) = mpsc::channel(INBOX_MAX);
        (Self { batches }, inbox)
    }

    /// Puts a batch in; waits while the inbox is full.
    pub(crate) async fn put(&self, received: Received) -> Result<(), Stopping> {
        self.batches
            .send(received)
            .await
            .map_err(|_closed| Stopping)
    }
}

/// Collects batches into entries until `stop`.
pub(crate) async fn run_batcher(
    replica: ReplicaHandle,
    sessions: Sessions,
    mut inbox: mpsc::Receiver<Received>,
    stop: Stop,
) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let first = tokio::select! {
            biased;
            () = stop.requested() => return,
            Some(()) = under_way.next() => continue,
            first = inbox.recv(), if under_way.len() < UNDER_WAY_MAX => first,
        };
        let Some(first) = first else { return };
        let linger = if under_way.is_empty() {
            Duration::ZERO
        } else {
            LINGER
        };
        let collected = collect(first, &mut inbox, linger).await;
        if let Some(waiting) = submit(&replica, &sessions, collected).await {
            under_way.push(waiting);
        }
    }
}

async fn collect(
    first: Received,
    inbox: &mut mpsc::Receiver<Received>,
    linger: Duration,
) -> Vec<Received> {
    let mut bytes = first.bytes;
    let mut collected = vec![first];
    let until = tokio::time::Instant::now() + linger;
    while bytes < ENTRY_BYTES {
        let next = match inbox.try_recv() {
            Ok(next) => next,
            Err(_empty) if linger.is_zero() => break,
            Err(_empty) => match tokio::time::timeout_at(until, inbox.recv()).await {
                Ok(Some(next)) => next,
                Ok(None) | Err(_) => break,
            },
        };
        bytes += next.bytes;
        collected.push(next);
    }
    collected
}

/// Hands an entry to the log; what it then becomes is awaited apart.
async fn submit(
    replica: &ReplicaHandle,
    sessions: &Sessions,
    collected: Vec<Received>,
) -> Option<impl Future<Output = ()> + use<>> {
    let senders: Vec<_> = collected.iter().map(Sender::of).collect();
    let batches = collected
        .into_iter()
        .map(|received| received.batch)
        .collect();
    let waiting = match replica
        .submit(Command::IngestEvidence(IngestEvidence { batches }))
        .await
    {
        Ok(waiting) => waiting,
        Err(error) => {
            lost(sessions, &error, &senders);
            return None;
        }
    };
    let sessions = sessions.clone();
    Some(async move {
        match waiting.await {
            Ok(Reply::Ingested(results)) => conclude(&sessions, &senders, results),
            Ok(reply) => tracing::error!(?reply, "evidence was not taken"),
            Err(error) => lost(&sessions, &error, &senders),
        }
    })
}

/// Who sent a batch, kept while the batch travels.
#[derive(Debug)]
struct Sender {
    agent: AgentId,
    incarnation: Incarnation,
    records: usize,
    at: Instant,
}

impl Sender {
    fn of(received: &Received) -> Self {
        let EvidenceBatch {
            agent,
            incarnation,
            records,
            ..
        } = &received.batch;
        Self {
            agent: *agent,
            incarnation: *incarnation,
            records: records.len(),
            at: received.at,
        }
    }
}

fn conclude(sessions: &Sessions, senders: &[Sender], results: Vec<Ingested>) {
    let mut behind = BTreeSet::new();
    for (sender, result) in senders.iter().zip(results) {
        match result.refused {
            None => {
                telemetry::evidence_committed(1, sender.records, sender.at.elapsed());
                sessions.ack_evidence(sender.agent, sender.incarnation, result.watermark);
            }
            Some(Refusal::Gap { .. }) => {
                telemetry::batch_refused("evidence", "gap");
                behind.insert(sender.agent);
            }
            Some(refusal) => {
                telemetry::batch_refused("evidence", "refused");
                sessions.send(sender.agent, ToAgent::Refused(refusal));
            }
        }
    }
    for agent in behind {
        sessions.send_position(agent);
    }
}

/// The entry was not proposed, or nobody knows. Whoever sent is told where its lane stands and sends
/// again; when this member leads no more, that is what the next leader does.
fn lost(sessions: &Sessions, error: &ProposeError, senders: &[Sender]) {
    tracing::debug!(%error, batches = senders.len(), "evidence was not proposed");
    let agents: BTreeSet<_> = senders.iter().map(|sender| sender.agent).collect();
    for agent in agents {
        telemetry::batch_refused("evidence", "not_proposed");
        sessions.send_position(agent);
    }
}
