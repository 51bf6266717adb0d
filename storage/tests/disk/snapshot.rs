//! Which snapshot a member finds.

use std::fs;

use picket_storage::snapshot::{Snapshot, SnapshotStore};

use crate::scratch::Scratch;

fn open(dir: &Scratch) -> SnapshotStore {
    SnapshotStore::open(dir.path()).expect("the store opens")
}

fn newest(dir: &Scratch) -> (Option<Snapshot>, usize) {
    let newest = open(dir).newest().expect("the store can be read");
    (newest.snapshot, newest.damaged.len())
}

fn snapshot(meta: &str, data: &str) -> Option<Snapshot> {
    Some(Snapshot {
        meta: meta.into(),
        data: data.into(),
    })
}

#[test]
fn an_empty_store_has_none() {
    assert_eq!(newest(&Scratch::new()), (None, 0));
}

#[test]
fn the_newest_of_two_kept_is_found() {
    let dir = Scratch::new();
    for n in 0..5 {
        open(&dir)
            .write(format!("meta {n}").as_bytes(), b"data")
            .expect("written");
    }
    assert_eq!(newest(&dir), (snapshot("meta 4", "data"), 0));
    assert_eq!(dir.names(".snap").len(), 2);
}

#[test]
fn an_unfinished_snapshot_is_not_seen() {
    let dir = Scratch::new();
    open(&dir).write(b"meta", b"data").expect("written");
    let whole = dir.read(&dir.names(".snap")[0]);
    dir.write("00000000000000000001.snap.tmp", &whole[..20]);
    assert_eq!(newest(&dir), (snapshot("meta", "data"), 0));
    assert!(dir.names(".tmp").is_empty());
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_the_old_ones() {
    let dir = Scratch::new();
    let mut store = open(&dir);
    store.write(b"old", b"").expect("written");
    fs::create_dir(dir.path().join("00000000000000000001.snap.tmp")).expect("created");
    assert!(store.write(b"new", b"").is_err());
    fs::remove_dir(dir.path().join("00000000000000000001.snap.tmp")).expect("removed");
    assert_eq!(newest(&dir), (snapshot("old", ""), 0));
    store.write(b"new", b"").expect("written");
    assert_eq!(newest(&dir), (snapshot("new", ""), 0));
}

#[test]
fn a_damaged_snapshot_is_named_and_the_one_before_is_offered() {
    let dir = Scratch::new();
    let mut store = open(&dir);
    store.write(b"old meta", b"old data").expect("written");
    store.write(b"new meta", b"new data").expect("written");
    let name = dir.names(".snap").pop().expect("two");
    let whole = dir.read(&name);
    for bit in 0..whole.len() * 8 {
        dir.flip(&name, bit);
        assert_eq!(
            newest(&dir),
            (snapshot("old meta", "old data"), 1),
            "bit {bit}"
        );
        dir.flip(&name, bit);
    }
    for len in 0..whole.len() {
        dir.write(&name, &whole[..len]);
        assert_eq!(
            newest(&dir),
            (snapshot("old meta", "old data"), 1),
            "cut at {len}"
        );
    }
    dir.write(&name, &[whole, vec![0]].concat());
    assert_eq!(
        newest(&dir),
        (snapshot("old meta", "old data"), 1),
        "one byte more"
    );
}
