//! What was said and heard about checks, as far as minds cannot hold it.
//!
//! A statement that is not acked yet outweighs what the schedulers say of the same check: they
//! will hear it. Not so one that was made under an earlier epoch: that will be acked and have no
//! effect. What is heard of checks before they are here waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use picket_wire::control::Beliefs;
use picket_wire::id::{CheckId, Epoch, Seq, ShardSlot};

use crate::agent::Agent;
use crate::agent::input::Said;
use crate::belief::{Mind, Seen};
use crate::table::Checks;

/// Statements under way in both directions.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// The last statement about a check.
    unacked: BTreeMap<(ShardSlot, CheckId), Statement>,
    by_seq: BTreeMap<Seq, Vec<(ShardSlot, CheckId)>>,
    /// Said before a restart, of slots that are not held yet.
    said: BTreeMap<ShardSlot, BTreeMap<CheckId, Seen>>,
    /// The checks that fail, sorted, as heard of slots whose checks, or some of them, are not here
    /// yet. One message speaks of many slots, so they share its list.
    heard: BTreeMap<ShardSlot, Arc<[CheckId]>>,
}

/// A statement under way.
#[derive(Debug, Clone, Copy)]
struct Statement {
    /// In which batch it went.
    seq: Seq,
    /// Under which epoch it was made.
    epoch: Epoch,
}

impl Spoken {
    pub(super) fn new(said: &[Said]) -> Self {
        let mut spoken = Self::default();
        for &Said {
            slot,
            epoch,
            check,
            seen,
            seq,
        } in said
        {
            spoken.note(slot, epoch, check, seq);
            spoken.said.entry(slot).or_default().insert(check, seen);
        }
        spoken
    }

    /// A statement made under `epoch` goes in batch `seq`.
    pub(super) fn note(&mut self, slot: ShardSlot, epoch: Epoch, check: CheckId, seq: Seq) {
        self.unacked.insert((slot, check), Statement { seq, epoch });
        self.by_seq.entry(seq).or_default().push((slot, check));
    }

    /// Batches up to `seq` were heard.
    pub(super) fn acked(&mut self, seq: Seq) {
        let later = self.by_seq.split_off(&seq.next());
        for (seq, statements) in std::mem::replace(&mut self.by_seq, later) {
            for statement in statements {
                if self
                    .unacked
                    .get(&statement)
                    .is_some_and(|last| last.seq == seq)
                {
                    self.unacked.remove(&statement);
                }
            }
        }
    }

    /// Whether the schedulers will still hear, and heed, what was said last about a check.
    fn will_be_heard(&self, slot: ShardSlot, epoch: Option<Epoch>, check: CheckId) -> bool {
        let last = self.unacked.get(&(slot, check));
        last.is_some_and(|last| Some(last.epoch) == epoch)
    }

    /// Minds for the checks of a slot that is taken, with those of its version before.
    pub(super) fn minds(
        &mut self,
        slot: ShardSlot,
        epoch: Epoch,
        checks: &Checks,
        old: Option<(&Checks, &[Mind])>,
    ) -> Vec<Mind> {
        let said = self.said.remove(&slot).unwrap_or_default();
        let heard = self.heard.remove(&slot);
        let new = |check: &CheckId| {
            let fails = |heard: &Arc<[CheckId]>| heard.binary_search(check).is_ok();
            let said = said.get(check).copied();
            let told = match &heard {
                Some(_) if said.is_some() && self.will_be_heard(slot, Some(epoch), *check) => said,
                Some(heard) if fails(heard) => Some(Seen::Failing),
                Some(_) => None,
                None => said,
            };
            let told = told.unwrap_or(Seen::Up);
            Mind { told, ..Mind::NEW }
        };
        let of = |check: &CheckId| {
            let before = old.and_then(|(old, minds)| minds.get(old.find(*check)?).copied());
            before.unwrap_or_else(|| new(check))
        };
        checks.ids().iter().map(of).collect()
    }
}

impl Agent {
    /// Takes what the schedulers believe of some slots, completely.
    pub(super) fn believe(&mut self, beliefs: Beliefs) {
        let Beliefs { slots, mut failing } = beliefs;
        failing.sort_unstable();
        let failing: Arc<[CheckId]> = failing.into();
        for slot in slots {
            if self.wanted.awaits(slot) {
                self.spoken.heard.insert(slot, failing.clone());
            }
            let Some(holding) = self.table.slot_mut(slot) else {
                continue;
            };
            let epoch = self.wanted.epoch(slot);
            for (check, mind) in holding.checks.ids().iter().zip(&mut holding.minds) {
                if !self.spoken.will_be_heard(slot, epoch, *check) {
                    mind.told = mind.told.heard(failing.binary_search(check).is_ok());
                }
            }
        }
    }
}
