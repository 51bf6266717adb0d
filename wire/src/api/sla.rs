//! SLA figures: what was up, what was down, what does not count and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;

/// Version of the accounting rule that figures are made by.
pub const RULE_VERSION: u32 = 1;

/// SLA of an endpoint or a site over a window. The seven spans add up to the window exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sla {
    /// The endpoint or site.
    pub subject: String,
    /// Version of the accounting rule.
    pub rule: u32,
    /// Start of the window.
    pub from: Instant,
    /// End of the window; cut to the end of coverage where that comes first.
    pub until: Instant,
    /// Length of the window.
    pub window_ms: u64,
    /// Time it was up (warnings and undecided suspicions count as up).
    pub up_ms: u64,
    /// Time it was down from several regions.
    pub down_ms: u64,
    /// Time it was down from some regions only; counts as up.
    pub degraded_ms: u64,
    /// Time nobody watched or nobody could decide; leaves the denominator.
    pub unknown_ms: u64,
    /// Time in maintenance; leaves the denominator.
    pub maintenance_ms: u64,
    /// Time it was paused; leaves the denominator.
    pub paused_ms: u64,
    /// `(up + degraded) / (up + degraded + down)` in parts per million, rounded down; absent when nothing counts.
    pub uptime_ppm: Option<u32>,
    /// Latency of the probes that were ok.
    pub latency: Option<Latency>,
    /// How much of what was due ran.
    pub coverage: Coverage,
    /// Every stretch that left the denominator, and why.
    pub excluded: Vec<Excluded>,
    /// Every stretch that counted as down.
    pub down: Vec<Stretch>,
}

/// Percentiles of total latency, each the middle of its bucket (±4.5 %).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// How many probes.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 95th percentile.
    pub p95_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
}

/// Probes due and probes that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Coverage {
    /// Probes that were due.
    pub due: u64,
    /// Probes that ran.
    pub ran: u64,
    /// Time of the window that some agent watched.
    pub covered_ms: u64,
    /// `covered / window` in parts per million, rounded down.
    pub covered_ppm: u32,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stretch {
    /// Its first instant.
    pub from: Instant,
    /// The first instant after it.
    pub until: Instant,
}

/// A stretch that left the denominator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excluded {
    /// Its first instant.
    pub from: Instant,
    /// The first instant after it.
    pub until: Instant,
    /// Why.
    pub why: Exclusion,
}

/// Why time does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// No agent watched.
    NotObserved,
    /// Agents watched and could not decide.
    Undecided,
    /// Announced maintenance.
    Maintenance,
    /// Paused on request.
    Paused,
}
