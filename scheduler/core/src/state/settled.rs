//! When checks that are plainly up again had their last transition.
//!
//! A transition never lies before the one before it, also when a slow clock or an agent that was
//! cut off says so. Agents spool evidence for a day, so a day of memory is enough; two
//! generations of a day each are dropped whole, and a floor stands for everything dropped.

use std::collections::BTreeMap;

use picket_wire::id::CheckId;
use picket_wire::time::{Span, Timestamp};

/// Length of one generation: how long agents spool evidence by default.
const GENERATION: Span = Span::from_secs(86_400);

/// The last transition of each check that became plainly up in the last day or two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// This generation.
    pub now: BTreeMap<CheckId, Timestamp>,
    /// The one before.
    pub before: BTreeMap<CheckId, Timestamp>,
    /// When this generation began.
    pub began_at: Timestamp,
    /// No transition that was dropped lies after this.
    pub floor: Timestamp,
}

impl Settled {
    /// Before this instant no new transition of `check` may lie.
    #[must_use]
    pub fn floor_of(&self, check: CheckId) -> Timestamp {
        let known = self.now.get(&check).or_else(|| self.before.get(&check));
        known.copied().unwrap_or(self.floor).max(self.floor)
    }

    /// Remembers that the last transition of `check` was at `at`; `now` is the machine's time.
    pub fn remember(&mut self, check: CheckId, at: Timestamp, now: Timestamp) {
        if now.since(self.began_at) >= GENERATION {
            let dropped = std::mem::replace(&mut self.before, std::mem::take(&mut self.now));
            self.floor = dropped.into_values().fold(self.floor, Timestamp::max);
            self.began_at = now;
        }
        self.now.insert(check, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_still_binds_as_a_floor() {
        let mut settled = Settled {
            floor: Timestamp(0),
            ..Settled::default()
        };
        let day = |n: i64| Timestamp(n * 86_400_000);
        settled.remember(CheckId(1), day(1), day(1));
        settled.remember(CheckId(2), day(2), day(2));
        assert_eq!(settled.floor_of(CheckId(1)), day(1));
        assert_eq!(settled.floor_of(CheckId(9)), day(0));
        settled.remember(CheckId(3), day(3), day(3));
        assert!(
            !settled.before.contains_key(&CheckId(1)),
            "two generations are kept"
        );
        assert_eq!(
            settled.floor_of(CheckId(9)),
            day(1),
            "the floor rose instead"
        );
    }
}
