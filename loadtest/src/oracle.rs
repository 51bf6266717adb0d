//! What must be true of every run, and a judge machine that sees each entry when it commits.
//!
//! Each oracle keeps books of its own, from what was committed, what was synced and what was
//! said, and complains when they do not agree with what the mesh did. The first complaint ends
//! the run.

pub(crate) mod delivery;
pub(crate) mod liveness;
pub(crate) mod ownership;
pub(crate) mod recovery;
pub(crate) mod stories;

use std::collections::BTreeSet;
use std::rc::Rc;

use picket_scheduler_core::command::Command;
use picket_scheduler_core::invariant;
use picket_scheduler_core::machine::{Entry, Faults, Machine};
use picket_scheduler_core::state::State;
use picket_wire::evidence::Evidence;
use picket_wire::fact::{Fact, FactBody};
use picket_wire::id::{AgentId, CheckId};
use picket_wire::state::{State as Public, Verdict};

use crate::oracle::delivery::Delivery;
use crate::oracle::ownership::Ownership;
use crate::oracle::recovery::Recovery;
use crate::oracle::stories::Stories;
use crate::sim::coverage::{Coverage, Met};
use crate::sim::raft::Logged;

/// Something that must be true and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which oracle says so.
    pub(crate) oracle: &'static str,
    /// What is wrong.
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) const fn new(oracle: &'static str, detail: String) -> Self {
        Self { oracle, detail }
    }
}

/// The first thing that an oracle complained about.
#[derive(Debug, Default)]
pub(crate) struct Complaint(Option<String>);

impl Complaint {
    /// Complains unless `holds`.
    pub(crate) fn unless(&mut self, holds: bool, detail: impl FnOnce() -> String) {
        if !holds && self.0.is_none() {
            self.0 = Some(detail());
        }
    }

    fn take(&self, oracle: &'static str) -> Option<Violation> {
        self.0
            .as_ref()
            .map(|detail| Violation::new(oracle, detail.clone()))
    }
}

/// What an entry says that may count, by the oracles' own books.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Records of batches that are the next of their lane.
    pub(crate) fresh: Vec<(AgentId, Evidence)>,
    /// Checks about which somebody spoke who may, whether or not that was heard before.
    pub(crate) heard: BTreeSet<CheckId>,
}

/// All oracles.
#[derive(Debug)]
pub(crate) struct Oracles {
    judge: Machine,
    planted: Faults,
    committed: u64,
    pub(crate) ownership: Ownership,
    pub(crate) delivery: Delivery,
    pub(crate) stories: Stories,
    pub(crate) recovery: Recovery,
}

impl Oracles {
    pub(crate) fn new(planted: Faults) -> Self {
        let judge = Machine::with_faults(planted);
        Self {
            planted,
            committed: 0,
            ownership: Ownership::default(),
            delivery: Delivery::default(),
            stories: Stories::default(),
            recovery: Recovery::new(judge.hash()),
            judge,
        }
    }

    /// How many entries are committed.
    pub(crate) const fn committed(&self) -> u64 {
        self.committed
    }

    /// The state as of the last committed entry.
    pub(crate) const fn state(&self) -> &State {
        self.judge.state()
    }

    /// The next entry is committed.
    pub(crate) fn commit(
        &mut self,
        logged: &Rc<Logged>,
        coverage: &mut Coverage,
        note: &mut dyn FnMut(String),
    ) {
        self.committed += 1;
        if let Some(entry) = &logged.entry {
            self.judge(entry, coverage, note);
        }
        self.recovery.committed(self.committed, logged, &self.judge);
    }

    fn judge(&mut self, entry: &Entry, coverage: &mut Coverage, note: &mut dyn FnMut(String)) {
        let reading = self.read(entry, coverage);
        let skipped = self.judge.state().skipped;
        let mut facts = Vec::new();
        self.judge.apply(entry, &mut facts);
        let state = self.judge.state();
        coverage.met_times(
            Met::StaleEvidence,
            state.skipped.supplementary - skipped.supplementary,
        );
        coverage.met_times(Met::LateVote, state.skipped.late_votes - skipped.late_votes);
        for fact in &facts {
            cover(fact, state, coverage);
            note(brief(fact));
        }
        self.ownership.observe(entry, &reading, &facts, state);
        self.delivery.observe(entry, reading, &facts, state);
        self.stories.observe(&facts, state);
        self.recovery.stated(&facts);
        if let Err(violation) = invariant::check(state) {
            self.stories.broken.unless(false, || violation.to_string());
        }
    }

    fn read(&mut self, entry: &Entry, coverage: &mut Coverage) -> Reading {
        let mut reading = Reading::default();
        match &entry.command {
            Command::IngestEvidence(ingest) => {
                for batch in &ingest.batches {
                    for record in &batch.records {
                        if self.ownership.counts(batch.agent, record) {
                            reading.heard.insert(record.check.check);
                        }
                    }
                    if self.delivery.is_next(batch, self.judge.state(), coverage) {
                        let records = batch
                            .records
                            .iter()
                            .map(|record| (batch.agent, record.clone()));
                        reading.fresh.extend(records);
                    }
                }
            }
            Command::PointCatalogue(point) => {
                let gone = point
                    .pointers
                    .iter()
                    .map(|pointed| pointed.gone.len() as u64)
                    .sum();
                coverage.met_times(Met::RetiredMidIncident, gone);
            }
            _ => {}
        }
        reading
    }

    /// The first complaint, if there is one.
    pub(crate) fn broken(&self) -> Option<Violation> {
        self.ownership
            .broken
            .take("ownership")
            .or_else(|| self.delivery.broken.take("delivery"))
            .or_else(|| self.stories.broken.take("stories"))
            .or_else(|| self.recovery.broken.take("recovery"))
    }

    /// What can only be said when the run is over.
    pub(crate) fn at_the_end(&mut self) -> Option<Violation> {
        self.recovery.replay(self.planted, &self.judge);
        self.broken()
    }
}

/// Situations that show in facts.
fn cover(fact: &Fact, state: &State, coverage: &mut Coverage) {
    match &fact.body {
        FactBody::Transition(transition) => match transition.to {
            Public::Down => coverage.met(Met::ConfirmedDown),
            Public::Degraded => coverage.met(Met::RegionalFailure),
            Public::Unknown => coverage.met(Met::Unconfirmed),
            _ => {}
        },
        FactBody::Incident(incident) if incident.ended_at.is_some() => match incident.verdict {
            Some(Verdict::FalseAlarm) => coverage.met(Met::FalseAlarm),
            Some(Verdict::ConfirmedUp) => coverage.met(Met::ConfirmedUp),
            _ => {}
        },
        FactBody::Assigned(assigned) if assigned.epoch.0 > 1 => {
            coverage.met(Met::OwnerChanged);
            let mut open = state
                .index
                .open_in(assigned.slot.group, assigned.slot.shard);
            coverage.met_times(
                Met::OwnerChangedMidIncident,
                u64::from(open.next().is_some()),
            );
        }
        _ => {}
    }
}

/// A fact in a line.
fn brief(fact: &Fact) -> String {
    match &fact.body {
        FactBody::Transition(t) => {
            format!("{} {} to {} at {:?}", t.check.check, t.from, t.to, t.at)
        }
        FactBody::Incident(i) => {
            format!(
                "{} of {}: {} {:?} ended {:?}",
                i.id, i.check.check, i.state, i.verdict, i.ended_at
            )
        }
        FactBody::Testimony(t) => {
            format!(
                "{} on {} ok={} {:?}",
                t.agent,
                t.incident,
                t.evidence.is_ok(),
                t.counted
            )
        }
        FactBody::Group(group) => format!("{} {} open", group.id, group.open),
        FactBody::Agent(agent) => format!("{} {:?}", agent.agent, agent.change),
        FactBody::Assigned(a) => format!(
            "{} to {:?} epoch {} {:?}",
            a.slot, a.agent, a.epoch, a.cause
        ),
    }
}
