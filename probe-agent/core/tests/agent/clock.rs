//! Clocks that are set.

use picket_wire::time::Span;

use crate::world::{World, checks};

#[test]
fn a_clock_that_is_set_back_by_an_hour_stops_nothing() {
    let mut world = World::welcomed();
    world.assign(checks(0..10, 10));
    world.run_for(Span::from_secs(60));
    world.fail(1);
    world.now = world.now - Span::from_secs(3_600);
    world.input(picket_agent_core::Input::Tick);
    let before = world.scheduled().len();
    world.run_for(Span::from_secs(30));
    assert_eq!(world.scheduled().len(), before + 30);
    assert_eq!(world.statements(), [(1, false)]);
}

#[test]
fn a_clock_that_is_set_forward_by_an_hour_makes_no_burst() {
    let mut world = World::welcomed();
    world.assign(checks(0..1_000, 10));
    world.run_for(Span::from_secs(20));
    let before = world.scheduled().len();
    world.stall(Span::from_secs(3_600));
    world.run_for(Span(1));
    assert!(world.scheduled().len() - before <= 100);
}
