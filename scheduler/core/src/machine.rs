//! The replicated machine: a pure fold over the log.
//!
//! The same entries in the same order give the same state, the same facts and the same replies
//! on every member. Time comes with the entry, stamped by the leader; the machine never lets it
//! run backwards. This file only dispatches.

use std::collections::BTreeSet;

use picket_wire::fact::{Fact, FactBody};
use picket_wire::id::{AgentId, NotificationGroupId};
use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

use crate::command::Command;
use crate::reply::{Reject, Reply};
use crate::snapshot::{self, RestoreError};
use crate::state::{Agent, Settings, State};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's wall clock when it proposed this.
    pub at: Timestamp,
    /// What is to be done.
    pub command: Command,
}

/// Bugs that can be switched on, to prove that the simulator finds them. For tests only; every
/// member of a cluster must have the same ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Shells acknowledge evidence before it is durable. The machine itself does not look at it.
    pub ack_before_durable: bool,
    /// A batch that was just applied is taken for a new one.
    pub dedupe_off_by_one: bool,
    /// Evidence under an old epoch passes, whoever sends it.
    pub epoch_ge: bool,
}

/// The machine. Owner: the consensus adapter of a member, or the simulator.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    state: State,
    faults: Faults,
}

impl Machine {
    /// A machine that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine that knows nothing and has bugs; for tests.
    #[must_use]
    pub fn with_faults(faults: Faults) -> Self {
        Self {
            faults,
            ..Self::default()
        }
    }

    /// Applies the next entry of the log and appends the facts that follow from it.
    pub fn apply(&mut self, entry: &Entry, facts: &mut Vec<Fact>) -> Reply {
        let at = entry.at.max(self.state.last_at);
        self.state.last_at = at;
        let mut fold = Fold {
            at,
            faults: self.faults,
            told: BTreeSet::new(),
            state: &mut self.state,
            facts,
        };
        let reply = fold
            .dispatch(&entry.command)
            .unwrap_or_else(Reply::Rejected);
        fold.finish();
        reply
    }

    /// What the machine knows.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The whole state as bytes. Equal states give equal bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        snapshot::encode(&self.state)
    }

    /// The machine that gave these bytes.
    ///
    /// # Errors
    /// When the bytes are not a snapshot that this build reads, or are damaged.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        Ok(Self {
            state: snapshot::decode(bytes)?,
            faults: Faults::default(),
        })
    }

    /// The same machine with other bugs; for tests.
    #[must_use]
    pub fn and_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// BLAKE3 of the snapshot: equal on every member that has applied the same entries.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        snapshot::hash(&self.state)
    }
}

/// One entry being applied: what a command may look at and change.
pub(crate) struct Fold<'a> {
    /// The entry's time, never before an earlier entry's.
    pub(crate) at: Timestamp,
    /// Switched-on bugs.
    pub(crate) faults: Faults,
    /// Notification groups that changed: each is told once per entry.
    pub(crate) told: BTreeSet<NotificationGroupId>,
    /// What the machine knows.
    pub(crate) state: &'a mut State,
    facts: &'a mut Vec<Fact>,
}

impl Fold<'_> {
    fn dispatch(&mut self, command: &Command) -> Result<Reply, Reject> {
        if self.state.settings.is_none() && !matches!(command, Command::InitCluster(_)) {
            return Err(Reject::NotInitialised);
        }
        match command {
            Command::InitCluster(c) => c.apply(self),
            Command::IssueJoinToken(c) => c.apply(self),
            Command::AdmitAgent(c) => c.apply(self),
            Command::RevokeAgent(c) => c.apply(self),
            Command::DrainAgent(c) => c.apply(self),
            Command::DefineGroup(c) => c.apply(self),
            Command::AssignShards(c) => c.apply(self),
            Command::PointCatalogue(c) => c.apply(self),
            Command::IngestEvidence(c) => c.apply(self),
            Command::ExpireOrders(c) => c.apply(self),
            Command::AdvanceCursor(c) => c.apply(self),
            Command::PutWebhook(c) => c.apply(self),
            Command::RemoveWebhook(c) => c.apply(self),
            Command::PutMaintenance(c) => c.apply(self),
            Command::RemoveMaintenance(c) => c.apply(self),
            Command::IssueApiToken(c) => c.apply(self),
            Command::RevokeApiToken(c) => c.apply(self),
        }
    }

    /// The settings. Every command but `InitCluster` is refused without them.
    pub(crate) fn settings(&self) -> &Settings {
        self.state
            .settings
            .as_ref()
            .expect("dispatch refuses commands before `InitCluster`")
    }

    /// States a fact.
    pub(crate) fn emit(&mut self, body: FactBody) {
        let seq = self.state.last_ids.fact.next();
        self.state.last_ids.fact.advance_to(seq);
        let fact = Fact {
            seq,
            at: self.at,
            body,
        };
        self.state.facts.insert(seq, fact.clone());
        self.facts.push(fact);
    }

    /// Changes an agent. Everything about agents goes through here, so that the index follows.
    pub(crate) fn change_agent<T>(
        &mut self,
        id: AgentId,
        change: impl FnOnce(&mut Agent) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let agent = self
            .state
            .agents
            .get_mut(&id)
            .ok_or(Reject::UnknownAgent(id))?;
        self.state.index.agent_went(agent);
        let changed = change(agent);
        self.state.index.agent_came(agent);
        changed
    }

    /// States what is told once per entry.
    fn finish(mut self) {
        for group in std::mem::take(&mut self.told) {
            self.tell_group(group);
        }
    }
}
