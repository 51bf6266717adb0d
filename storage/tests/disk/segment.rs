//! The log under torn writes, decay, and any order of operations.

use std::fs;

use picket_storage::segment::{
    LogSettings, OpenLogError, ReadLogError, Recovered, SegmentLog, WriteLogError,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use crate::scratch::{Scratch, mark};

const SMALL: LogSettings = LogSettings {
    segment_bytes: 4096,
    record_max_bytes: 2_000_000,
};
const SECTOR: usize = 512;

fn open(dir: &Scratch) -> (SegmentLog, Recovered) {
    SegmentLog::open(dir.path(), 1, SMALL).expect("the log opens")
}

fn all(log: &SegmentLog) -> Vec<Vec<u8>> {
    let records = log
        .read(log.first()..log.next(), usize::MAX)
        .expect("what opened can be read");
    let indexes: Vec<_> = records.iter().map(|(index, _)| *index).collect();
    assert_eq!(
        indexes,
        (log.first()..log.next()).collect::<Vec<_>>(),
        "indexes are dense"
    );
    records.into_iter().map(|(_, record)| record).collect()
}

/// `count` records of `len` bytes, each different, in one batch.
fn fill(log: &mut SegmentLog, count: usize, len: usize) -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = (0..count)
        .map(|n| record(log.next() + n as u64, len))
        .collect();
    for record in &records {
        log.append(record).expect("appended");
    }
    log.sync().expect("synced");
    records
}

/// Bytes that tell the record, none of them zero.
fn record(index: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| mark(31 * index + at)).collect()
}

/// Bytes that tell the record, nearly all of them zero: what a lost sector resembles most.
fn sparse(index: u64, len: usize) -> Vec<u8> {
    index
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

#[test]
fn what_was_synced_is_read_back_after_reopening() {
    let dir = Scratch::new();
    let (mut log, found) = open(&dir);
    assert_eq!(
        found,
        Recovered {
            records: 0,
            cut_bytes: 0
        }
    );
    let mut expected = fill(&mut log, 30, 300);
    expected.extend(fill(&mut log, 3, 0));
    assert!(dir.names(".seg").len() > 1, "several files are in play");
    drop(log);
    let (log, found) = open(&dir);
    assert_eq!(
        found,
        Recovered {
            records: 33,
            cut_bytes: 0
        }
    );
    assert_eq!(all(&log), expected);
}

#[test]
fn the_last_record_cut_at_any_byte_is_dropped_and_the_rest_stays() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    let kept = fill(&mut log, 5, 40);
    let name = dir.names(".seg").pop().expect("one file");
    let before = dir.read(&name).len();
    fill(&mut log, 1, 90);
    let whole = dir.read(&name);
    drop(log);
    for len in before..whole.len() {
        for zeros in [0, 7, SECTOR] {
            let torn = dir.copy();
            torn.write(&name, &[&whole[..len], &vec![0; zeros]].concat());
            let (mut log, found) = open(&torn);
            let cut_bytes = (len - before + zeros) as u64;
            assert_eq!(
                found,
                Recovered {
                    records: 5,
                    cut_bytes
                },
                "cut at {len}, {zeros} zeros"
            );
            assert_eq!(all(&log), kept);
            let next = fill(&mut log, 1, 10);
            drop(log);
            assert_eq!(all(&open(&torn).0), [kept.clone(), next].concat());
        }
    }
}

#[test]
fn every_flipped_bit_of_every_file_is_found() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    fill(&mut log, 2, 2_100);
    fill(&mut log, 2, 20);
    fill(&mut log, 2, 30);
    drop(log);
    let names = dir.names(".seg");
    assert_eq!(names.len(), 2);
    for name in names {
        let bits = dir.read(&name).len() * 8;
        // All bits of heads, the last batch and small records; every 61st of the large ones.
        for bit in (0..bits).filter(|bit| bits < 4096 || *bit < 800 || bit % 61 == 0) {
            dir.flip(&name, bit);
            let error = SegmentLog::open(dir.path(), 1, SMALL).err();
            dir.flip(&name, bit);
            match error {
                Some(OpenLogError::Damaged(damage)) => assert!(damage.path.ends_with(&name)),
                Some(OpenLogError::Layout { path, .. }) => assert!(path.ends_with(&name)),
                other => panic!("bit {bit} of {name}: {other:?}"),
            }
        }
    }
    open(&dir);
}

#[test]
fn decay_behind_an_open_log_is_found_when_it_is_read() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    fill(&mut log, 3, 100);
    let name = dir.names(".seg").pop().expect("one file");
    dir.flip(&name, 8 * (32 + 108 + 50));
    let error = log
        .read(1..4, usize::MAX)
        .expect_err("the second record has changed");
    let ReadLogError::Damaged(damage) = error else {
        panic!("{error}")
    };
    assert_eq!(damage.offset, 32 + 108);
    assert_eq!(
        log.read(1..2, usize::MAX).expect("the first is fine").len(),
        1
    );
}

#[test]
fn a_missing_or_shortened_file_in_the_middle_is_refused() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    for _ in 0..4 {
        fill(&mut log, 2, 2_100);
    }
    drop(log);
    let names = dir.names(".seg");
    let missing = dir.copy();
    fs::remove_file(missing.path().join(&names[1])).expect("removed");
    let shortened = dir.copy();
    let bytes = shortened.read(&names[1]);
    shortened.write(&names[1], &bytes[..32 + 2_108]);
    for copy in [missing, shortened] {
        let error = SegmentLog::open(copy.path(), 1, SMALL).expect_err("records are missing");
        assert!(matches!(error, OpenLogError::Damaged(_)), "{error}");
    }
}

#[test]
fn a_log_has_one_owner() {
    let dir = Scratch::new();
    let (log, _) = open(&dir);
    let error = SegmentLog::open(dir.path(), 1, SMALL).expect_err("it is open");
    assert!(matches!(error, OpenLogError::InUse { .. }), "{error}");
    drop(log);
    open(&dir);
}

#[test]
fn a_truncated_end_is_gone_and_replaced_after_reopening() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    let old = fill(&mut log, 40, 300);
    log.append(b"never synced").expect("appended");
    log.truncate_from(10).expect("truncated");
    assert_eq!(log.next(), 10);
    let new = fill(&mut log, 2, 50);
    drop(log);
    let (log, _) = open(&dir);
    assert_eq!(all(&log), [&old[..9], &new[..]].concat());
}

#[test]
fn truncating_what_is_still_buffered_keeps_what_is_before_it() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    let kept = fill(&mut log, 2, 30);
    for n in 0..3 {
        log.append(&record(n, 10)).expect("appended");
    }
    log.truncate_from(4).expect("truncated");
    assert_eq!(all(&log), [kept, vec![record(0, 10)]].concat());
    assert_eq!(log.synced_next(), 3);
    log.sync().expect("synced");
    assert_eq!(log.synced_next(), 4);
}

#[test]
fn purging_gives_back_full_files_only() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    for _ in 0..5 {
        fill(&mut log, 2, 2_100);
    }
    let files = dir.names(".seg").len();
    log.purge_to(5).expect("purged");
    assert_eq!(log.first(), 5);
    assert_eq!(dir.names(".seg").len(), files - 2);
    let error = log.read(4..6, usize::MAX).expect_err("number 4 is gone");
    assert!(
        matches!(error, ReadLogError::Purged { index: 4, first: 5 }),
        "{error}"
    );
    drop(log);
    let (log, found) = open(&dir);
    assert_eq!((log.first(), found.records), (5, 6));
}

#[test]
fn purging_beyond_the_end_restarts_the_log_there() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    fill(&mut log, 5, 2_100);
    log.append(b"buffered").expect("appended");
    let before = dir.files();
    log.purge_to(100).expect("purged");
    assert_eq!((log.first(), log.next()), (101, 101));
    let new = fill(&mut log, 1, 9);
    drop(log);
    // A power cut before the old files were removed leaves them beside the new one.
    for (name, bytes) in before {
        dir.write(&name, &bytes);
    }
    let (log, _) = open(&dir);
    assert_eq!((log.first(), all(&log)), (101, new));
}

#[test]
fn an_interrupted_creation_leaves_nothing() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    let records = fill(&mut log, 2, 10);
    drop(log);
    dir.write("00000000000000000003.seg.tmp", b"PKSG");
    let (log, _) = open(&dir);
    assert_eq!(all(&log), records);
    assert!(dir.names(".tmp").is_empty());
}

#[test]
fn a_read_is_bounded_by_bytes_but_returns_at_least_one_record() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    fill(&mut log, 10, 1_000);
    log.append(&record(11, 1_000)).expect("appended");
    for (max, count) in [
        (0, 1),
        (1_007, 1),
        (1_008, 1),
        (2_015, 1),
        (2_016, 2),
        (7_056, 7),
    ] {
        assert_eq!(
            log.read(3..12, max).expect("read").len(),
            count,
            "{max} bytes"
        );
    }
    assert_eq!(log.read(3..12, usize::MAX).expect("read").len(), 9);
    assert_eq!(
        log.read(11..99, 0).expect("read").len(),
        1,
        "what is buffered is seen"
    );
    assert!(log.read(12..99, usize::MAX).expect("read").is_empty());
    assert!(log.read(5..5, usize::MAX).expect("read").is_empty());
}

#[test]
fn a_record_beyond_the_bound_is_refused_and_uses_no_index() {
    let dir = Scratch::new();
    let sizes = LogSettings {
        record_max_bytes: 10,
        ..SMALL
    };
    let (mut log, _) = SegmentLog::open(dir.path(), 1, sizes).expect("the log opens");
    let error = log.append(&[0; 11]).expect_err("eleven bytes");
    assert!(
        matches!(error, WriteLogError::TooLarge { bytes: 11, max: 10 }),
        "{error}"
    );
    assert_eq!(log.append(&[0; 10]).expect("ten bytes"), 1);
}

#[test]
fn a_buffer_that_grows_large_is_written_before_the_sync_and_not_durable() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    for n in 0..3 {
        log.append(&record(n, 1_100_000)).expect("appended");
    }
    let name = dir.names(".seg").pop().expect("one file");
    assert!(dir.read(&name).len() > 2_000_000);
    assert_eq!((log.synced_next(), all(&log).len()), (1, 3));
    log.truncate_from(2).expect("truncated");
    assert_eq!(log.synced_next(), 2);
    drop(log);
    assert_eq!(all(&open(&dir).0), [record(0, 1_100_000)]);
}

#[test]
fn a_full_disk_at_a_new_file_delays_the_file_and_loses_nothing() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    let full = dir.path().join("00000000000000000003.seg.tmp");
    std::os::unix::fs::symlink("/dev/full", &full).expect("linked");
    let mut expected = fill(&mut log, 2, 2_100);
    assert_eq!(dir.names(".seg").len(), 1, "the file goes on growing");
    expected.extend(fill(&mut log, 1, 10));
    assert_eq!(dir.names(".seg").len(), 2, "the next sync tries again");
    drop(log);
    assert_eq!(all(&open(&dir).0), expected);
}

#[test]
fn after_a_fault_every_call_is_refused_and_what_was_synced_is_there() {
    let dir = Scratch::new();
    let (mut log, _) = open(&dir);
    let obstacle = dir.path().join("00000000000000000003.seg.tmp");
    fs::create_dir(&obstacle).expect("created");
    for n in 1..3 {
        log.append(&record(n, 2_100)).expect("appended");
    }
    let error = log.sync().expect_err("the next file cannot be created");
    assert!(matches!(error, WriteLogError::Fault(_)), "{error}");
    fs::remove_dir(&obstacle).expect("removed");
    let refusals = [
        log.append(b"x").err(),
        log.sync().err(),
        log.truncate_from(1).err(),
        log.purge_to(1).err(),
    ];
    for error in refusals {
        assert!(
            matches!(error, Some(WriteLogError::Poisoned { .. })),
            "{error:?}"
        );
    }
    drop(log);
    assert_eq!(all(&open(&dir).0), [record(1, 2_100), record(2, 2_100)]);
}

/// One step of a random life.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Sync,
    Truncate(prop::sample::Index),
    Purge(prop::sample::Index),
    PurgeBeyond(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![0usize..80, 0usize..3_000].prop_map(Step::Append),
        4 => Just(Step::Sync),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Step::Purge),
        1 => (0u64..4).prop_map(Step::PurgeBeyond),
        2 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a log is, without the files.
struct Twin {
    first: u64,
    records: Vec<Vec<u8>>,
    synced: usize,
}

impl Twin {
    fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn forget_before(&mut self, first: u64) {
        let gone = usize::try_from(first - self.first)
            .expect("small")
            .min(self.records.len());
        self.records.drain(..gone);
        self.synced = self.synced.saturating_sub(gone);
        self.first = first;
    }
}

fn run(step: &Step, number: u64, log: &mut SegmentLog, twin: &mut Twin) {
    match step {
        Step::Append(len) => {
            let record = record(number, *len);
            assert_eq!(log.append(&record).expect("appended"), twin.next());
            twin.records.push(record);
        }
        Step::Sync => {
            log.sync().expect("synced");
            twin.synced = twin.records.len();
        }
        Step::Truncate(at) => {
            let at = at.index(twin.records.len() + 1);
            log.truncate_from(twin.first + at as u64)
                .expect("truncated");
            twin.records.truncate(at);
            twin.synced = twin.synced.min(at);
        }
        Step::Purge(at) => {
            let at = at.index(twin.records.len() + 1) as u64;
            log.purge_to(twin.first + at).expect("purged");
            // Whole files only, never more than was asked for.
            assert!(log.first() <= (twin.first + at + 1).max(twin.first));
            twin.forget_before(log.first());
        }
        Step::PurgeBeyond(more) => {
            let index = twin.next() + more;
            log.purge_to(index).expect("purged");
            *twin = Twin {
                first: index + 1,
                records: Vec::new(),
                synced: 0,
            };
        }
        Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_a_log_equals_that_of_a_plain_list(steps in steps()) {
        let dir = Scratch::new();
        let (mut log, _) = open(&dir);
        let mut twin = Twin { first: 1, records: Vec::new(), synced: 0 };
        for (number, step) in steps.iter().enumerate() {
            if matches!(step, Step::Reopen) {
                // A killed process: the buffer is gone, what was synced is not.
                drop(log);
                log = open(&dir).0;
                let kept = usize::try_from(log.next() - log.first()).expect("small");
                assert!(kept >= twin.synced, "synced records survive");
                twin.records.truncate(kept);
                twin.synced = kept;
            }
            run(step, number as u64, &mut log, &mut twin);
            assert_eq!((log.first(), log.next()), (twin.first, twin.next()));
            assert_eq!(log.synced_next(), twin.first + twin.synced as u64);
            assert_eq!(&all(&log), &twin.records);
            let bytes: u64 = twin.records.iter().map(|record| record.len() as u64 + 8).sum();
            assert_eq!(log.bytes_from(0), bytes);
        }
    }

    #[test]
    fn a_power_cut_during_a_sync_keeps_everything_synced_before(
        synced in prop::collection::vec(0usize..700, 0..12),
        batch in prop::collection::vec(0usize..1_500, 1..12),
        length in any::<prop::sample::Index>(),
        lost_sectors in any::<u64>(),
    ) {
        let dir = Scratch::new();
        let (mut log, _) = open(&dir);
        let mut records = Vec::new();
        for len in synced {
            records.push(sparse(log.next(), len));
            log.append(records.last().expect("just pushed")).expect("appended");
            log.sync().expect("synced");
        }
        let kept = records.len();
        let name = dir.names(".seg").pop().expect("a file");
        let before = dir.read(&name).len();
        for len in batch {
            records.push(sparse(log.next(), len));
            log.append(records.last().expect("just pushed")).expect("appended");
        }
        log.sync().expect("synced");
        drop(log);
        // The sync began a new file when this one was full; the cut came before that.
        for newer in dir.names(".seg").into_iter().filter(|newer| *newer > name) {
            fs::remove_file(dir.path().join(newer)).expect("removed");
        }
        // Of the batch the disk has some length and, below it, some sectors.
        let mut bytes = dir.read(&name);
        bytes.truncate(before + length.index(bytes.len() - before + 1));
        for (at, byte) in bytes.iter_mut().enumerate().skip(before) {
            if lost_sectors >> ((at / SECTOR) % 64) & 1 == 1 {
                *byte = 0;
            }
        }
        dir.write(&name, &bytes);

        let (log, _) = open(&dir);
        let found = all(&log);
        assert!(found.len() >= kept, "{} of {kept} synced records", found.len());
        assert_eq!(&found[..], &records[..found.len()]);
    }
}
