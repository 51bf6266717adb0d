//! The stories that facts tell: transitions chain, incidents alternate, closed ones never change.
//!
//! A naive twin of what the machine and Postgres keep: every transition and every version of
//! every incident, folded one by one and compared with the state after each entry.

use std::collections::BTreeMap;

use picket_scheduler_core::state::State;
use picket_wire::fact::{Fact, FactBody, Incident, Transition};
use picket_wire::id::{CheckId, FactSeq, IncidentId};
use picket_wire::state::{State as Public, Verdict};
use picket_wire::time::Timestamp;

use crate::oracle::Complaint;

/// What the facts have told so far.
#[derive(Debug, Default)]
pub(crate) struct Stories {
    last: FactSeq,
    now: BTreeMap<CheckId, (Public, Timestamp)>,
    incidents: BTreeMap<IncidentId, Incident>,
    open: BTreeMap<CheckId, IncidentId>,
    pub(crate) broken: Complaint,
}

impl Stories {
    /// An entry was applied.
    pub(crate) fn observe(&mut self, facts: &[Fact], state: &State) {
        for fact in facts {
            let (seq, last) = (fact.seq, self.last);
            self.broken
                .unless(seq == last.next(), || format!("fact {seq} after {last}"));
            self.last = seq;
            match &fact.body {
                FactBody::Transition(transition) => self.transition(fact.at, transition),
                FactBody::Incident(incident) => self.incident(incident),
                FactBody::Testimony(_)
                | FactBody::Group(_)
                | FactBody::Agent(_)
                | FactBody::Assigned(_) => {}
            }
        }
        if !facts.is_empty() {
            self.compare(state);
        }
    }

    fn transition(&mut self, decided_at: Timestamp, transition: &Transition) {
        let check = transition.check.check;
        let (state, since) = self
            .now
            .get(&check)
            .copied()
            .unwrap_or((Public::Up, Timestamp::MIN));
        let chains = transition.from == state
            && transition.to != transition.from
            && since <= transition.at
            && transition.at <= decided_at;
        self.broken.unless(chains, || {
            format!("{transition:?} decided at {decided_at:?}, after {state} since {since:?}")
        });
        let incident = transition.incident.and_then(|id| self.incidents.get(&id));
        let known = transition.incident.is_none()
            || incident.is_some_and(|incident| incident.check == transition.check);
        let confirmed = transition.to != Public::Down
            || incident.is_some_and(|incident| {
                incident.verdict == Some(Verdict::ConfirmedDown) && incident.ended_at.is_none()
            });
        self.broken.unless(known && confirmed, || {
            format!("{transition:?} with {incident:?}")
        });
        self.now.insert(check, (transition.to, transition.at));
    }

    fn incident(&mut self, incident: &Incident) {
        let check = incident.check.check;
        let open = self.open.get(&check).copied();
        let before = self.incidents.insert(incident.id, incident.clone());
        let (keeps, alternates) = match &before {
            None => (true, open.is_none()),
            Some(before) => {
                let same = before.check == incident.check
                    && before.started_at == incident.started_at
                    && before.reason == incident.reason;
                (same && before.ended_at.is_none(), open == Some(incident.id))
            }
        };
        self.broken
            .unless(keeps, || format!("{incident:?} was {before:?}"));
        self.broken.unless(alternates, || {
            format!("{incident:?} while {open:?} is open")
        });
        match incident.ended_at {
            Some(ended_at) => {
                self.open.remove(&check);
                let forwards = ended_at >= incident.started_at;
                self.broken
                    .unless(forwards, || format!("{incident:?} ends before it begins"));
            }
            None => {
                self.open.insert(check, incident.id);
            }
        }
    }

    /// The state says what the facts say.
    fn compare(&mut self, state: &State) {
        for (check, &(told, since)) in &self.now {
            let open = state.open.get(check);
            let kept = open.map_or(Public::Up, |open| open.stage.state());
            let agree = kept == told
                && open.is_none_or(|open| open.stage.state() == Public::Up || open.since == since);
            self.broken.unless(agree, || {
                format!("{check} is {kept}, the facts say {told} since {since:?}")
            });
        }
        let kept = state
            .open
            .iter()
            .filter_map(|(&check, open)| Some((check, open.stage.incident()?.id)));
        let agree = kept.eq(self
            .open
            .iter()
            .map(|(&check, &incident)| (check, incident)));
        self.broken
            .unless(agree, || format!("open by the facts: {:?}", self.open));
    }
}
