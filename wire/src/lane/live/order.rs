//! The order of checks that gives positions in the live lane their meaning.

use std::collections::BTreeMap;

use crate::check::Cadence;
use crate::dispersal::phase_ms;
use crate::id::CheckId;
use crate::lane::live::{RingSizes, class};

/// The rings of a schedule: per cadence, the checks in the order of their phase, then of their
/// id, as in the agent's own rings. What is due within a second is a stretch of each ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOrder {
    rings: BTreeMap<Cadence, Vec<(u32, CheckId)>>,
}

impl LiveOrder {
    /// Puts the checks of every held slot in order; a check in two slots stands there twice.
    #[must_use]
    pub fn new(checks: impl IntoIterator<Item = (CheckId, Cadence)>) -> Self {
        let mut rings: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (check, cadence) in checks {
            rings
                .entry(cadence)
                .or_default()
                .push((phase_ms(check, cadence), check));
        }
        for ring in rings.values_mut() {
            ring.sort_unstable();
            ring.shrink_to_fit();
        }
        Self { rings }
    }

    /// The check at a position.
    #[must_use]
    pub fn at(&self, cadence: Cadence, position: u32) -> Option<CheckId> {
        let &(_, check) = self.rings.get(&cadence)?.get(position as usize)?;
        Some(check)
    }

    /// The stretch that is due in a second, given as Unix seconds: first position and length.
    #[must_use]
    pub fn due(&self, cadence: Cadence, unix_secs: u64) -> (u32, u32) {
        let Some(ring) = self.rings.get(&cadence) else {
            return (0, 0);
        };
        let within = unix_secs % u64::from(cadence.secs());
        let before = |secs| ring.partition_point(|&(phase, _)| u64::from(phase) < secs * 1_000);
        let (first, end) = (before(within), before(within + 1));
        let narrow = |n| u32::try_from(n).expect("a ring has fewer than 2^32 checks");
        (narrow(first), narrow(end - first))
    }

    /// How many checks each ring has.
    #[must_use]
    pub fn sizes(&self) -> RingSizes {
        let mut sizes = RingSizes::default();
        for (&cadence, ring) in &self.rings {
            if let Some(size) = sizes.get_mut(class(cadence)) {
                *size = u32::try_from(ring.len()).expect("a ring has fewer than 2^32 checks");
            }
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_due_in_exactly_one_second_of_its_interval() {
        let cadence = Cadence::from_secs(60).unwrap();
        let order = LiveOrder::new((0..1_000).map(|id| (CheckId(id), cadence)));
        let mut next = 0;
        for second in 1_200..1_260 {
            let (first, due) = order.due(cadence, second);
            assert_eq!(first, next);
            next += due;
        }
        assert_eq!(next, 1_000);
    }

    #[test]
    fn a_check_in_two_slots_stands_in_the_ring_twice() {
        let cadence = Cadence::from_secs(60).unwrap();
        let order = LiveOrder::new([(CheckId(1), cadence), (CheckId(1), cadence)]);
        assert_eq!(order.sizes().iter().sum::<u32>(), 2);
        assert_eq!(order.at(cadence, 1), Some(CheckId(1)));
        assert_eq!(order.at(cadence, 2), None);
    }
}
