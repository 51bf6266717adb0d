//! Whole meshes of real processes: a real outage, alone and with a part of the
//! mesh away in the middle of it, what must come out of it, a bad file, and what the processes tell
//! of themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod import;
mod kill;
mod outage;
mod trace;

use outage::{Meanwhile, alone, play};

#[test]
fn an_outage_of_a_thousand_endpoints_is_found_told_once_and_accounted_for() {
    play(Meanwhile::Nothing);
}

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

#[test]
fn killing_any_process_at_any_moment_loses_no_acknowledged_record_and_doubles_none() {
    kill::kill_and_account();
}

#[test]
fn three_bad_rows_of_ten_thousand_are_refused_alone() {
    alone(async { import::bad_rows_are_refused_alone().await.unwrap() });
}

#[test]
fn one_trace_follows_a_failing_check_from_probe_to_incident() {
    alone(async { trace::a_failure_is_followed().await.unwrap() });
}
