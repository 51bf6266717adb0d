//! Changes of mind: said once, said in time, said only when there is something to say.

use picket_agent_core::{Batch, Input, Lane, Skip};
use picket_wire::assignment::Assigned;
use picket_wire::control::{ProbeOrder, ToAgent};
use picket_wire::evidence::Role;
use picket_wire::id::{Epoch, OrderId};
use picket_wire::reason::Reason;
use picket_wire::time::Span;

use crate::world::{LEADER, World, check, checks, slot};

#[test]
fn a_failure_is_said_once_with_both_tries_and_a_recovery_once() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(20));
    world.fail(3);
    world.run_for(Span::from_secs(60));
    assert_eq!(world.statements(), [(3, false)]);
    let evidence = world.evidence()[0].clone();
    assert!(evidence.retry.is_some() && evidence.vantage_healthy);
    assert_eq!(
        evidence.role,
        Role::Owner {
            slot: slot(0),
            epoch: Epoch(1)
        }
    );
    world.heal(3);
    world.run_for(Span::from_secs(60));
    assert_eq!(world.statements(), [(3, false), (3, true)]);
}

#[test]
fn a_hiccup_is_not_said_and_counts_as_ok() {
    let mut world = World::welcomed();
    world.assign(checks(0..3, 10));
    world.hiccups.insert(check(1, 10).id);
    world.run_for(Span::from_secs(700));
    assert_eq!(world.statements(), []);
    let rollup = world.rollups()[0];
    assert!(
        rollup
            .checks
            .iter()
            .all(|check| check.ok == check.ran && check.ran == check.due)
    );
}

#[test]
fn a_storm_goes_in_full_batches_with_dense_numbers() {
    let mut world = World::welcomed();
    world.assign(checks(0..3_000, 1));
    world.run_for(Span::from_secs(2));
    (0..3_000).for_each(|id| world.fail(id));
    world.run_for(Span::from_secs(5));
    assert_eq!(world.statements().len(), 3_000);
    let seqs = world.seqs(Lane::Evidence);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn evidence_waits_for_company_no_longer_than_a_tenth_of_a_second() {
    let mut world = World::welcomed();
    world.assign(checks(0..1, 10));
    world.fail(0);
    while world.batches.is_empty() {
        world.run_for(Span(1));
    }
    let found = world.evidence()[0].retry.as_ref().unwrap().at + world.latency;
    assert!(
        world.now.since(found) <= Span(101),
        "{:?}",
        world.now.since(found)
    );
}

#[test]
fn what_the_schedulers_believe_is_corrected_where_probes_disagree() {
    let mut world = World::welcomed();
    world.assign(checks(0..3, 10));
    world.believe(&[0], &[1, 2]);
    world.fail(2);
    world.run_for(Span::from_secs(30));
    // 1 is up here and believed to fail; 2 fails as believed; 0 is up as believed.
    assert_eq!(world.statements(), [(1, true)]);
}

#[test]
fn beliefs_that_come_before_the_blob_are_kept_for_it() {
    let mut world = World::welcomed();
    let line = world.publish(0, 1, 1, checks(0..2, 10));
    world.digest(&[line]);
    world.believe(&[0], &[1]);
    world.run_for(Span::from_secs(30));
    assert_eq!(world.statements(), [(1, true)]);
}

#[test]
fn what_is_believed_of_a_check_that_comes_with_the_next_blob_is_kept_for_it() {
    let mut world = World::welcomed();
    world.assign(checks(0..2, 10));
    let line = world.publish(0, 1, 2, checks(0..3, 10));
    world.digest(&[line]);
    world.believe(&[0], &[2]);
    world.run_for(Span::from_secs(30));
    assert_eq!(world.statements(), [(2, true)]);
}

#[test]
fn a_statement_under_way_outweighs_an_older_belief() {
    let mut world = World::welcomed();
    world.assign(checks(0..2, 10));
    world.acking = false;
    world.fail(0);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(0, false)]);
    // The leader has not heard it yet and still believes that all is well.
    world.believe(&[0], &[]);
    world.run_for(Span::from_secs(30));
    assert_eq!(world.statements(), [(0, false)]);
}

#[test]
fn a_statement_under_an_earlier_epoch_outweighs_nothing() {
    let mut world = World::welcomed();
    let line = world.assign(checks(0..2, 10));
    world.fail(0);
    world.run_for(Span::from_secs(15));
    world.acking = false;
    world.heal(0);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(0, false), (0, true)]);
    // The slot went to somebody else and came back before that was heard: it has no effect.
    let epoch = line.epoch.next();
    world.digest(&[Assigned { epoch, ..line }]);
    world.believe(&[0], &[0]);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(0, false), (0, true), (0, true)]);
}

#[test]
fn a_check_that_was_called_a_false_alarm_and_fails_on_is_said_again() {
    let mut world = World::welcomed();
    world.assign(checks(0..2, 10));
    world.fail(0);
    world.run_for(Span::from_secs(15));
    world.believe(&[0], &[]);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(0, false), (0, false)]);
}

#[test]
fn an_agent_whose_references_fail_says_nothing_and_counts_nothing() {
    let mut world = World::welcomed();
    world.assign(checks(0..5, 10));
    world.run_for(Span::from_secs(10));
    world.input(Input::ReferenceHealth(false));
    (0..5).for_each(|id| world.fail(id));
    world.run_for(Span::from_secs(20));
    assert_eq!(world.statements(), []);
    assert_eq!(world.agent.stats().skipped.of(Skip::Blind), 10);
    world.input(Input::ReferenceHealth(true));
    world.run_for(Span::from_secs(20));
    assert_eq!(world.statements().len(), 5);
}

#[test]
fn what_the_agent_may_not_probe_is_said_once_and_not_counted() {
    let mut world = World::welcomed();
    world.assign(checks(0..2, 10));
    world
        .failing
        .insert(check(0, 10).id, Reason::AddressBlocked);
    world.run_for(Span::from_secs(60));
    assert_eq!(world.statements(), [(0, false)]);
    assert!(world.evidence()[0].retry.is_none());
    assert_eq!(world.agent.stats().skipped.of(Skip::Blocked), 6);
    world.heal(0);
    world.run_for(Span::from_secs(15));
    assert_eq!(world.statements(), [(0, false), (0, true)]);
}

#[test]
fn an_agent_without_means_to_probe_says_nothing_of_its_targets() {
    let mut world = World::welcomed();
    world.assign(checks(0..2, 10));
    world.failing.insert(check(0, 10).id, Reason::AgentFault);
    world.run_for(Span::from_secs(60));
    assert_eq!(world.statements(), []);
    assert_eq!(world.agent.stats().skipped.of(Skip::Blind), 6);
}

#[test]
fn under_a_new_epoch_what_fails_is_said_again() {
    let mut world = World::welcomed();
    let line = world.assign(checks(0..2, 10));
    world.fail(0);
    world.run_for(Span::from_secs(15));
    world.digest(&[Assigned {
        epoch: Epoch(2),
        ..line
    }]);
    world.run_for(Span::from_secs(30));
    assert_eq!(world.statements(), [(0, false), (0, false)]);
}

fn order(id: u64, check_id: u64) -> ToAgent {
    let within = Span::from_secs(5);
    ToAgent::Probe(ProbeOrder {
        order: OrderId(id),
        check: check(check_id, 60),
        within,
        trace: None,
    })
}

#[test]
fn an_order_is_a_vote_once() {
    let mut world = World::welcomed();
    world.fail(9);
    world.hear(LEADER, order(1, 9));
    world.hear(LEADER, order(1, 9));
    world.hear(LEADER, order(2, 8));
    world.run_for(Span::from_secs(2));
    let votes: Vec<_> = world
        .evidence()
        .iter()
        .map(|vote| (vote.role, vote.is_ok()))
        .collect();
    let voter = |id| Role::Voter { order: OrderId(id) };
    assert_eq!(votes.len(), 2);
    assert!(votes.contains(&(voter(1), false)) && votes.contains(&(voter(2), true)));
}

#[test]
fn a_vote_that_comes_too_late_is_not_cast() {
    let mut world = World::welcomed();
    world.latency = Span::from_secs(6);
    world.hear(LEADER, order(1, 9));
    world.run_for(Span::from_secs(20));
    assert_eq!(world.statements(), []);
    assert_eq!(world.agent.stats().orders_dropped, 1);
}

#[test]
fn a_blind_vote_says_that_it_is() {
    let mut world = World::welcomed();
    world.input(Input::ReferenceHealth(false));
    world.fail(9);
    world.hear(LEADER, order(1, 9));
    world.run_for(Span::from_secs(2));
    assert!(!world.evidence()[0].vantage_healthy);
}

#[test]
fn nothing_is_lost_when_the_disk_takes_nothing_for_a_while() {
    let mut world = World::welcomed();
    world.assign(checks(0..20_000, 10));
    world.disk = false;
    (0..20_000).for_each(|id| world.fail(id));
    world.run_for(Span::from_secs(15));
    assert!(world.batches.len() <= 4, "{}", world.batches.len());
    world.disk = true;
    let stuck: Vec<_> = world.batches.iter().map(Batch::seq).collect();
    for seq in stuck {
        world.input(Input::Spooled {
            lane: Lane::Evidence,
            seq,
        });
    }
    world.run_for(Span::from_secs(30));
    let mut said = world.statements();
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), 20_000);
}
