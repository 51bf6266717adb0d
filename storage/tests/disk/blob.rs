//! Blobs come back as what they were named for, or not at all.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use picket_storage::blob::{BlobSettings, BlobStore};
use picket_wire::id::BlobHash;
use picket_wire::limits::PAYLOAD_MAX_BYTES;

use crate::scratch::Scratch;

async fn open(dir: &Path) -> BlobStore {
    let settings = BlobSettings {
        dir: dir.to_owned(),
        memory_bytes: 0,
        disk_bytes: 0,
    };
    BlobStore::open(settings).await.expect("the cache opens")
}

fn blob(n: u32, len: usize) -> Bytes {
    n.to_le_bytes().into_iter().cycle().take(len).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_found_by_its_content_and_survives_a_restart() {
    let dir = Scratch::new();
    let store = open(dir.path()).await;
    let hash = store.put(blob(1, 100_000));
    assert_eq!(hash, BlobHash::of(&blob(1, 100_000)));
    assert_eq!(store.get(&hash).await, Some(blob(1, 100_000)));
    assert_eq!(store.get(&BlobHash::of(b"never stored")).await, None);
    store.close().await.expect("flushed");
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.get(&hash).await, Some(blob(1, 100_000)));
    store.close().await.expect("flushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_message_is_kept_and_a_longer_one_only_named() {
    let dir = Scratch::new();
    let store = open(dir.path()).await;
    let longest = store.put(blob(2, PAYLOAD_MAX_BYTES));
    let longer = store.put(blob(3, PAYLOAD_MAX_BYTES + 1));
    assert_eq!(
        store.get(&longest).await.map(|blob| blob.len()),
        Some(PAYLOAD_MAX_BYTES)
    );
    assert_eq!(store.get(&longer).await, None);
    store.close().await.expect("flushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decay_on_disk_is_a_miss_and_never_another_blob() {
    let dir = Scratch::new();
    let store = open(dir.path()).await;
    let hashes: Vec<_> = (0..50).map(|n| store.put(blob(n, 20_000))).collect();
    store.close().await.expect("flushed");
    drop(store);
    for (name, mut bytes) in dir.files() {
        for at in (0..bytes.len()).step_by(7_919) {
            bytes[at] ^= 0x55;
        }
        fs::write(dir.path().join(name), bytes).expect("written");
    }
    let store = open(dir.path()).await;
    for (n, hash) in (0..).zip(&hashes) {
        if let Some(found) = store.get(hash).await {
            assert_eq!(found, blob(n, 20_000));
        }
        assert_eq!(store.put(blob(n, 20_000)), *hash);
        assert_eq!(store.get(hash).await, Some(blob(n, 20_000)), "built again");
    }
    store.close().await.expect("flushed");
}
