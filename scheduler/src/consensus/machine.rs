//! The replicated machine in memory, and its snapshots on disk.
//!
//! Only openraft's state machine task writes here; everybody else reads through [`Replica`], for as
//! short as a lookup takes. What was applied since the last snapshot is replayed from the log at a
//! restart, so that nothing but snapshots has to be written.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use picket_scheduler_core::command::Command;
use picket_scheduler_core::machine::{Entry, Machine};
use picket_scheduler_core::reply::Reply;
use picket_scheduler_core::state::State;
use picket_storage::FileFault;
use picket_storage::snapshot::SnapshotStore;
use picket_wire::codec::from_bytes;
use picket_wire::envelope::Kind;
use picket_wire::fact::Fact;
use picket_wire::id::FactSeq;
use tokio::sync::watch;

use super::codec::{Frame, FrameError};
use super::types::{
    LogId, Outcome, Proposal, RaftEntry, Snapshot, SnapshotMeta, StorageError, StoredMembership,
    TypeConfig,
};

/// How far the local machine has come. Cheap to copy; consumers compare the parts they care for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries applied: the index of the last one plus one, 0 for none.
    pub index: u64,
    /// The newest fact.
    pub facts: FactSeq,
    /// Grows with every entry that can change who should probe what: agents, groups, assignments,
    /// catalogue pointers.
    pub placement: u64,
}

/// Why the machine could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreReplicaError {
    /// The disk refuses.
    #[error("read the newest snapshot")]
    Disk(#[from] FileFault),
    /// A snapshot has a correct checksum and is yet not what this build writes.
    #[error("understand the newest snapshot: {0}")]
    Content(String),
}

/// A handle for reading the local machine.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    held: Arc<RwLock<Held>>,
    applied: Arc<watch::Sender<Applied>>,
}

#[derive(Debug)]
struct Held {
    machine: Machine,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl Replica {
    /// Looks at the state. Short, and never across an await: the machine waits meanwhile.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(self.lock().machine.state())
    }

    /// A digest of the whole state, equal on all members at the same index.
    pub(crate) fn hash(&self) -> (Applied, [u8; 32]) {
        let held = self.lock();
        (*self.applied.borrow(), held.machine.hash())
    }

    /// How far it has come, as a level to wait on.
    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// The members and their addresses, as last applied.
    pub(crate) fn members(&self) -> Vec<(u64, String)> {
        let held = self.lock();
        held.membership
            .nodes()
            .map(|(id, node)| (*id, node.addr.clone()))
            .collect()
    }

    fn lock(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().expect(NOT_POISONED)
    }

    fn lock_to_write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().expect(NOT_POISONED)
    }
}

/// A panic while applying leaves a half-changed machine that nobody may look at; openraft reports
/// the panic and the process ends.
const NOT_POISONED: &str = "the process ends when the machine panics";

/// The machine as openraft drives it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    replica: Replica,
    shelf: Arc<Mutex<Shelf>>,
}

/// The snapshots on disk. A snapshot that took long to write must not replace one that was
/// installed meanwhile and reaches further.
#[derive(Debug)]
struct Shelf {
    store: SnapshotStore,
    newest: Option<LogId>,
}

impl StateMachine {
    /// Restores the newest snapshot in `dir`, or begins with an empty machine.
    pub(crate) fn open(dir: &Path) -> Result<Self, RestoreReplicaError> {
        let snapshots = SnapshotStore::open(dir)?;
        let newest = snapshots.newest()?;
        for damaged in &newest.damaged {
            tracing::warn!(path = %damaged.display(), "a damaged snapshot was passed over");
        }
        let held = match newest.snapshot {
            Some(snapshot) => Held::restore(&snapshot.meta, &snapshot.data)?,
            None => Held::empty(),
        };
        let applied = Arc::new(watch::Sender::new(held.applied(0)));
        let shelf = Shelf {
            store: snapshots,
            newest: held.last_applied,
        };
        let replica = Replica {
            held: Arc::new(RwLock::new(held)),
            applied,
        };
        Ok(Self {
            replica,
            shelf: Arc::new(Mutex::new(shelf)),
        })
    }

    /// The handle for everybody else.
    pub(crate) fn replica(&self) -> Replica {
        self.replica.clone()
    }

    /// The last entry that the restored snapshot contains.
    pub(crate) fn restored(&self) -> Option<LogId> {
        self.replica.lock().last_applied
    }
}

impl Held {
    fn empty() -> Self {
        Self {
            machine: Machine::new(),
            last_applied: None,
            membership: StoredMembership::default(),
        }
    }

    fn restore(meta: &[u8], data: &[u8]) -> Result<Self, RestoreReplicaError> {
        let content = |error: String| RestoreReplicaError::Content(error);
        let meta = SnapshotMeta::from_frame(Bytes::copy_from_slice(meta))
            .map_err(|error| content(error.to_string()))?;
        let machine = Machine::restore(data).map_err(|error| content(error.to_string()))?;
        Ok(Self {
            machine,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
        })
    }

    fn applied(&self, placement: u64) -> Applied {
        Applied {
            index: self.last_applied.map_or(0, |id| id.index + 1),
            facts: self.machine.state().last_ids.fact,
            placement,
        }
    }

    fn meta(&self) -> SnapshotMeta {
        let snapshot_id = match self.last_applied {
            Some(id) => format!(
                "{}-{}-{}",
                id.leader_id.term, id.leader_id.node_id, id.index
            ),
            None => "empty".to_owned(),
        };
        let last_membership = self.membership.clone();
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership,
            snapshot_id,
        }
    }

    /// Applies one entry; the flag says whether it can have changed the placement.
    fn apply(
        &mut self,
        entry: RaftEntry,
        facts: &mut Vec<Fact>,
    ) -> Result<(Outcome, bool), FrameError> {
        self.last_applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok((Outcome(None), false)),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Ok((Outcome(None), false))
            }
            EntryPayload::Normal(Proposal(bytes)) => {
                let entry = from_bytes::<Entry>(Kind::RaftEntry, &bytes)
                    .map_err(|_malformed| FrameError("proposal in the log"))?;
                let places = changes_placement(&entry.command);
                let reply = self.machine.apply(&entry, facts);
                if let Reply::Rejected(reject) = &reply {
                    tracing::debug!(%reject, "the machine refused a command");
                }
                Ok((Outcome(Some(reply)), places))
            }
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let held = self.replica.lock();
        Ok((held.last_applied, held.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        let mut facts = Vec::new();
        for entry in entries {
            let log_id = entry.log_id;
            let mut held = self.replica.lock_to_write();
            let (outcome, places) = held.apply(entry, &mut facts).map_err(|error| {
                StorageError::from(StorageIOError::apply(log_id, AnyError::new(&error)))
            })?;
            outcomes.push(outcome);
            self.replica.applied.send_modify(|applied| {
                *applied = held.applied(applied.placement + u64::from(places));
            });
            drop(held);
            facts.clear();
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let held = self.replica.lock();
        let (meta, data) = (held.meta(), Bytes::from(held.machine.snapshot()));
        Builder {
            meta,
            data,
            shelf: Arc::clone(&self.shelf),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Bytes>, StorageError> {
        Ok(Box::new(Bytes::new()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: Box<Bytes>,
    ) -> Result<(), StorageError> {
        let installed = Held::restore(&meta.to_frame(), &data).map_err(|error| {
            StorageError::from(StorageIOError::read_snapshot(
                Some(meta.signature()),
                AnyError::new(&error),
            ))
        })?;
        store(&self.shelf, meta, &data).await?;
        let mut held = self.replica.lock_to_write();
        *held = installed;
        self.replica
            .applied
            .send_modify(|applied| *applied = held.applied(applied.placement + 1));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let shelf = Arc::clone(&self.shelf);
        let read = move || lock(&shelf).store.newest();
        let newest = tokio::task::spawn_blocking(read)
            .await
            .expect("reading a snapshot does not panic");
        let newest = newest.map_err(|e| StorageIOError::read_snapshot(None, AnyError::new(&e)))?;
        let Some(snapshot) = newest.snapshot else {
            return Ok(None);
        };
        let meta = SnapshotMeta::from_frame(Bytes::from(snapshot.meta))
            .map_err(|e| StorageIOError::read_snapshot(None, AnyError::new(&e)))?;
        Ok(Some(Snapshot {
            meta,
            snapshot: Box::new(Bytes::from(snapshot.data)),
        }))
    }
}

/// A consistent copy of the machine on its way to disk.
#[derive(Debug)]
pub(crate) struct Builder {
    meta: SnapshotMeta,
    data: Bytes,
    shelf: Arc<Mutex<Shelf>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        store(&self.shelf, &self.meta, &self.data).await?;
        tracing::info!(
            snapshot = self.meta.snapshot_id,
            bytes = self.data.len(),
            "snapshot written"
        );
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(self.data.clone()),
        })
    }
}

async fn store(
    shelf: &Arc<Mutex<Shelf>>,
    meta: &SnapshotMeta,
    data: &Bytes,
) -> Result<(), StorageError> {
    let (shelf, data) = (Arc::clone(shelf), data.clone());
    let (signature, upto, meta) = (meta.signature(), meta.last_log_id, meta.to_frame());
    let write = move || {
        let mut shelf = lock(&shelf);
        if upto >= shelf.newest {
            shelf.store.write(&meta, &data)?;
            shelf.newest = upto;
        }
        Ok(())
    };
    let written: Result<(), FileFault> = tokio::task::spawn_blocking(write)
        .await
        .expect("writing a snapshot does not panic");
    written.map_err(|e| StorageIOError::write_snapshot(Some(signature), AnyError::new(&e)).into())
}

/// The shelf is changed only after a write succeeded, so it stays true whatever a writer ran into.
fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an entry can change who should probe what.
fn changes_placement(command: &Command) -> bool {
    match command {
        Command::InitCluster(_)
        | Command::AdmitAgent(_)
        | Command::RevokeAgent(_)
        | Command::DrainAgent(_)
        | Command::DefineGroup(_)
        | Command::AssignShards(_)
        | Command::PointCatalogue(_) => true,
        Command::IngestEvidence(_)
        | Command::ExpireOrders(_)
        | Command::AdvanceCursor(_)
        | Command::IssueJoinToken(_)
        | Command::PutWebhook(_)
        | Command::RemoveWebhook(_)
        | Command::PutMaintenance(_)
        | Command::RemoveMaintenance(_)
        | Command::IssueApiToken(_)
        | Command::RevokeApiToken(_) => false,
    }
}
