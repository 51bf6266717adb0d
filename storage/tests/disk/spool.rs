//! What an agent finds of its observations after it was killed.

use std::fs;

use picket_storage::segment::WriteLogError;
use picket_storage::spool::{
    AgentState, Found, OpenSpoolError, PushError, Spool, SpoolSettings, Spooled, WhenFull,
};
use picket_wire::id::{AgentId, Incarnation, Seq};
use proptest::prelude::{ProptestConfig, prop, proptest};

use crate::scratch::{Scratch, mark};

const NOW: Incarnation = Incarnation(3);
/// Eight files of 4 KiB.
const REFUSE: SpoolSettings = SpoolSettings {
    max_bytes: 32 * 1024,
    record_max_bytes: 8 * 1024,
    when_full: WhenFull::Refuse,
};
const DROP: SpoolSettings = SpoolSettings {
    when_full: WhenFull::DropOldest,
    ..REFUSE
};

fn create(dir: &Scratch, settings: SpoolSettings) -> Spool {
    Spool::create(dir.path(), NOW, settings).expect("the spool is created")
}

fn open(dir: &Scratch, settings: SpoolSettings) -> (Spool, Found) {
    Spool::open(dir.path(), NOW, settings).expect("the spool opens")
}

fn push(spool: &mut Spool, count: u64, len: usize) {
    for _ in 0..count {
        let record = vec![mark(spool.tail().0 + 1); len];
        spool.push(&record).expect("taken");
    }
    spool.sync().expect("synced");
}

fn record(seq: u64, len: usize) -> Spooled {
    Spooled {
        seq: Seq(seq),
        payload: Some(vec![mark(seq); len]),
    }
}

fn peek(spool: &Spool, from: u64) -> Vec<Spooled> {
    spool.peek(Seq(from), usize::MAX).expect("readable")
}

#[test]
fn the_first_record_of_an_incarnation_is_number_one() {
    let dir = Scratch::new();
    let (mut spool, found) = open(&dir, REFUSE);
    assert_eq!(found, Found::Fresh);
    assert_eq!(
        (spool.tail(), spool.acked(), spool.bytes()),
        (Seq(0), Seq(0), 0)
    );
    assert_eq!(spool.push(b"x").expect("taken"), Seq(1));
}

#[test]
fn a_record_is_shown_only_once_it_is_durable() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    spool.push(b"first").expect("taken");
    assert_eq!((spool.tail(), spool.durable()), (Seq(1), Seq(0)));
    assert!(peek(&spool, 1).is_empty());
    spool.sync().expect("synced");
    assert_eq!(spool.durable(), Seq(1));
    assert_eq!(peek(&spool, 1).len(), 1);
    // A number that was never durable may be given again after a crash.
    spool.push(b"lost").expect("taken");
    drop(spool);
    let (spool, found) = open(&dir, REFUSE);
    assert_eq!(
        found,
        Found::Recovered {
            from: Seq(1),
            to: Seq(1)
        }
    );
    assert_eq!(spool.tail(), Seq(1));
}

#[test]
fn after_a_restart_exactly_what_is_not_acknowledged_is_shown() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 10, 50);
    spool.ack(Seq(4)).expect("noted");
    spool.ack(Seq(2)).expect("an older one changes nothing");
    drop(spool);
    let (spool, found) = open(&dir, REFUSE);
    assert_eq!(
        found,
        Found::Recovered {
            from: Seq(5),
            to: Seq(10)
        }
    );
    assert_eq!(
        peek(&spool, 1),
        (5..=10).map(|seq| record(seq, 50)).collect::<Vec<_>>()
    );
    assert_eq!(peek(&spool, 9), [record(9, 50), record(10, 50)]);
    assert_eq!(spool.peek(Seq(1), 0).expect("readable").len(), 1);
    assert_eq!(spool.bytes(), 6 * 58);
}

#[test]
fn an_acknowledgement_that_was_lost_only_repeats_records() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 5, 50);
    spool.ack(Seq(3)).expect("noted");
    drop(spool);
    fs::remove_file(dir.path().join("acked")).expect("removed");
    let (spool, found) = open(&dir, REFUSE);
    assert_eq!(
        found,
        Found::Recovered {
            from: Seq(1),
            to: Seq(5)
        }
    );
    assert_eq!(peek(&spool, 1).len(), 5);
}

#[test]
fn an_acknowledgement_ahead_of_what_was_sent_stops_at_what_was_sent() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 2, 10);
    spool.ack(Seq(99)).expect("noted");
    assert_eq!(spool.acked(), Seq(2));
    push(&mut spool, 1, 10);
    assert_eq!(peek(&spool, 1), [record(3, 10)]);
}

#[test]
fn acknowledged_files_are_given_back() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    for _ in 0..6 {
        push(&mut spool, 4, 1_200);
    }
    let files = dir.names(".seg").len();
    spool.ack(Seq(20)).expect("noted");
    assert_eq!(dir.names(".seg").len(), files - 5);
    assert_eq!(peek(&spool, 1).first(), Some(&record(21, 1_200)));
    drop(spool);
    // Whatever became of the position, what is gone from disk was acknowledged.
    let (spool, found) = open(&dir, REFUSE);
    assert_eq!(
        found,
        Found::Recovered {
            from: Seq(21),
            to: Seq(24)
        }
    );
    assert!(
        peek(&spool, 1)
            .iter()
            .all(|record| record.payload.is_some())
    );
}

#[test]
fn a_full_evidence_lane_refuses_and_takes_again_after_an_acknowledgement() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 32, 1_000);
    let error = spool.push(&[1; 1_000]).expect_err("33 KB in 32");
    assert!(
        matches!(error, PushError::Full { max_bytes: 32_768 }),
        "{error}"
    );
    assert_eq!((spool.tail(), spool.dropped()), (Seq(32), 0));
    assert_eq!(peek(&spool, 1).len(), 32, "nothing was dropped");
    spool.ack(Seq(8)).expect("noted");
    push(&mut spool, 8, 1_000);
    assert_eq!(
        peek(&spool, 1),
        (9..=40).map(|seq| record(seq, 1_000)).collect::<Vec<_>>()
    );
}

#[test]
fn a_full_rollup_lane_drops_the_oldest_and_keeps_their_numbers() {
    let dir = Scratch::new();
    let mut spool = create(&dir, DROP);
    for _ in 0..20 {
        push(&mut spool, 4, 1_000);
    }
    let dropped = spool.dropped();
    assert!(
        (44..=56).contains(&dropped),
        "{dropped} of 80 KB dropped to keep 32"
    );
    assert!(spool.bytes() <= DROP.max_bytes);
    drop(spool);
    let (spool, found) = open(&dir, DROP);
    assert_eq!(
        found,
        Found::Recovered {
            from: Seq(1),
            to: Seq(80)
        }
    );
    let expected: Vec<_> = (1..=80)
        .map(|seq| match seq <= dropped {
            true => Spooled {
                seq: Seq(seq),
                payload: None,
            },
            false => record(seq, 1_000),
        })
        .collect();
    assert_eq!(peek(&spool, 1), expected);
    assert_eq!(spool.peek(Seq(1), 640).expect("readable"), expected[..10]);
}

#[test]
fn a_rollup_lane_that_is_never_synced_stays_bounded_too() {
    let dir = Scratch::new();
    let mut spool = create(&dir, DROP);
    for _ in 0..200 {
        spool.push(&[1; 1_000]).expect("taken");
        assert!(spool.bytes() <= DROP.max_bytes);
    }
    spool.sync().expect("synced");
    assert_eq!(peek(&spool, 1).len(), 200);
    assert_eq!(
        spool.dropped(),
        peek(&spool, 1)
            .iter()
            .filter(|r| r.payload.is_none())
            .count() as u64
    );
}

#[test]
fn a_record_that_cannot_fit_is_refused_by_either_lane() {
    let dir = Scratch::new();
    let huge = vec![1; 8 * 1024 + 1];
    for settings in [
        REFUSE,
        DROP,
        SpoolSettings {
            max_bytes: 4_000,
            ..DROP
        },
    ] {
        let error = create(&dir, settings).push(&huge).expect_err("too long");
        assert!(matches!(
            error,
            PushError::Full { .. } | PushError::Log(WriteLogError::TooLarge { .. })
        ));
    }
}

#[test]
fn another_incarnation_begins_anew() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 5, 10);
    spool.ack(Seq(2)).expect("noted");
    drop(spool);
    let (spool, found) = Spool::open(dir.path(), NOW.next(), REFUSE).expect("opens");
    assert_eq!(found, Found::Fresh);
    assert_eq!((spool.tail(), spool.acked()), (Seq(0), Seq(0)));
}

#[test]
fn a_lost_directory_is_noticed() {
    let dir = Scratch::new();
    drop(create(&dir, REFUSE));
    assert!(matches!(
        open(&dir, REFUSE).1,
        Found::Recovered {
            from: Seq(1),
            to: Seq(0)
        }
    ));
    for name in dir.names("") {
        fs::remove_file(dir.path().join(name)).expect("removed");
    }
    assert_eq!(
        open(&dir, REFUSE).1,
        Found::Fresh,
        "under a saved agent state: enrol again"
    );
}

#[test]
fn lost_or_damaged_records_are_refused_until_a_new_incarnation() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 3, 10);
    push(&mut spool, 3, 10);
    drop(spool);
    let name = dir.names(".seg").remove(0);
    let lost = dir.copy();
    fs::remove_file(lost.path().join(&name)).expect("removed");
    let damaged = dir.copy();
    damaged.flip(&name, 8 * 45);
    let unmarked = dir.copy();
    unmarked.flip("incarnation", 8 * 17);
    for copy in [lost, damaged, unmarked] {
        let error = Spool::open(copy.path(), NOW, REFUSE).expect_err("not what was written");
        assert!(
            matches!(
                error,
                OpenSpoolError::Records(_) | OpenSpoolError::Marker(_)
            ),
            "{error}"
        );
        let spool = Spool::create(copy.path(), NOW.next(), REFUSE).expect("begun anew");
        assert_eq!(spool.tail(), Seq(0));
    }
}

#[test]
fn an_interrupted_beginning_is_begun_again() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 3, 10);
    drop(spool);
    // The marker goes first and comes last, so any step in between has none.
    fs::remove_file(dir.path().join("incarnation")).expect("removed");
    let (spool, found) = open(&dir, REFUSE);
    assert_eq!((found, spool.tail()), (Found::Fresh, Seq(0)));
}

#[test]
fn a_spool_in_use_is_not_wiped() {
    let dir = Scratch::new();
    let mut spool = create(&dir, REFUSE);
    push(&mut spool, 1, 10);
    let error = Spool::create(dir.path(), NOW.next(), REFUSE).expect_err("in use");
    assert!(matches!(error, OpenSpoolError::Records(_)), "{error}");
    drop(spool);
    assert_eq!(
        open(&dir, REFUSE).1,
        Found::Recovered {
            from: Seq(1),
            to: Seq(1)
        }
    );
}

#[test]
fn an_agents_state_is_read_back_or_refused() {
    let dir = Scratch::new();
    assert_eq!(AgentState::load(dir.path()).expect("readable"), None);
    let state = AgentState {
        agent: AgentId(7),
        incarnation: NOW,
    };
    state.save(dir.path()).expect("saved");
    assert_eq!(AgentState::load(dir.path()).expect("readable"), Some(state));
    for bit in 0..dir.read("agent").len() * 8 {
        dir.flip("agent", bit);
        assert!(AgentState::load(dir.path()).is_err(), "bit {bit}");
        dir.flip("agent", bit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbers_stay_dense_and_acknowledged_ones_never_return(
        steps in prop::collection::vec((0u64..6, 0usize..4_000, 0u64..12, prop::bool::ANY), 1..40),
    ) {
        let dir = Scratch::new();
        let mut spool = create(&dir, DROP);
        for (count, len, acked, reopen) in steps {
            push(&mut spool, count, len);
            let ack = Seq((spool.acked().0 + acked).min(spool.tail().0));
            spool.ack(ack).expect("noted");
            if reopen {
                drop(spool);
                spool = open(&dir, DROP).0;
            }
            assert_eq!(spool.acked(), ack);
            let shown: Vec<_> = peek(&spool, 0).into_iter().map(|record| record.seq.0).collect();
            assert_eq!(shown, (ack.0 + 1..=spool.tail().0).collect::<Vec<_>>());
            assert!(spool.bytes() <= DROP.max_bytes);
        }
    }
}
