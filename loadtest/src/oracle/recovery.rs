//! What a restart rebuilds equals what was there.
//!
//! Every member passes through the same states at the same places of the log, whether it went
//! there entry by entry, from a snapshot and the log behind it, or from another member's
//! snapshot. Postgres has the facts that the log stated, each once, in order.

use std::collections::BTreeMap;
use std::rc::Rc;

use picket_scheduler_core::machine::{Faults, Machine};
use picket_wire::fact::Fact;
use picket_wire::id::{FactSeq, MemberId};

use crate::oracle::Complaint;
use crate::sim::member::COMPARED_EVERY;
use crate::sim::raft::Logged;

/// The books about the log.
#[derive(Debug)]
pub(crate) struct Recovery {
    log: Vec<Rc<Logged>>,
    hashes: BTreeMap<u64, [u8; 32]>,
    facts: Vec<Fact>,
    pub(crate) broken: Complaint,
}

impl Recovery {
    /// Books of an empty log; `hash` is an empty machine's.
    pub(crate) fn new(hash: [u8; 32]) -> Self {
        Self {
            log: Vec::new(),
            hashes: BTreeMap::from([(0, hash)]),
            facts: Vec::new(),
            broken: Complaint::default(),
        }
    }

    /// An entry is committed and the judge has applied it.
    pub(crate) fn committed(&mut self, index: u64, logged: &Rc<Logged>, judge: &Machine) {
        self.log.push(Rc::clone(logged));
        if index.is_multiple_of(COMPARED_EVERY) {
            self.hashes.insert(index, judge.hash());
        }
    }

    /// These facts were stated.
    pub(crate) fn stated(&mut self, facts: &[Fact]) {
        self.facts.extend_from_slice(facts);
    }

    /// How many facts were stated.
    pub(crate) fn last_fact(&self) -> FactSeq {
        self.facts.last().map(|fact| fact.seq).unwrap_or_default()
    }

    /// A fact, if it was stated.
    pub(crate) fn fact(&self, seq: FactSeq) -> Option<&Fact> {
        self.facts.get(usize::try_from(seq.0.checked_sub(1)?).ok()?)
    }

    /// A member is about to apply an entry: it must be the committed one.
    pub(crate) fn applies(&mut self, member: MemberId, index: u64, logged: &Rc<Logged>) {
        let nth = usize::try_from(index - 1).unwrap_or(usize::MAX);
        let same = self
            .log
            .get(nth)
            .is_some_and(|committed| Rc::ptr_eq(committed, logged));
        self.broken.unless(same, || {
            format!("{member} applies something else at {index}")
        });
    }

    /// A member has this hash after so many entries.
    pub(crate) fn compare(&mut self, member: MemberId, index: u64, hash: [u8; 32]) {
        let same = self.hashes.get(&index) == Some(&hash);
        self.broken
            .unless(same, || format!("{member} has another state at {index}"));
    }

    /// Postgres commits a fact behind its cursor.
    pub(crate) fn projected(&mut self, cursor: FactSeq, fact: &Fact) {
        let next = fact.seq == cursor.next() && self.fact(fact.seq) == Some(fact);
        self.broken
            .unless(next, || format!("projected after {cursor}: {fact:?}"));
    }

    /// Something cannot be rebuilt.
    pub(crate) fn failed(&mut self, detail: String) {
        self.broken.unless(false, || detail);
    }

    /// The whole log, applied anew, gives the judge's state and the same facts; so does a machine
    /// that is written down and read again after every entry at which states are compared.
    pub(crate) fn replay(&mut self, planted: Faults, judge: &Machine) {
        let mut facts = Vec::new();
        let mut machine = Machine::with_faults(planted);
        for (index, logged) in (1_u64..).zip(&self.log) {
            if let Some(entry) = &logged.entry {
                machine.apply(entry, &mut facts);
            }
            if index.is_multiple_of(COMPARED_EVERY * 8) {
                match Machine::restore(&machine.snapshot()) {
                    Ok(restored) => machine = restored.and_faults(planted),
                    Err(error) => self
                        .broken
                        .unless(false, || format!("snapshot at {index}: {error}")),
                }
            }
        }
        let same = machine.hash() == judge.hash() && facts == self.facts;
        self.broken.unless(same, || {
            "the log applied anew gives another state".to_owned()
        });
    }
}
