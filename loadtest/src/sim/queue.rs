//! What will happen, in order of time; what was planned first happens first among equals.

use std::collections::BTreeMap;

use picket_wire::time::Timestamp;

/// Planned events.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    planned: BTreeMap<(Timestamp, u64), E>,
    next: u64,
}

impl<E> Queue<E> {
    /// Nothing is planned.
    pub(crate) const fn new() -> Self {
        Self {
            planned: BTreeMap::new(),
            next: 0,
        }
    }

    /// Plans `event` for `at`.
    pub(crate) fn plan(&mut self, at: Timestamp, event: E) {
        self.planned.insert((at, self.next), event);
        self.next += 1;
    }

    /// The next event, no later than `end`.
    pub(crate) fn pop(&mut self, end: Timestamp) -> Option<(Timestamp, E)> {
        let entry = self
            .planned
            .first_entry()
            .filter(|entry| entry.key().0 <= end)?;
        let ((at, _), event) = entry.remove_entry();
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_keep_their_order_and_the_end_holds() {
        let mut queue = Queue::new();
        for (at, event) in [(2, 'c'), (1, 'a'), (1, 'b'), (3, 'd')] {
            queue.plan(Timestamp(at), event);
        }
        let end = Timestamp(2);
        let seen: String = std::iter::from_fn(|| queue.pop(end))
            .map(|(_, event)| event)
            .collect();
        assert_eq!(seen, "abc");
    }
}
