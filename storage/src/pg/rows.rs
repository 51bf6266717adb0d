//! Facts as rows: pure, one pass, columns ready for `unnest` and COPY.
//!
//! Where a table keeps only the newest statement (incidents, groups, endpoint state), the last fact
//! about a key wins here already, because one statement may touch a row only once.

use std::collections::BTreeMap;

use picket_wire::dispersal;
use picket_wire::evidence::{CheckRef, TraceContext};
use picket_wire::fact::{
    AgentChange, AgentFact, AssignCause, AssignedFact, Counted, Fact, FactBody, Incident,
    NotificationGroup, Testimony, Transition,
};
use picket_wire::id::{
    AgentId, EndpointId, Epoch, FactSeq, IncidentId, NotificationGroupId, ShardSlot,
};
use picket_wire::time::Timestamp;

/// A statement with the fact's number and time.
#[derive(Debug)]
pub(crate) struct Stated<'a, T> {
    pub(crate) seq: FactSeq,
    pub(crate) at: Timestamp,
    pub(crate) body: &'a T,
}

// By hand, because deriving would ask the same of `T`.
impl<T> Clone for Stated<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Stated<'_, T> {}

/// A line of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audit {
    pub(crate) kind: &'static str,
    pub(crate) change: &'static str,
    pub(crate) agent: Option<AgentId>,
    pub(crate) slot: Option<(ShardSlot, Epoch)>,
}

/// The rows of some consecutive facts.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) transitions: Vec<Stated<'a, Transition>>,
    pub(crate) states: BTreeMap<EndpointId, Stated<'a, Transition>>,
    pub(crate) incidents: BTreeMap<IncidentId, Stated<'a, Incident>>,
    pub(crate) testimony: Vec<Stated<'a, Testimony>>,
    pub(crate) groups: BTreeMap<NotificationGroupId, Stated<'a, NotificationGroup>>,
    pub(crate) audit: Vec<(FactSeq, Timestamp, Audit)>,
}

impl<'a> Rows<'a> {
    /// Sorts facts into tables.
    pub(crate) fn of(facts: &'a [Fact]) -> Self {
        let mut rows = Self::default();
        for fact in facts {
            rows.push(fact);
        }
        rows
    }

    fn push(&mut self, fact: &'a Fact) {
        let (seq, at) = (fact.seq, fact.at);
        match &fact.body {
            FactBody::Transition(body) => {
                let stated = Stated { seq, at, body };
                self.transitions.push(stated);
                self.states.insert(body.check.endpoint, stated);
            }
            FactBody::Incident(body) => {
                self.incidents.insert(body.id, Stated { seq, at, body });
            }
            FactBody::Testimony(body) => self.testimony.push(Stated { seq, at, body }),
            FactBody::Group(body) => {
                self.groups.insert(body.id, Stated { seq, at, body });
            }
            FactBody::Agent(body) => self.audit.push((seq, at, audit_agent(body))),
            FactBody::Assigned(body) => self.audit.push((seq, at, audit_assigned(body))),
        }
    }
}

fn audit_agent(fact: &AgentFact) -> Audit {
    let change = match fact.change {
        AgentChange::Admitted => "admitted",
        AgentChange::Readmitted => "readmitted",
        AgentChange::Drained => "drained",
        AgentChange::Resumed => "resumed",
        AgentChange::Revoked => "revoked",
    };
    Audit {
        kind: "agent",
        change,
        agent: Some(fact.agent),
        slot: None,
    }
}

fn audit_assigned(fact: &AssignedFact) -> Audit {
    let change = match fact.cause {
        AssignCause::Initial => "initial",
        AssignCause::LeaseExpired => "lease_expired",
        AssignCause::Drained => "drained",
        AssignCause::Revoked => "revoked",
        AssignCause::Rebalanced => "rebalanced",
        AssignCause::Emptied => "emptied",
    };
    Audit {
        kind: "assigned",
        change,
        agent: fact.agent,
        slot: Some((fact.slot, fact.epoch)),
    }
}

/// The stored shard of an endpoint. Facts name the endpoint only; its shard is a function of the id
/// and never changes, so nothing need be looked up, and history outlives the catalogue row.
pub(crate) fn shard_of(endpoint: EndpointId, shards: u32) -> i32 {
    dispersal::shard_of(endpoint, shards).0.cast_signed()
}

/// The ids of a check, as stored.
pub(crate) struct StoredCheck {
    pub(crate) shard: i32,
    pub(crate) endpoint: i64,
    pub(crate) check: i64,
    pub(crate) site: i64,
}

impl StoredCheck {
    pub(crate) fn of(check: &CheckRef, shards: u32) -> Self {
        Self {
            shard: shard_of(check.endpoint, shards),
            endpoint: check.endpoint.0.cast_signed(),
            check: check.check.0.cast_signed(),
            site: check.site.0.cast_signed(),
        }
    }
}

/// Text that Postgres takes: it has no NUL, and one in what a peer said must not stop history.
pub(crate) fn text(said: &str) -> String {
    said.replace('\0', "\u{fffd}")
}

/// Trace id and span id in one.
pub(crate) fn trace_bytes(trace: Option<&TraceContext>) -> Option<Vec<u8>> {
    trace.map(|trace| [&trace.trace[..], &trace.span[..]].concat())
}

/// Reads what [`trace_bytes`] wrote.
pub(crate) fn trace_of(bytes: &[u8]) -> Option<TraceContext> {
    let (trace, span) = bytes.split_first_chunk()?;
    Some(TraceContext {
        trace: *trace,
        span: span.try_into().ok()?,
    })
}

/// Stored numbers of [`Counted`]; never reuse one.
const COUNTED: [(Counted, i16); 6] = [
    (Counted::Yes, 1),
    (Counted::UnhealthyVantage, 2),
    (Counted::Late, 3),
    (Counted::Repeated, 4),
    (Counted::SameVantage, 5),
    (Counted::Abstained, 6),
];

pub(crate) fn counted_code(counted: Counted) -> i16 {
    match counted {
        Counted::Yes => 1,
        Counted::UnhealthyVantage => 2,
        Counted::Late => 3,
        Counted::Repeated => 4,
        Counted::SameVantage => 5,
        Counted::Abstained => 6,
    }
}

pub(crate) fn counted_of(code: i16) -> Option<Counted> {
    COUNTED
        .iter()
        .find(|(_, stored)| *stored == code)
        .map(|(counted, _)| *counted)
}

#[cfg(test)]
mod tests {
    use picket_wire::id::{CheckId, SiteId};
    use picket_wire::state::State;

    use super::*;

    fn transition(seq: u64, endpoint: u64, to: State) -> Fact {
        let check = CheckRef {
            check: CheckId(1),
            endpoint: EndpointId(endpoint),
            site: SiteId(1),
        };
        let body = Transition {
            check,
            from: State::Up,
            to,
            at: Timestamp(5),
            reason: None,
            incident: None,
        };
        Fact {
            seq: FactSeq(seq),
            at: Timestamp(9),
            body: FactBody::Transition(body),
        }
    }

    #[test]
    fn the_last_transition_of_an_endpoint_is_its_state_and_all_are_history() {
        let facts = [
            transition(1, 7, State::SeemsDown),
            transition(2, 8, State::Down),
            transition(3, 7, State::Down),
        ];
        let rows = Rows::of(&facts);
        assert_eq!(rows.transitions.len(), 3);
        assert_eq!(rows.states.len(), 2);
        assert_eq!(rows.states[&EndpointId(7)].seq, FactSeq(3));
    }

    #[test]
    fn counted_reads_back_from_its_number() {
        for (counted, code) in COUNTED {
            assert_eq!(counted_code(counted), code);
            assert_eq!(counted_of(code), Some(counted));
        }
        assert_eq!(counted_of(0), None);
    }

    #[test]
    fn a_trace_reads_back_and_other_lengths_do_not() {
        let trace = TraceContext {
            trace: [7; 16],
            span: [9; 8],
        };
        let bytes = trace_bytes(Some(&trace)).unwrap();
        assert_eq!(trace_of(&bytes), Some(trace));
        assert_eq!(trace_of(&bytes[1..]), None);
    }

    #[test]
    fn text_loses_its_nul_bytes_only() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
    }
}
