//! The simulator finds nothing wrong with the cores as they are, and everything wrong with the
//! bugs that are planted in them.

use picket_load::sim::{Planted, check};

/// Seeds that are run for each planted bug before it counts as missed. Each is found within the
/// first few.
const SEEDS_PER_BUG: u64 = 500;

/// The oracle that complains about a planted bug first.
fn caught_by(bug: Planted) -> &'static str {
    (1..=SEEDS_PER_BUG)
        .find_map(|seed| check(seed, Some(bug)).err())
        .map_or("nobody", |failure| failure.oracle())
}

fn assert_clean(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(failure) = check(seed, None) {
            panic!("\n{failure}");
        }
    }
}

#[test]
fn nothing_that_must_be_true_is_broken() {
    assert_clean(1..=60);
}

#[test]
fn seeds_that_once_found_a_bug_find_none_any_more() {
    let seeds = include_str!("seeds.txt").lines();
    let seeds = seeds.filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let seeds: Vec<u64> = seeds.collect();
    assert!(!seeds.is_empty(), "the list has the seeds of real bugs");
    assert_clean(seeds.into_iter());
}

#[test]
fn evidence_that_is_acknowledged_before_it_is_committed_is_caught() {
    assert_eq!(caught_by(Planted::AckBeforeDurable), "delivery");
}

#[test]
fn a_batch_that_is_applied_twice_is_caught() {
    assert_eq!(caught_by(Planted::DedupeOffByOne), "delivery");
}

#[test]
fn a_former_owner_that_is_heard_is_caught() {
    assert_eq!(caught_by(Planted::EpochGe), "ownership");
}
