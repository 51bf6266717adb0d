//! What waits to be told, and how far telling has come: one outbox per lane.
//!
//! A record is gathered into a batch, the batch gets the next number of its lane and goes to the
//! disk, and only what the disk holds is sent. A batch is forgotten when the scheduler says that
//! its effect is durable. After a lost connection sending goes on behind the scheduler's
//! watermark, so the lane stays dense and nothing is lost; what arrives twice is dropped there.
//!
//! Owner: [`crate::Agent`]. Not here: the disk copy (`picket-storage::spool`).

use std::collections::VecDeque;

use picket_wire::evidence::{Evidence, EvidenceBatch};
use picket_wire::id::Seq;
use picket_wire::lane::rollup::{RollupBatch, ShardRollup};
use picket_wire::limits::{EVIDENCE_BATCH_MAX, ROLLUP_CHECKS_MAX};
use picket_wire::time::{Span, Timestamp};

/// Longest that evidence waits for company.
pub const EVIDENCE_WAIT: Span = Span(100);
/// Longest that a rollup waits for company: nobody is paged by it.
pub const ROLLUP_WAIT: Span = Span::from_secs(1);
/// Batches that may be on their way to the disk: then more would only grow memory.
const WRITING_MAX: u64 = 4;
/// Batches that may wait for an ack; with those of the other lane well below the credit of a
/// connection ([`picket_wire::limits::UNI_STREAMS_MAX`]).
const SENDING_MAX: u64 = 6;
/// A batch without ack is sent again after this long, and then after twice as long, up to
/// [`RESEND_MAX`]: the scheduler may have lost it, or Postgres may be away for an hour.
const RESEND_MIN: Span = Span::from_secs(5);
const RESEND_MAX: Span = Span::from_secs(60);

/// One kind of durable traffic to the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Changes of mind and votes; acked after the Raft commit.
    Evidence,
    /// Counts; acked after the Postgres commit.
    Rollup,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Evidence, Self::Rollup];

    /// The metric label and the folder on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Rollup => "rollup",
        }
    }
}

/// A numbered batch of either lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Of the evidence lane.
    Evidence(EvidenceBatch),
    /// Of the rollup lane.
    Rollup(RollupBatch),
}

impl Batch {
    /// Its lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Evidence(_) => Lane::Evidence,
            Self::Rollup(_) => Lane::Rollup,
        }
    }

    /// Its place in the lane.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        match self {
            Self::Evidence(batch) => batch.seq,
            Self::Rollup(batch) => batch.seq,
        }
    }
}

/// Where a lane's spool stands when the agent starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneMarks {
    /// Forgotten up to and including this.
    pub acked: Seq,
    /// The last that the spool holds or held.
    pub tail: Seq,
}

/// The scheduler speaks of a batch that was never made: the spool was lost or swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler has the lane up to {acked}, this spool only up to {tail}; enrol again")]
pub struct BeyondTail {
    /// What the scheduler said.
    pub acked: Seq,
    /// The last batch that exists here.
    pub tail: Seq,
}

/// How far a lane has come: `acked ≤ sent ≤ durable ≤ tail`.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    acked: Seq,
    sent: Seq,
    durable: Seq,
    tail: Seq,
    resend_at: Timestamp,
    patience: Span,
}

impl Progress {
    /// As the spool has it; nothing counts as sent.
    #[must_use]
    pub const fn new(marks: LaneMarks) -> Self {
        let LaneMarks { acked, tail } = marks;
        let resend_at = Timestamp::MAX;
        Self {
            acked,
            sent: acked,
            durable: tail,
            tail,
            resend_at,
            patience: RESEND_MIN,
        }
    }

    /// The last batch on disk.
    #[must_use]
    pub const fn durable(&self) -> Seq {
        self.durable
    }

    /// The last batch whose effect is durable.
    #[must_use]
    pub const fn acked(&self) -> Seq {
        self.acked
    }

    /// The last batch that was made.
    #[must_use]
    pub const fn tail(&self) -> Seq {
        self.tail
    }

    /// When to send again, if anything waits for an ack.
    #[must_use]
    pub const fn deadline(&self) -> Timestamp {
        self.resend_at
    }

    /// Whether another batch may go to the disk.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        self.tail.0 - self.durable.0 < WRITING_MAX
    }

    /// The number of a new batch.
    pub const fn number(&mut self) -> Seq {
        self.tail = self.tail.next();
        self.tail
    }

    /// The disk holds everything up to `seq`.
    pub fn written(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq.min(self.tail));
    }

    /// The scheduler holds everything up to `seq`; says whether that is news.
    ///
    /// # Errors
    /// When no such batch was ever made.
    pub fn ack(&mut self, seq: Seq, now: Timestamp) -> Result<bool, BeyondTail> {
        if seq > self.durable {
            return Err(BeyondTail {
                acked: seq,
                tail: self.durable,
            });
        }
        if seq <= self.acked {
            return Ok(false);
        }
        self.acked.advance_to(seq);
        self.sent = self.sent.max(seq);
        self.patience = RESEND_MIN;
        self.wait(now);
        Ok(true)
    }

    /// Sending begins again behind the watermark: a new connection, or no ack for too long.
    pub const fn rewind(&mut self) {
        self.sent = self.acked;
        self.resend_at = Timestamp::MAX;
    }

    /// The next batch to send, if one may be sent.
    pub fn next_to_send(&mut self, now: Timestamp) -> Option<Seq> {
        if now >= self.resend_at {
            self.rewind();
            self.patience = Span((self.patience.0 * 2).min(RESEND_MAX.0));
        }
        if self.sent >= self.durable || self.sent.0 - self.acked.0 >= SENDING_MAX {
            return None;
        }
        self.sent = self.sent.next();
        self.wait(now);
        Some(self.sent)
    }

    /// The clock was set to `now`.
    pub fn retime(&mut self, now: Timestamp) {
        self.wait(now);
    }

    fn wait(&mut self, now: Timestamp) {
        let waits = self.sent > self.acked;
        self.resend_at = if waits {
            now + self.patience
        } else {
            Timestamp::MAX
        };
    }
}

/// Records that wait to become a batch.
#[derive(Debug)]
pub struct Gathering<R> {
    records: VecDeque<R>,
    weight: usize,
    /// When the records that wait must go.
    go_at: Timestamp,
    /// Records that come before this wait for it.
    rest_until: Timestamp,
    wait: Span,
}

/// What a record takes of the room in a batch.
pub trait Weigh {
    /// Room in one batch.
    const ROOM: usize;

    /// What this record takes; no more than there is.
    fn weight(&self) -> usize;
}

impl Weigh for Evidence {
    const ROOM: usize = EVIDENCE_BATCH_MAX;

    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for ShardRollup {
    const ROOM: usize = ROLLUP_CHECKS_MAX;

    fn weight(&self) -> usize {
        self.checks.len().max(1)
    }
}

impl<R: Weigh> Gathering<R> {
    /// Nothing yet; a record waits for company for at most `wait`.
    #[must_use]
    pub const fn new(wait: Span) -> Self {
        Self {
            records: VecDeque::new(),
            weight: 0,
            go_at: Timestamp::MAX,
            rest_until: Timestamp::MIN,
            wait,
        }
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When the records must go, if there are any.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let full = self.weight >= R::ROOM;
        let at = if full { Timestamp::MIN } else { self.go_at };
        (!self.records.is_empty()).then_some(at)
    }

    /// Adds a record. The first after a rest goes at once; those behind it wait for company.
    pub fn add(&mut self, record: R, now: Timestamp) {
        if self.records.is_empty() {
            self.go_at = now.max(self.rest_until);
        }
        self.weight += record.weight();
        self.records.push_back(record);
    }

    /// The records of one batch, when it is full or its time has come.
    pub fn take(&mut self, now: Timestamp) -> Option<Vec<R>> {
        self.deadline().filter(|at| *at <= now)?;
        self.rest_until = now + self.wait;
        self.take_now()
    }

    /// The records of one batch, whatever the time.
    pub fn take_now(&mut self) -> Option<Vec<R>> {
        let (mut taken, mut room) = (Vec::new(), R::ROOM);
        while let Some(record) = self.records.pop_front_if(|record| record.weight() <= room) {
            room -= record.weight();
            self.weight -= record.weight();
            taken.push(record);
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// Takes every record back to an earlier time: the clock was set.
    pub fn retime(&mut self, now: Timestamp) {
        self.go_at = self.go_at.min(now);
        self.rest_until = self.rest_until.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn lane(acked: u64, tail: u64) -> Progress {
        Progress::new(LaneMarks {
            acked: Seq(acked),
            tail: Seq(tail),
        })
    }

    fn sent(lane: &mut Progress, now: Timestamp) -> Vec<u64> {
        std::iter::from_fn(|| lane.next_to_send(now))
            .map(|seq| seq.0)
            .collect()
    }

    #[test]
    fn a_restart_sends_what_was_not_acked() {
        assert_eq!(sent(&mut lane(3, 5), NOW), [4, 5]);
    }

    #[test]
    fn nothing_is_sent_before_the_disk_has_it() {
        let mut lane = lane(0, 0);
        assert_eq!(lane.number(), Seq(1));
        assert_eq!(sent(&mut lane, NOW), [0; 0]);
        lane.written(Seq(1));
        assert_eq!(sent(&mut lane, NOW), [1]);
    }

    #[test]
    fn few_batches_wait_for_acks() {
        let mut lane = lane(0, 100);
        assert_eq!(sent(&mut lane, NOW), (1..=SENDING_MAX).collect::<Vec<_>>());
        lane.ack(Seq(2), NOW).unwrap();
        assert_eq!(sent(&mut lane, NOW), [SENDING_MAX + 1, SENDING_MAX + 2]);
    }

    #[test]
    fn a_silent_scheduler_is_asked_again_ever_more_patiently() {
        let mut lane = lane(0, 1);
        assert_eq!(sent(&mut lane, NOW), [1]);
        assert_eq!(sent(&mut lane, NOW + Span::from_secs(4)), [0; 0]);
        assert_eq!(sent(&mut lane, NOW + Span::from_secs(5)), [1]);
        assert_eq!(lane.deadline(), NOW + Span::from_secs(15));
        lane.ack(Seq(1), NOW).unwrap();
        assert_eq!(lane.deadline(), Timestamp::MAX);
    }

    #[test]
    fn an_ack_of_what_was_never_made_is_refused() {
        let beyond = BeyondTail {
            acked: Seq(3),
            tail: Seq(2),
        };
        assert_eq!(lane(0, 2).ack(Seq(3), NOW), Err(beyond));
    }

    proptest! {
        /// Connections break and acks come and go; what is sent after each break is dense from
        /// the watermark on, and in the end everything is acked.
        #[test]
        fn sending_is_dense_behind_the_watermark(script in proptest::collection::vec(0u8..4, 0..80)) {
            let mut lane = lane(0, 0);
            let mut next = 1;
            for (step, event) in script.into_iter().enumerate() {
                let now = NOW + Span(step as u64);
                match event {
                    0 if lane.may_write() => { lane.number(); }
                    1 => lane.written(lane.tail()),
                    2 => { lane.rewind(); next = lane.acked().0 + 1; }
                    _ => { lane.ack(Seq(next - 1), now).unwrap(); }
                }
                for seq in sent(&mut lane, now) {
                    prop_assert_eq!(seq, next);
                    next += 1;
                }
                prop_assert!(lane.acked() <= lane.durable() && lane.durable() <= lane.tail());
            }
        }
    }
}
