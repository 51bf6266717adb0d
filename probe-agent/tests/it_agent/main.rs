//! A whole agent against a scripted scheduler: real QUIC, real certificates, real disk, real
//! targets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that cannot set its world up has failed; its servers end with its runtime"
)]

mod scheduler;
mod target;
mod world;

use std::time::Duration;

use picket_wire::control::{FromAgent, ProbeOrder, ToAgent};
use picket_wire::evidence::Role;
use picket_wire::id::{OrderId, Seq};
use picket_wire::time::Span;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_agent_probes_what_it_is_given_and_says_what_fails() {
    let world = World::enrolled().await;
    let agent = world.run_agent();
    world.assign(&[world.check(1), world.check(2)]).await;
    world.targets.served(4).await;
    world.targets.fail(2);
    let evidence = world.scheduler.evidence(1).await;
    assert_eq!(evidence[0].check.check, world.check(2).id);
    assert!(!evidence[0].is_ok() && evidence[0].retry.is_some());
    world.targets.heal(2);
    let evidence = world.scheduler.evidence(2).await;
    assert!(evidence[1].is_ok());
    agent.stop().await;
    // Leaving tells the open window.
    let rollups = world.rollups_on_disk();
    let counted: u32 = rollups
        .iter()
        .flat_map(|r| &r.checks)
        .map(|check| check.ran)
        .sum();
    assert!(counted >= 4, "{rollups:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_sends_its_unacked_evidence_again_with_the_same_numbers() {
    let world = World::enrolled().await;
    world.scheduler.hold_acks();
    let agent = world.run_agent();
    world.assign(&[world.check(1), world.check(2)]).await;
    world.targets.served(2).await;
    world.targets.fail(1);
    let before = world.scheduler.batches(1).await;
    agent.kill().await;
    let agent = world.run_agent();
    let after = world.scheduler.batches(2).await;
    assert_eq!(before[0], after[1], "the same batch under the same number");
    world.scheduler.release_acks();
    world.targets.heal(1);
    let recovery = world
        .scheduler
        .evidence_where(|evidence| evidence.is_ok())
        .await;
    assert_eq!(recovery.check.check, world.check(1).id);
    let seqs: Vec<Seq> = world
        .scheduler
        .batches(3)
        .await
        .iter()
        .map(|batch| batch.seq)
        .collect();
    assert!(seqs.contains(&Seq(2)), "{seqs:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probing_goes_on_and_resumes_without_a_scheduler() {
    let world = World::enrolled().await;
    let agent = world.run_agent();
    world.assign(&[world.check(1)]).await;
    world.targets.served(1).await;
    world.scheduler.disappear().await;
    world.targets.served_more(3).await;
    agent.kill().await;
    // Nobody answers, and still the new process knows what to do.
    let agent = world.run_agent();
    world.targets.served_more(2).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_taken_away_is_no_longer_probed() {
    let world = World::enrolled().await;
    let agent = world.run_agent();
    world.assign(&[world.check(1)]).await;
    world.targets.served(1).await;
    world.scheduler.say(ToAgent::Digest(Vec::new())).await;
    let rollup = world.scheduler.rollup().await;
    assert!(rollup.checks.iter().all(|check| check.due == check.ran));
    let served = world.targets.count();
    world.scheduler.renewals(2).await;
    assert_eq!(world.targets.count(), served);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_answered_with_a_vote() {
    let world = World::enrolled().await;
    let agent = world.run_agent();
    world.targets.fail(5);
    let order = OrderId(77);
    let within = Span::from_secs(5);
    let check = world.check(5);
    world
        .scheduler
        .say(ToAgent::Probe(ProbeOrder {
            order,
            check,
            within,
            trace: None,
        }))
        .await;
    let vote = world.scheduler.evidence(1).await.remove(0);
    assert_eq!(vote.role, Role::Voter { order });
    assert!(!vote.is_ok() && vote.retry.is_some());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_is_refused_and_nothing_is_kept() {
    let world = World::new().await;
    world.enrol().await.unwrap();
    let again = world.enrol().await.unwrap_err();
    assert!(again.to_string().contains("used before"), "{again}");
    let said = world.run_agent();
    let hello = world
        .scheduler
        .said_where(|said| matches!(said, FromAgent::Hello(_)))
        .await;
    assert!(matches!(hello, FromAgent::Hello(_)));
    said.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_never_enrolled_says_so() {
    let world = World::new().await;
    let error = world.try_run().await.unwrap_err();
    assert!(error.to_string().contains("not enrolled"), "{error}");
}

/// How long anything may take on a busy machine before a test gives up and says what it saw.
const PATIENCE: Duration = Duration::from_secs(60);
