//! Every maximum that both ends of a connection must agree on.
//!
//! A length from outside is compared with one of these before anything is allocated.

use crate::time::Span;

/// Longest region, zone, network or label name. Fits a DNS label, a path and a certificate SAN.
pub const NAME_MAX_BYTES: usize = 63;
/// Longest host name (RFC 1035, section 2.3.4).
pub const HOST_MAX_BYTES: usize = 253;
/// Longest URL accepted; what the common servers and browsers take.
pub const URL_MAX_BYTES: usize = 2_048;
/// Longest text that a check looks for in a body.
pub const NEEDLE_MAX_BYTES: usize = 256;
/// How much of a body a probe reads before it stops: enough for a text match near the top of a
/// page, small enough that a hostile body costs nothing.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Largest head (status line and headers) a probe reads.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;
/// Longest free diagnostic text in one probe.
pub const DETAIL_MAX_BYTES: usize = 256;

/// Largest payload behind one envelope. The largest message is a catalogue blob of a full shard:
/// 50 M endpoints over 65,536 shards are 763 a shard, some 100 KB.
pub const PAYLOAD_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Largest payload that a peer without a certificate may send: one enrolment request.
pub const ENROL_MAX_BYTES: usize = 16 * 1024;
/// Most evidence records in one batch; a storm is many batches, never a larger one.
pub const EVIDENCE_BATCH_MAX: usize = 1_024;
/// Most shard slots that one agent can hold: every shard of the largest cluster in four slots.
pub const ASSIGNMENTS_MAX: usize = 4 * SHARDS_MAX as usize;
/// Most shards a cluster may be created with.
pub const SHARDS_MAX: u32 = 65_536;
/// Shards of a cluster that says nothing else.
pub const SHARDS_DEFAULT: u32 = 4_096;
/// Most slots (concurrent owners) of one shard.
pub const SLOTS_MAX: u8 = 8;
/// Most blobs that one request may ask for; the agent asks again for the rest.
pub const BLOBS_WANTED_MAX: usize = 256;
/// Concurrent unidirectional streams from an agent: the credit window of its lanes.
pub const UNI_STREAMS_MAX: u32 = 16;

/// Probe intervals, in seconds. Few constants keep the phase ring a handful of sorted arrays.
pub const INTERVALS_SECS: [u32; 17] =
    [1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1_800, 3_600, 21_600, 86_400];
/// Longest time a probe may take.
pub const TIMEOUT_MAX: Span = Span::from_secs(60);
/// Shortest timeout that a check may ask for.
pub const TIMEOUT_MIN: Span = Span(100);

const _: () = assert!(SHARDS_DEFAULT.is_power_of_two() && SHARDS_MAX.is_power_of_two());
const _: () = assert!(ENROL_MAX_BYTES < PAYLOAD_MAX_BYTES);
const _: () = assert!(DETAIL_MAX_BYTES * 4 * EVIDENCE_BATCH_MAX < PAYLOAD_MAX_BYTES);
