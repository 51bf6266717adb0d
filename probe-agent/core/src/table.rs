//! Every check that the agent holds, packed by shard.
//!
//! An agent may hold hundreds of thousands of checks and touches a few thousand a second, so what
//! is kept per check is counted in bytes: its specification stays an archive until it is probed,
//! and everything else is a column.
//!
//! Owner: [`crate::Agent`]. Invariant: handles of one holding are consecutive and are not used
//! again while a ring may still hold them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use picket_wire::assignment::Assigned;
use picket_wire::check::{Cadence, CheckSpec};
use picket_wire::dispersal::phase_ms;
use picket_wire::id::{CheckId, EndpointId, ShardSlot};

use crate::belief::Mind;
use crate::ring::{Handle, Place};
use crate::rollup::PartId;

/// The checks of one version of one shard, sorted by id; never changes.
#[derive(Debug)]
pub struct Checks {
    ids: Vec<CheckId>,
    endpoints: Vec<EndpointId>,
    cadences: Vec<Cadence>,
    /// Where each archive ends in `archives`.
    ends: Vec<u32>,
    archives: Vec<u8>,
}

impl Checks {
    /// Packs a catalogue.
    ///
    /// # Panics
    /// When the archives of one shard exceed 4 GiB, which the bound on blobs rules out.
    #[must_use]
    pub fn pack(mut catalogue: Vec<CheckSpec>) -> Self {
        catalogue.sort_unstable_by_key(|spec| spec.id);
        catalogue.dedup_by_key(|spec| spec.id);
        let mut archives = Vec::new();
        let mut ends = Vec::with_capacity(catalogue.len());
        for spec in &catalogue {
            let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(spec)
                .expect("writing an archive of plain fields into memory cannot fail");
            archives.extend_from_slice(&bytes);
            ends.push(u32::try_from(archives.len()).expect("a blob is bounded far below 4 GiB"));
        }
        archives.shrink_to_fit();
        Self {
            ids: catalogue.iter().map(|spec| spec.id).collect(),
            endpoints: catalogue.iter().map(|spec| spec.endpoint).collect(),
            cadences: catalogue.iter().map(|spec| spec.cadence).collect(),
            ends,
            archives,
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Ids, sorted.
    #[must_use]
    pub fn ids(&self) -> &[CheckId] {
        &self.ids
    }

    /// The endpoint of the check at `index`.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> EndpointId {
        self.endpoints[index]
    }

    /// The place of a check.
    #[must_use]
    pub fn find(&self, check: CheckId) -> Option<usize> {
        self.ids.binary_search(&check).ok()
    }

    /// Unpacks the check at `index`.
    ///
    /// # Panics
    /// When the archive does not read back: it was written by [`Self::pack`] in this process.
    #[must_use]
    pub fn spec(&self, index: usize) -> Arc<CheckSpec> {
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        let archive = &self.archives[start..self.ends[index] as usize];
        let spec = rkyv::from_bytes::<CheckSpec, rkyv::rancor::Error>(archive);
        Arc::new(spec.expect("an archive written by this process reads back"))
    }
}

/// One slot that the agent probes.
#[derive(Debug)]
pub struct Holding {
    /// Under which epoch, from which blob.
    pub assigned: Assigned,
    /// Its checks.
    pub checks: Arc<Checks>,
    /// What the agent thinks of each.
    pub minds: Vec<Mind>,
    /// The rollup that counts its probes now.
    pub part: PartId,
    /// The handles of its checks; one without a check when there is none.
    pub handles: Range<u32>,
}

/// Handles that a holding of these checks occupies; an empty one occupies one, so that bases
/// differ.
fn span(checks: &Checks) -> u32 {
    u32::try_from(checks.len().max(1)).expect("a blob is bounded far below 4 G checks")
}

/// All holdings.
#[derive(Debug, Default)]
pub struct Table {
    /// Sorted by base.
    holdings: Vec<Holding>,
    bases: Vec<u32>,
    by_slot: BTreeMap<ShardSlot, u32>,
    next_base: u32,
}

impl Table {
    /// How many slots are held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.holdings.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.holdings.is_empty()
    }

    /// How many checks are held.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.holdings
            .iter()
            .map(|holding| holding.checks.len())
            .sum()
    }

    /// The holdings, in the order of their handles.
    pub fn iter(&self) -> impl Iterator<Item = &Holding> {
        self.holdings.iter()
    }

    /// The holdings, in the order of their handles.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Holding> {
        self.holdings.iter_mut()
    }

    /// What is held, sorted by slot.
    pub fn assigned(&self) -> impl Iterator<Item = &Assigned> {
        self.by_slot
            .values()
            .filter_map(|base| self.at_base(*base))
            .map(|holding| &holding.assigned)
    }

    /// The holding of a slot.
    #[must_use]
    pub fn slot(&self, slot: ShardSlot) -> Option<&Holding> {
        self.at_base(*self.by_slot.get(&slot)?)
    }

    /// The holding of a slot.
    pub fn slot_mut(&mut self, slot: ShardSlot) -> Option<&mut Holding> {
        let at = self.bases.binary_search(self.by_slot.get(&slot)?).ok()?;
        self.holdings.get_mut(at)
    }

    /// Whether as many handles are left.
    #[must_use]
    pub fn has_room(&self, checks: &Checks) -> bool {
        self.next_base.checked_add(span(checks)).is_some()
    }

    /// Puts a slot in, which must not be held.
    ///
    /// # Panics
    /// When it is held, or handles ran out ([`Self::has_room`]).
    pub fn insert(
        &mut self,
        assigned: Assigned,
        checks: Arc<Checks>,
        minds: Vec<Mind>,
        part: PartId,
    ) {
        let base = self.next_base;
        assert_eq!(minds.len(), checks.len(), "one mind per check");
        self.next_base = base.checked_add(span(&checks)).expect("has_room was asked");
        let before = self.by_slot.insert(assigned.slot, base);
        assert!(before.is_none(), "{} is held twice", assigned.slot);
        self.bases.push(base);
        self.holdings.push(Holding {
            assigned,
            checks,
            minds,
            part,
            handles: base..self.next_base,
        });
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: ShardSlot) -> Option<Holding> {
        let base = self.by_slot.remove(&slot)?;
        let at = self
            .bases
            .binary_search(&base)
            .expect("both indices name the same holdings");
        self.bases.remove(at);
        Some(self.holdings.remove(at))
    }

    /// Gives every holding new handles from zero on; every ring must be filled again.
    pub fn renumber(&mut self) {
        let holdings = std::mem::take(self).holdings;
        for Holding {
            assigned,
            checks,
            minds,
            part,
            handles: _,
        } in holdings
        {
            self.insert(assigned, checks, minds, part);
        }
    }

    /// The holding and the index in it that a handle stands for.
    ///
    /// # Panics
    /// When no holding has it: rings are changed together with the table.
    #[must_use]
    pub fn locate(&self, handle: Handle) -> (&Holding, usize) {
        let (at, index) = self.position(handle);
        (&self.holdings[at], index)
    }

    /// The holding and the index in it that a handle stands for.
    ///
    /// # Panics
    /// As [`Self::locate`].
    pub fn locate_mut(&mut self, handle: Handle) -> (&mut Holding, usize) {
        let (at, index) = self.position(handle);
        (&mut self.holdings[at], index)
    }

    /// Where a check stands in its ring.
    #[must_use]
    pub fn place(&self, handle: Handle) -> Place {
        let (holding, index) = self.locate(handle);
        let check = holding.checks.ids[index];
        let phase_ms = phase_ms(check, holding.checks.cadences[index]);
        Place {
            phase_ms,
            check,
            slot: holding.assigned.slot,
        }
    }

    fn at_base(&self, base: u32) -> Option<&Holding> {
        self.holdings.get(self.bases.binary_search(&base).ok()?)
    }

    fn position(&self, handle: Handle) -> (usize, usize) {
        let at = self
            .bases
            .partition_point(|base| *base <= handle.0)
            .wrapping_sub(1);
        (at, (handle.0 - self.bases[at]) as usize)
    }
}

/// The handles of a holding by cadence.
pub(crate) fn by_cadence(holding: &Holding) -> BTreeMap<Cadence, Vec<Handle>> {
    let mut rings: BTreeMap<Cadence, Vec<Handle>> = BTreeMap::new();
    for (cadence, handle) in holding.checks.cadences.iter().zip(holding.handles.clone()) {
        rings.entry(*cadence).or_default().push(Handle(handle));
    }
    rings
}
