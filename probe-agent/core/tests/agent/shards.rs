//! Shards that come, go and change.

use std::collections::BTreeSet;

use picket_agent_core::Input;
use picket_wire::assignment::Assigned;
use picket_wire::control::ToAgent;
use picket_wire::id::Epoch;
use picket_wire::time::Span;
use proptest::prelude::*;

use crate::world::{LEADER, World, checks, slot};

fn dues(world: &World) -> BTreeSet<(u64, i64)> {
    world
        .scheduled()
        .iter()
        .map(|asked| (asked.check.0, asked.due.0))
        .collect()
}

#[test]
fn a_moved_shard_keeps_its_phase() {
    let (mut old, mut new) = (World::welcomed(), World::welcomed());
    let line = old.assign(checks(0..300, 60));
    new.publish(0, 2, 1, checks(0..300, 60));
    old.run_for(Span::from_secs(90));
    new.run_until(old.now);
    new.digest(&[Assigned {
        epoch: Epoch(2),
        ..line
    }]);
    new.run_for(Span(30));
    old.run_until(new.now);
    old.digest(&[]);
    new.run_for(Span::from_secs(120));
    let (before, after) = (dues(&old), dues(&new));
    for check in 0..300 {
        let last = before
            .iter()
            .filter(|(id, _)| *id == check)
            .map(|(_, due)| *due)
            .max();
        let first = after
            .iter()
            .filter(|(id, _)| *id == check)
            .map(|(_, due)| *due)
            .min();
        let (last, first) = (last.unwrap(), first.unwrap());
        // The handover overlaps for a moment: then the check is due once for both.
        assert!(
            [0, 60_000].contains(&(first - last)),
            "{check}: {last} to {first}"
        );
    }
}

#[test]
fn a_digest_that_says_the_same_changes_nothing() {
    let mut world = World::welcomed();
    let line = world.assign(checks(0..10, 10));
    let effects = world.effects.len();
    for _ in 0..5 {
        world.digest(&[line]);
    }
    assert_eq!(world.effects.len(), effects);
}

#[test]
fn a_blob_that_does_not_come_is_asked_for_again() {
    let mut world = World::welcomed();
    let line = world.publish(0, 1, 1, checks(0..10, 10));
    let kept = world.blobs.remove(&line.blob).unwrap();
    world.digest(&[line]);
    world.run_for(Span::from_secs(3));
    world.blobs.insert(line.blob, kept);
    world.run_for(Span::from_secs(3));
    assert_eq!(world.agent.table().checks(), 10);
}

#[test]
fn a_version_before_goes_on_until_the_new_one_is_here() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(10));
    let line = world.publish(0, 1, 2, checks(0..20, 10));
    let kept = world.blobs.remove(&line.blob).unwrap();
    world.digest(&[line]);
    let before = world.scheduled().len();
    world.run_for(Span::from_secs(10));
    assert_eq!(world.scheduled().len(), before + 10);
    world.blobs.insert(line.blob, kept);
    world.run_for(Span::from_secs(6));
    assert_eq!(world.agent.table().checks(), 20);
}

#[test]
fn a_new_version_remembers_what_was_said() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.fail(3);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(3, false)]);
    let line = world.publish(0, 1, 2, checks(0..11, 10));
    world.digest(&[line]);
    world.run_for(Span::from_secs(30));
    assert_eq!(world.statements(), [(3, false)]);
    world.heal(3);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(3, false), (3, true)]);
}

#[test]
fn a_digest_with_an_epoch_that_is_over_does_not_turn_back() {
    let mut world = World::welcomed();
    let line = world.assign(checks(0..10, 10));
    world.digest(&[Assigned {
        epoch: Epoch(3),
        ..line
    }]);
    world.digest(&[Assigned {
        epoch: Epoch(2),
        ..line
    }]);
    assert_eq!(
        world.agent.table().slot(slot(0)).unwrap().assigned.epoch,
        Epoch(3)
    );
}

#[test]
fn only_the_leader_assigns() {
    let mut world = World::welcomed();
    let line = world.publish(0, 1, 1, checks(0..10, 10));
    world.input(Input::Connected(crate::world::OTHER));
    world.hear(crate::world::OTHER, ToAgent::Digest(vec![line]));
    world.run_for(Span::from_secs(1));
    assert!(world.agent.table().is_empty());
    world.hear(LEADER, ToAgent::Digest(vec![line]));
    world.run_for(Span::from_secs(1));
    assert_eq!(world.agent.table().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Shards come, go, change owner and version at random: no check runs twice for one due
    /// time, rollups count what ran, and the ring holds what the table holds.
    #[test]
    fn no_due_time_runs_twice(
        script in proptest::collection::vec((0u32..4, 0u32..4, 1u64..3_000), 1..40),
    ) {
        let mut world = World::welcomed();
        let mut digest: Vec<Assigned> = Vec::new();
        let mut version = 1;
        for (shard, action, wait) in script {
            let held = digest.iter().position(|line| line.slot == slot(shard));
            version += 1;
            let from = u64::from(shard) * 100;
            match (action, held) {
                (0, Some(at)) => { digest.remove(at); }
                (1, Some(at)) => digest[at].epoch = digest[at].epoch.next(),
                (2, Some(at)) => {
                    let checks = checks(from..from + 20 + version % 7, 2);
                    digest[at] = world.publish(shard, digest[at].epoch.0, version, checks);
                }
                (_, None) => {
                    let line = world.publish(shard, version as u32, version, checks(from..from + 20, 2));
                    digest.push(line);
                }
                _ => {}
            }
            digest.sort_by_key(|line| line.slot);
            world.digest(&digest);
            world.run_for(Span(wait));
        }
        world.run_for(Span(200));
        let held: Vec<_> = world.agent.table().assigned().copied().collect();
        prop_assert_eq!(&held, &digest);
        world.input(Input::Leaving);
        world.run_for(Span::from_secs(1));
        let ran = world.scheduled().len();
        prop_assert_eq!(dues(&world).len(), ran);
        let due: u32 = world.rollups().iter().flat_map(|r| &r.checks).map(|c| c.due).sum();
        prop_assert_eq!(due as usize, ran);
    }
}
