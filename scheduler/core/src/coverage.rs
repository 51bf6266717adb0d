//! What was watched: the union of what rollups say they cover, and where it ends.

use picket_wire::time::{Interval, Span};

use crate::interval_set::IntervalSet;

/// Longest time between one owner's last moment and its successor's first that still counts as
/// watched: the time within which a dead agent's checks must run elsewhere.
pub const HANDOVER: Span = Span::from_secs(12);

/// What was watched of a check, from the covered part of each rollup of its shard, whoever made
/// it; `interval` is how often the check runs.
///
/// A gap that is no longer than that can have cost one probe at most. Such gaps
/// are closed, up to [`HANDOVER`]; what comes after the last stretch never is.
#[must_use]
pub fn of(stretches: impl IntoIterator<Item = Interval>, interval: Span) -> IntervalSet {
    stretches
        .into_iter()
        .collect::<IntervalSet>()
        .bridged(HANDOVER.min(interval))
}

/// `window`, cut to the end of what was watched: what comes after it has not been told yet, and
/// must read neither as up nor as a failure of the monitor. Without any coverage it is empty.
#[must_use]
pub fn clamp(window: Interval, covered: &IntervalSet) -> Interval {
    let end = covered.end().unwrap_or(window.from);
    Interval::new(window.from, window.until.min(end.max(window.from)))
}

#[cfg(test)]
mod tests {
    use picket_wire::time::Timestamp;

    use super::*;

    fn span(from: i64, until: i64) -> Interval {
        Interval::new(Timestamp(from), Timestamp(until))
    }

    #[test]
    fn a_handover_is_no_gap_and_a_longer_absence_is() {
        let stretches = [span(0, 10_000), span(22_000, 30_000), span(42_001, 50_000)];
        let minutely = of(stretches, Span::from_secs(60));
        assert_eq!(
            minutely.intervals(),
            [span(0, 30_000), span(42_001, 50_000)]
        );
        let often = of(stretches, Span::from_secs(10));
        assert_eq!(
            often.intervals(),
            stretches,
            "more than one probe was missed"
        );
    }

    #[test]
    fn a_window_ends_where_coverage_ends() {
        let covered = IntervalSet::from(span(0, 300_000));
        assert_eq!(
            clamp(span(100_000, 900_000), &covered),
            span(100_000, 300_000)
        );
        assert_eq!(
            clamp(span(100_000, 200_000), &covered),
            span(100_000, 200_000)
        );
        assert!(clamp(span(400_000, 900_000), &covered).is_empty());
        assert!(clamp(span(400_000, 900_000), &IntervalSet::default()).is_empty());
    }
}
