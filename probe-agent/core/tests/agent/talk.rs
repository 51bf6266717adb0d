//! Schedulers that come, go, lead and fall silent.

use picket_agent_core::{Effect, Input, Lane};
use picket_wire::control::{FromAgent, Refusal, ToAgent, Welcome};
use picket_wire::id::{AgentId, Seq};
use picket_wire::time::Span;

use crate::world::{LEADER, OTHER, World, checks};

#[test]
fn everybody_is_dialled_and_greeted() {
    let mut world = World::new();
    world.run_for(Span(1));
    for member in [LEADER, OTHER] {
        assert!(world.effects.contains(&Effect::Dial(member)));
        world.input(Input::Connected(member));
        assert!(matches!(world.said.last(), Some((to, FromAgent::Hello(_))) if *to == member));
    }
}

#[test]
fn the_lease_is_renewed_three_times_in_its_length_with_the_leader_only() {
    let mut world = World::welcomed();
    world.input(Input::Connected(OTHER));
    let ttl = Span::from_secs(9);
    world.hear(
        LEADER,
        ToAgent::Lease {
            renewed_at: world.now,
            ttl,
        },
    );
    world.said.clear();
    world.run_for(Span::from_secs(9));
    let renewals = world
        .said
        .iter()
        .filter(|(_, said)| matches!(said, FromAgent::Renew(_)));
    assert_eq!(renewals.clone().count(), 3);
    assert!(renewals.clone().all(|(to, _)| *to == LEADER));
}

#[test]
fn probing_goes_on_without_anybody() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.input(Input::Disconnected(LEADER));
    let before = world.scheduled().len();
    world.run_for(Span::from_secs(1_000));
    assert_eq!(world.scheduled().len(), before + 1_000);
    assert!(world.sent.is_empty());
    assert!(world.rollups().len() >= 3);
}

#[test]
fn a_new_leader_gets_what_was_not_acked_and_nothing_else() {
    let mut world = World::welcomed();
    world.acking = false;
    world.assign(checks(0..10, 1));
    for id in 0..4 {
        world.fail(id);
        world.run_for(Span::from_secs(2));
    }
    assert_eq!(
        world.sends(Lane::Evidence),
        [(LEADER, 1), (LEADER, 2), (LEADER, 3), (LEADER, 4)]
    );
    world.sent.clear();
    world.hear(
        LEADER,
        ToAgent::NotLeader {
            leader: Some(OTHER),
        },
    );
    world.welcome(OTHER, 2, 0);
    world.run_for(Span(1));
    assert_eq!(world.sends(Lane::Evidence), [(OTHER, 3), (OTHER, 4)]);
}

#[test]
fn a_former_leader_that_does_not_know_it_takes_nobody_away_from_the_next() {
    let mut world = World::welcomed();
    let former = world.term;
    world.welcome(OTHER, 0, 0);
    let welcome = Welcome {
        member: LEADER,
        term: former,
        now: world.now,
        window: Span::from_secs(300),
        evidence: Seq(0),
        rollup: Seq(0),
    };
    world.hear(LEADER, ToAgent::Welcome(welcome));
    world.hear(
        LEADER,
        ToAgent::NotLeader {
            leader: Some(OTHER),
        },
    );
    assert_eq!(world.agent.links().leader(), Some(OTHER));
}

#[test]
fn a_watermark_that_is_behind_an_ack_resends_nothing_that_was_acked() {
    let mut world = World::welcomed();
    world.assign(checks(0..2, 1));
    world.fail(0);
    world.run_for(Span::from_secs(3));
    assert_eq!(world.sends(Lane::Evidence), [(LEADER, 1)]);
    world.sent.clear();
    world.welcome(OTHER, 0, 0);
    world.run_for(Span(1));
    assert_eq!(world.sends(Lane::Evidence), []);
}

#[test]
fn a_watermark_beyond_the_spool_stops_the_lane_and_not_the_probes() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.welcome(OTHER, 5, 0);
    assert!(
        world
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stuck(Lane::Evidence, _)))
    );
    let before = world.scheduled().len();
    world.run_for(Span::from_secs(10));
    assert_eq!(world.scheduled().len(), before + 10);
}

#[test]
fn a_refused_agent_hangs_up_and_waits() {
    let mut world = World::welcomed();
    let refusal = Refusal::Impostor {
        certificate: AgentId(7),
        message: AgentId(8),
    };
    world.hear(LEADER, ToAgent::Refused(refusal.clone()));
    assert!(world.effects.contains(&Effect::HangUp(LEADER, refusal)));
    assert_eq!(world.agent.links().leader(), None);
    world.input(Input::Disconnected(LEADER));
    world.effects.clear();
    world.run_for(Span::from_secs(10));
    assert!(!world.effects.contains(&Effect::Dial(LEADER)));
    world.run_for(Span::from_secs(25));
    assert!(world.effects.contains(&Effect::Dial(LEADER)));
}

#[test]
fn a_member_that_does_not_know_us_yet_is_asked_again_soon_and_then_less_often() {
    let mut world = World::welcomed();
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.hear(LEADER, ToAgent::Refused(Refusal::NotAdmitted(AgentId(7))));
        world.input(Input::Disconnected(LEADER));
        let refused = world.now;
        world.effects.clear();
        while !world.effects.contains(&Effect::Dial(LEADER)) {
            world.run_for(Span(10));
        }
        waits.push(world.now.since(refused));
        world.input(Input::Connected(LEADER));
    }
    assert!(
        waits[0] <= Span(260) && waits[5] >= Span(3_000),
        "{waits:?}"
    );
}
