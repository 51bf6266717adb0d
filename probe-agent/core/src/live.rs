//! The live lane: what became of each second's probes, told to the leader a little later.
//!
//! A second is told once it is over and its quick probes are back; a slow probe reads as not
//! ended. Nothing is kept or repeated: evidence and rollups are what counts, this is what people
//! watch. Positions are those of the schedule that was announced last, so every change of the
//! rings ends the seconds that were being gathered.
//!
//! Owner: [`crate::Agent`]. Not here: the code itself ([`picket_wire::lane::live`]).

use std::collections::{BTreeMap, VecDeque};

use picket_wire::check::Cadence;
use picket_wire::lane::live::{LiveDue, LiveEncoder, LiveOutcome, LiveSecond, RingSizes};
use picket_wire::limits::INTERVALS_SECS;
use picket_wire::time::{Span, Timestamp};

use crate::due::Rings;
use crate::table::Table;

const SECOND: Span = Span::from_secs(1);
/// From the end of a second until it is told: most probes that end at all have ended, and what is
/// watched is still fresh.
const DELAY: Span = Span::from_secs(2);
/// Schedules are announced at most this often: an announcement names every slot.
const ANNOUNCE_GAP: Span = Span::from_secs(2);

/// Where the outcome of one probe goes.
#[derive(Debug, Clone, Copy)]
pub struct LivePlace {
    generation: u32,
    second: Timestamp,
    cadence: Cadence,
    offset: usize,
}

/// The seconds that are being gathered.
#[derive(Debug)]
pub struct Live {
    generation: u32,
    state: State,
    announce_at: Timestamp,
}

#[derive(Debug)]
enum State {
    /// The rings changed, or somebody new leads: announce before anything else.
    Unannounced,
    /// The leader knows the positions.
    Telling(Telling),
}

#[derive(Debug)]
struct Telling {
    encoder: LiveEncoder,
    /// Positions that stand for the same check as the one before, by ring: an agent that holds
    /// two slots of a shard. The announced order has each check once.
    repeated: BTreeMap<Cadence, Vec<u32>>,
    /// Consecutive seconds; the first is the next to be told.
    seconds: VecDeque<Second>,
    next: Timestamp,
}

#[derive(Debug, Default)]
struct Second {
    runs: BTreeMap<Cadence, Run>,
}

#[derive(Debug)]
struct Run {
    first: u32,
    outcomes: Vec<LiveOutcome>,
}

impl Live {
    /// Nothing announced.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            generation: 0,
            state: State::Unannounced,
            announce_at: Timestamp::MIN,
        }
    }

    /// The rings changed, or somebody new leads.
    pub fn interrupt(&mut self) {
        self.state = State::Unannounced;
    }

    /// Time was passed over: the seconds around it cannot be told.
    pub fn skip_to(&mut self, at: Timestamp) {
        if let State::Telling(telling) = &mut self.state {
            telling.seconds.clear();
            telling.next = whole_second_from(at);
        }
    }

    /// The leader lost its place.
    pub fn reset(&mut self) {
        if let State::Telling(telling) = &mut self.state {
            telling.encoder.reset();
        }
    }

    /// The clock was set.
    pub fn retime(&mut self, now: Timestamp) {
        self.announce_at = self.announce_at.min(now);
        self.interrupt();
    }

    /// When there is something to do, as long as somebody leads.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match &self.state {
            State::Unannounced => self.announce_at,
            State::Telling(telling) => telling.next + SECOND + DELAY,
        }
    }

    /// The number of a new schedule, when one must be announced now.
    pub fn announce(&mut self, now: Timestamp, rings: &Rings, table: &Table) -> Option<u32> {
        if !matches!(self.state, State::Unannounced) || now < self.announce_at {
            return None;
        }
        self.announce_at = now + ANNOUNCE_GAP;
        self.generation += 1;
        let repeated = repeated(rings, table);
        let encoder = LiveEncoder::new(self.generation, &sizes(rings, &repeated));
        let next = whole_second_from(rings.horizon());
        self.state = State::Telling(Telling {
            encoder,
            repeated,
            seconds: VecDeque::new(),
            next,
        });
        Some(self.generation)
    }

    /// A check is due at `at` and stands at `position` of its ring; returns where its outcome
    /// goes. Must be called in the order of the rings.
    pub fn due(&mut self, cadence: Cadence, position: usize, at: Timestamp) -> Option<LivePlace> {
        let State::Telling(telling) = &mut self.state else {
            return None;
        };
        let position = telling.announced(cadence, u32::try_from(position).ok()?)?;
        let index = usize::try_from(at.since(telling.next).0 / SECOND.0).ok()?;
        if at < telling.next {
            return None;
        }
        while telling.seconds.len() <= index {
            telling.seconds.push_back(Second::default());
        }
        let second = telling.seconds.get_mut(index)?;
        let run = second.runs.entry(cadence).or_insert(Run {
            first: position,
            outcomes: Vec::new(),
        });
        run.outcomes.push(LiveOutcome::Skipped);
        let offset = run.outcomes.len() - 1;
        Some(LivePlace {
            generation: self.generation,
            second: at.floor_to(SECOND),
            cadence,
            offset,
        })
    }

    /// A probe ended; what comes after its second was told is not told.
    pub fn ended(&mut self, place: LivePlace, outcome: LiveOutcome) {
        let State::Telling(telling) = &mut self.state else {
            return;
        };
        if place.generation != self.generation || place.second < telling.next {
            return;
        }
        let index = usize::try_from(place.second.since(telling.next).0 / SECOND.0).ok();
        let second = index.and_then(|index| telling.seconds.get_mut(index));
        let run = second.and_then(|second| second.runs.get_mut(&place.cadence));
        if let Some(slot) = run.and_then(|run| run.outcomes.get_mut(place.offset)) {
            *slot = outcome;
        }
    }

    /// The next second, when it is time to tell it.
    pub fn take(&mut self, now: Timestamp) -> Option<LiveSecond> {
        let State::Telling(telling) = &mut self.state else {
            return None;
        };
        if now < telling.next + SECOND + DELAY {
            return None;
        }
        let Second { runs } = telling.seconds.pop_front().unwrap_or_default();
        let dues: Vec<_> = runs
            .iter()
            .map(|(&cadence, Run { first, outcomes })| LiveDue {
                cadence,
                first: *first,
                outcomes,
            })
            .collect();
        let told = telling.encoder.second(telling.next, &dues);
        telling.next = telling.next + SECOND;
        Some(told)
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Telling {
    /// The position in the announced order; nothing for a repetition.
    fn announced(&self, cadence: Cadence, position: u32) -> Option<u32> {
        let Some(repeated) = self.repeated.get(&cadence) else {
            return Some(position);
        };
        match repeated.binary_search(&position) {
            Ok(_) => None,
            Err(before) => Some(position - u32::try_from(before).ok()?),
        }
    }
}

fn whole_second_from(at: Timestamp) -> Timestamp {
    (at + Span(SECOND.0 - 1)).floor_to(SECOND)
}

/// Looks for repetitions only where there can be any: it is a pass over all rings.
fn repeated(rings: &Rings, table: &Table) -> BTreeMap<Cadence, Vec<u32>> {
    let mut shards = table
        .assigned()
        .map(|line| (line.slot.group, line.slot.shard));
    let mut before = None;
    if !shards.any(|shard| before.replace(shard) == Some(shard)) {
        return BTreeMap::new();
    }
    let of_ring = |members: &[crate::ring::Handle]| {
        let mut last = None;
        let is_repeated = |(_, handle): &(u32, &crate::ring::Handle)| {
            let check = table.place(**handle).check;
            last.replace(check) == Some(check)
        };
        (0..)
            .zip(members)
            .filter(is_repeated)
            .map(|(position, _)| position)
            .collect()
    };
    rings
        .iter()
        .map(|(cadence, ring)| (cadence, of_ring(ring.members())))
        .collect()
}

fn sizes(rings: &Rings, repeated: &BTreeMap<Cadence, Vec<u32>>) -> RingSizes {
    let mut sizes = RingSizes::default();
    for (cadence, ring) in rings.iter() {
        let class = INTERVALS_SECS
            .iter()
            .position(|secs| *secs == cadence.secs());
        let twice = repeated.get(&cadence).map_or(0, Vec::len);
        if let Some(size) = class.and_then(|class| sizes.get_mut(class)) {
            *size = u32::try_from(ring.members().len() - twice).unwrap_or(u32::MAX);
        }
    }
    sizes
}
