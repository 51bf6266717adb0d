//! Counts and coverage: every due probe once, and no time claimed that nobody watched.

use picket_agent_core::Input;
use picket_wire::control::ToAgent;
use picket_wire::id::Epoch;
use picket_wire::lane::rollup::ShardRollup;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::world::{LEADER, START, World, checks};

const WINDOW: Span = Span::from_secs(300);

/// Coverage of all rollups in order of time; panics when two overlap.
fn coverage(rollups: &[&ShardRollup]) -> Vec<Interval> {
    let mut covered: Vec<_> = rollups.iter().map(|rollup| rollup.covered).collect();
    covered.sort_by_key(|interval| interval.from);
    for pair in covered.windows(2) {
        assert!(pair[0].until <= pair[1].from, "{pair:?}");
    }
    covered
}

#[test]
fn every_due_probe_is_counted_once() {
    let mut world = World::welcomed();
    world.assign(checks(0..200, 10));
    world.run_until(START.floor_to(WINDOW) + Span::from_secs(1_000));
    let rollups = world.rollups();
    assert_eq!(rollups.len(), 3);
    let until = rollups
        .iter()
        .map(|rollup| rollup.covered.until)
        .max()
        .unwrap();
    let ran = world
        .scheduled()
        .iter()
        .filter(|asked| asked.due < until)
        .count();
    let sum = |of: fn(&picket_wire::lane::rollup::CheckRollup) -> u32| {
        rollups
            .iter()
            .flat_map(|rollup| &rollup.checks)
            .map(of)
            .sum::<u32>() as usize
    };
    assert_eq!(
        (sum(|c| c.due), sum(|c| c.ran), sum(|c| c.ok)),
        (ran, ran, ran)
    );
    let sketched: u32 = rollups
        .iter()
        .flat_map(|rollup| &rollup.checks)
        .flat_map(|check| &check.latency)
        .map(|(_, count)| count)
        .sum();
    assert_eq!(sketched as usize, ran);
}

#[test]
fn windows_are_covered_without_a_gap() {
    let mut world = World::welcomed();
    world.assign(checks(0..20, 60));
    world.run_for(Span::from_secs(1_900));
    let covered = coverage(&world.rollups());
    for pair in covered.windows(2) {
        assert_eq!(pair[0].until, pair[1].from);
    }
    for interval in &covered[1..] {
        assert_eq!(interval.len(), WINDOW);
        assert_eq!(interval.from, interval.from.floor_to(WINDOW));
    }
}

#[test]
fn taking_over_in_mid_window_covers_only_the_rest() {
    let mut world = World::welcomed();
    let middle = START.floor_to(WINDOW) + WINDOW + Span::from_secs(120);
    world.run_until(middle);
    world.assign(checks(0..20, 10));
    world.run_until(middle + Span::from_secs(300));
    let rollup = world.rollups()[0];
    assert_eq!(rollup.window, middle.floor_to(WINDOW));
    assert!(rollup.covered.from > middle && rollup.covered.from < middle + Span(50));
    assert_eq!(rollup.covered.until, middle.floor_to(WINDOW) + WINDOW);
}

#[test]
fn a_slot_that_leaves_stops_at_once_and_is_told() {
    let mut world = World::welcomed();
    world.assign(checks(0..100, 10));
    world.run_for(Span::from_secs(25));
    world.digest(&[]);
    let left = world.now;
    world.run_for(Span::from_secs(30));
    assert!(world.asked.iter().all(|asked| asked.at <= left));
    let rollups = world.rollups();
    assert_eq!(rollups.len(), 1);
    assert!(left.since(rollups[0].covered.until) <= Span(10));
    assert!(rollups[0].checks.iter().all(|check| check.due == check.ran));
}

#[test]
fn a_part_waits_for_the_probes_that_it_counted() {
    let mut world = World::welcomed();
    world.latency = Span::from_secs(8);
    world.assign(checks(0..100, 10));
    world.run_for(Span::from_secs(700));
    for rollup in world.rollups() {
        assert!(
            rollup.checks.iter().all(|check| check.due == check.ran),
            "{rollup:?}"
        );
    }
}

#[test]
fn an_epoch_divides_a_window() {
    let mut world = World::welcomed();
    let line = world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(20));
    world.digest(&[picket_wire::assignment::Assigned {
        epoch: Epoch(2),
        ..line
    }]);
    world.run_for(Span::from_secs(600));
    let rollups = world.rollups();
    let covered = coverage(&rollups);
    assert_eq!(covered[0].until, covered[1].from);
    assert!(rollups.iter().any(|rollup| rollup.epoch == Epoch(1)));
    assert!(rollups.iter().any(|rollup| rollup.epoch == Epoch(2)));
}

#[test]
fn a_long_stall_is_not_covered() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(20));
    let from = world.now;
    world.stall(Span::from_secs(45));
    let until = world.now;
    world.run_for(Span::from_secs(700));
    let covered = coverage(&world.rollups());
    assert!(covered[0].until <= from + Span(1));
    assert!(covered[1].from >= until);
    assert!((44..=46).contains(&world.agent.stats().gap));
}

#[test]
fn a_new_version_of_a_catalogue_leaves_no_gap() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(20));
    let line = world.publish(0, 1, 2, checks(5..15, 10));
    world.digest(&[line]);
    world.run_for(Span::from_secs(600));
    let rollups = world.rollups();
    let covered = coverage(&rollups);
    for pair in covered.windows(2) {
        assert_eq!(pair[0].until, pair[1].from);
    }
    let due: u32 = rollups.iter().flat_map(|r| &r.checks).map(|c| c.due).sum();
    let until = covered.last().unwrap().until;
    let ran = world
        .scheduled()
        .iter()
        .filter(|asked| asked.due < until)
        .count();
    assert_eq!(due as usize, ran);
}

#[test]
fn leaving_tells_everything_up_to_now() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(33));
    world.input(Input::Leaving);
    let rollups = world.rollups();
    assert_eq!(rollups.len(), 1);
    assert!(world.now.since(rollups[0].covered.until) <= Span(10));
    let due: u32 = rollups[0].checks.iter().map(|check| check.due).sum();
    assert_eq!(due as usize, world.scheduled().len());
}

#[test]
fn windows_of_another_length_are_obeyed_without_a_gap() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(20));
    let welcome = picket_wire::control::Welcome {
        member: LEADER,
        term: world.term,
        now: world.now,
        window: Span::from_secs(10),
        evidence: picket_wire::id::Seq(0),
        rollup: picket_wire::id::Seq(0),
    };
    world.hear(LEADER, ToAgent::Welcome(welcome));
    world.run_for(Span::from_secs(60));
    let covered = coverage(&world.rollups());
    for pair in covered.windows(2) {
        assert_eq!(pair[0].until, pair[1].from);
    }
    assert_eq!(covered.last().unwrap().len(), Span::from_secs(10));
    assert!(covered.last().unwrap().until > Timestamp(world.now.0 - 25_000));
}
