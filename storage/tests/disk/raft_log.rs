//! What a Raft member finds after it was killed, purged, or damaged.

use std::fs;

use picket_storage::raft_log::{OpenRaftLogError, RaftLog, RaftLogSettings};
use picket_storage::segment::{ReadLogError, WriteLogError};

use crate::scratch::{Scratch, mark};

const SMALL: RaftLogSettings = RaftLogSettings {
    segment_bytes: 4096,
    entry_max_bytes: 4096,
};

fn open(dir: &Scratch) -> RaftLog {
    RaftLog::open(dir.path(), SMALL).expect("the log opens")
}

fn entry(index: u64) -> Vec<u8> {
    vec![mark(index); 500]
}

/// A synced log with the entries `0..count`.
fn filled(dir: &Scratch, count: u64) -> RaftLog {
    let mut log = open(dir);
    for from in (0..count).step_by(5) {
        log.append_batch(from, (from..count.min(from + 5)).map(entry))
            .expect("appended");
        log.sync().expect("synced");
    }
    log
}

#[test]
fn a_new_log_is_empty_and_begins_at_zero() {
    let dir = Scratch::new();
    let log = open(&dir);
    assert_eq!((log.first(), log.last(), log.purged()), (0, None, None));
    assert_eq!((log.vote(), log.committed()), (None, None));
}

#[test]
fn entries_vote_and_positions_are_there_after_a_restart() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 30);
    log.save_vote(b"term 3 for 2").expect("saved");
    log.save_committed(29, b"id of 29").expect("saved");
    log.purge_to(12, b"id of 12").expect("purged");
    drop(log);
    let log = open(&dir);
    assert_eq!((log.first(), log.last()), (13, Some(29)));
    assert_eq!(log.purged(), Some((12, &b"id of 12"[..])));
    assert_eq!(log.vote(), Some(&b"term 3 for 2"[..]));
    assert_eq!(log.committed(), Some((29, &b"id of 29"[..])));
    let entries = log.read(13..99, usize::MAX).expect("read");
    assert_eq!(
        entries,
        (13..30)
            .map(|index| (index, entry(index)))
            .collect::<Vec<_>>()
    );
    let error = log.read(12..14, usize::MAX).expect_err("12 was purged");
    assert!(
        matches!(
            error,
            ReadLogError::Purged {
                index: 12,
                first: 13
            }
        ),
        "{error}"
    );
}

#[test]
fn an_entry_that_leaves_a_gap_or_an_overlap_is_refused() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 3);
    for first in [0, 2, 4] {
        let error = log
            .append_batch(first, [entry(first)])
            .expect_err("the next is 3");
        assert!(
            matches!(error, WriteLogError::OutOfRange { next: 3, .. }),
            "{error}"
        );
    }
    log.append_batch(3, [entry(3)]).expect("the next is 3");
}

#[test]
fn a_conflicting_end_is_replaced_but_never_what_was_purged() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 10);
    log.purge_to(4, b"4").expect("purged");
    log.truncate_from(6).expect("truncated");
    log.append_batch(6, [b"another term"]).expect("appended");
    log.sync().expect("synced");
    let error = log.truncate_from(4).expect_err("4 was purged");
    assert!(
        matches!(
            error,
            WriteLogError::OutOfRange {
                index: 4,
                first: 5,
                next: 7
            }
        ),
        "{error}"
    );
    drop(log);
    let log = open(&dir);
    let expected = vec![(5, entry(5)), (6, b"another term".to_vec())];
    assert_eq!(log.read(5..7, usize::MAX).expect("read"), expected);
}

#[test]
fn a_snapshot_beyond_the_end_moves_the_log_there() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 10);
    log.save_committed(9, b"9").expect("saved");
    log.purge_to(1_000, b"id of 1000").expect("purged");
    assert_eq!((log.first(), log.last()), (1_001, None));
    log.append_batch(1_001, [entry(1_001)]).expect("appended");
    log.sync().expect("synced");
    log.purge_to(7, b"older")
        .expect("an older purge changes nothing");
    drop(log);
    let log = open(&dir);
    assert_eq!((log.first(), log.last()), (1_001, Some(1_001)));
    assert_eq!(log.purged(), Some((1_000, &b"id of 1000"[..])));
}

#[test]
fn a_purge_interrupted_at_any_step_is_finished_by_opening() {
    let before = Scratch::new();
    drop(filled(&before, 30));
    for index in [12, 29, 500] {
        // The note is written, no entry is removed yet.
        let cut = before.copy();
        let purged = before.copy();
        RaftLog::open(purged.path(), SMALL)
            .and_then(|mut log| Ok(log.purge_to(index, b"id")?))
            .expect("purged");
        cut.write("purged", &purged.read("purged"));
        let (finished, expected) = (open(&cut), open(&purged));
        assert_eq!(finished.first(), index + 1);
        assert_eq!(finished.last(), expected.last());
        assert_eq!(cut.names(".seg"), purged.names(".seg"));
    }
}

#[test]
fn entries_missing_at_the_beginning_are_refused() {
    let dir = Scratch::new();
    drop(filled(&dir, 30));
    let first = dir.names(".seg").remove(0);
    fs::remove_file(dir.path().join(first)).expect("removed");
    let error = RaftLog::open(dir.path(), SMALL).expect_err("nothing says they were purged");
    assert!(matches!(error, OpenRaftLogError::Entries(_)), "{error}");
}

#[test]
fn a_vote_never_goes_back() {
    let dir = Scratch::new();
    let mut log = open(&dir);
    for term in 1..20u64 {
        log.save_vote(&term.to_le_bytes()).expect("saved");
        // Killed while the next vote was being written.
        let killed = dir.copy();
        killed.write("vote.tmp", b"PKSF half of a vo");
        assert_eq!(open(&killed).vote(), Some(&term.to_le_bytes()[..]));
    }
}

#[test]
fn a_vote_that_cannot_be_saved_leaves_the_old_one() {
    let dir = Scratch::new();
    let mut log = open(&dir);
    log.save_vote(b"old").expect("saved");
    fs::create_dir(dir.path().join("vote.tmp")).expect("created");
    assert!(log.save_vote(b"new").is_err());
    assert_eq!(log.vote(), Some(&b"old"[..]));
    drop(log);
    assert_eq!(open(&dir).vote(), Some(&b"old"[..]));
}

#[test]
fn every_flipped_bit_of_vote_and_purged_position_is_found() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 10);
    log.save_vote(b"term 3 for 2").expect("saved");
    log.purge_to(3, b"id of 3").expect("purged");
    drop(log);
    for name in ["vote", "purged"] {
        for bit in 0..dir.read(name).len() * 8 {
            dir.flip(name, bit);
            let result = RaftLog::open(dir.path(), SMALL);
            dir.flip(name, bit);
            assert!(
                matches!(result, Err(OpenRaftLogError::Note(_))),
                "bit {bit} of {name}"
            );
        }
        let whole = dir.read(name);
        dir.write(name, &whole[..whole.len() - 1]);
        assert!(RaftLog::open(dir.path(), SMALL).is_err(), "{name} is cut");
        dir.write(name, &whole);
    }
    open(&dir);
}

#[test]
fn a_damaged_committed_position_is_an_older_one_or_none() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 10);
    log.save_committed(4, b"4").expect("saved");
    log.save_committed(8, b"8").expect("saved");
    drop(log);
    for bit in 0..dir.read("committed").len() * 8 {
        dir.flip("committed", bit);
        let found = open(&dir)
            .committed()
            .map(|(index, id)| (index, id.to_vec()));
        dir.flip("committed", bit);
        let harmless = [Some((8, b"8".to_vec())), Some((4, b"4".to_vec()))];
        assert!(harmless.contains(&found), "bit {bit}: {found:?}");
    }
}

#[test]
fn a_committed_position_ahead_of_the_log_is_not_believed() {
    let dir = Scratch::new();
    let mut log = filled(&dir, 10);
    log.append_batch(10, [entry(10)]).expect("appended");
    log.save_committed(10, b"10").expect("saved");
    assert_eq!(log.committed(), Some((10, &b"10"[..])));
    // Killed before entry 10 was synced.
    drop(log);
    assert_eq!(open(&dir).committed(), None);
}
