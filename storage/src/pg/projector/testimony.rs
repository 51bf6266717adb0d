//! Testimony as rows: one wide row a record, with its probe and its retry side by side.

use std::pin::pin;

use deadpool_postgres::Transaction;
use picket_wire::evidence::Role;
use picket_wire::fact::Testimony;
use picket_wire::id::FactSeq;
use picket_wire::outcome::Probe;
use tokio_postgres::types::{ToSql, Type};

use crate::pg::PgError;
use crate::pg::projector::write::copy_in;
use crate::pg::rows::{Stated, StoredCheck, counted_code, text, trace_bytes};

const COPY_TESTIMONY: &str = "COPY testimony (seq, shard, at, incident, endpoint, check_id, site, \
    agent, region, network, counted, healthy, order_id, voter_order, owner_group, owner_shard, \
    owner_slot, owner_epoch, trace, \
    probe_at, probe_late_ms, probe_reason, probe_us, probe_status, probe_remote, probe_expires, probe_detail, \
    retry_at, retry_late_ms, retry_reason, retry_us, retry_status, retry_remote, retry_expires, retry_detail) \
    FROM STDIN BINARY";

const TESTIMONY_TYPES: [Type; 35] = [
    // seq to site
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    // agent to trace
    Type::INT4,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::BOOL,
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::INT4,
    Type::BYTEA,
    // probe
    Type::INT8,
    Type::INT8,
    Type::INT2,
    Type::INT4_ARRAY,
    Type::INT4,
    Type::INET,
    Type::INT8,
    Type::TEXT,
    // retry
    Type::INT8,
    Type::INT8,
    Type::INT2,
    Type::INT4_ARRAY,
    Type::INT4,
    Type::INET,
    Type::INT8,
    Type::TEXT,
];

/// Appends what was said.
pub(super) async fn write(
    tx: &Transaction<'_>,
    rows: &[Stated<'_, Testimony>],
    shards: u32,
) -> Result<(), PgError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut copy = pin!(copy_in(tx, COPY_TESTIMONY, &TESTIMONY_TYPES).await?);
    for stated in rows {
        let mut values = testimony_values(stated, shards);
        values.extend(probe_values(Some(&stated.body.evidence.probe)));
        values.extend(probe_values(stated.body.evidence.retry.as_ref()));
        copy.as_mut().write_raw(values).await?;
    }
    copy.finish().await?;
    Ok(())
}

type Value = Box<dyn ToSql + Sync + Send>;

fn testimony_values(stated: &Stated<'_, Testimony>, shards: u32) -> Vec<Value> {
    let Stated {
        seq: FactSeq(seq),
        at,
        body,
    } = *stated;
    let evidence = &body.evidence;
    let check = StoredCheck::of(&evidence.check, shards);
    let (owner, voter) = match evidence.role {
        Role::Owner { slot, epoch } => (Some((slot, epoch)), None),
        Role::Voter { order } => (None, Some(order)),
    };
    vec![
        Box::new(seq.cast_signed()),
        Box::new(check.shard),
        Box::new(at.0),
        Box::new(body.incident.0.cast_signed()),
        Box::new(check.endpoint),
        Box::new(check.check),
        Box::new(check.site),
        Box::new(body.agent.0.cast_signed()),
        Box::new(body.region.as_str().to_owned()),
        Box::new(body.network.as_str().to_owned()),
        Box::new(counted_code(body.counted)),
        Box::new(evidence.vantage_healthy),
        Box::new(body.order.map(|order| order.0.cast_signed())),
        Box::new(voter.map(|order| order.0.cast_signed())),
        Box::new(owner.map(|(slot, _)| slot.group.0.cast_signed())),
        Box::new(owner.map(|(slot, _)| slot.shard.0.cast_signed())),
        Box::new(owner.map(|(slot, _)| i16::from(slot.slot.0))),
        Box::new(owner.map(|(_, epoch)| epoch.0.cast_signed())),
        Box::new(trace_bytes(evidence.trace.as_ref())),
    ]
}

fn probe_values(probe: Option<&Probe>) -> [Value; 8] {
    let phases = probe.map(|probe| {
        let us = probe.phases;
        [us.dns_us, us.connect_us, us.tls_us, us.ttfb_us, us.total_us]
            .map(u32::cast_signed)
            .to_vec()
    });
    [
        Box::new(probe.map(|probe| probe.at.0)),
        Box::new(probe.map(|probe| probe.lateness.0.cast_signed())),
        Box::new(
            probe
                .and_then(|probe| probe.reason)
                .map(|reason| i16::from(reason.code())),
        ),
        Box::new(phases),
        Box::new(probe.map(|probe| i32::from(probe.http_status))),
        Box::new(probe.and_then(|probe| probe.remote)),
        Box::new(
            probe
                .and_then(|probe| probe.certificate_expires)
                .map(|at| at.0),
        ),
        Box::new(probe.map(|probe| text(&probe.detail))),
    ]
}
