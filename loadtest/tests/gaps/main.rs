//! What does not hold yet: the same outage with one part of the mesh away in the middle of it.
//!
//! Not part of the suite; `cargo test -p picket-load --test gaps` runs them. What is known of each:
//! with Postgres stopped three seconds into the outage of a thousand endpoints, no notification
//! came within twenty seconds, although ten endpoints are told within three; with the leader
//! killed, all incidents are found and closed once, but the slowest verdict took nineteen seconds;
//! with an agent killed, verdicts that asked the dead agent waited for the order's deadline of
//! five seconds, and what comes after was not seen yet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../real/outage.rs"]
mod outage;

use outage::{Meanwhile, play};

#[test]
fn an_outage_is_found_and_told_while_postgres_is_away() {
    play(Meanwhile::PostgresStops);
}

#[test]
fn an_outage_is_found_and_told_once_although_the_leader_is_killed() {
    play(Meanwhile::LeaderDies);
}

#[test]
fn an_outage_is_found_and_told_once_although_an_agent_is_killed() {
    play(Meanwhile::AgentDies);
}
