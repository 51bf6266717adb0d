//! The thread that owns both lanes' spools.
//!
//! Disks block, so neither the loop nor a connection waits for one: they leave orders here. All
//! batches that wait are written with one sync. What the disk refuses because it is full is tried
//! again and stays in memory meanwhile; after any other failure nothing on this disk can be
//! believed, and the process ends, so that its checks run elsewhere.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use picket_agent_core::belief::Seen;
use picket_agent_core::{Batch, Input, Lane, LaneMarks, Resume, Said};
use picket_rt::chain;
use picket_rt::task::{Policy, TaskSet};
use picket_storage::segment::{ReadLogError, WriteLogError};
use picket_storage::spool::{Found, OpenSpoolError, PushError, Spool, SpoolSettings, WhenFull};
use picket_wire::codec::{DecodeError, decode, encode};
use picket_wire::envelope::{ENVELOPE_BYTES, Head};
use picket_wire::evidence::{Evidence, EvidenceBatch, Role};
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::agent::News;
use crate::config::LimitSettings;
use crate::telemetry;

/// Orders that may wait. The core lets four batches of each lane wait for the disk and six for an
/// ack, so this is reached only when it is told to leave.
const ORDERS: usize = 1_024;
/// Bytes read at once when unacked evidence is looked through at the start.
const LOOK_BYTES: usize = 4 * 1024 * 1024;
/// How often a full disk is tried again.
const FULL_WAIT: Duration = Duration::from_millis(200);

/// The spools cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A lane's spool does not open.
    #[error("open the {lane} spool")]
    Open {
        /// Which lane.
        lane: &'static str,
        /// Why.
        #[source]
        source: Box<OpenSpoolError>,
    },
    /// A lane's spool is gone although the agent was enrolled: its numbers would be used twice.
    #[error("the {lane} spool was lost; enrol again")]
    Lost {
        /// Which lane.
        lane: &'static str,
    },
    /// Unacked evidence cannot be read.
    #[error("read the evidence spool")]
    Read(#[from] ReadLogError),
    /// Unacked evidence is not what was written.
    #[error("read batch {seq} of the evidence spool")]
    Decode {
        /// Which batch.
        seq: Seq,
        /// Why it does not read.
        #[source]
        source: DecodeError,
    },
}

/// Both spools, opened.
#[derive(Debug)]
pub(crate) struct Spools {
    agent: AgentId,
    incarnation: Incarnation,
    evidence: LaneSpool,
    rollup: LaneSpool,
}

/// One lane's spool and what did not fit it yet.
#[derive(Debug)]
struct LaneSpool {
    lane: Lane,
    spool: Spool,
    waiting: VecDeque<Batch>,
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum SpoolOrder {
    /// Write this and sync; what waits together shares a sync.
    Write(Batch),
    /// Read a batch and hand it over, to be sent.
    Read {
        /// Which lane.
        lane: Lane,
        /// Which batch.
        seq: Seq,
        /// Where to; when there is no room the batch is sent again later.
        to: mpsc::Sender<Vec<u8>>,
    },
    /// Forget what is acked.
    Forget(Lane, Seq),
}

/// Sizes of a lane's spool.
const fn sizes(lane: Lane, limits: &LimitSettings) -> SpoolSettings {
    let record_max_bytes = ENVELOPE_BYTES + PAYLOAD_MAX_BYTES;
    match lane {
        Lane::Evidence => SpoolSettings {
            max_bytes: limits.evidence_spool_bytes,
            record_max_bytes,
            when_full: WhenFull::Refuse,
        },
        Lane::Rollup => SpoolSettings {
            max_bytes: limits.rollup_spool_bytes,
            record_max_bytes,
            when_full: WhenFull::DropOldest,
        },
    }
}

/// Begins both spools anew, for a new incarnation.
pub(crate) fn create(
    dir: &Path,
    incarnation: Incarnation,
    limits: &LimitSettings,
) -> Result<(), SpoolError> {
    for lane in Lane::ALL {
        Spool::create(&dir.join(lane.name()), incarnation, sizes(lane, limits)).map_err(
            |source| SpoolError::Open {
                lane: lane.name(),
                source: Box::new(source),
            },
        )?;
    }
    Ok(())
}

impl Spools {
    /// Opens both spools of an enrolled agent.
    pub(crate) fn open(
        dir: &Path,
        agent: AgentId,
        incarnation: Incarnation,
        limits: &LimitSettings,
    ) -> Result<Self, SpoolError> {
        let open = |lane: Lane| {
            let opened = Spool::open(&dir.join(lane.name()), incarnation, sizes(lane, limits));
            let name = lane.name();
            match opened {
                Ok((spool, Found::Recovered { .. })) => Ok(LaneSpool {
                    lane,
                    spool,
                    waiting: VecDeque::new(),
                }),
                Ok((_, Found::Fresh)) => Err(SpoolError::Lost { lane: name }),
                Err(source) => Err(SpoolError::Open {
                    lane: name,
                    source: Box::new(source),
                }),
            }
        };
        let (evidence, rollup) = (open(Lane::Evidence)?, open(Lane::Rollup)?);
        Ok(Self {
            agent,
            incarnation,
            evidence,
            rollup,
        })
    }

    /// Where the lanes stand, and what the unacked evidence says.
    pub(crate) fn resume(&self) -> Result<Resume, SpoolError> {
        let marks = |spool: &Spool| LaneMarks {
            acked: spool.acked(),
            tail: spool.tail(),
        };
        let evidence = &self.evidence.spool;
        let mut said = Vec::new();
        let mut from = evidence.acked().next();
        loop {
            let records = evidence.peek(from, LOOK_BYTES)?;
            let Some(last) = records.last() else { break };
            from = last.seq.next();
            for record in records {
                let Some(bytes) = record.payload else {
                    continue;
                };
                let (_, batch) =
                    decode::<EvidenceBatch>(&bytes).map_err(|source| SpoolError::Decode {
                        seq: record.seq,
                        source,
                    })?;
                said.extend(
                    batch
                        .records
                        .iter()
                        .filter_map(|record| statement(batch.seq, record)),
                );
            }
        }
        Ok(Resume {
            evidence: marks(evidence),
            rollup: marks(&self.rollup.spool),
            said,
        })
    }

    /// Bytes that wait for an ack.
    pub(crate) fn bytes(&self) -> u64 {
        self.evidence.spool.bytes() + self.rollup.spool.bytes()
    }

    /// Starts the thread; what was written is told as news.
    pub(crate) fn start(
        self,
        tasks: &TaskSet,
        news: mpsc::Sender<News>,
    ) -> mpsc::Sender<SpoolOrder> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        on_a_thread(tasks, "spool", move || {
            if let Err(error) = self.serve(inbox, &news) {
                tracing::error!(error = %chain(&error), "the spool failed; the agent must restart");
            }
        });
        orders
    }

    fn serve(
        mut self,
        mut inbox: mpsc::Receiver<SpoolOrder>,
        news: &mpsc::Sender<News>,
    ) -> Result<(), WriteLogError> {
        while let Some(orders) = self.next_orders(&mut inbox) {
            let mut rest = Vec::new();
            for order in orders {
                match order {
                    SpoolOrder::Write(batch) => self.lane(batch.lane()).waiting.push_back(batch),
                    other => rest.push(other),
                }
            }
            self.evidence.write(news)?;
            self.rollup.write(news)?;
            let acked = rest
                .iter()
                .any(|order| matches!(order, SpoolOrder::Forget(..)));
            for order in rest {
                self.obey(order);
            }
            if acked {
                tell(news, News::Input(Input::SpoolBytes(self.bytes())));
            }
        }
        Ok(())
    }

    /// Everything that was asked for; `None` when nobody will ask any more. Waits, but not for
    /// long while a full disk must be tried again.
    fn next_orders(&self, inbox: &mut mpsc::Receiver<SpoolOrder>) -> Option<Vec<SpoolOrder>> {
        let mut orders = Vec::new();
        if self.evidence.is_behind() || self.rollup.is_behind() {
            std::thread::sleep(FULL_WAIT);
        } else {
            orders.push(inbox.blocking_recv()?);
        }
        while orders.len() < ORDERS {
            match inbox.try_recv() {
                Ok(order) => orders.push(order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if orders.is_empty() => return None,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        Some(orders)
    }

    const fn lane(&mut self, lane: Lane) -> &mut LaneSpool {
        match lane {
            Lane::Evidence => &mut self.evidence,
            Lane::Rollup => &mut self.rollup,
        }
    }

    fn obey(&mut self, order: SpoolOrder) {
        match order {
            SpoolOrder::Write(_) => {}
            SpoolOrder::Read { lane, seq, to } => {
                let Some(bytes) = self.read(lane, seq) else {
                    return;
                };
                if to.try_send(bytes).is_err() {
                    tracing::debug!(lane = lane.name(), %seq, "not sent now");
                }
            }
            SpoolOrder::Forget(lane, seq) => {
                if let Err(error) = self.lane(lane).spool.ack(seq) {
                    tracing::warn!(error = %chain(&error), "acked batches will be sent again");
                }
            }
        }
    }

    /// A batch as it was written; one that had to be given up is an empty one.
    fn read(&mut self, lane: Lane, seq: Seq) -> Option<Vec<u8>> {
        let records = match self.lane(lane).spool.peek(seq, 1) {
            Ok(records) => records,
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%error, lane = lane.name(), %seq, "a batch does not read");
                return None;
            }
        };
        // An ack may have come in between: then there is nothing to send any more.
        let record = records
            .into_iter()
            .next()
            .filter(|record| record.seq == seq)?;
        let (agent, incarnation) = (self.agent, self.incarnation);
        let empty = || {
            let shards = Vec::new();
            encode(
                &RollupBatch {
                    agent,
                    incarnation,
                    seq,
                    shards,
                },
                head(seq),
            )
        };
        Some(record.payload.unwrap_or_else(empty))
    }
}

impl LaneSpool {
    /// Whether something waits for room.
    fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || self.spool.durable() < self.spool.tail()
    }

    /// Writes as much of what waits as there is room for, and syncs once.
    fn write(&mut self, news: &mpsc::Sender<News>) -> Result<(), WriteLogError> {
        while let Some(batch) = self.waiting.pop_front() {
            let bytes = match &batch {
                Batch::Evidence(batch) => encode(batch, head(batch.seq)),
                Batch::Rollup(batch) => encode(batch, head(batch.seq)),
            };
            let Some(seq) = self.push(&bytes)? else {
                self.waiting.push_front(batch);
                break;
            };
            assert_eq!(
                seq,
                batch.seq(),
                "the core and the spool count the same batches"
            );
        }
        let before = self.spool.durable();
        match self.spool.sync() {
            Ok(()) => {}
            Err(WriteLogError::DiskFull(error)) => self.complain(&error),
            Err(error) => return Err(error),
        }
        let (lane, seq) = (self.lane, self.spool.durable());
        if seq > before {
            tell(news, News::Input(Input::Spooled { lane, seq }));
        }
        Ok(())
    }

    /// `None` when there is no room now.
    fn push(&mut self, bytes: &[u8]) -> Result<Option<Seq>, WriteLogError> {
        match self.spool.push(bytes) {
            Ok(seq) => Ok(Some(seq)),
            Err(PushError::Log(WriteLogError::DiskFull(error))) => {
                self.complain(&error);
                Ok(None)
            }
            Err(error @ PushError::Full { .. }) => {
                self.complain(&error);
                Ok(None)
            }
            Err(PushError::Log(error)) => Err(error),
        }
    }

    fn complain(&self, error: &dyn std::error::Error) {
        metrics::counter!(telemetry::SPOOL_FULL, "lane" => self.lane.name()).increment(1);
        tracing::debug!(lane = self.lane.name(), error = %chain(error), "waiting for room");
    }
}

/// Runs `work` on a thread where it may block; its end is the end of the process.
pub(crate) fn on_a_thread(
    tasks: &TaskSet,
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) {
    let thread = tokio::task::spawn_blocking(work);
    tasks.spawn(name, Policy::Essential, async move {
        if let Err(error) = thread.await {
            tracing::error!(thread = name, %error, "a thread broke");
        }
    });
}

/// Tells the loop; when it is gone nobody needs to know.
fn tell(news: &mpsc::Sender<News>, item: News) {
    if news.blocking_send(item).is_err() {
        tracing::debug!("the loop has ended");
    }
}

fn head(seq: Seq) -> Head {
    Head { seq, ..Head::NONE }
}

/// What an owner's evidence says.
fn statement(seq: Seq, evidence: &Evidence) -> Option<Said> {
    let seen = Seen::of(evidence.retry.as_ref().unwrap_or(&evidence.probe));
    let check = evidence.check.check;
    match evidence.role {
        Role::Owner { slot, epoch } => Some(Said {
            slot,
            epoch,
            check,
            seen,
            seq,
        }),
        Role::Voter { .. } => None,
    }
}
