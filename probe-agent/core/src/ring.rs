//! The phase ring of one cadence: checks sorted by phase, and a cursor.
//!
//! Intervals are few and phases never change, so a timer per check is not needed: the ring keeps
//! four bytes per check and walks them round and round. A check is due at `n × interval + phase`
//! counted from the Unix epoch, whatever was late before; an owner that takes a check over walks
//! on at the same instants.
//!
//! Owner: [`crate::due::Rings`]. Not here: phases themselves, which are a hash of the check's id
//! and come in as a function.

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
    cursor: usize,
    /// The multiple of the interval that the cursor's phases count from.
    turn: i64,
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new(cadence: Cadence) -> Self {
        let interval_ms = i64::from(cadence.secs()) * 1_000;
        Self {
            interval_ms,
            members: Vec::new(),
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
    pub fn next_due(&self, phase_ms: impl Fn(Handle) -> u32) -> Option<Timestamp> {
        let next = self.members.get(self.cursor)?;
        Some(Timestamp(self.turn + i64::from(phase_ms(*next))))
    }

    /// Hands out every check that is due before `end`, its position and when, and moves past it.
    pub fn walk(
        &mut self,
        end: Timestamp,
        phase_ms: impl Fn(Handle) -> u32,
        mut due: impl FnMut(Handle, usize, Timestamp),
    ) {
        while let Some(&handle) = self.members.get(self.cursor) {
            let at = Timestamp(self.turn + i64::from(phase_ms(handle)));
            if at >= end {
                return;
            }
            let position = self.cursor;
            self.cursor += 1;
            if self.cursor == self.members.len() {
                self.cursor = 0;
                self.turn += self.interval_ms;
            }
            due(handle, position, at);
        }
    }

    /// Moves on to the first check that is due at `from` or later; returns how many were passed
    /// over. Never moves back.
    pub fn skip_to(&mut self, from: Timestamp, phase_ms: impl Fn(Handle) -> u32) -> u64 {
        let before = self.passed();
        let (cursor, turn) = (self.cursor, self.turn);
        self.seek(from, phase_ms);
        if let Ok(skipped) = u64::try_from(self.passed() - before) {
            return skipped;
        }
        (self.cursor, self.turn) = (cursor, turn);
        0
    }

    /// Takes `removed` out and `added` in, and goes on at the first check that is due at `from`
    /// or later.
    pub fn change(
        &mut self,
        removed: &[Range<u32>],
        mut added: Vec<Handle>,
        from: Timestamp,
        place: impl Fn(Handle) -> Place,
    ) {
        if !removed.is_empty() {
            self.members.retain(|handle| !holds(removed, *handle));
        }
        added.sort_unstable_by_key(|&handle| place(handle));
        self.members = merge(std::mem::take(&mut self.members), &added, &place);
        self.seek(from, |handle| place(handle).phase_ms);
    }

    /// Goes on at the first check that is due at `from` or later, be it earlier or later than now.
    pub fn seek(&mut self, from: Timestamp, phase_ms: impl Fn(Handle) -> u32) {
        self.turn = from.0.div_euclid(self.interval_ms) * self.interval_ms;
        let into = from.0 - self.turn;
        self.cursor = self
            .members
            .partition_point(|&handle| i64::from(phase_ms(handle)) < into);
        if self.cursor == self.members.len() {
            self.cursor = 0;
            self.turn += self.interval_ms;
        }
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

/// Merges sorted `added` into sorted `old`. Looks few old places up: each added handle finds its
/// place by bisection, because places of a large ring are spread over memory.
fn merge(old: Vec<Handle>, added: &[Handle], place: impl Fn(Handle) -> Place) -> Vec<Handle> {
    if added.is_empty() {
        return old;
    }
    let mut merged = Vec::with_capacity(old.len() + added.len());
    let mut rest = old.as_slice();
    for &handle in added {
        let here = place(handle);
        let (before, after) = rest.split_at(rest.partition_point(|&other| place(other) < here));
        merged.extend_from_slice(before);
        merged.push(handle);
        rest = after;
    }
    merged.extend_from_slice(rest);
    merged
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

    fn ring(phases: &[u32]) -> (Ring, impl Fn(Handle) -> u32 + '_) {
        let phase = |handle: Handle| phases[handle.0 as usize];
        let mut ring = Ring::new(Cadence::from_secs(10).unwrap());
        let handles = (0..).zip(phases).map(|(n, _)| Handle(n)).collect();
        ring.change(&[], handles, Timestamp(0), place_of(phases));
        (ring, phase)
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
        let (mut ring, phase) = ring(&[]);
        assert_eq!(ring.next_due(&phase), None);
        ring.walk(Timestamp(i64::MAX), &phase, |_, _, _| {
            panic!("nothing can be due")
        });
        assert_eq!(ring.skip_to(Timestamp(50_000), &phase), 0);
    }

    #[test]
    fn skipping_counts_what_it_passes_and_never_moves_back() {
        let (mut ring, phase) = ring(&[0, 2_000, 9_999]);
        assert_eq!(ring.skip_to(Timestamp(12_001), &phase), 5);
        assert_eq!(ring.next_due(&phase), Some(Timestamp(19_999)));
        assert_eq!(ring.skip_to(Timestamp(3), &phase), 0);
        assert_eq!(ring.next_due(&phase), Some(Timestamp(19_999)));
    }

    proptest! {
        #[test]
        fn a_walk_equals_the_naive_twin(
            phases in proptest::collection::vec(0u32..10_000, 0..12),
            steps in proptest::collection::vec(0i64..9_000, 1..8),
        ) {
            let (mut ring, phase) = ring(&phases);
            let (mut walked, mut end) = (Vec::new(), 0);
            for step in steps {
                end += step;
                ring.walk(Timestamp(end), &phase, |handle, _, at| walked.push((handle.0, at.0)));
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
            ring.change(&[], (0..first).map(Handle).collect(), Timestamp(0), &place);
            let gone = 0..cut.min(first);
            ring.change(std::slice::from_ref(&gone), (first..12).map(Handle).collect(), Timestamp(at), &place);
            let mut expected: Vec<u32> = (0..12).filter(|n| !gone.contains(n)).collect();
            expected.sort_by_key(|&n| place(Handle(n)));
            let members: Vec<u32> = ring.members().iter().map(|handle| handle.0).collect();
            prop_assert_eq!(members, expected);
            let mut walked = Vec::new();
            ring.walk(Timestamp(at + 10_000), |h| place(h).phase_ms, |h, _, at| walked.push((h.0, at.0)));
            let mut twin = naive(&phases, at, at + 10_000);
            twin.retain(|(n, _)| !gone.contains(n));
            prop_assert_eq!(walked, twin);
        }
    }
}
