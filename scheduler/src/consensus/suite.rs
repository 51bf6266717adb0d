//! openraft's own test suite for stores, over ours on a real disk.
//!
//! The suite begins logs anywhere and leaves holes in them, which openraft itself promises never to
//! do and our log refuses; so a harness in between fills holes with blank entries and passes over
//! entries that were purged before they were appended.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use openraft::entry::RaftEntry as _;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::log::LogStore;
use super::machine::StateMachine;
use super::types::{LogId, RaftEntry, StorageError, TypeConfig, Vote, log_id};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("picket-consensus-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Our log, without the holes.
struct Gapless(LogStore);

impl Gapless {
    async fn fill(&mut self, entries: Vec<RaftEntry>) -> Result<Vec<RaftEntry>, StorageError> {
        let state = self.0.get_log_state().await?;
        let mut next = state.last_log_id.map_or(0, |id| id.index + 1);
        let mut filled = Vec::new();
        for entry in entries {
            let at = entry.log_id;
            if at.index < next {
                continue;
            }
            let leader = at.leader_id;
            filled.extend(
                (next..at.index)
                    .map(|i| RaftEntry::new_blank(log_id(leader.term, leader.node_id, i))),
            );
            next = at.index + 1;
            filled.push(entry);
        }
        Ok(filled)
    }
}

impl RaftLogReader<TypeConfig> for Gapless {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for Gapless {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.0.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.0.read_committed().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = self.fill(entries.into_iter().collect()).await?;
        self.0.append(entries, flushed).await
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.purge(log_id).await
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, Gapless, StateMachine, Scratch> for OnDisk {
    async fn build(&self) -> Result<(Scratch, Gapless, StateMachine), StorageError> {
        let scratch = Scratch::new();
        let lock = std::fs::File::create(scratch.0.join("lock")).unwrap();
        let log = LogStore::open(&scratch.0.join("log"), lock).unwrap();
        let machine = StateMachine::open(&scratch.0.join("snapshots")).unwrap();
        Ok((scratch, Gapless(log), machine))
    }
}

#[test]
fn the_store_keeps_openraft_s_contract() {
    Suite::test_all(OnDisk).unwrap();
}
