//! A log from some place on; what was before is in a snapshot.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::sim::raft::{Logged, Place};

/// Entries in one message: far more than come together, yet a laggard needs several.
const APPEND_MAX: usize = 64;

/// The log from some place on; what was before is in a snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    base: Place,
    entries: VecDeque<Rc<Logged>>,
}

impl Log {
    /// The last place.
    pub(crate) fn last(&self) -> Place {
        let term = self
            .entries
            .back()
            .map_or(self.base.1, |logged| logged.term);
        (self.base.0 + self.entries.len() as u64, term)
    }

    /// The last place that is only in the snapshot.
    pub(crate) const fn base(&self) -> Place {
        self.base
    }

    /// What stands at `index`.
    pub(crate) fn get(&self, index: u64) -> Option<&Rc<Logged>> {
        let nth = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(nth).ok()?)
    }

    /// The term at `index`, while it is known.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.get(index).map(|logged| logged.term)
    }

    /// Whether `place` is in this log.
    pub(crate) fn has(&self, place: Place) -> bool {
        self.term_at(place.0) == Some(place.1)
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, logged: Rc<Logged>) {
        self.entries.push_back(logged);
    }

    /// Drops everything from `index` on; returns how much it was.
    pub(crate) fn truncate(&mut self, index: u64) -> usize {
        let keep = usize::try_from(index.saturating_sub(self.base.0 + 1)).unwrap_or(0);
        let dropped = self.entries.len().saturating_sub(keep);
        self.entries.truncate(keep);
        dropped
    }

    /// Forgets what a snapshot holds, up to `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while self.base.0 < index
            && let Some(first) = self.entries.pop_front()
        {
            self.base = (self.base.0 + 1, first.term);
        }
    }

    /// Begins anew behind a snapshot.
    pub(super) fn restart(&mut self, at: Place) {
        *self = Self {
            base: at,
            entries: VecDeque::new(),
        };
    }

    pub(super) fn after(&self, index: u64) -> Vec<Rc<Logged>> {
        let skip = usize::try_from(index - self.base.0).unwrap_or(usize::MAX);
        self.entries
            .iter()
            .skip(skip)
            .take(APPEND_MAX)
            .cloned()
            .collect()
    }
}

impl Log {
    /// A log that begins with these entries.
    pub(super) fn of(entries: &[Rc<Logged>]) -> Self {
        Self {
            base: (0, 0),
            entries: entries.iter().cloned().collect(),
        }
    }
}
