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
/// Most checks in one rollup batch, over all its shards: some 40 to 140 bytes each. A whole shard
/// fits, so that a window of one shard is never split.
pub const ROLLUP_CHECKS_MAX: usize = SHARD_CHECKS_MAX;
/// Most shard slots that one agent can hold: every shard of the largest cluster in two slots.
pub const ASSIGNMENTS_MAX: usize = 2 * SHARDS_MAX as usize;
/// Most failing checks in one statement of beliefs; more are said in several, slot by slot.
pub const BELIEFS_MAX: usize = 512 * 1024;
/// Highest number of a placement group: what two bytes of the envelope hold.
pub const GROUP_MAX: u32 = 65_535;
/// Most scheduler members, voters and learners.
pub const MEMBERS_MAX: usize = 64;
/// Most checks in one shard: 50 M endpoints over the default number of shards come to 12,207.
pub const SHARD_CHECKS_MAX: usize = 16_384;
/// Longest catalogue of one shard before compression: a full shard at 512 bytes a check.
pub const CATALOGUE_RAW_MAX_BYTES: usize = 512 * SHARD_CHECKS_MAX;
/// Longest mesh address: a host name, a colon and a port.
pub const ADDRESS_MAX_BYTES: usize = HOST_MAX_BYTES + 6;
/// Longest certificate or certificate request: ours are below 1 KB.
pub const CERTIFICATE_MAX_BYTES: usize = 8 * 1024;
/// Longest secret of a join token; ours have 43 characters.
pub const TOKEN_MAX_BYTES: usize = 128;
/// Longest build description.
pub const BUILD_MAX_BYTES: usize = 128;
/// Longest span in a message: sums of a few of them stay far from overflow.
pub const SPAN_MAX: Span = Span::from_secs(100 * 366 * 86_400);
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
pub const INTERVALS_SECS: [u32; 17] = [
    1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1_800, 3_600, 21_600, 86_400,
];
/// Longest time a probe may take.
pub const TIMEOUT_MAX: Span = Span::from_secs(60);
/// Shortest timeout that a check may ask for.
pub const TIMEOUT_MIN: Span = Span(100);

const _: () = assert!(SHARDS_DEFAULT.is_power_of_two() && SHARDS_MAX.is_power_of_two());
const _: () = assert!(ENROL_MAX_BYTES < PAYLOAD_MAX_BYTES);
// An archived `Assigned` has 53 bytes, a `CheckId` 8; a rollup's check with every latency of a
// five-minute window some 300.
const _: () = assert!(ASSIGNMENTS_MAX * 53 < PAYLOAD_MAX_BYTES);
const _: () = assert!(ASSIGNMENTS_MAX * 9 + BELIEFS_MAX * 8 < PAYLOAD_MAX_BYTES);
const _: () = assert!(ROLLUP_CHECKS_MAX * 300 < PAYLOAD_MAX_BYTES);
const _: () = assert!(DETAIL_MAX_BYTES * 4 * EVIDENCE_BATCH_MAX < PAYLOAD_MAX_BYTES);
