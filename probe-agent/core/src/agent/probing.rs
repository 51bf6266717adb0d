//! From due to done: windows, admission, tries, and what they make the agent say.

use std::sync::Arc;

use picket_wire::check::CheckSpec;
use picket_wire::evidence::{CheckRef, Evidence, Role, TraceContext};
use picket_wire::id::{CheckId, ShardSlot};
use picket_wire::outcome::Probe;
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};

use crate::Attempt;
use crate::admission::{Class, Destination, Place};
use crate::agent::Agent;
use crate::agent::effect::Effect;
use crate::agent::input::Ticket;
use crate::agent::voting::Vote;
use crate::belief::{Busy, Conclusion, Mind, Pace, Seen, Tried, conclude};
use crate::due::Due;
use crate::live::LivePlace;
use crate::rollup::{PartId, Ran, Telling};
use crate::stats::Skip;

/// A check that is due longer than this is passed over: what a stall held up must not run in one
/// burst. Also the largest lateness that the product promises.
const LATE_MAX: Span = Span::from_secs(1);
/// A stall longer than this is not covered by any rollup: nobody watched.
const GAP_MAX: Span = Span::from_secs(10);
/// A probe that took longer is expected to do so again.
const HEAVY_US: u32 = 1_000_000;

/// A probe under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) spec: Arc<CheckSpec>,
    pub(super) place: Place,
    due: Timestamp,
    /// Of the first try.
    lateness: Span,
    purpose: Purpose,
    pub(super) first: Option<FirstTry>,
}

impl Flight {
    pub(super) const fn new(
        spec: Arc<CheckSpec>,
        place: Place,
        due: Timestamp,
        purpose: Purpose,
    ) -> Self {
        Self {
            spec,
            place,
            due,
            lateness: Span::ZERO,
            purpose,
            first: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct FirstTry {
    probe: Probe,
    trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Own(Own),
    Vote(Vote),
}

/// A probe that was due here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    slot: ShardSlot,
    part: PartId,
    index: usize,
    live: Option<LivePlace>,
    /// Whether it was believed to fail when it was due.
    believed_failing: bool,
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
        let mut batch: Vec<Due> = Vec::new();
        self.rings.walk(until, |due| batch.push(due));
        for due in batch {
            self.run(due, effects);
        }
    }

    /// Nobody watched between the horizon and now.
    fn leave_gap(&mut self) {
        let ends: Vec<PartId> = self.table.iter().map(|holding| holding.part).collect();
        for part in ends {
            self.rollups
                .close(part, self.rings.horizon(), Telling::AtOnce);
        }
        self.stats.gap += self.rings.skip_to(self.now);
        self.live.skip_to(self.now);
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

    fn run(&mut self, due: Due, effects: &mut Vec<Effect>) {
        let Due {
            handle,
            cadence,
            position,
            at,
        } = due;
        let live = self.live.due(cadence, position, at);
        let (holding, index) = self.table.locate_mut(handle);
        let (slot, part) = (holding.assigned.slot, holding.part);
        self.rollups.due(part, index);
        self.stats.due += 1;
        if self.now.since(at) > LATE_MAX {
            return self.stats.skipped.add(Skip::Stall);
        }
        let mind = &mut holding.minds[index];
        if mind.busy == Busy::Probing {
            return self.stats.skipped.add(Skip::Overrun);
        }
        let spec = holding.checks.spec(index);
        let class = Class::from(mind.pace);
        let believed_failing = mind.told == Seen::Failing;
        match self.admission.take(class, Destination::of(&spec)) {
            Ok(place) => {
                mind.busy = Busy::Probing;
                self.rollups.started(part);
                self.stats.started += 1;
                let purpose = Purpose::Own(Own {
                    slot,
                    part,
                    index,
                    live,
                    believed_failing,
                });
                let flight = Flight::new(spec, place, at, purpose);
                self.launch(flight, Attempt::Scheduled, None, effects);
            }
            Err(no_place) => self.stats.skipped.add(no_place.into()),
        }
    }

    pub(super) fn launch(
        &mut self,
        flight: Flight,
        attempt: Attempt,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (spec, due) = (flight.spec.clone(), flight.due);
        let believed_failing = matches!(flight.purpose, Purpose::Own(own) if own.believed_failing);
        effects.push(Effect::Probe {
            ticket,
            spec,
            due,
            attempt,
            trace,
            believed_failing,
        });
        self.flights.insert(ticket, flight);
    }

    /// Tries once more, at once.
    pub(super) fn retry(
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
        let Some(mut flight) = self.flights.remove(&ticket) else {
            return;
        };
        if flight.first.is_none() {
            flight.lateness = probe.lateness;
        }
        match flight.purpose {
            Purpose::Own(own) => self.own_probed(flight, own, probe, trace, effects),
            Purpose::Vote(vote) => self.vote_probed(flight, vote, probe, trace, effects),
        }
    }

    fn own_probed(
        &mut self,
        flight: Flight,
        own: Own,
        probe: Probe,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        if is_blind(&probe, self.healthy) {
            self.stats.skipped.add(Skip::Blind);
            return self.finish(flight, own, Ran::Blind, Pace::Brisk, None);
        }
        let told = self.mind_of(own, flight.spec.id).map(|mind| mind.told);
        let tried = tried(&flight, &probe);
        let conclusion = told.map(|told| conclude(told, tried));
        if conclusion == Some(Conclusion::Retry) {
            return self.retry(flight, probe, trace, effects);
        }
        let (ran, pace) = self.account(tried, &probe);
        let told = match conclusion {
            Some(Conclusion::Speak(seen)) => {
                self.speak(&flight, own.slot, probe, trace).then_some(seen)
            }
            Some(Conclusion::Silent | Conclusion::Retry) | None => None,
        };
        self.finish(flight, own, ran, pace, told);
    }

    /// What a probe that came to a conclusion counts as.
    fn account(&mut self, tried: Tried, probe: &Probe) -> (Ran, Pace) {
        if tried == Tried::Blocked {
            self.stats.skipped.add(Skip::Blocked);
            return (Ran::Blind, Pace::Brisk);
        }
        self.stats.concluded += 1;
        let total_us = probe.phases.total_us;
        match probe.reason {
            Some(reason) => (Ran::Failed(reason), Pace::Heavy),
            None if total_us > HEAVY_US => (Ran::Ok(total_us), Pace::Heavy),
            None => (Ran::Ok(total_us), Pace::Brisk),
        }
    }

    /// Counts a probe of an own check and gives its place back.
    fn finish(&mut self, flight: Flight, own: Own, ran: Ran, pace: Pace, told: Option<Seen>) {
        let Own {
            part, index, live, ..
        } = own;
        let Flight {
            spec,
            place,
            lateness,
            ..
        } = flight;
        self.rollups.ran(part, index, lateness, ran);
        if let Some(live) = live {
            self.live.ended(live, ran.into());
        }
        if let Some(mind) = self.mind_of(own, spec.id) {
            *mind = Mind {
                told: told.unwrap_or(mind.told),
                pace,
                busy: Busy::Idle,
            };
        }
        self.admission.give_back(place);
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
        let epoch = self.wanted.epoch(slot).unwrap_or(holding.assigned.epoch);
        let role = Role::Owner { slot, epoch };
        let evidence = evidence(flight, role, probe, trace, self.healthy);
        let Some(seq) = self.lanes.say(evidence, self.now) else {
            self.stats.put_off += 1;
            return false;
        };
        self.stats.changes_of_mind += 1;
        self.spoken.note(slot, epoch, flight.spec.id, seq);
        true
    }

    /// What is thought of the check of a probe, if it is still held. Its place is as it was when
    /// the probe began, unless its shard's catalogue has changed since.
    fn mind_of(&mut self, own: Own, check: CheckId) -> Option<&mut Mind> {
        let holding = self.table.slot_mut(own.slot)?;
        let is_there = holding.checks.ids().get(own.index) == Some(&check);
        let index = if is_there {
            own.index
        } else {
            holding.checks.find(check)?
        };
        holding.minds.get_mut(index)
    }
}

/// Whether a probe says something about this agent alone: it lacked means to probe, or its own
/// reference checks failed too.
fn is_blind(probe: &Probe, healthy: bool) -> bool {
    probe.reason == Some(Reason::AgentFault) || (!probe.is_ok() && !healthy)
}

fn tried(flight: &Flight, probe: &Probe) -> Tried {
    match (Seen::of(probe), &flight.first) {
        (Seen::Up, _) => Tried::Ok,
        (Seen::Blocked, _) => Tried::Blocked,
        (Seen::Failing, None) => Tried::FailedOnce,
        (Seen::Failing, Some(_)) => Tried::FailedTwice,
    }
}

pub(super) fn evidence(
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
