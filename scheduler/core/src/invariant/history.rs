//! What holds of every sequence of facts: a fold that notices when it does not.

use std::collections::BTreeMap;

use picket_wire::fact::{Fact, FactBody, Incident, Transition};
use picket_wire::id::{CheckId, FactSeq, IncidentId};
use picket_wire::state::{State, Verdict};
use picket_wire::time::Timestamp;

use super::{InvariantId, Violation, ensure};

/// What the facts so far have said. Grows with the history: for tests and the simulator.
#[derive(Debug, Clone, Default)]
pub struct History {
    last: FactSeq,
    states: BTreeMap<CheckId, (State, Timestamp)>,
    open: BTreeMap<CheckId, IncidentId>,
    incidents: BTreeMap<IncidentId, Incident>,
}

impl History {
    /// A history that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state of a check and since when; plainly up when no transition has spoken of it.
    #[must_use]
    pub fn state_of(&self, check: CheckId) -> Option<(State, Timestamp)> {
        self.states.get(&check).copied()
    }

    /// Every incident, as last stated.
    #[must_use]
    pub const fn incidents(&self) -> &BTreeMap<IncidentId, Incident> {
        &self.incidents
    }

    /// Takes the next fact.
    ///
    /// # Errors
    /// Names the first statement that it breaks.
    pub fn observe(&mut self, fact: &Fact) -> Result<(), Violation> {
        ensure(
            fact.seq == self.last.next(),
            InvariantId::FactsInOrder,
            || format!("{} after {}", fact.seq, self.last),
        )?;
        self.last = fact.seq;
        match &fact.body {
            FactBody::Transition(transition) => self.transition(fact.at, transition),
            FactBody::Incident(incident) => self.incident(incident),
            FactBody::Testimony(_)
            | FactBody::Group(_)
            | FactBody::Agent(_)
            | FactBody::Assigned(_) => Ok(()),
        }
    }

    fn transition(&mut self, now: Timestamp, transition: &Transition) -> Result<(), Violation> {
        let known = self.states.get(&transition.check.check).copied();
        let (state, since) = known.unwrap_or((State::Up, Timestamp::MIN));
        let chains = transition.from == state
            && transition.to != state
            && transition.at >= since
            && transition.at <= now;
        ensure(chains, InvariantId::TransitionsChain, || {
            format!("{transition:?} at {now:?} after {state} since {since:?}")
        })?;
        if transition.to == State::Down {
            let incident = transition.incident.and_then(|id| self.incidents.get(&id));
            let confirmed = incident.is_some_and(|incident| {
                incident.verdict == Some(Verdict::ConfirmedDown) && incident.ended_at.is_none()
            });
            ensure(confirmed, InvariantId::DownIsConfirmed, || {
                format!("{transition:?}")
            })?;
        }
        self.states
            .insert(transition.check.check, (transition.to, transition.at));
        Ok(())
    }

    fn incident(&mut self, incident: &Incident) -> Result<(), Violation> {
        let check = incident.check.check;
        let open = self.open.get(&check).copied();
        match self.incidents.get(&incident.id) {
            Some(before) => {
                let keeps = before.ended_at.is_none()
                    && before.check == incident.check
                    && before.started_at == incident.started_at
                    && before.reason == incident.reason
                    && incident
                        .ended_at
                        .is_none_or(|ended_at| ended_at >= before.started_at);
                ensure(keeps, InvariantId::IncidentsKeep, || {
                    format!("{incident:?} was {before:?}")
                })?;
                ensure(
                    open == Some(incident.id),
                    InvariantId::OneIncidentEach,
                    || format!("{incident:?} while {open:?} is open"),
                )?;
            }
            None => ensure(open.is_none(), InvariantId::OneIncidentEach, || {
                format!("{incident:?} while {open:?} is open")
            })?,
        }
        if incident.ended_at.is_some() {
            self.open.remove(&check);
        } else {
            self.open.insert(check, incident.id);
        }
        self.incidents.insert(incident.id, incident.clone());
        Ok(())
    }
}
