//! Whole meshes of real processes: a real outage and what must come out of it whatever else fails,
//! and a bad file.
//!
//! Every test starts a whole mesh, so they run one after the other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod import;
mod outage;

use std::sync::Mutex;

use outage::{Meanwhile, Outage};

/// One mesh at a time: figures of lateness mean nothing when four meshes share two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(meanwhile: Meanwhile) {
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut outage = Outage::prepare(meanwhile).await.unwrap();
        let result = outage.run_and_judge().await;
        if let Err(error) = result {
            panic!("{error:#}\n{}", outage.logs());
        }
        outage.finish().await.unwrap();
    });
}

#[test]
fn an_outage_of_a_thousand_endpoints_is_found_told_once_and_accounted_for() {
    run(Meanwhile::Nothing);
}

#[test]
fn an_outage_is_found_and_told_while_postgres_is_away() {
    run(Meanwhile::PostgresStops);
}

#[test]
fn an_outage_is_found_and_told_once_although_the_leader_is_killed() {
    run(Meanwhile::LeaderDies);
}

#[test]
fn an_outage_is_found_and_told_once_although_an_agent_is_killed() {
    run(Meanwhile::AgentDies);
}

#[test]
fn three_bad_rows_of_ten_thousand_are_refused_alone() {
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(import::bad_rows_are_refused_alone())
        .unwrap();
}
