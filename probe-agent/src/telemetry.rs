//! The agent's metrics: every name, what it counts, and where the counts come from.
//!
//! | metric | kind | labels | meaning |
//! |---|---|---|---|
//! | `picket_agent_probes_total` | counter | `kind`, `reason` | probes that ended; `reason` is `ok` or why not |
//! | `picket_agent_lateness_seconds` | histogram | | from due to started, scheduled probes |
//! | `picket_agent_due_total` | counter | | probes that were due |
//! | `picket_agent_skipped_total` | counter | `why` | due probes that did not run |
//! | `picket_agent_gap_total` | counter | | due probes in time that nobody watched |
//! | `picket_agent_in_flight` | gauge | | probes under way |
//! | `picket_agent_checks`, `picket_agent_slots` | gauge | | what is held |
//! | `picket_agent_changes_of_mind_total` | counter | | evidence of own checks |
//! | `picket_agent_votes_total` | counter | | votes cast |
//! | `picket_agent_orders_dropped_total` | counter | | orders not carried out |
//! | `picket_agent_put_off_total` | counter | | changes of mind that had to wait for the disk |
//! | `picket_agent_ack_seconds` | histogram | `lane` | from handed to the disk to acked |
//! | `picket_agent_spool_bytes` | gauge | | unacked bytes on disk |
//! | `picket_agent_spool_full_total` | counter | `lane` | writes that found no room |
//! | `picket_agent_connected` | gauge | | members connected |
//! | `picket_agent_led` | gauge | | 1 while a leader is known |
//! | `picket_agent_lease_seconds` | gauge | | what is left of the lease, 0 without |
//! | `picket_agent_healthy` | gauge | | 1 while the reference checks are ok |

use std::collections::BTreeMap;
use std::time::Duration;

use picket_agent_core::{Agent, Attempt, Lane, Skip};
use picket_wire::check::CheckSpec;
use picket_wire::id::Seq;
use picket_wire::outcome::Probe;
use picket_wire::time::Timestamp;

pub(crate) const SPOOL_FULL: &str = "picket_agent_spool_full_total";

/// Counts a probe that ended.
pub(crate) fn probed(spec: &CheckSpec, attempt: Attempt, probe: &Probe) {
    let reason = probe.reason.map_or("ok", |reason| reason.name());
    let kind = spec.kind.name();
    metrics::counter!("picket_agent_probes_total", "kind" => kind, "reason" => reason).increment(1);
    if attempt == Attempt::Scheduled {
        metrics::histogram!("picket_agent_lateness_seconds").record(probe.lateness.to_std());
    }
}

/// Says what the core counts about itself.
pub(crate) fn publish(core: &Agent, spool_bytes: u64, now: Timestamp) {
    let stats = core.stats();
    for why in Skip::ALL {
        let skipped = metrics::counter!("picket_agent_skipped_total", "why" => why.name());
        skipped.absolute(stats.skipped.of(why));
    }
    for (name, count) in [
        ("picket_agent_due_total", stats.due),
        ("picket_agent_gap_total", stats.gap),
        ("picket_agent_changes_of_mind_total", stats.changes_of_mind),
        ("picket_agent_votes_total", stats.votes),
        ("picket_agent_orders_dropped_total", stats.orders_dropped),
        ("picket_agent_put_off_total", stats.put_off),
    ] {
        metrics::counter!(name).absolute(count);
    }
    let lease = stats
        .lease_until
        .map_or(Duration::ZERO, |until| until.since(now).to_std());
    metrics::gauge!("picket_agent_lease_seconds").set(lease.as_secs_f64());
    let flag = |set: bool| f64::from(u8::from(set));
    metrics::gauge!("picket_agent_healthy").set(flag(core.is_healthy()));
    metrics::gauge!("picket_agent_led").set(flag(core.links().leader().is_some()));
    metrics::gauge!("picket_agent_in_flight").set(f64::from(core.in_flight()));
    for (name, count) in [
        ("picket_agent_checks", core.table().checks()),
        ("picket_agent_slots", core.table().len()),
        ("picket_agent_connected", core.links().connected()),
        (
            "picket_agent_spool_bytes",
            usize::try_from(spool_bytes).unwrap_or(usize::MAX),
        ),
    ] {
        metrics::gauge!(name).set(count_as_f64(count));
    }
}

/// Gauges are floating-point; counts here stay far below the 53 bits that it holds exactly.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn count_as_f64(count: usize) -> f64 {
    count as f64
}

/// How long batches wait for their acks.
#[derive(Debug, Default)]
pub(crate) struct AckTimes {
    made: BTreeMap<(Lane, Seq), Timestamp>,
}

/// Batches whose time is remembered: while nobody acks, the oldest tell enough.
const ACK_TIMES_MAX: usize = 4_096;

impl AckTimes {
    /// A batch goes to the disk.
    pub(crate) fn made(&mut self, lane: Lane, seq: Seq, now: Timestamp) {
        if self.made.len() < ACK_TIMES_MAX {
            self.made.insert((lane, seq), now);
        }
    }

    /// Everything up to `through` is acked.
    pub(crate) fn acked(&mut self, lane: Lane, through: Seq, now: Timestamp) {
        let acked: Vec<_> = self
            .made
            .range((lane, Seq(0))..=(lane, through))
            .map(|(key, at)| (*key, *at))
            .collect();
        for (key, made) in acked {
            self.made.remove(&key);
            let waited = now.since(made).to_std();
            metrics::histogram!("picket_agent_ack_seconds", "lane" => lane.name()).record(waited);
        }
    }
}
