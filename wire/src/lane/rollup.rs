//! The rollup lane: what was due and what ran, per shard slot and window, with latency sketches.
//!
//! A rollup is the only statement of coverage: time that no rollup covers was not observed.

use rkyv::{Archive, Deserialize, Serialize};

use crate::id::{AgentId, CheckId, EndpointId, Epoch, Incarnation, Seq, ShardSlot};
use crate::time::{Interval, Timestamp};

/// What one shard slot's owner saw of it in one window, or in the part of it that it owned.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ShardRollup {
    /// Which slot.
    pub slot: ShardSlot,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Start of the window.
    pub window: Timestamp,
    /// The part of the window that this owner watched.
    pub covered: Interval,
    /// One entry per check that was due or ran, sorted by check.
    pub checks: Vec<CheckRollup>,
}

/// One check in one window.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CheckRollup {
    /// The check.
    pub check: CheckId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Probes that were due.
    pub due: u32,
    /// Probes that ran.
    pub ran: u32,
    /// Probes that were ok.
    pub ok: u32,
    /// Largest lateness of a probe, in milliseconds.
    pub lateness_max_ms: u32,
    /// Total latency of the probes that were ok: `(bucket, count)` by
    /// [`crate::latency`], sorted by bucket.
    pub latency: Vec<(u8, u32)>,
}

/// The unit that is spooled, sent and acked.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RollupBatch {
    /// Who speaks.
    pub agent: AgentId,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// Its place in the lane.
    pub seq: Seq,
    /// What it says.
    pub shards: Vec<ShardRollup>,
}
