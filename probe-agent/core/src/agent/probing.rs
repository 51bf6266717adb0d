//! From due to done: windows, admission, tries, and what they make the agent say.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use picket_wire::check::CheckSpec;
use picket_wire::control::ProbeOrder;
use picket_wire::evidence::{CheckRef, Evidence, Role, TraceContext};
use picket_wire::id::{CheckId, OrderId, ShardSlot};
use picket_wire::limits::TIMEOUT_MIN;
use picket_wire::outcome::Probe;
use picket_wire::reason::{Reason, ReasonClass};
use picket_wire::time::{Span, Timestamp};

use crate::Attempt;
use crate::admission::{Class, Destination, NoPlace, Place};
use crate::agent::Agent;
use crate::agent::effect::Effect;
use crate::agent::input::Ticket;
use crate::belief::{Busy, Conclusion, Mind, Pace, Seen, Tried, conclude};
use crate::ring::Handle;
use crate::rollup::{PartId, Ran, Telling};
use crate::stats::Skip;

/// A check that is due longer than this is passed over: what a stall held up must not run in one
/// burst. Also the largest lateness that the product promises.
const LATE_MAX: Span = Span::from_secs(1);
/// A stall longer than this is not covered by any rollup: nobody watched.
const GAP_MAX: Span = Span::from_secs(10);
/// A probe that took longer is expected to do so again.
const HEAVY_US: u32 = 1_000_000;
/// Orders that are remembered, so that a repeated one is not carried out twice.
const ORDERS_KNOWN: usize = 4_096;

/// A probe under way.
#[derive(Debug)]
pub(super) struct Flight {
    spec: Arc<CheckSpec>,
    place: Place,
    due: Timestamp,
    purpose: Purpose,
    first: Option<FirstTry>,
}

#[derive(Debug)]
struct FirstTry {
    probe: Probe,
    trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    Own {
        slot: ShardSlot,
        part: PartId,
        index: usize,
    },
    Vote {
        order: OrderId,
        until: Timestamp,
    },
}

/// The orders that came lately.
#[derive(Debug, Default)]
pub(super) struct Orders {
    order: VecDeque<OrderId>,
    known: BTreeSet<OrderId>,
}

impl Orders {
    fn is_news(&mut self, order: OrderId) -> bool {
        if !self.known.insert(order) {
            return false;
        }
        self.order.push_back(order);
        if self.order.len() > ORDERS_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Agent {
    /// Starts, or counts as skipped, everything that is due by now.
    pub(super) fn run_due(&mut self, effects: &mut Vec<Effect>) {
        let end = self.now + Span(1);
        if end.since(self.rings.horizon()) > GAP_MAX {
            self.leave_gap();
        }
        loop {
            let until = end.min(self.window_end);
            self.walk(until, effects);
            if until < self.window_end {
                return;
            }
            self.new_parts(Telling::Spread);
        }
    }

    fn walk(&mut self, until: Timestamp, effects: &mut Vec<Effect>) {
        let mut due: Vec<(Handle, Timestamp)> = Vec::new();
        self.rings
            .walk(until, &self.table, |handle, at| due.push((handle, at)));
        for (handle, at) in due {
            self.run(handle, at, effects);
        }
    }

    /// Nobody watched between the horizon and now.
    fn leave_gap(&mut self) {
        let ends: Vec<PartId> = self.table.iter().map(|holding| holding.part).collect();
        for part in ends {
            self.rollups
                .close(part, self.rings.horizon(), Telling::AtOnce);
        }
        self.stats.gap += self.rings.skip_to(self.now, &self.table);
        self.open_parts();
    }

    /// Every holding counts anew from the horizon on.
    pub(super) fn new_parts(&mut self, telling: Telling) {
        for holding in self.table.iter() {
            self.rollups
                .close(holding.part, self.rings.horizon(), telling);
        }
        self.open_parts();
    }

    /// Opens a part for every holding, from the horizon on.
    pub(super) fn open_parts(&mut self) {
        let from = self.rings.horizon();
        self.window_end = self.rollups.window_end(from);
        for holding in self.table.iter_mut() {
            let line = holding.assigned;
            holding.part = self
                .rollups
                .open(line.slot, line.epoch, holding.checks.clone(), from);
        }
    }

    fn run(&mut self, handle: Handle, due: Timestamp, effects: &mut Vec<Effect>) {
        let (holding, index) = self.table.locate_mut(handle);
        let (slot, part) = (holding.assigned.slot, holding.part);
        self.rollups.due(part, index);
        self.stats.due += 1;
        if self.now.since(due) > LATE_MAX {
            return self.stats.skip(Skip::Stall, 1);
        }
        let mind = &mut holding.minds[index];
        if mind.busy == Busy::Probing {
            return self.stats.skip(Skip::Overrun, 1);
        }
        let spec = holding.checks.spec(index);
        match self
            .admission
            .take(mind.pace.into(), Destination::of(&spec))
        {
            Ok(place) => {
                mind.busy = Busy::Probing;
                self.rollups.started(part);
                self.stats.started += 1;
                let purpose = Purpose::Own { slot, part, index };
                let flight = Flight {
                    spec,
                    place,
                    due,
                    purpose,
                    first: None,
                };
                self.launch(flight, Attempt::Scheduled, None, effects);
            }
            Err(NoPlace::Full) => self.stats.skip(Skip::Full, 1),
            Err(NoPlace::Heavy) => self.stats.skip(Skip::Heavy, 1),
            Err(NoPlace::Destination) => self.stats.skip(Skip::Destination, 1),
        }
    }

    /// Probes on behalf of the schedulers, for their vote.
    pub(super) fn order(&mut self, order: ProbeOrder, effects: &mut Vec<Effect>) {
        let ProbeOrder {
            order,
            check,
            within,
            trace,
        } = order;
        let mut spec = check;
        if spec.validate().is_err() || !self.orders.is_news(order) {
            self.stats.orders_dropped += 1;
            return;
        }
        let Ok(place) = self.admission.take(Class::Order, Destination::of(&spec)) else {
            self.stats.orders_dropped += 1;
            return;
        };
        spec.timeout = spec.timeout.min(most_of(within)).max(TIMEOUT_MIN);
        let purpose = Purpose::Vote {
            order,
            until: self.now + within,
        };
        let flight = Flight {
            spec: Arc::new(spec),
            place,
            due: self.now,
            purpose,
            first: None,
        };
        self.launch(flight, Attempt::Vote, trace, effects);
    }

    fn launch(
        &mut self,
        flight: Flight,
        attempt: Attempt,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (spec, due) = (flight.spec.clone(), flight.due);
        effects.push(Effect::Probe {
            ticket,
            spec,
            due,
            attempt,
            trace,
        });
        self.flights.insert(ticket, flight);
    }

    /// Tries once more, at once.
    fn retry(
        &mut self,
        mut flight: Flight,
        probe: Probe,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        flight.first = Some(FirstTry { probe, trace });
        flight.due = self.now;
        self.launch(flight, Attempt::Retry, trace, effects);
    }

    pub(super) fn probed(
        &mut self,
        ticket: Ticket,
        probe: Probe,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(flight) = self.flights.remove(&ticket) else {
            return;
        };
        match flight.purpose {
            Purpose::Own { slot, part, index } => {
                self.own_probed(flight, (slot, part, index), probe, trace, effects);
            }
            Purpose::Vote { order, until } => {
                self.vote_probed(flight, order, until, probe, trace, effects);
            }
        }
    }

    fn own_probed(
        &mut self,
        flight: Flight,
        (slot, part, index): (ShardSlot, PartId, usize),
        probe: Probe,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        let check = flight.spec.id;
        let lateness = flight
            .first
            .as_ref()
            .map_or(probe.lateness, |first| first.probe.lateness);
        if is_blind(&probe, self.healthy) {
            self.stats.skip(Skip::Blind, 1);
            self.settle_mind(slot, check, Pace::Brisk, None);
            self.rollups.ran(part, index, lateness, Ran::Blind);
            return self.admission.give_back(flight.place);
        }
        let told = self.mind_of(slot, check).map(|mind| mind.told);
        let conclusion = told.map(|told| conclude(told, tried(&flight, probe.is_ok())));
        if conclusion == Some(Conclusion::Retry) {
            return self.retry(flight, probe, trace, effects);
        }
        self.stats.concluded += 1;
        let total_us = probe.phases.total_us;
        let ran = if probe.is_ok() {
            Ran::Ok(total_us)
        } else {
            Ran::Failed
        };
        let heavy = !probe.is_ok() || total_us > HEAVY_US;
        let pace = if heavy { Pace::Heavy } else { Pace::Brisk };
        self.rollups.ran(part, index, lateness, ran);
        let told = match conclusion {
            Some(Conclusion::Speak(seen)) => {
                self.speak(&flight, slot, probe, trace).then_some(seen)
            }
            Some(Conclusion::Silent(_) | Conclusion::Retry) | None => None,
        };
        self.settle_mind(slot, check, pace, told);
        self.admission.give_back(flight.place);
    }

    /// Says that the agent changed its mind; says whether that could be said now.
    fn speak(
        &mut self,
        flight: &Flight,
        slot: ShardSlot,
        probe: Probe,
        trace: Option<TraceContext>,
    ) -> bool {
        let Some(holding) = self.table.slot(slot) else {
            return false;
        };
        let role = Role::Owner {
            slot,
            epoch: holding.assigned.epoch,
        };
        let evidence = evidence(flight, role, probe, trace, self.healthy);
        let Some(seq) = self.lanes.say(evidence, self.now) else {
            self.stats.put_off += 1;
            return false;
        };
        self.stats.changes_of_mind += 1;
        self.spoken.note(slot, flight.spec.id, seq);
        true
    }

    fn vote_probed(
        &mut self,
        mut flight: Flight,
        order: OrderId,
        until: Timestamp,
        probe: Probe,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        let left = most_of(until.since(self.now));
        if !probe.is_ok() && flight.first.is_none() && left >= TIMEOUT_MIN {
            let timeout = flight.spec.timeout.min(left);
            Arc::make_mut(&mut flight.spec).timeout = timeout;
            return self.retry(flight, probe, trace, effects);
        }
        let healthy = self.healthy && !is_blind(&probe, self.healthy);
        let evidence = evidence(&flight, Role::Voter { order }, probe, trace, healthy);
        if self.now <= until && self.lanes.say(evidence, self.now).is_some() {
            self.stats.votes += 1;
        } else {
            self.stats.orders_dropped += 1;
        }
        self.admission.give_back(flight.place);
    }

    fn mind_of(&mut self, slot: ShardSlot, check: CheckId) -> Option<&mut Mind> {
        let holding = self.table.slot_mut(slot)?;
        let index = holding.checks.find(check)?;
        holding.minds.get_mut(index)
    }

    fn settle_mind(&mut self, slot: ShardSlot, check: CheckId, pace: Pace, told: Option<Seen>) {
        if let Some(mind) = self.mind_of(slot, check) {
            *mind = Mind {
                told: told.unwrap_or(mind.told),
                pace,
                busy: Busy::Idle,
            };
        }
    }
}

/// Nine tenths, so that a vote is not late by its own timeout.
const fn most_of(span: Span) -> Span {
    Span(span.0 / 10 * 9)
}

/// Whether a probe says something about this agent rather than about its target: what this agent
/// may not or cannot probe, and any failure while its reference checks fail too.
fn is_blind(probe: &Probe, healthy: bool) -> bool {
    let own = probe.reason.map(Reason::class) == Some(ReasonClass::Blocked);
    own || (!probe.is_ok() && !healthy)
}

fn tried(flight: &Flight, ok: bool) -> Tried {
    match (&flight.first, ok) {
        (None, true) => Tried::FirstOk,
        (None, false) => Tried::FirstFailed,
        (Some(_), true) => Tried::RetryOk,
        (Some(_), false) => Tried::RetryFailed,
    }
}

fn evidence(
    flight: &Flight,
    role: Role,
    probe: Probe,
    trace: Option<TraceContext>,
    vantage_healthy: bool,
) -> Evidence {
    let spec = &flight.spec;
    let check = CheckRef {
        check: spec.id,
        endpoint: spec.endpoint,
        site: spec.site,
    };
    match &flight.first {
        None => Evidence {
            check,
            probe,
            retry: None,
            vantage_healthy,
            role,
            trace,
        },
        Some(FirstTry {
            probe: first,
            trace: began,
        }) => Evidence {
            check,
            probe: first.clone(),
            retry: Some(probe),
            vantage_healthy,
            role,
            trace: began.or(trace),
        },
    }
}
