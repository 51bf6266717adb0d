//! The names of this process's metrics, each recorded by one function.
//!
//! Prometheus naming: base units, `_total` for counters. A label's values are a closed set.

use std::time::Duration;

use metrics::{Histogram, counter, gauge, histogram};
use picket_wire::id::FactSeq;

use crate::consensus::RaftStatus;

/// A flush of the Raft log, and how many appends it covered.
pub(crate) fn log_flushed(took: Duration, appends: usize) {
    histogram!("picket_raft_log_flush_seconds").record(took);
    counter!("picket_raft_log_appends_total").increment(wide(appends));
}

/// A proposal was answered, or was not.
pub(crate) fn proposed(answered: bool) {
    let outcome = if answered { "answered" } else { "failed" };
    counter!("picket_proposals_total", "outcome" => outcome).increment(1);
}

/// Evidence went from the gateway through Raft and was acknowledged.
pub(crate) fn evidence_committed(batches: usize, records: usize, took: Duration) {
    counter!("picket_evidence_batches_total").increment(wide(batches));
    counter!("picket_evidence_records_total").increment(wide(records));
    histogram!("picket_evidence_ack_seconds").record(took);
}

/// A batch that was not taken, by a closed set of reasons.
pub(crate) fn batch_refused(lane: &'static str, why: &'static str) {
    counter!("picket_batches_refused_total", "lane" => lane, "reason" => why).increment(1);
}

/// Rollup batches became durable in Postgres.
pub(crate) fn rollups_stored(batches: usize, took: Duration) {
    counter!("picket_rollup_batches_total").increment(wide(batches));
    histogram!("picket_rollup_store_seconds").record(took);
}

/// The largest lateness of each check and window, as the agents report it to the leader.
pub(crate) fn window_lateness() -> Histogram {
    histogram!("picket_window_lateness_seconds")
}

/// Facts became rows.
pub(crate) fn facts_projected(facts: usize, took: Duration) {
    counter!("picket_facts_projected_total").increment(wide(facts));
    histogram!("picket_projector_batch_seconds").record(took);
}

/// How many facts a consumer has yet to pass.
pub(crate) fn facts_lag(consumer: &'static str, newest: FactSeq, cursor: FactSeq) {
    gauge!("picket_facts_lag", "consumer" => consumer)
        .set(float(newest.0.saturating_sub(cursor.0)));
}

/// Postgres did what was asked, or did not.
pub(crate) fn postgres(task: &'static str, ok: bool) {
    gauge!("picket_postgres_up", "task" => task).set(if ok { 1.0 } else { 0.0 });
}

/// One second of the live lane.
pub(crate) fn live_results(results: usize) {
    counter!("picket_live_results_total").increment(wide(results));
}

/// Agents connected here, leases that are not expired, orders that wait for votes.
pub(crate) fn mesh(connected: usize, leases: usize, orders: usize) {
    gauge!("picket_agents_connected").set(float(wide(connected)));
    gauge!("picket_leases").set(float(wide(leases)));
    gauge!("picket_orders_open").set(float(wide(orders)));
}

/// Shard slots that were given to another agent.
pub(crate) fn moves(applied: u32, stale: u32) {
    counter!("picket_assignments_moved_total").increment(u64::from(applied));
    counter!("picket_assignments_stale_total").increment(u64::from(stale));
}

/// Probe orders that were sent to agents.
pub(crate) fn orders_sent(count: usize) {
    counter!("picket_orders_sent_total").increment(wide(count));
}

/// Where this member stands in consensus.
pub(crate) fn raft(status: &RaftStatus) {
    gauge!("picket_raft_term").set(float(status.term));
    gauge!("picket_raft_is_leader").set(if status.state == "leader" { 1.0 } else { 0.0 });
    gauge!("picket_raft_last_log_index").set(float(status.last_log.unwrap_or(0)));
    gauge!("picket_raft_applied_index").set(float(status.applied.unwrap_or(0)));
    let lag = status
        .last_log
        .unwrap_or(0)
        .saturating_sub(status.applied.unwrap_or(0));
    gauge!("picket_raft_apply_lag").set(float(lag));
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats; 2^53 is beyond any of these"
)]
fn float(value: u64) -> f64 {
    value as f64
}
