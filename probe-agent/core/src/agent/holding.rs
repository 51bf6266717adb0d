//! Which slots the agent probes: from a digest over blobs to rings, beliefs and rollups.
//!
//! A digest is complete, so what it does not list is dropped at once. What it adds or changes
//! waits for its blob; until then the version before goes on. New holdings enter the rings
//! together, because changing a large ring costs a pass over it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use picket_wire::assignment::Assigned;
use picket_wire::check::{Cadence, CheckSpec};
use picket_wire::id::{BlobHash, Epoch, ShardSlot};
use picket_wire::limits::BLOBS_WANTED_MAX;
use picket_wire::time::{Span, Timestamp};

use crate::agent::Agent;
use crate::agent::effect::Effect;
use crate::belief::Seen;
use crate::ring::Handle;
use crate::rollup::Telling;
use crate::table::{Checks, by_cadence};

/// A blob that did not come is asked for again after this long: one period of the digest.
const ASK_AGAIN: Span = Span::from_secs(5);
/// Rings are changed at most this often, and less often the larger they are.
const CHANGE_GAP: Span = Span(20);
/// Checks in the rings per further millisecond of that gap: a change of two million checks takes
/// some 20 ms, and shall take at most a tenth of the time.
const CHECKS_PER_GAP_MS: u64 = 10_000;

/// What is assigned and not probed yet.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The whole digest, as last taken.
    digest: BTreeMap<ShardSlot, Assigned>,
    /// Slots that lack the blob they should be probed from, by blob.
    lacking: BTreeMap<BlobHash, BTreeSet<ShardSlot>>,
    /// When blobs that lack were asked for.
    asked: BTreeMap<BlobHash, Timestamp>,
    /// Slots whose blob came and that wait for the next change of the rings.
    ready: BTreeMap<ShardSlot, Arc<Checks>>,
    /// When the rings may be changed again.
    change_at: Timestamp,
    /// Whether the digest changed since it was persisted.
    persist: bool,
    /// When to look for blobs that did not come.
    ask_at: Option<Timestamp>,
}

impl Wanted {
    /// The rings may be changed again at this time or earlier.
    pub(super) fn change_by(&mut self, at: Timestamp) {
        self.change_at = self.change_at.min(at);
    }

    /// The epoch under which the slot is assigned, also while it is still probed under another.
    pub(super) fn epoch(&self, slot: ShardSlot) -> Option<Epoch> {
        self.digest.get(&slot).map(|line| line.epoch)
    }

    /// Whether the slot will be probed from a blob that it is not probed from yet.
    pub(super) fn awaits(&self, slot: ShardSlot) -> bool {
        let line = self.digest.get(&slot);
        let lacks = line.and_then(|line| self.lacking.get(&line.blob));
        self.ready.contains_key(&slot) || lacks.is_some_and(|slots| slots.contains(&slot))
    }
}

impl Agent {
    /// Takes a complete digest.
    pub(super) fn assign(&mut self, assigned: Vec<Assigned>) {
        let mut digest: BTreeMap<ShardSlot, Assigned> =
            assigned.into_iter().map(|line| (line.slot, line)).collect();
        for holding in self.table.iter() {
            // A leader whose state is behind may list an epoch that is over.
            let held = holding.assigned;
            digest.entry(held.slot).and_modify(|line| {
                if line.epoch < held.epoch {
                    *line = held;
                }
            });
        }
        if digest != self.wanted.digest {
            self.wanted.digest = digest;
            self.wanted.persist = true;
            self.reconcile();
        }
    }

    /// Compares what is held with what is wanted.
    fn reconcile(&mut self) {
        let digest = &self.wanted.digest;
        let mut gone: Vec<ShardSlot> = Vec::new();
        let mut raised: Vec<Assigned> = Vec::new();
        let mut lacking: BTreeMap<BlobHash, BTreeSet<ShardSlot>> = BTreeMap::new();
        for held in self.table.assigned() {
            match digest.get(&held.slot) {
                None => gone.push(held.slot),
                Some(line) if line.blob == held.blob && line != held => raised.push(*line),
                Some(_) => {}
            }
        }
        for line in digest.values() {
            if self
                .table
                .slot(line.slot)
                .is_none_or(|held| held.assigned.blob != line.blob)
            {
                lacking.entry(line.blob).or_default().insert(line.slot);
            }
        }
        self.wanted
            .asked
            .retain(|blob, _| lacking.contains_key(blob));
        self.wanted.lacking = lacking;
        self.wanted.ready.clear();
        self.wanted.ask_at = Some(self.now);
        self.drop_slots(&gone);
        raised.into_iter().for_each(|line| self.raise(line));
    }

    /// Stops probing slots, within this step.
    pub(super) fn drop_slots(&mut self, slots: &[ShardSlot]) {
        let mut removed = Vec::new();
        for holding in slots.iter().filter_map(|slot| self.table.remove(*slot)) {
            self.rollups
                .close(holding.part, self.rings.horizon(), Telling::AtOnce);
            removed.push(holding.handles);
        }
        if !removed.is_empty() {
            self.rings.change(removed, BTreeMap::new(), &self.table);
            self.live.interrupt();
        }
    }

    /// The same checks under another epoch or version number.
    fn raise(&mut self, line: Assigned) {
        let from = self.rings.horizon();
        let Some(holding) = self.table.slot_mut(line.slot) else {
            return;
        };
        if holding.assigned.epoch != line.epoch {
            self.rollups.close(holding.part, from, Telling::AtOnce);
            holding.part = self
                .rollups
                .open(line.slot, line.epoch, holding.checks.clone(), from);
            // What was said under the epoch before may have been fenced: what fails is said again.
            for mind in &mut holding.minds {
                mind.told = Seen::Up;
            }
        }
        holding.assigned = line;
    }

    /// A blob came.
    pub(super) fn fetched(&mut self, blob: BlobHash, checks: Vec<CheckSpec>) {
        self.wanted.asked.remove(&blob);
        let Some(slots) = self.wanted.lacking.remove(&blob) else {
            return;
        };
        let checks = Arc::new(Checks::pack(checks));
        let ready = slots.into_iter().map(|slot| (slot, checks.clone()));
        self.wanted.ready.extend(ready);
        self.wanted.ask_at = Some(self.now);
    }

    /// Moves what is ready into the rings, and asks for what is missing.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        if !self.wanted.ready.is_empty() && self.now >= self.wanted.change_at {
            let ready = std::mem::take(&mut self.wanted.ready);
            self.hold(ready);
            let checks = u64::try_from(self.rings.len()).unwrap_or(u64::MAX);
            let gap = CHANGE_GAP + Span(checks / CHECKS_PER_GAP_MS);
            self.wanted.change_at = self.now + gap;
        }
        if std::mem::take(&mut self.wanted.persist) {
            effects.push(Effect::Persist(
                self.wanted.digest.values().copied().collect(),
            ));
        }
        if self.wanted.ask_at.is_some_and(|at| at <= self.now) {
            self.ask(effects);
        }
    }

    pub(super) fn settle_deadline(&self) -> Option<Timestamp> {
        let change = (!self.wanted.ready.is_empty()).then_some(self.wanted.change_at);
        [change, self.wanted.ask_at].into_iter().flatten().min()
    }

    fn hold(&mut self, ready: BTreeMap<ShardSlot, Arc<Checks>>) {
        let from = self.rings.horizon();
        let mut removed: Vec<Range<u32>> = Vec::new();
        let mut added: BTreeMap<Cadence, Vec<Handle>> = BTreeMap::new();
        for (slot, checks) in ready {
            let Some(&line) = self.wanted.digest.get(&slot) else {
                continue;
            };
            if !self.table.has_room(&checks) {
                self.renumber(&mut removed, &mut added);
            }
            let before = self.table.remove(slot);
            if let Some(before) = &before {
                removed.push(before.handles.clone());
                self.rollups.close(before.part, from, Telling::AtOnce);
            }
            let old = before
                .as_ref()
                .map(|before| (&*before.checks, before.minds.as_slice()));
            let minds = self.spoken.minds(slot, line.epoch, &checks, old);
            let part = self.rollups.open(slot, line.epoch, checks.clone(), from);
            self.table.insert(line, checks, minds, part);
            for (cadence, handles) in self.table.slot(slot).map(by_cadence).unwrap_or_default() {
                added.entry(cadence).or_default().extend(handles);
            }
        }
        self.rings.change(removed, added, &self.table);
        self.live.interrupt();
    }

    /// Handles ran out: every holding gets new ones, and the rings are filled anew.
    fn renumber(
        &mut self,
        removed: &mut Vec<Range<u32>>,
        added: &mut BTreeMap<Cadence, Vec<Handle>>,
    ) {
        self.table.renumber();
        self.rings.clear();
        removed.clear();
        added.clear();
        for (cadence, handles) in self.table.iter().flat_map(by_cadence) {
            added.entry(cadence).or_default().extend(handles);
        }
    }

    /// Asks for blobs that lack and were not asked for lately.
    fn ask(&mut self, effects: &mut Vec<Effect>) {
        let again = |asked: &Timestamp| *asked + ASK_AGAIN;
        let waiting = self
            .wanted
            .asked
            .values()
            .filter(|asked| again(asked) > self.now)
            .count();
        let is_due = |blob: &&BlobHash| {
            self.wanted
                .asked
                .get(blob)
                .is_none_or(|at| again(at) <= self.now)
        };
        let room = BLOBS_WANTED_MAX.saturating_sub(waiting);
        let blobs: Vec<BlobHash> = self
            .wanted
            .lacking
            .keys()
            .filter(is_due)
            .take(room)
            .copied()
            .collect();
        self.wanted
            .asked
            .extend(blobs.iter().map(|blob| (*blob, self.now)));
        self.wanted.ask_at = self.wanted.asked.values().map(again).min();
        if !blobs.is_empty() {
            effects.push(Effect::Fetch {
                member: self.links.leader(),
                blobs,
            });
        }
    }

    /// Asks for everything again: somebody new leads.
    pub(super) fn ask_anew(&mut self) {
        self.wanted.asked.clear();
        self.wanted.ask_at = (!self.wanted.lacking.is_empty()).then_some(self.now);
    }
}
