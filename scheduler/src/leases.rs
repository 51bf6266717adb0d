//! Leases and the leader's view of the fleet, in the memory of the member that leads.
//!
//! Sessions renew here, placement reads here. A new leader grants one full lease to everybody who
//! owns something or is connected: it cannot know who is gone before that time is over.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_scheduler_core::lease::LeaseBook;
use picket_scheduler_core::state::State;
use picket_wire::control::Renew;
use picket_wire::id::AgentId;
use picket_wire::name::Name;
use picket_wire::time::{Span, Timestamp};
use tokio::sync::watch;

/// The leader's view. Clones share everything.
#[derive(Debug, Clone)]
pub struct LeaderView {
    fleet: Arc<Mutex<Option<Fleet>>>,
    term: Arc<watch::Sender<Option<u64>>>,
}

#[derive(Debug)]
struct Fleet {
    book: LeaseBook,
    frozen: BTreeSet<Name>,
}

/// Who is alive, and where nothing is to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    pub(crate) live: BTreeSet<AgentId>,
    pub(crate) frozen: BTreeSet<Name>,
}

impl Default for LeaderView {
    fn default() -> Self {
        Self {
            fleet: Arc::default(),
            term: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl LeaderView {
    /// This member begins to lead: everybody in `state` who owns a slot or is `connected` gets a
    /// lease.
    pub(crate) fn begin(
        &self,
        term: u64,
        state: &State,
        connected: &BTreeSet<AgentId>,
        now: Timestamp,
    ) {
        let book = LeaseBook::new_leader(state, |agent| connected.contains(&agent), now);
        *self.fleet() = Some(Fleet {
            book,
            frozen: BTreeSet::new(),
        });
        self.term.send_replace(Some(term));
    }

    /// It leads no more.
    pub(crate) fn end(&self) {
        self.term.send_replace(None);
        *self.fleet() = None;
    }

    /// The term in which this member leads and has caught up, as a level to wait on.
    pub(crate) fn term(&self) -> watch::Receiver<Option<u64>> {
        self.term.subscribe()
    }

    /// Whether this member leads and has caught up with everything decided before.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.term.borrow().is_some()
    }

    /// An agent connected: it is alive, whatever was believed before.
    pub(crate) fn arrived(&self, agent: AgentId, region: &Name, now: Timestamp) {
        if let Some(fleet) = &mut *self.fleet()
            && !fleet.book.is_live(agent, now)
        {
            fleet.book.admit(agent, region, now);
        }
    }

    /// Renews a lease; the time it lasts, or `None` when this member does not lead.
    pub(crate) fn renew(&self, agent: AgentId, renewal: &Renew, now: Timestamp) -> Option<Span> {
        self.fleet().as_mut()?.book.renew(agent, renewal, now)
    }

    /// Who is alive now; `None` when this member does not lead.
    pub(crate) fn alive(&self, now: Timestamp) -> Option<Alive> {
        let mut fleet = self.fleet();
        let fleet = fleet.as_mut()?;
        fleet.frozen = fleet.book.frozen(now);
        Some(Alive {
            live: fleet.book.live(now),
            frozen: fleet.frozen.clone(),
        })
    }

    /// Who has or had a lease, and until when.
    #[must_use]
    pub fn leases(&self) -> Vec<(AgentId, Timestamp)> {
        self.fleet()
            .as_ref()
            .map(|fleet| fleet.book.leases().collect())
            .unwrap_or_default()
    }

    /// Regions in which nothing is moved, because too many agents went silent at once.
    #[must_use]
    pub fn frozen(&self) -> Vec<Name> {
        let fleet = self.fleet();
        fleet
            .as_ref()
            .map(|fleet| fleet.frozen.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The book is whole after each call, so a panic elsewhere spoils nothing.
    fn fleet(&self) -> MutexGuard<'_, Option<Fleet>> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
