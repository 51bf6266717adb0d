//! What a restarted agent does with what its disk remembers.

use picket_agent_core::belief::Seen;
use picket_agent_core::{Input, Lane, LaneMarks, Resume, Said};
use picket_wire::id::{CheckId, Epoch, Seq};
use picket_wire::time::Span;

use crate::world::{LEADER, START, World, checks, slot};

fn resumed(resume: &Resume) -> World {
    let mut world = World::resuming(resume, START);
    let line = world.publish(0, 1, 1, checks(0..10, 10));
    world.input(Input::Resumed(vec![line]));
    world
}

#[test]
fn the_last_assignment_is_probed_while_nobody_answers() {
    let mut world = resumed(&Resume::default());
    world.run_for(Span(50));
    let before = world.scheduled().len();
    world.run_for(Span::from_secs(10));
    assert_eq!(world.scheduled().len(), before + 10);
}

#[test]
fn unacked_batches_are_sent_with_their_old_numbers_and_new_ones_follow() {
    let marks = LaneMarks {
        acked: Seq(4),
        tail: Seq(6),
    };
    let mut world = resumed(&Resume {
        evidence: marks,
        ..Resume::default()
    });
    world.welcome(LEADER, 4, 0);
    world.fail(0);
    world.run_for(Span::from_secs(20));
    assert_eq!(
        world.sends(Lane::Evidence),
        [(LEADER, 5), (LEADER, 6), (LEADER, 7)]
    );
}

/// The first batch says so and is not acked.
fn said_that_3_fails() -> Resume {
    Resume {
        evidence: LaneMarks {
            acked: Seq(0),
            tail: Seq(1),
        },
        said: vec![Said {
            slot: slot(0),
            epoch: Epoch(1),
            check: CheckId(3),
            seen: Seen::Failing,
            seq: Seq(1),
        }],
        ..Resume::default()
    }
}

#[test]
fn what_was_said_before_and_not_heard_yet_outweighs_an_older_belief() {
    for held_before in [true, false] {
        let mut world = World::resuming(&said_that_3_fails(), START);
        let line = world.publish(0, 1, 1, checks(0..10, 10));
        world.acking = false;
        if held_before {
            world.input(Input::Resumed(vec![line]));
        }
        world.welcome(LEADER, 0, 0);
        world.digest(&[line]);
        // The leader has not heard it yet: all is well, it says. Meanwhile all is well again.
        world.believe(&[0], &[]);
        world.run_for(Span::from_secs(20));
        assert_eq!(world.statements(), [(3, true)], "{held_before}");
    }
}

#[test]
fn what_was_said_before_is_not_said_again_and_its_end_is() {
    let mut world = resumed(&said_that_3_fails());
    world.fail(3);
    world.run_for(Span::from_secs(20));
    assert_eq!(world.statements(), []);
    world.heal(3);
    world.run_for(Span::from_secs(20));
    assert_eq!(world.statements(), [(3, true)]);
}

#[test]
fn the_assignment_is_persisted_when_it_changes() {
    let mut world = World::welcomed();
    let line = world.assign(checks(0..10, 10));
    assert_eq!(world.persisted, [line]);
    world.digest(&[]);
    assert_eq!(world.persisted, []);
}
