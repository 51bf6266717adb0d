//! The clockwork: exactly once per interval, never in a burst.

use std::collections::BTreeMap;

use picket_agent_core::Skip;
use picket_wire::dispersal::phase_ms;
use picket_wire::time::{Span, Timestamp};

use crate::world::{Asked, World, checks};

#[test]
fn every_check_runs_exactly_once_per_interval() {
    let mut world = World::welcomed();
    let mut specs = checks(0..500, 60);
    specs.extend(checks(500..600, 10));
    world.assign(specs.clone());
    let from = world.now;
    world.run_for(Span::from_secs(600));
    let mut ran: BTreeMap<_, Vec<Timestamp>> = BTreeMap::new();
    for asked in world.scheduled() {
        ran.entry(asked.check).or_default().push(asked.due);
        assert!(asked.at.since(asked.due) <= Span(10), "{asked:?}");
    }
    for spec in &specs {
        let interval = spec.cadence.span();
        let dues = &ran[&spec.id];
        assert_eq!(
            dues.len() as u64,
            600 / u64::from(spec.cadence.secs()),
            "{}",
            spec.id
        );
        let phase = Span(phase_ms(spec.id, spec.cadence).into());
        for due in dues {
            assert_eq!(due.floor_to(interval) + phase, *due);
            assert!(*due >= from - Span(1));
        }
    }
}

#[test]
fn a_stall_is_skipped_and_counted_and_never_run_in_a_burst() {
    let mut world = World::welcomed();
    world.assign(checks(0..1_000, 10));
    world.run_for(Span::from_secs(20));
    let before = world.asked.len();
    let due_before = world.agent.stats().due;
    world.stall(Span::from_secs(6));
    world.run_for(Span(1));
    let burst = world.asked.len() - before;
    // A hundred a second are due: what was due in the last second runs late, the rest does not.
    assert!((50..=150).contains(&burst), "{burst}");
    let skipped = world.agent.stats().skipped.of(Skip::Stall);
    assert!((450..=550).contains(&skipped), "{skipped}");
    let due = world.agent.stats().due - due_before;
    assert_eq!(due, skipped + burst as u64);
}

#[test]
fn after_a_stall_deadlines_are_where_they_always_were() {
    let mut world = World::welcomed();
    world.assign(checks(0..50, 10));
    world.run_for(Span::from_secs(20));
    world.stall(Span(3_333));
    world.run_for(Span::from_secs(20));
    for asked in world.scheduled() {
        let phase = phase_ms(
            asked.check,
            picket_wire::check::Cadence::from_secs(10).unwrap(),
        );
        assert_eq!(asked.due.0.rem_euclid(10_000), i64::from(phase));
    }
}

#[test]
fn a_probe_that_still_runs_is_not_doubled() {
    let mut world = World::welcomed();
    world.latency = Span(2_500);
    world.assign(checks(0..1, 1));
    world.run_for(Span::from_secs(30));
    assert!(world.agent.in_flight() <= 1);
    assert_eq!(world.scheduled().len(), 10);
    assert!(world.agent.stats().skipped.of(Skip::Overrun) >= 19);
}

#[test]
fn dead_checks_do_not_delay_the_living() {
    let mut world = World::welcomed();
    let mut specs = checks(0..9_000, 10);
    specs.extend(checks(100_000..109_000, 10));
    world.assign(specs);
    for id in 100_000..109_000 {
        world.fail(id);
    }
    world.dead_latency = Span::from_secs(10);
    world.run_for(Span::from_secs(60));
    let last = world.now - Span::from_secs(15);
    let living = |asked: &&&Asked| asked.check.0 < 9_000 && asked.due >= last;
    let ran = world.scheduled().iter().filter(living).count();
    assert!(ran >= 13_400, "{ran}");
    assert!(world.agent.stats().skipped.of(Skip::Heavy) > 0);
    assert_eq!(world.agent.stats().skipped.of(Skip::Stall), 0);
}
