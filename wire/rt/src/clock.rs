//! The one place where time is read.
//!
//! Wall time is needed because probes of different hosts are compared, but the wall can be set.
//! So an instant is the wall time of an anchor plus what the monotonic clock says has passed since:
//! small errors are slewed away and never make time run backwards; an error of more than a second
//! is a step, which moves the anchor at once and is counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use picket_wire::time::Timestamp;
use tokio::time::Instant;

/// Beyond this the wall was set rather than disciplined: ntpd and chrony slew smaller errors
/// themselves, and one second is the coarsest lateness that is still of use to an operator.
const STEP_US: i64 = 1_000_000;

/// The anchor follows the wall by at most one part in this many: 1,000 ppm, twice what a kernel
/// slews by, so that it keeps up and time still moves forward.
const SLEW_DIVISOR: i64 = 1_000;

/// How often the wall is looked at; between two looks an instant costs one clock read.
const LOOK_US: i64 = 100_000;

/// Longest single sleep towards a wall instant, so that a step of the wall is noticed.
const NAP: Duration = Duration::from_secs(1);

/// A clonable source of instants.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    wall: Wall,
    anchor: Arc<Mutex<Anchor>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    /// The system's.
    System,
    /// None: the anchor stays where it was put.
    Absent,
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Wall::System, system_wall_us())
    }

    /// A clock that starts at `start` and then follows monotonic time alone, so that a test with
    /// paused time decides what the wall says.
    #[must_use]
    pub fn anchored_at(start: Timestamp) -> Self {
        Self::new(Wall::Absent, start.0.saturating_mul(1_000))
    }

    fn new(wall: Wall, wall_us: i64) -> Self {
        let anchor = Anchor {
            mono_us: 0,
            wall_us,
            looked_us: 0,
        };
        Self {
            origin: Instant::now(),
            wall,
            anchor: Arc::new(Mutex::new(anchor)),
        }
    }

    /// The wall time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        // Plain integers, written in one statement: a poisoned lock still holds a valid anchor.
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let mono_us = self.mono_us();
        if self.wall == Wall::System && mono_us - anchor.looked_us >= LOOK_US {
            anchor.look(mono_us, system_wall_us());
        }
        Timestamp(anchor.at(mono_us).div_euclid(1_000))
    }

    /// Monotonic time since this clock was made.
    #[must_use]
    pub fn mono(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When `at` will be, or was, on the monotonic clock, as far as the anchor knows now. An
    /// instant before this clock was made is given as its making.
    #[must_use]
    pub fn instant_at(&self, at: Timestamp) -> Instant {
        let anchor = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let since_anchor = at.0.saturating_mul(1_000).saturating_sub(anchor.wall_us);
        let mono_us = u64::try_from(anchor.mono_us.saturating_add(since_anchor)).unwrap_or(0);
        // A century is beyond any deadline and within what an instant can hold.
        self.origin + Duration::from_micros(mono_us.min(100 * 365 * 86_400 * 1_000_000))
    }

    /// Returns when the wall says `at`, at once if it lies behind. Safe to cancel.
    pub async fn sleep_until(&self, at: Timestamp) {
        while self.now() < at {
            let nap_ends = Instant::now() + NAP;
            tokio::time::sleep_until(self.instant_at(at).min(nap_ends)).await;
        }
    }

    fn mono_us(&self) -> i64 {
        i64::try_from(self.mono().as_micros()).unwrap_or(i64::MAX)
    }
}

/// A pair of readings that belong together, and how it follows the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    mono_us: i64,
    wall_us: i64,
    looked_us: i64,
}

impl Anchor {
    fn at(&self, mono_us: i64) -> i64 {
        self.wall_us
            .saturating_add(mono_us.saturating_sub(self.mono_us))
    }

    fn look(&mut self, mono_us: i64, wall_us: i64) {
        let expected = self.at(mono_us);
        let error = wall_us.saturating_sub(expected);
        if error.saturating_abs() > STEP_US {
            metrics::counter!("picket_clock_steps_total").increment(1);
            tracing::warn!(by_ms = error / 1_000, "the wall clock was set");
            *self = Self {
                mono_us,
                wall_us,
                looked_us: mono_us,
            };
        } else {
            let reach = mono_us.saturating_sub(self.looked_us) / SLEW_DIVISOR;
            let corrected = expected.saturating_add(error.clamp(-reach, reach));
            *self = Self {
                mono_us,
                wall_us: corrected,
                looked_us: mono_us,
            };
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the wall is read"
)]
fn system_wall_us() -> i64 {
    let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_wire::time::Span;

    const HOUR_US: i64 = 3_600_000_000;

    fn anchor() -> Anchor {
        Anchor {
            mono_us: 0,
            wall_us: HOUR_US,
            looked_us: 0,
        }
    }

    #[test]
    fn a_step_of_the_wall_moves_the_anchor_at_once() {
        for step in [HOUR_US, -HOUR_US, STEP_US + 1, -STEP_US - 1] {
            let mut anchor = anchor();
            anchor.look(500_000, HOUR_US + 500_000 + step);
            assert_eq!(anchor.at(500_000), HOUR_US + 500_000 + step);
        }
    }

    #[test]
    fn a_small_error_is_slewed_and_time_never_runs_backwards() {
        let mut anchor = anchor();
        let behind = -200_000;
        let mut last = anchor.at(0);
        for mono_us in (0..400_000_000).step_by(100_000) {
            anchor.look(mono_us, HOUR_US + mono_us + behind);
            assert!(anchor.at(mono_us) >= last);
            last = anchor.at(mono_us);
        }
        assert_eq!(last, HOUR_US + 399_900_000 + behind);
    }

    #[test]
    fn the_system_clock_tells_the_system_s_time() {
        let before = system_wall_us() / 1_000;
        let now = Clock::system().now().0;
        assert!((before..=system_wall_us() / 1_000).contains(&now));
    }

    #[tokio::test]
    async fn a_sleep_ends_when_the_wall_says_so_and_not_before() {
        let clock = Clock::anchored_at(Timestamp(10_000));
        let (soon, past) = (clock.now() + Span(20), Timestamp(9_000));
        clock.sleep_until(soon).await;
        assert!(clock.now() >= soon);
        clock.sleep_until(past).await;
    }

    #[tokio::test]
    async fn the_ends_of_time_are_far_away_but_finite() {
        let clock = Clock::anchored_at(Timestamp(0));
        assert_eq!(clock.instant_at(Timestamp::MIN), clock.origin);
        assert!(clock.instant_at(Timestamp::MAX) > clock.origin);
    }
}
