//! What was due and what ran, counted per slot and window.
//!
//! A part is what one owner saw of one slot under one epoch and one version of its catalogue in
//! one window, or in the piece of the window in which all of that held. Parts of one slot follow
//! each other without a gap as long as the agent probes it; what no part covers was not observed.
//! A part is told after its end, when its last probe came back: between ends of windows and the
//! telling lies a spread by slot, so that a whole agent does not speak in one instant.
//!
//! Owner: [`crate::Agent`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use picket_wire::id::{Epoch, ShardSlot};
use picket_wire::lane::live::LiveOutcome;
use picket_wire::lane::rollup::{CheckRollup, ShardRollup};
use picket_wire::latency;
use picket_wire::limits::TIMEOUT_MAX;
use picket_wire::reason::Reason;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::table::Checks;

/// Length of a window until a scheduler names another.
pub const WINDOW_DEFAULT: Span = Span::from_secs(300);
/// How long a part waits for probes in flight: two tries at the longest timeout, and some.
const GRACE: Span = Span(2 * TIMEOUT_MAX.0 + 5_000);
/// How often a part that waits is looked at again.
const LOOK_AGAIN: Span = Span(500);
/// The telling of a window's parts is spread over this part of the window, as a divisor, and at
/// most [`SPREAD_MAX`]: coverage should be known soon.
const SPREAD_DIVISOR: u64 = 10;
const SPREAD_MAX: Span = Span::from_secs(20);
/// Latencies are folded into counts beyond this many per check; sparser ones are smaller raw.
const RAW_PER_CHECK: usize = 8;

/// Names a part within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartId(u64);

/// What became of a probe that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It was ok, in so many microseconds.
    Ok(u32),
    /// It was not, and why.
    Failed(Reason),
    /// It says nothing about its target.
    Blind,
}

impl From<Ran> for LiveOutcome {
    fn from(ran: Ran) -> Self {
        match ran {
            Ran::Ok(us) => Self::Ok(latency::bucket(us)),
            Ran::Failed(reason) => Self::Failed(reason),
            Ran::Blind => Self::Skipped,
        }
    }
}

/// Counts of one check in one part. A window holds at most 3,600 probes of a check.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    due: u16,
    ran: u16,
    ok: u16,
    lateness_max_ms: u16,
}

#[derive(Debug)]
struct Part {
    slot: ShardSlot,
    epoch: Epoch,
    window: Timestamp,
    from: Timestamp,
    state: PartState,
    checks: Arc<Checks>,
    tallies: Vec<Tally>,
    latencies: Latencies,
    in_flight: u32,
}

#[derive(Debug, Clone, Copy)]
enum PartState {
    Open,
    Closed { until: Timestamp },
}

/// All parts that are open or wait for their last probes.
#[derive(Debug)]
pub struct Rollups {
    window: Span,
    parts: BTreeMap<PartId, Part>,
    closed: BTreeSet<(Timestamp, PartId)>,
    next: u64,
}

impl Rollups {
    /// None, in windows of this length.
    #[must_use]
    pub const fn new(window: Span) -> Self {
        Self {
            window,
            parts: BTreeMap::new(),
            closed: BTreeSet::new(),
            next: 0,
        }
    }

    /// Length of a window.
    #[must_use]
    pub const fn window(&self) -> Span {
        self.window
    }

    /// Changes the length of windows for parts opened from now on.
    pub const fn set_window(&mut self, window: Span) {
        self.window = window;
    }

    /// The end of the window that holds `at`.
    #[must_use]
    pub fn window_end(&self, at: Timestamp) -> Timestamp {
        at.floor_to(self.window) + self.window
    }

    /// When the next part may be told.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.closed.first().map(|(at, _)| *at)
    }

    /// Begins to count for a slot.
    pub fn open(
        &mut self,
        slot: ShardSlot,
        epoch: Epoch,
        checks: Arc<Checks>,
        from: Timestamp,
    ) -> PartId {
        let id = PartId(self.next);
        self.next += 1;
        let part = Part {
            slot,
            epoch,
            window: from.floor_to(self.window),
            from,
            state: PartState::Open,
            tallies: vec![Tally::default(); checks.len()],
            checks,
            latencies: Latencies::default(),
            in_flight: 0,
        };
        self.parts.insert(id, part);
        id
    }

    /// Ends a part: it covers what lies before `until`. At the end of a window its telling is
    /// spread; a slot that leaves is told at once.
    pub fn close(&mut self, id: PartId, until: Timestamp, telling: Telling) {
        let Some(part) = self.parts.get_mut(&id) else {
            return;
        };
        part.state = PartState::Closed { until };
        let wait = match telling {
            Telling::AtOnce => Span::ZERO,
            Telling::Spread => spread(part.slot, self.window),
        };
        self.closed.insert((until + wait, id));
    }

    /// Counts a probe that is due.
    pub fn due(&mut self, id: PartId, index: usize) {
        if let Some(tally) = self.tally(id, index) {
            tally.due = tally.due.saturating_add(1);
        }
    }

    /// Notes that a probe was started; the part waits for it.
    pub fn started(&mut self, id: PartId) {
        if let Some(part) = self.parts.get_mut(&id) {
            part.in_flight += 1;
        }
    }

    /// Counts what became of it.
    pub fn ran(&mut self, id: PartId, index: usize, lateness: Span, ran: Ran) {
        let Some(part) = self.parts.get_mut(&id) else {
            return;
        };
        part.in_flight = part.in_flight.saturating_sub(1);
        let Some(tally) = part.tallies.get_mut(index) else {
            return;
        };
        if ran == Ran::Blind {
            return;
        }
        tally.ran = tally.ran.saturating_add(1);
        let lateness = u16::try_from(lateness.0).unwrap_or(u16::MAX);
        tally.lateness_max_ms = tally.lateness_max_ms.max(lateness);
        if let Ran::Ok(us) = ran {
            tally.ok = tally.ok.saturating_add(1);
            part.latencies.add(
                index,
                latency::bucket(us),
                RAW_PER_CHECK * part.tallies.len(),
            );
        }
    }

    /// The next part whose time to be told has come.
    pub fn take_told(&mut self, now: Timestamp) -> Option<ShardRollup> {
        loop {
            let &(at, id) = self.closed.first().filter(|(at, _)| *at <= now)?;
            self.closed.remove(&(at, id));
            let part = self.parts.get(&id)?;
            let PartState::Closed { until } = part.state else {
                continue;
            };
            let last = until + GRACE;
            if part.in_flight > 0 && now < last {
                self.closed.insert(((now + LOOK_AGAIN).min(last), id));
            } else {
                return self.parts.remove(&id).map(|part| part.tell(until));
            }
        }
    }

    /// The clock was set to `now`: what is closed is told from then on.
    pub fn retime(&mut self, now: Timestamp) {
        let closed = std::mem::take(&mut self.closed);
        self.closed = closed
            .into_iter()
            .map(|(at, id)| (at.min(now), id))
            .collect();
    }

    /// Everything that is closed, at once: the process ends.
    pub fn take_all_closed(&mut self) -> Vec<ShardRollup> {
        let ids: Vec<PartId> = std::mem::take(&mut self.closed)
            .into_iter()
            .map(|(_, id)| id)
            .collect();
        let told = ids.into_iter().filter_map(|id| self.parts.remove(&id));
        told.filter_map(|part| match part.state {
            PartState::Open => None,
            PartState::Closed { until } => Some(part.tell(until)),
        })
        .collect()
    }

    fn tally(&mut self, id: PartId, index: usize) -> Option<&mut Tally> {
        self.parts.get_mut(&id)?.tallies.get_mut(index)
    }
}

/// When a part that ended is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// As soon as its probes are back.
    AtOnce,
    /// Later by a spread that depends on the slot.
    Spread,
}

/// Fibonacci hashing: neighbouring shards fall far apart.
fn spread(slot: ShardSlot, window: Span) -> Span {
    let room = (window.0 / SPREAD_DIVISOR).min(SPREAD_MAX.0);
    let hash = u64::from(slot.shard.0.wrapping_mul(0x9e37_79b9));
    Span((hash * room) >> 32)
}

impl Part {
    fn tell(self, until: Timestamp) -> ShardRollup {
        let Self {
            slot,
            epoch,
            window,
            from,
            checks,
            tallies,
            latencies,
            ..
        } = self;
        let mut counts = latencies.fold().into_iter().peekable();
        let mut told = Vec::new();
        for (index, (tally, check)) in tallies.into_iter().zip(checks.ids()).enumerate() {
            let mut latency = Vec::new();
            while let Some((_, bucket, count)) = counts.next_if(|(of, _, _)| *of == index) {
                latency.push((bucket, count));
            }
            if tally.due == 0 && tally.ran == 0 {
                continue;
            }
            told.push(CheckRollup {
                check: *check,
                endpoint: checks.endpoint(index),
                due: tally.due.into(),
                ran: tally.ran.into(),
                ok: tally.ok.into(),
                lateness_max_ms: tally.lateness_max_ms.into(),
                latency,
            });
        }
        let covered = Interval::new(from, until.max(from));
        ShardRollup {
            slot,
            epoch,
            window,
            covered,
            checks: told,
        }
    }
}

/// Latency buckets of the ok probes of a part, four bytes each until they repeat.
#[derive(Debug, Default)]
struct Latencies {
    /// `index << 8 | bucket`.
    raw: Vec<u32>,
    /// Sorted, with counts.
    folded: Vec<(u32, u32)>,
}

impl Latencies {
    fn add(&mut self, index: usize, bucket: u8, raw_max: usize) {
        // A shard of more than 16 M checks does not fit a blob; were there one, the checks
        // beyond would go without a sketch rather than spoil another's.
        if let Some(key) = u32::try_from(index).ok().filter(|index| *index < 1 << 24) {
            self.raw.push(key << 8 | u32::from(bucket));
            if self.raw.len() >= raw_max {
                self.compact();
            }
        }
    }

    fn compact(&mut self) {
        let mut all = std::mem::take(&mut self.folded);
        all.extend(self.raw.drain(..).map(|key| (key, 1)));
        all.sort_unstable_by_key(|(key, _)| *key);
        all.dedup_by(|next, first| {
            let same = next.0 == first.0;
            first.1 += if same { next.1 } else { 0 };
            same
        });
        self.folded = all;
    }

    fn fold(mut self) -> Vec<(usize, u8, u32)> {
        self.compact();
        let split = |(key, count): (u32, u32)| ((key >> 8) as usize, key.to_le_bytes()[0], count);
        self.folded.into_iter().map(split).collect()
    }
}
