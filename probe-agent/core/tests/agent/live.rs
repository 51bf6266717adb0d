//! The live lane, decoded as the leader does it.

use std::collections::BTreeMap;

use picket_agent_core::Input;
use picket_wire::assignment::Assigned;
use picket_wire::control::{FromAgent, Schedule, ToAgent};
use picket_wire::id::{CheckId, Slot};
use picket_wire::lane::live::{LiveDecoder, LiveOrder, LiveOutcome};
use picket_wire::time::{Span, Timestamp};

use crate::world::{LEADER, OTHER, World, check, checks};

/// Every result of all seconds: when, which check, what.
fn decoded(world: &World) -> Vec<(Timestamp, CheckId, LiveOutcome)> {
    let schedules: BTreeMap<u32, &Schedule> = world
        .said
        .iter()
        .filter_map(|(_, said)| match said {
            FromAgent::Schedule(schedule) => Some((schedule.generation, schedule)),
            _ => None,
        })
        .collect();
    let mut decoders = BTreeMap::new();
    let mut results = Vec::new();
    for second in &world.live {
        let (order, decoder) = decoders.entry(second.generation).or_insert_with(|| {
            let held = &schedules[&second.generation].held;
            let specs = held
                .iter()
                .flat_map(|line: &Assigned| &world.blobs[&line.blob]);
            let order = LiveOrder::new(specs.map(|spec| (spec.id, spec.cadence)));
            let decoder = LiveDecoder::new(second.generation, &order.sizes());
            (order, decoder)
        });
        let shown = decoder.second(second, |result| {
            let check = order.at(result.cadence, result.position).unwrap();
            results.push((second.second, check, result.outcome));
        });
        shown.unwrap();
    }
    results
}

#[test]
fn every_second_is_told_with_what_was_due_in_it() {
    let mut world = World::welcomed();
    let mut specs = checks(0..100, 10);
    specs.extend(checks(100..130, 1));
    world.assign(specs);
    world.run_for(Span::from_secs(5));
    world.fail(7);
    world.run_for(Span::from_secs(40));
    let seconds: Vec<_> = world.live.iter().map(|second| second.second).collect();
    assert!(seconds.len() >= 38, "{}", seconds.len());
    for pair in seconds.windows(2) {
        assert_eq!(pair[1].since(pair[0]), Span::from_secs(1));
    }
    let results = decoded(&world);
    for asked in world.scheduled() {
        if asked.due < seconds[0] || asked.due >= *seconds.last().unwrap() {
            continue;
        }
        let second = asked.due.floor_to(Span::from_secs(1));
        let told: Vec<_> = results
            .iter()
            .filter(|(at, of, _)| *at == second && *of == asked.check)
            .collect();
        assert_eq!(told.len(), 1, "{asked:?}");
        assert_ne!(told[0].2, LiveOutcome::Skipped);
    }
    let failed = results
        .iter()
        .filter(|(_, _, outcome)| matches!(outcome, LiveOutcome::Failed(_)));
    assert!(failed.clone().count() >= 3);
    assert!(failed.clone().all(|(_, of, _)| *of == CheckId(7)));
}

#[test]
fn a_slow_probe_reads_as_not_ended() {
    let mut world = World::welcomed();
    world.latency = Span::from_secs(4);
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(30));
    let results = decoded(&world);
    assert!(results.len() >= 20);
    assert!(
        results
            .iter()
            .all(|(_, _, outcome)| *outcome == LiveOutcome::Skipped)
    );
}

#[test]
fn a_change_of_the_rings_is_announced_before_the_next_second() {
    let mut world = World::welcomed();
    let first = world.publish(0, 1, 1, checks(0..10, 1));
    world.digest(&[first]);
    world.run_for(Span::from_secs(6));
    let second = world.publish(1, 1, 1, checks(10..20, 1));
    world.digest(&[first, second]);
    world.run_for(Span::from_secs(10));
    let results = decoded(&world);
    assert!(results.iter().any(|(_, of, _)| of.0 >= 10));
    assert_eq!(
        world.live.iter().map(|second| second.generation).max(),
        Some(3)
    );
}

#[test]
fn a_new_leader_is_told_from_a_new_schedule_on() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 1));
    world.run_for(Span::from_secs(6));
    world.input(Input::Disconnected(LEADER));
    world.run_for(Span::from_secs(60));
    let before = world.live.len();
    world.welcome(OTHER, 0, 0);
    world.run_for(Span::from_secs(6));
    assert!((1..6).contains(&(world.live.len() - before)));
    assert!(decoded(&world).len() > 10);
}

#[test]
fn a_reset_begins_a_new_era() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 1));
    world.run_for(Span::from_secs(6));
    world.hear(LEADER, ToAgent::ResetLive);
    world.run_for(Span::from_secs(6));
    assert_eq!(world.live.last().unwrap().era, 1);
    assert!(!decoded(&world).is_empty());
}

#[test]
fn a_shard_held_in_two_slots_stands_in_the_announced_order_once() {
    let mut world = World::welcomed();
    let one = world.publish(0, 1, 1, checks(0..50, 2));
    let two = Assigned {
        slot: picket_wire::id::ShardSlot {
            slot: Slot(1),
            ..one.slot
        },
        ..one
    };
    let other = world.publish(1, 1, 1, vec![check(60, 2), check(61, 2)]);
    world.digest(&[one, two, other]);
    world.run_for(Span::from_secs(20));
    let results = decoded(&world);
    let last = world.live.last().unwrap().second;
    let told = results
        .iter()
        .filter(|(at, _, _)| *at >= last - Span::from_secs(1));
    assert_eq!(told.count(), 52);
}
