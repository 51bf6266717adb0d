//! All phase rings together: what is due before an instant, and when something is due next.
//!
//! Owner: [`crate::Agent`]. The horizon is the first instant that was not walked yet: every check
//! held was handed out, or counted as passed over, for each of its instants before the horizon,
//! and for none after it.

use std::collections::BTreeMap;
use std::ops::Range;

use picket_wire::check::Cadence;
use picket_wire::time::Timestamp;

use crate::ring::{Handle, Ring};
use crate::table::Table;

/// A check that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The check.
    pub handle: Handle,
    /// Its ring.
    pub cadence: Cadence,
    /// Where it stands in that ring.
    pub position: usize,
    /// When it is due.
    pub at: Timestamp,
}

/// One ring per cadence in use.
#[derive(Debug)]
pub struct Rings {
    rings: BTreeMap<Cadence, Ring>,
    horizon: Timestamp,
    next: Option<Timestamp>,
}

impl Rings {
    /// No rings, and nothing walked before `horizon`.
    #[must_use]
    pub const fn new(horizon: Timestamp) -> Self {
        Self {
            rings: BTreeMap::new(),
            horizon,
            next: None,
        }
    }

    /// The first instant that was not walked yet.
    #[must_use]
    pub const fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// When the next check is due.
    #[must_use]
    pub const fn next_due(&self) -> Option<Timestamp> {
        self.next
    }

    /// How many checks are in the rings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rings.values().map(|ring| ring.members().len()).sum()
    }

    /// Whether nothing is in the rings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rings.values().all(|ring| ring.members().is_empty())
    }

    /// The rings, shortest interval first.
    pub fn iter(&self) -> impl Iterator<Item = (Cadence, &Ring)> {
        self.rings.iter().map(|(cadence, ring)| (*cadence, ring))
    }

    /// Hands out what is due before `end` to `due`, ring by ring, and moves the horizon there.
    pub fn walk(&mut self, end: Timestamp, mut due: impl FnMut(Due)) {
        if end <= self.horizon {
            return;
        }
        self.horizon = end;
        if self.next.is_some_and(|next| next < end) {
            for (&cadence, ring) in &mut self.rings {
                ring.walk(end, |handle, position, at| {
                    due(Due {
                        handle,
                        cadence,
                        position,
                        at,
                    });
                });
            }
            self.look_ahead();
        }
    }

    /// Passes over everything that is due before `end`; returns how much it was.
    pub fn skip_to(&mut self, end: Timestamp) -> u64 {
        self.horizon = self.horizon.max(end);
        let mut skipped = 0;
        for ring in self.rings.values_mut() {
            skipped += ring.skip_to(end);
        }
        self.look_ahead();
        skipped
    }

    /// Goes on at `from`, be it earlier or later: the clock was set.
    pub fn restart(&mut self, from: Timestamp) {
        self.horizon = from;
        for ring in self.rings.values_mut() {
            ring.seek(from);
        }
        self.look_ahead();
    }

    /// Takes handles out and in; what is in `table` must be what is in the rings afterwards.
    pub fn change(
        &mut self,
        mut removed: Vec<Range<u32>>,
        mut added: BTreeMap<Cadence, Vec<Handle>>,
        table: &Table,
    ) {
        removed.sort_unstable_by_key(|range| range.start);
        for &cadence in added.keys() {
            self.rings
                .entry(cadence)
                .or_insert_with(|| Ring::new(cadence));
        }
        for (cadence, ring) in &mut self.rings {
            let place = |handle| table.place(handle);
            let added = added.remove(cadence).unwrap_or_default();
            let added: Vec<_> = added
                .into_iter()
                .map(|handle| (place(handle), handle))
                .collect();
            if !removed.is_empty() || !added.is_empty() {
                ring.change(&removed, added, self.horizon, place);
            }
        }
        self.rings.retain(|_, ring| !ring.members().is_empty());
        self.look_ahead();
    }

    /// Empties all rings.
    pub fn clear(&mut self) {
        self.rings.clear();
        self.next = None;
    }

    fn look_ahead(&mut self) {
        self.next = self.rings.values().filter_map(Ring::next_due).min();
    }
}
