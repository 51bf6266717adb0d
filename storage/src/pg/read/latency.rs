//! Latency over any range, from merged sketches.
//!
//! A sketch is a count per bucket of the wire's log-linear scale, so sketches of windows, slots and
//! endpoints add up exactly; percentiles come from an hdrhistogram at the end. Each probe stands for
//! the middle of its bucket.

use hdrhistogram::Histogram;
use picket_wire::id::{EndpointId, GroupId, ShardId};
use picket_wire::latency::midpoint_us;
use picket_wire::time::Interval;

use crate::pg::PgError;
use crate::pg::read::coverage::WINDOWS_MAX;
use crate::pg::read::{Fields, Reads};
use crate::pg::rollup::pack::unpack;

/// How many probes fell into each bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    counts: [u64; 256],
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counts: [0; 256] }
    }
}

/// What a sketch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// How many probes.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 95th percentile.
    pub p95_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Largest.
    pub max_us: u64,
}

impl Sketch {
    /// Adds `count` probes to a bucket.
    pub fn add(&mut self, bucket: u8, count: u64) {
        let counted = &mut self.counts[usize::from(bucket)];
        *counted = counted.saturating_add(count);
    }

    /// Adds another sketch.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// How many probes it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Its percentiles; `None` when it is empty.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        // Two significant digits are finer than the buckets, which are an eighth of an octave.
        let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, u64::from(u32::MAX), 2)
            .expect("the bounds are in order and 2 is an allowed precision");
        for (bucket, count) in (0_u8..=u8::MAX)
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
        {
            histogram.saturating_record_n(u64::from(midpoint_us(bucket)).max(1), count);
        }
        (!histogram.is_empty()).then(|| Percentiles {
            count: self.count(),
            p50_us: histogram.value_at_quantile(0.50),
            p95_us: histogram.value_at_quantile(0.95),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        })
    }
}

impl Reads {
    /// Total latency of an endpoint's probes that were ok, over the windows that overlap `range`;
    /// empty when there is no such endpoint.
    ///
    /// # Errors
    /// When Postgres is away, or a packed row is damaged.
    pub async fn endpoint_latency(
        &self,
        endpoint: EndpointId,
        range: Interval,
    ) -> Result<Sketch, PgError> {
        match self.place_of(endpoint).await? {
            Some((group, shard)) => self.latency(group, shard, Some(endpoint), range).await,
            None => Ok(Sketch::default()),
        }
    }

    /// As [`Self::endpoint_latency`] for all endpoints of a shard.
    ///
    /// # Errors
    /// When Postgres is away, or a packed row is damaged.
    pub async fn shard_latency(
        &self,
        group: GroupId,
        shard: ShardId,
        range: Interval,
    ) -> Result<Sketch, PgError> {
        self.latency(group, shard, None, range).await
    }

    async fn latency(
        &self,
        group: GroupId,
        shard: ShardId,
        endpoint: Option<EndpointId>,
        range: Interval,
    ) -> Result<Sketch, PgError> {
        let max = usize::try_from(WINDOWS_MAX).expect("the bound is small");
        let mut sketch = Sketch::default();
        for row in self
            .rollups("packed", group, shard, range)
            .await?
            .iter()
            .take(max)
        {
            let checks = unpack(Fields::of(row).take()?)
                .map_err(|e| PgError::stored("rollups.packed", e))?;
            let wanted = checks
                .iter()
                .filter(|c| endpoint.is_none_or(|endpoint| c.endpoint == endpoint));
            for &(bucket, count) in wanted.flat_map(|check| &check.latency) {
                sketch.add(bucket, u64::from(count));
            }
        }
        Ok(sketch)
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::latency::{bucket, lower_us, upper_us};

    use super::*;

    #[test]
    fn percentiles_lie_in_the_buckets_of_the_exact_ones() {
        let mut sketch = Sketch::default();
        (1..=1_000_u32).for_each(|ms| sketch.add(bucket(ms * 1_000), 1));
        let found = sketch.percentiles().unwrap();
        assert_eq!(found.count, 1_000);
        for (value, exact_us) in [
            (found.p50_us, 500_000),
            (found.p95_us, 950_000),
            (found.p99_us, 990_000),
        ] {
            let around = bucket(exact_us);
            // A percent more on either side for the histogram's own precision.
            let low = u64::from(lower_us(around)) * 99 / 100;
            let high = u64::from(upper_us(around)) * 101 / 100;
            assert!((low..=high).contains(&value), "{value} for {exact_us}");
        }
    }

    #[test]
    fn merging_is_adding() {
        let (mut a, mut b, mut both) = (Sketch::default(), Sketch::default(), Sketch::default());
        for (bucket, n) in [(3, 4), (200, 5), (255, 1)] {
            a.add(bucket, n);
            b.add(bucket, 2 * n);
            both.add(bucket, 3 * n);
        }
        a.merge(&b);
        assert_eq!(a, both);
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Sketch::default().percentiles(), None);
    }
}
