//! Probes on behalf of the schedulers, for their vote.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use picket_wire::control::ProbeOrder;
use picket_wire::evidence::{Role, TraceContext};
use picket_wire::id::OrderId;
use picket_wire::limits::TIMEOUT_MIN;
use picket_wire::outcome::Probe;
use picket_wire::time::{Span, Timestamp};

use crate::Attempt;
use crate::admission::{Class, Destination};
use crate::agent::Agent;
use crate::agent::effect::Effect;
use crate::agent::probing::{Flight, Purpose, evidence};
use crate::belief::Seen;

/// Orders that are remembered, so that a repeated one is not carried out twice.
const ORDERS_KNOWN: usize = 4_096;

/// What the first try may take of the time that an order leaves, and what both may: the rest is
/// for the way to the schedulers.
const FIRST_TENTHS: u64 = 6;
const BOTH_TENTHS: u64 = 9;
/// A try that ends with its timeout ends a little after it.
const LEEWAY: Span = Span(50);

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

/// A probe for an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vote {
    order: OrderId,
    until: Timestamp,
}

impl Agent {
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
        spec.timeout = spec
            .timeout
            .min(tenths(within, FIRST_TENTHS))
            .max(TIMEOUT_MIN);
        let until = self.now + tenths(within, BOTH_TENTHS);
        let purpose = Purpose::Vote(Vote { order, until });
        let flight = Flight::new(Arc::new(spec), place, self.now, purpose);
        self.launch(flight, Attempt::Vote, trace, effects);
    }

    pub(super) fn vote_probed(
        &mut self,
        mut flight: Flight,
        vote: Vote,
        probe: Probe,
        trace: Option<TraceContext>,
        effects: &mut Vec<Effect>,
    ) {
        let Vote { order, until } = vote;
        let left = until.since(self.now);
        let settled = Seen::of(&probe) != Seen::Failing || flight.first.is_some();
        if !settled && left >= TIMEOUT_MIN {
            let timeout = flight.spec.timeout.min(left);
            Arc::make_mut(&mut flight.spec).timeout = timeout;
            return self.retry(flight, probe, trace, effects);
        }
        let role = Role::Voter { order };
        let evidence = evidence(&flight, role, probe, trace, self.healthy);
        if self.now <= until + LEEWAY && self.lanes.say(evidence, self.now).is_some() {
            self.stats.votes += 1;
        } else {
            self.stats.orders_dropped += 1;
        }
        self.admission.give_back(flight.place);
    }
}

const fn tenths(span: Span, tenths: u64) -> Span {
    Span(span.0 * tenths / 10)
}
