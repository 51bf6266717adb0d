//! Instants and spans as integers; arithmetic only, no clock.
//!
//! Instants are milliseconds of Unix time: exact enough for SLA figures that are defended to the
//! millisecond, and small enough for columns. Measured durations are microseconds.

use std::fmt;
use std::ops::{Add, Sub};

use rkyv::{Archive, Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A length of time in whole milliseconds, never negative.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Timestamp {
    /// Before every instant that is observed.
    pub const MIN: Self = Self(i64::MIN);
    /// After every instant that is observed: the open end of an interval.
    pub const MAX: Self = Self(i64::MAX);

    /// 0000-01-01T00:00:00Z, the first instant with a text form (RFC 3339, section 1).
    pub const CALENDAR_START: Self = Self(-62_167_219_200_000);
    /// 10000-01-01T00:00:00Z, the first instant after the last with a text form.
    pub const CALENDAR_END: Self = Self(253_402_300_800_000);

    /// Whether this instant has a text form.
    #[must_use]
    pub const fn is_on_calendar(self) -> bool {
        Self::CALENDAR_START.0 <= self.0 && self.0 < Self::CALENDAR_END.0
    }

    /// The time since `earlier`, zero when `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The last multiple of `span` at or before this instant, counted from the Unix epoch.
    ///
    /// # Panics
    /// When `span` is zero.
    #[must_use]
    pub fn floor_to(self, span: Span) -> Self {
        let step = i64::try_from(span.0).unwrap_or(i64::MAX);
        Self(self.0.div_euclid(step).saturating_mul(step))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }

    /// As the standard library's duration.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;

    fn sub(self, span: Span) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX)),
        )
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}ms", self.0)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 1_000 => write!(f, "{ms} ms"),
            ms if ms < 60_000 => write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            ms if ms < 3_600_000 => write!(f, "{} m {} s", ms / 60_000, ms % 60_000 / 1_000),
            ms => write!(f, "{} h {} m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        }
    }
}

/// A half-open stretch of time, `[from, until)`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Interval {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after it.
    pub until: Timestamp,
}

impl Interval {
    /// `[from, until)`; empty when `until` does not lie after `from`.
    #[must_use]
    pub const fn new(from: Timestamp, until: Timestamp) -> Self {
        Self { from, until }
    }

    /// Nothing lies inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.until <= self.from
    }

    /// How long it is.
    #[must_use]
    pub fn len(&self) -> Span {
        self.until.since(self.from)
    }

    /// Whether `at` lies inside.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flooring_works_on_both_sides_of_the_epoch() {
        let window = Span::from_secs(300);
        assert_eq!(Timestamp(299_999).floor_to(window), Timestamp(0));
        assert_eq!(Timestamp(-1).floor_to(window), Timestamp(-300_000));
    }

    #[test]
    fn the_ends_of_time_do_not_wrap() {
        assert_eq!(Timestamp::MAX + Span(1), Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Span(1), Timestamp::MIN);
        assert_eq!(Timestamp(3).since(Timestamp(5)), Span::ZERO);
    }
}
