//! The agent as one value: ring, beliefs, rollups, outboxes and links, driven step by step.
//!
//! The shell waits for an input or for [`Agent::deadline`], calls [`Agent::step`] once and does
//! what the effects say. The agent goes on probing what it was given last, whoever is gone:
//! a lease that ran out stops nothing, because two owners cost a few requests and no owner costs
//! an outage; the schedulers fence by epoch. What is known of the world lives in the parts:
//! `holding` (what to probe), `probing` (probes and beliefs), `talking` (schedulers and lanes).

pub mod effect;
mod holding;
pub mod input;
mod probing;
mod spoken;
mod talking;
mod voting;

use std::collections::BTreeMap;

use picket_wire::time::{Span, Timestamp};

use crate::admission::Admission;
use crate::agent::effect::Effect;
use crate::agent::holding::Wanted;
use crate::agent::input::{Input, Resume, Settings, Ticket};
use crate::agent::probing::Flight;
use crate::agent::spoken::Spoken;
use crate::agent::talking::{Lanes, Lease};
use crate::agent::voting::Orders;
use crate::due::Rings;
use crate::link::Links;
use crate::live::Live;
use crate::rollup::{Rollups, Telling, WINDOW_DEFAULT};
use crate::stats::Stats;
use crate::table::Table;

/// Due checks are handed out at multiples of this: a hundred wake-ups a second, whatever the
/// number of checks, at the price of 5 ms of lateness in the mean.
const TICK: Span = Span(10);

/// Time that seems to run backwards by more than this means that the clock was set; less is only
/// waited out. Our clocks slew smaller errors themselves.
const SET_BACK: Span = Span(500);

/// The core of one agent.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    now: Timestamp,
    healthy: bool,
    table: Table,
    rings: Rings,
    wanted: Wanted,
    rollups: Rollups,
    live: Live,
    /// End of the window that the open parts belong to.
    window_end: Timestamp,
    admission: Admission,
    flights: BTreeMap<Ticket, Flight>,
    next_ticket: u64,
    orders: Orders,
    spoken: Spoken,
    lanes: Lanes,
    links: Links,
    lease: Lease,
    stats: Stats,
}

impl Agent {
    /// An agent that holds nothing yet and knows of earlier runs what `resume` says.
    #[must_use]
    pub fn new(settings: Settings, resume: &Resume, now: Timestamp) -> Self {
        let rollups = Rollups::new(WINDOW_DEFAULT);
        Self {
            now,
            healthy: true,
            table: Table::default(),
            rings: Rings::new(now),
            wanted: Wanted::default(),
            window_end: rollups.window_end(now),
            rollups,
            live: Live::new(),
            admission: Admission::new(settings.limits.in_flight, settings.limits.per_destination),
            flights: BTreeMap::new(),
            next_ticket: 0,
            orders: Orders::default(),
            spoken: Spoken::new(&resume.said),
            lanes: Lanes::new(resume),
            links: Links::new(&settings.members, settings.seed, now),
            lease: Lease::default(),
            stats: Stats::default(),
            settings,
        }
    }

    /// Takes one input and adds what must be done about it, and about the time, to `effects`.
    pub fn step(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        if now + SET_BACK < self.now {
            self.set_back(now);
        }
        self.now = self.now.max(now);
        self.run_due(effects);
        self.take(input, effects);
        self.settle(effects);
        self.talk(effects);
    }

    /// When [`Self::step`] must be called again, whatever happens.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        let due = self
            .rings
            .next_due()
            .map(|at| tick_after(at).max(self.rings.horizon()));
        let window = (!self.table.is_empty()).then_some(self.window_end);
        let parts = [
            due,
            window,
            self.rollups.deadline(),
            self.settle_deadline(),
            self.talk_deadline(),
        ];
        parts.into_iter().flatten().min().unwrap_or(Timestamp::MAX)
    }

    /// What it counts about itself.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What it holds.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// How many probes are under way.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.admission.running()
    }

    /// Who leads, when its connection is open.
    #[must_use]
    pub const fn links(&self) -> &Links {
        &self.links
    }

    /// Whether its own reference checks are ok.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// The clock was set to an earlier time: everything that waits for a time starts over, and
    /// what was watched so far is told as it was.
    fn set_back(&mut self, now: Timestamp) {
        for holding in self.table.iter() {
            self.rollups
                .close(holding.part, self.rings.horizon(), Telling::AtOnce);
        }
        self.now = now;
        self.rings.restart(now);
        self.open_parts();
        self.rollups.retime(now);
        self.lanes.retime(now);
        self.live.retime(now);
        self.links.retime(now);
        self.lease.renew_by(now);
        self.wanted.change_by(now);
        self.ask_anew();
    }

    fn take(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Connected(member) => self.greet(member, effects),
            Input::Disconnected(member) => self.links.disconnected(member, self.now),
            Input::Heard(member, message) => self.hear(member, message, effects),
            Input::Resumed(assigned) => self.assign(assigned),
            Input::Fetched(blob, checks) => self.fetched(blob, checks),
            Input::Probed {
                ticket,
                probe,
                trace,
            } => self.probed(ticket, probe, trace, effects),
            Input::Spooled { lane, seq } => self.lanes.progress_mut(lane).written(seq),
            Input::SpoolBytes(bytes) => self.lanes.spool_bytes = bytes,
            Input::ReferenceHealth(healthy) => self.healthy = healthy,
            Input::Leaving => self.leave(effects),
        }
    }
}

/// The first multiple of [`TICK`] at or after `at`.
fn tick_after(at: Timestamp) -> Timestamp {
    (at + Span(TICK.0 - 1)).floor_to(TICK)
}
