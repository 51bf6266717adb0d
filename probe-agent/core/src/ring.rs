//! The phase ring of one cadence: checks sorted by phase, and a cursor.
//!
//! Intervals are few and phases never change, so a timer per check is not needed: the ring keeps
//! two columns of four bytes, handle and phase, and walks them round and round. A check is due at
//! `n × interval + phase` counted from the Unix epoch, whatever was late before; an owner that
//! takes a check over walks on at the same instants. The phase could be computed from the check's
//! id; but ids are spread over memory, and merging a million checks by them took six seconds.
//!
//! Owner: [`crate::due::Rings`]. Not here: what the phases are
//! ([`picket_wire::dispersal::phase_ms`]).

use std::ops::Range;

use picket_wire::check::Cadence;
use picket_wire::id::{CheckId, ShardSlot};
use picket_wire::time::Timestamp;

/// A check in the agent's table: the four bytes that a ring keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// What a ring is sorted by. Both ends of the live lane derive the same order from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Milliseconds after each multiple of the interval.
    pub phase_ms: u32,
    /// The check.
    pub check: CheckId,
    /// On behalf of which slot: an agent may hold two slots of one shard.
    pub slot: ShardSlot,
}

/// The checks of one cadence in the order in which they are due.
#[derive(Debug)]
pub struct Ring {
    interval_ms: i64,
    members: Vec<Handle>,
    phases: Vec<u32>,
    cursor: usize,
    /// The multiple of the interval that the cursor's phases count from.
    turn: i64,
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new(cadence: Cadence) -> Self {
        let interval_ms = i64::from(cadence.secs()) * 1_000;
        let (members, phases) = (Vec::new(), Vec::new());
        Self {
            interval_ms,
            members,
            phases,
            cursor: 0,
            turn: 0,
        }
    }

    /// The checks, first phase first.
    #[must_use]
    pub fn members(&self) -> &[Handle] {
        &self.members
    }

    /// Position of the check that is due next.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// When the next check is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let next = self.phases.get(self.cursor)?;
        Some(Timestamp(self.turn + i64::from(*next)))
    }

    /// Hands out every check that is due before `end`, its position and when, and moves past it.
    pub fn walk(&mut self, end: Timestamp, mut due: impl FnMut(Handle, usize, Timestamp)) {
        while let Some(at) = self.next_due().filter(|at| *at < end) {
            let position = self.cursor;
            self.cursor += 1;
            if self.cursor == self.members.len() {
                self.cursor = 0;
                self.turn += self.interval_ms;
            }
            due(self.members[position], position, at);
        }
    }

    /// Moves on to the first check that is due at `from` or later; returns how many were passed
    /// over. Never moves back.
    pub fn skip_to(&mut self, from: Timestamp) -> u64 {
        let before = self.passed();
        let (cursor, turn) = (self.cursor, self.turn);
        self.seek(from);
        if let Ok(skipped) = u64::try_from(self.passed() - before) {
            return skipped;
        }
        (self.cursor, self.turn) = (cursor, turn);
        0
    }

    /// Takes `removed`, which is sorted, out and `added` in, and goes on at the first check that
    /// is due at `from` or later.
    pub fn change(
        &mut self,
        removed: &[Range<u32>],
        mut added: Vec<(Place, Handle)>,
        from: Timestamp,
        place: impl Fn(Handle) -> Place,
    ) {
        if !removed.is_empty() {
            self.remove(removed);
        }
        if !added.is_empty() {
            added.sort_unstable_by_key(|(place, _)| *place);
            self.merge(&added, place);
        }
        self.seek(from);
    }

    /// Goes on at the first check that is due at `from` or later, be it earlier or later than now.
    pub fn seek(&mut self, from: Timestamp) {
        self.turn = from.0.div_euclid(self.interval_ms) * self.interval_ms;
        let into = from.0 - self.turn;
        self.cursor = self
            .phases
            .partition_point(|&phase| i64::from(phase) < into);
        if self.cursor == self.members.len() {
            self.cursor = 0;
            self.turn += self.interval_ms;
        }
    }

    fn remove(&mut self, removed: &[Range<u32>]) {
        let mut kept = self.members.iter().map(|handle| !holds(removed, *handle));
        self.phases.retain(|_| kept.next().unwrap_or(true));
        self.members.retain(|handle| !holds(removed, *handle));
    }

    /// Merges sorted `added` in. Places are looked up only among equal phases.
    fn merge(&mut self, added: &[(Place, Handle)], place: impl Fn(Handle) -> Place) {
        let len = self.members.len() + added.len();
        let (mut members, mut phases) = (Vec::with_capacity(len), Vec::with_capacity(len));
        let mut from = 0;
        for &(here, handle) in added {
            let rest = &self.phases[from..];
            let first = from + rest.partition_point(|&phase| phase < here.phase_ms);
            let equal = self.phases[first..]
                .iter()
                .take_while(|&&phase| phase == here.phase_ms);
            let tied = &self.members[first..first + equal.count()];
            let until = first + tied.partition_point(|&other| place(other) < here);
            members.extend_from_slice(&self.members[from..until]);
            phases.extend_from_slice(&self.phases[from..until]);
            members.push(handle);
            phases.push(here.phase_ms);
            from = until;
        }
        members.extend_from_slice(&self.members[from..]);
        phases.extend_from_slice(&self.phases[from..]);
        (self.members, self.phases) = (members, phases);
    }

    /// How many checks the cursor has passed since the Unix epoch, were the ring always the same.
    fn passed(&self) -> i64 {
        let len = i64::try_from(self.members.len()).unwrap_or(i64::MAX);
        let cursor = i64::try_from(self.cursor).unwrap_or(i64::MAX);
        (self.turn / self.interval_ms)
            .saturating_mul(len)
            .saturating_add(cursor)
    }
}

/// Whether one of `ranges`, which are sorted, holds `handle`.
fn holds(ranges: &[Range<u32>], handle: Handle) -> bool {
    let after = ranges.partition_point(|range| range.start <= handle.0);
    after > 0 && ranges[after - 1].contains(&handle.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_wire::id::{GroupId, ShardId, Slot};
    use proptest::prelude::*;

    const SLOT: ShardSlot = ShardSlot {
        group: GroupId(1),
        shard: ShardId(0),
        slot: Slot(0),
    };

    fn ring(phases: &[u32]) -> Ring {
        let mut ring = Ring::new(Cadence::from_secs(10).unwrap());
        let place = place_of(phases);
        let handles = placed((0..).zip(phases).map(|(n, _)| n), &place);
        ring.change(&[], handles, Timestamp(0), &place);
        ring
    }

    fn placed(
        handles: impl Iterator<Item = u32>,
        place: impl Fn(Handle) -> Place,
    ) -> Vec<(Place, Handle)> {
        handles.map(|n| (place(Handle(n)), Handle(n))).collect()
    }

    fn place_of(phases: &[u32]) -> impl Fn(Handle) -> Place + '_ {
        |handle| Place {
            phase_ms: phases[handle.0 as usize],
            check: CheckId(u64::from(handle.0)),
            slot: SLOT,
        }
    }

    /// The naive twin: looks at every millisecond.
    fn naive(phases: &[u32], from: i64, end: i64) -> Vec<(u32, i64)> {
        let mut due = Vec::new();
        for at in from..end {
            for (index, phase) in (0..).zip(phases) {
                if at.rem_euclid(10_000) == i64::from(*phase) {
                    due.push((index, at));
                }
            }
        }
        due
    }

    #[test]
    fn an_empty_ring_is_never_due() {
        let mut ring = ring(&[]);
        assert_eq!(ring.next_due(), None);
        ring.walk(Timestamp(i64::MAX), |_, _, _| panic!("nothing can be due"));
        assert_eq!(ring.skip_to(Timestamp(50_000)), 0);
    }

    #[test]
    fn skipping_counts_what_it_passes_and_never_moves_back() {
        let mut ring = ring(&[0, 2_000, 9_999]);
        assert_eq!(ring.skip_to(Timestamp(12_001)), 5);
        assert_eq!(ring.next_due(), Some(Timestamp(19_999)));
        assert_eq!(ring.skip_to(Timestamp(3)), 0);
        assert_eq!(ring.next_due(), Some(Timestamp(19_999)));
    }

    proptest! {
        #[test]
        fn a_walk_equals_the_naive_twin(
            phases in proptest::collection::vec(0u32..10_000, 0..12),
            steps in proptest::collection::vec(0i64..9_000, 1..8),
        ) {
            let mut ring = ring(&phases);
            let (mut walked, mut end) = (Vec::new(), 0);
            for step in steps {
                end += step;
                ring.walk(Timestamp(end), |handle, _, at| walked.push((handle.0, at.0)));
            }
            prop_assert_eq!(walked, naive(&phases, 0, end));
        }

        #[test]
        fn changes_keep_order_and_phase(
            phases in proptest::collection::vec(0u32..10_000, 12),
            first in 0u32..12, cut in 0u32..12, at in 0i64..30_000,
        ) {
            let mut ring = Ring::new(Cadence::from_secs(10).unwrap());
            let place = place_of(&phases);
            ring.change(&[], placed(0..first, &place), Timestamp(0), &place);
            let gone = 0..cut.min(first);
            ring.change(std::slice::from_ref(&gone), placed(first..12, &place), Timestamp(at), &place);
            let mut expected: Vec<u32> = (0..12).filter(|n| !gone.contains(n)).collect();
            expected.sort_by_key(|&n| place(Handle(n)));
            let members: Vec<u32> = ring.members().iter().map(|handle| handle.0).collect();
            prop_assert_eq!(members, expected);
            let mut walked = Vec::new();
            ring.walk(Timestamp(at + 10_000), |h, _, at| walked.push((h.0, at.0)));
            let mut twin = naive(&phases, at, at + 10_000);
            twin.retain(|(n, _)| !gone.contains(n));
            prop_assert_eq!(walked, twin);
        }
    }
}
