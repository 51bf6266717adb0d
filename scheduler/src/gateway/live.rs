//! The live table: when each check was last seen and what it took.
//!
//! Lossy and in memory: it is filled within one interval of a new leader's start, and nothing is
//! decided by it. Sixteen bytes a check and what a hash table leaves free, at most 35 in all.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use picket_wire::id::CheckId;
use picket_wire::lane::live::LiveOutcome;
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::latency::BUCKETS;
use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;

use crate::telemetry;

/// Upper edges of the lateness histogram in milliseconds; the last class has none.
const LATENESS_EDGES_MS: [u32; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// The live table. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct LiveTable {
    cells: Arc<RwLock<HashMap<CheckId, Packed, BuildHasherDefault<Spread>>>>,
    lateness: Arc<Mutex<Histogram>>,
}

/// What is known of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveCell {
    /// The second in which it was last due and ran.
    pub seen: Timestamp,
    /// Bucket of the last latency that was ok; `None` when it was never ok here.
    pub latency_bucket: Option<u8>,
    /// Why it was not ok the last time; `None` when it was.
    pub reason: Option<Reason>,
}

/// How late probes start: the largest lateness per check and window, as agents report it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Windows of checks that were counted.
    pub count: u64,
    /// Half of them were at most this late, in milliseconds, rounded up to a class.
    pub p50_ms: u32,
    /// All but one in a hundred were at most this late.
    pub p99_ms: u32,
    /// The latest of all.
    pub max_ms: u32,
}

#[derive(Debug, Clone, Copy)]
struct Packed {
    unix_secs: u32,
    latency: u8,
    reason: Option<Reason>,
}

const _: () = assert!(size_of::<Packed>() == 8);

impl LiveTable {
    /// What is known of `check`.
    #[must_use]
    pub fn get(&self, check: CheckId) -> Option<LiveCell> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.get(&check).map(|cell| LiveCell {
            seen: Timestamp(i64::from(cell.unix_secs) * 1_000),
            latency_bucket: (cell.latency < BUCKETS).then_some(cell.latency),
            reason: cell.reason,
        })
    }

    /// How many checks are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How late probes start.
    #[must_use]
    pub fn lateness(&self) -> Lateness {
        self.lateness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .summary()
    }

    /// Takes the results of one second.
    pub fn record(&self, second: Timestamp, results: &[(CheckId, LiveOutcome)]) {
        let unix_secs = u32::try_from(second.0 / 1_000).unwrap_or(0);
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        for (check, outcome) in results {
            let (latency, reason) = match *outcome {
                LiveOutcome::Ok(latency) => (latency, None),
                LiveOutcome::Failed(reason) => (BUCKETS, Some(reason)),
                LiveOutcome::Skipped => continue,
            };
            let cell = cells.entry(*check).or_insert(Packed {
                unix_secs,
                latency: BUCKETS,
                reason: None,
            });
            if latency < BUCKETS {
                cell.latency = latency;
            }
            cell.unix_secs = cell.unix_secs.max(unix_secs);
            cell.reason = reason;
        }
    }

    /// Takes the lateness that a rollup reports.
    pub(crate) fn record_lateness(&self, batch: &RollupBatch) {
        let mut lateness = self.lateness.lock().unwrap_or_else(PoisonError::into_inner);
        let ran = batch
            .shards
            .iter()
            .flat_map(|shard| &shard.checks)
            .filter(|check| check.ran > 0);
        let told = telemetry::window_lateness();
        for check in ran {
            lateness.add(check.lateness_max_ms);
            told.record(Duration::from_millis(check.lateness_max_ms.into()));
        }
    }

    /// Forgets everything: this member leads no more.
    pub(crate) fn clear(&self) {
        *self.cells.write().unwrap_or_else(PoisonError::into_inner) = HashMap::default();
        *self.lateness.lock().unwrap_or_else(PoisonError::into_inner) = Histogram::default();
    }
}

#[derive(Debug, Default)]
struct Histogram {
    classes: [u64; LATENESS_EDGES_MS.len() + 1],
    max_ms: u32,
}

impl Histogram {
    fn add(&mut self, ms: u32) {
        let class = LATENESS_EDGES_MS.partition_point(|edge| *edge < ms);
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
        self.max_ms = self.max_ms.max(ms);
    }

    fn summary(&self) -> Lateness {
        let count = self.classes.iter().sum();
        let (p50_ms, p99_ms) = (self.quantile(count, 50), self.quantile(count, 99));
        Lateness {
            count,
            p50_ms,
            p99_ms,
            max_ms: self.max_ms,
        }
    }

    fn quantile(&self, count: u64, percent: u64) -> u32 {
        let wanted = (count * percent).div_ceil(100);
        let mut seen = 0;
        for (class, edge) in self.classes.iter().zip(LATENESS_EDGES_MS) {
            seen += class;
            if seen >= wanted {
                return edge.min(self.max_ms);
            }
        }
        self.max_ms
    }
}

/// Spreads ids, which are dense, over a table: one multiplication by 2^64 divided by the golden
/// ratio, and the high bits moved where the table looks. Nobody outside chooses the ids.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_last_latency_and_a_skip_changes_nothing() {
        let (table, check) = (LiveTable::default(), CheckId(4));
        table.record(Timestamp(60_000), &[(check, LiveOutcome::Ok(17))]);
        table.record(
            Timestamp(120_000),
            &[(check, LiveOutcome::Failed(Reason::ConnectRefused))],
        );
        table.record(Timestamp(180_000), &[(check, LiveOutcome::Skipped)]);
        let cell = table.get(check).expect("seen");
        assert_eq!(cell.seen, Timestamp(120_000));
        assert_eq!(cell.latency_bucket, Some(17));
        assert_eq!(cell.reason, Some(Reason::ConnectRefused));
    }

    #[test]
    fn lateness_is_summed_up_by_class() {
        let mut histogram = Histogram::default();
        (0..98).for_each(|_| histogram.add(3));
        [700, 9_000].into_iter().for_each(|ms| histogram.add(ms));
        let expected = Lateness {
            count: 100,
            p50_ms: 5,
            p99_ms: 1_000,
            max_ms: 9_000,
        };
        assert_eq!(histogram.summary(), expected);
    }

    #[test]
    fn nothing_seen_is_nothing_late() {
        assert_eq!(Histogram::default().summary(), Lateness::default());
    }
}
