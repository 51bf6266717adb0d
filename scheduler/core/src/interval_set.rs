//! Sets of instants as sorted, disjoint, half-open intervals.

use std::ops::Range;

use picket_wire::time::{Interval, Span, Timestamp};

/// A set of instants. Its intervals are sorted, not empty, and do not touch each other, so equal
/// sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntervalSet {
    intervals: Vec<Interval>,
}

impl IntervalSet {
    /// The intervals, in order.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Whether it has no instant.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// How long all of it is together.
    #[must_use]
    pub fn len(&self) -> Span {
        self.intervals
            .iter()
            .fold(Span::ZERO, |sum, interval| sum + interval.len())
    }

    /// The first instant after all of it.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.intervals.last().map(|interval| interval.until)
    }

    /// Whether `at` is in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        let after = self
            .intervals
            .partition_point(|interval| interval.until <= at);
        self.intervals
            .get(after)
            .is_some_and(|interval| interval.contains(at))
    }

    /// Adds an interval.
    pub fn insert(&mut self, new: Interval) {
        if new.is_empty() {
            return;
        }
        let touching = self.touching(new);
        let merged = self
            .intervals
            .drain(touching.clone())
            .fold(new, |all, old| {
                Interval::new(all.from.min(old.from), all.until.max(old.until))
            });
        self.intervals.insert(touching.start, merged);
    }

    /// The intervals that overlap `new` or touch it.
    fn touching(&self, new: Interval) -> Range<usize> {
        let start = self
            .intervals
            .partition_point(|interval| interval.until < new.from);
        let end = self
            .intervals
            .partition_point(|interval| interval.from <= new.until);
        start..end.max(start)
    }

    /// What is in this set or in the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.intervals
            .iter()
            .chain(&other.intervals)
            .copied()
            .collect()
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        let (mut ours, mut theirs) = (self.intervals.as_slice(), other.intervals.as_slice());
        while let (Some(a), Some(b)) = (ours.first(), theirs.first()) {
            let overlap = Interval::new(a.from.max(b.from), a.until.min(b.until));
            if !overlap.is_empty() {
                both.intervals.push(overlap);
            }
            if a.until <= b.until {
                ours = ours.get(1..).unwrap_or_default();
            } else {
                theirs = theirs.get(1..).unwrap_or_default();
            }
        }
        both
    }

    /// What is in `whole` and not in this set.
    #[must_use]
    pub fn complement(&self, whole: Interval) -> Self {
        let mut rest = Self::default();
        let mut from = whole.from;
        for interval in &self.intervals {
            let gap = Interval::new(from, interval.from.min(whole.until));
            if !gap.is_empty() {
                rest.intervals.push(gap);
            }
            from = from.max(interval.until);
        }
        let tail = Interval::new(from, whole.until);
        if !tail.is_empty() {
            rest.intervals.push(tail);
        }
        rest
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let Some((first, last)) = self.intervals.first().zip(self.intervals.last()) else {
            return Self::default();
        };
        self.intersection(&other.complement(Interval::new(first.from, last.until)))
    }

    /// This set with gaps of up to `gap` closed.
    #[must_use]
    pub fn bridged(&self, gap: Span) -> Self {
        let mut bridged: Vec<Interval> = Vec::with_capacity(self.intervals.len());
        for &interval in &self.intervals {
            match bridged.last_mut() {
                Some(last) if interval.from.since(last.until) <= gap => last.until = interval.until,
                _ => bridged.push(interval),
            }
        }
        Self { intervals: bridged }
    }
}

impl From<Interval> for IntervalSet {
    fn from(interval: Interval) -> Self {
        [interval].into_iter().collect()
    }
}

impl FromIterator<Interval> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut sorted: Vec<_> = intervals.into_iter().filter(|i| !i.is_empty()).collect();
        sorted.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(sorted.len());
        for interval in sorted {
            match merged.last_mut() {
                Some(last) if interval.from <= last.until => {
                    last.until = last.until.max(interval.until);
                }
                _ => merged.push(interval),
            }
        }
        Self { intervals: merged }
    }
}
