//! openraft's own test suite for stores, over ours on a real disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use openraft::testing::{StoreBuilder, Suite};

use super::log::LogStore;
use super::machine::StateMachine;
use super::types::{StorageError, TypeConfig};

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

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Scratch> for OnDisk {
    async fn build(&self) -> Result<(Scratch, LogStore, StateMachine), StorageError> {
        let scratch = Scratch::new();
        let log = LogStore::open(&scratch.0.join("log")).unwrap();
        let machine = StateMachine::open(&scratch.0.join("snapshots")).unwrap();
        Ok((scratch, log, machine))
    }
}

#[test]
fn the_store_keeps_openraft_s_contract() {
    Suite::test_all(OnDisk).unwrap();
}
