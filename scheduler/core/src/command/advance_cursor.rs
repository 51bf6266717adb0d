//! A consumer has passed facts durably; what all have passed is forgotten.

use picket_wire::id::FactSeq;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::Consumer;

/// A consumer has passed facts durably.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AdvanceCursor {
    /// Who.
    pub consumer: Consumer,
    /// The last fact it has passed.
    pub to: FactSeq,
}

impl AdvanceCursor {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let (current, last) = (fold.state.cursor(self.consumer), fold.state.last_ids.fact);
        if self.to < current || self.to > last {
            return Err(Reject::Cursor {
                consumer: self.consumer,
                current,
                last,
                got: self.to,
            });
        }
        fold.state.cursors.insert(self.consumer, self.to);
        let passed = Consumer::ALL
            .into_iter()
            .map(|consumer| fold.state.cursor(consumer))
            .min();
        if let Some(passed) = passed {
            fold.state.facts = fold.state.facts.split_off(&passed.next());
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::testing::World;

    fn advance(consumer: Consumer, to: u64) -> Command {
        Command::AdvanceCursor(AdvanceCursor {
            consumer,
            to: FactSeq(to),
        })
    }

    #[test]
    fn a_fact_is_kept_until_every_consumer_has_passed_it() {
        let mut world = World::with_agents(&[("eu", "as1"), ("us", "as2")]);
        assert_eq!(world.state().facts.len(), 2);
        world.apply(advance(Consumer::Projector, 2));
        assert_eq!(world.state().facts.len(), 2);
        world.apply(advance(Consumer::Delivery, 1));
        assert_eq!(
            world.state().facts.keys().collect::<Vec<_>>(),
            [&FactSeq(2)]
        );
        assert_eq!(world.state().facts_after(FactSeq(1)).count(), 1);
    }

    #[test]
    fn a_cursor_never_runs_backwards_or_ahead_of_the_facts() {
        let mut world = World::with_agents(&[("eu", "as1"), ("us", "as2")]);
        world.apply(advance(Consumer::Projector, 2));
        for to in [1, 3] {
            let refused = Reject::Cursor {
                consumer: Consumer::Projector,
                current: FactSeq(2),
                last: FactSeq(2),
                got: FactSeq(to),
            };
            let reply = world.apply(advance(Consumer::Projector, to));
            assert_eq!(reply, Reply::Rejected(refused));
        }
    }
}
