//! The statements that write a batch's rows.
//!
//! What is only appended goes by COPY; what replaces an earlier row goes by one statement over
//! `unnest`ed columns. Everything is prepared once per connection.

use std::pin::pin;

use deadpool_postgres::Transaction;
use picket_wire::fact::Transition;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use crate::pg::PgError;
use crate::pg::projector::testimony;
use crate::pg::rows::{Rows, Stated, StoredCheck, text, trace_bytes};

/// Writes every table; the caller moves the cursor in the same transaction.
pub(crate) async fn rows(
    tx: &Transaction<'_>,
    rows: &Rows<'_>,
    shards: u32,
) -> Result<(), PgError> {
    transitions(tx, rows, shards).await?;
    states(tx, rows, shards).await?;
    incidents(tx, rows, shards).await?;
    testimony::write(tx, &rows.testimony, shards).await?;
    groups(tx, rows).await?;
    audit(tx, rows).await
}

const COPY_TRANSITIONS: &str = "COPY transitions (seq, shard, decided_at, at, endpoint, check_id, \
    site, from_state, to_state, reason, incident) FROM STDIN BINARY";

async fn transitions(tx: &Transaction<'_>, rows: &Rows<'_>, shards: u32) -> Result<(), PgError> {
    if rows.transitions.is_empty() {
        return Ok(());
    }
    let mut copy = pin!(copy_in(tx, COPY_TRANSITIONS, &TRANSITION_TYPES).await?);
    for Stated { seq, at, body } in &rows.transitions {
        let check = StoredCheck::of(&body.check, shards);
        copy.as_mut()
            .write(&[
                &seq.0.cast_signed(),
                &check.shard,
                &at.0,
                &body.at.0,
                &check.endpoint,
                &check.check,
                &check.site,
                &body.from.code(),
                &body.to.code(),
                &reason_code(body),
                &body.incident.map(|incident| incident.0.cast_signed()),
            ])
            .await?;
    }
    copy.finish().await?;
    Ok(())
}

const TRANSITION_TYPES: [Type; 11] = [
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT2,
    Type::INT2,
    Type::INT2,
    Type::INT8,
];

fn reason_code(transition: &Transition) -> Option<i16> {
    transition.reason.map(|reason| i16::from(reason.code()))
}

/// Nobody else writes this table while the cursor's row is locked, so that a plain update and an
/// insert of what it did not find will do: an upsert locks each row before it updates it, which
/// costs half as much again.
const STATES: &str = "
    WITH news AS (
        SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::smallint[],
            $5::bigint[], $6::smallint[], $7::bigint[], $8::bigint[])
            AS news (endpoint, shard, site, state, since, reason, incident, seq)
    ), known AS (
        UPDATE endpoint_state AS stored SET state = news.state, since = news.since,
            reason = news.reason, incident = news.incident, seq = news.seq
        FROM news WHERE stored.endpoint = news.endpoint AND stored.shard = news.shard
        RETURNING stored.endpoint
    )
    INSERT INTO endpoint_state (endpoint, shard, site, state, since, reason, incident, seq)
    SELECT * FROM news WHERE endpoint NOT IN (SELECT endpoint FROM known)";

async fn states(tx: &Transaction<'_>, rows: &Rows<'_>, shards: u32) -> Result<(), PgError> {
    if rows.states.is_empty() {
        return Ok(());
    }
    let all = || rows.states.values();
    let checks: Vec<_> = all()
        .map(|row| StoredCheck::of(&row.body.check, shards))
        .collect();
    let endpoint: Vec<i64> = checks.iter().map(|check| check.endpoint).collect();
    let shard: Vec<i32> = checks.iter().map(|check| check.shard).collect();
    let site: Vec<i64> = checks.iter().map(|check| check.site).collect();
    let state: Vec<i16> = all().map(|row| row.body.to.code()).collect();
    let since: Vec<i64> = all().map(|row| row.body.at.0).collect();
    let reason: Vec<Option<i16>> = all().map(|row| reason_code(row.body)).collect();
    let incident: Vec<Option<i64>> = all()
        .map(|row| row.body.incident.map(|incident| incident.0.cast_signed()))
        .collect();
    let seqs: Vec<i64> = all().map(|row| row.seq.0.cast_signed()).collect();
    execute(
        tx,
        STATES,
        &[
            &endpoint, &shard, &site, &state, &since, &reason, &incident, &seqs,
        ],
    )
    .await?;
    Ok(())
}

/// A closed incident is left alone here; that anything tried to change it is a defect, and the
/// database's trigger would refuse the whole batch for good.
const INCIDENTS: &str = "
    INSERT INTO incidents AS stored (id, shard, endpoint, check_id, site, state, started_at,
        decided_at, ended_at, verdict, reason, told_in, trace, seq)
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::smallint[], $11::smallint[],
        $12::bigint[], $13::bytea[], $14::bigint[])
    ON CONFLICT (id, shard) DO UPDATE SET state = excluded.state, decided_at = excluded.decided_at,
        ended_at = excluded.ended_at, verdict = excluded.verdict, told_in = excluded.told_in,
        seq = excluded.seq
    WHERE stored.ended_at IS NULL";

async fn incidents(tx: &Transaction<'_>, rows: &Rows<'_>, shards: u32) -> Result<(), PgError> {
    if rows.incidents.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = rows.incidents.values().collect();
    let checks: Vec<_> = all
        .iter()
        .map(|row| StoredCheck::of(&row.body.check, shards))
        .collect();
    let ids: Vec<i64> = all.iter().map(|row| row.body.id.0.cast_signed()).collect();
    let shard: Vec<i32> = checks.iter().map(|check| check.shard).collect();
    let endpoint: Vec<i64> = checks.iter().map(|check| check.endpoint).collect();
    let check: Vec<i64> = checks.iter().map(|check| check.check).collect();
    let site: Vec<i64> = checks.iter().map(|check| check.site).collect();
    let state: Vec<i16> = all.iter().map(|row| row.body.state.code()).collect();
    let started: Vec<i64> = all.iter().map(|row| row.body.started_at.0).collect();
    let decided: Vec<Option<i64>> = all
        .iter()
        .map(|row| row.body.decided_at.map(|at| at.0))
        .collect();
    let ended: Vec<Option<i64>> = all
        .iter()
        .map(|row| row.body.ended_at.map(|at| at.0))
        .collect();
    let verdict: Vec<Option<i16>> = all
        .iter()
        .map(|row| row.body.verdict.map(|v| v.code()))
        .collect();
    let reason: Vec<i16> = all
        .iter()
        .map(|row| i16::from(row.body.reason.code()))
        .collect();
    let group: Vec<Option<i64>> = all
        .iter()
        .map(|row| row.body.group.map(|group| group.0.cast_signed()))
        .collect();
    let trace: Vec<Option<Vec<u8>>> = all
        .iter()
        .map(|row| trace_bytes(row.body.trace.as_ref()))
        .collect();
    let seqs: Vec<i64> = all.iter().map(|row| row.seq.0.cast_signed()).collect();
    let written = execute(
        tx,
        INCIDENTS,
        &[
            &ids, &shard, &endpoint, &check, &site, &state, &started, &decided, &ended, &verdict,
            &reason, &group, &trace, &seqs,
        ],
    )
    .await?;
    if usize::try_from(written) != Ok(all.len()) {
        tracing::error!(
            stated = all.len(),
            written,
            "a fact tried to change a closed incident"
        );
    }
    Ok(())
}

const GROUPS: &str = "
    INSERT INTO notification_groups (id, cause, opened_at, open, total, closed_at, seq)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::integer[], $5::integer[],
        $6::bigint[], $7::bigint[])
    ON CONFLICT (id) DO UPDATE SET open = excluded.open, total = excluded.total,
        closed_at = excluded.closed_at, seq = excluded.seq";

async fn groups(tx: &Transaction<'_>, rows: &Rows<'_>) -> Result<(), PgError> {
    if rows.groups.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = rows.groups.values().collect();
    let ids: Vec<i64> = all.iter().map(|row| row.body.id.0.cast_signed()).collect();
    let cause: Vec<String> = all.iter().map(|row| text(&row.body.cause)).collect();
    let opened: Vec<i64> = all.iter().map(|row| row.body.opened_at.0).collect();
    let open: Vec<i32> = all.iter().map(|row| row.body.open.cast_signed()).collect();
    let total: Vec<i32> = all.iter().map(|row| row.body.total.cast_signed()).collect();
    let closed: Vec<Option<i64>> = all
        .iter()
        .map(|row| row.body.closed_at.map(|at| at.0))
        .collect();
    let seqs: Vec<i64> = all.iter().map(|row| row.seq.0.cast_signed()).collect();
    execute(
        tx,
        GROUPS,
        &[&ids, &cause, &opened, &open, &total, &closed, &seqs],
    )
    .await?;
    Ok(())
}

const AUDIT: &str = "
    INSERT INTO audit_log (seq, at, kind, change, agent, group_id, shard, slot, epoch)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::integer[],
        $6::integer[], $7::integer[], $8::smallint[], $9::integer[])";

async fn audit(tx: &Transaction<'_>, rows: &Rows<'_>) -> Result<(), PgError> {
    if rows.audit.is_empty() {
        return Ok(());
    }
    let all = &rows.audit;
    let seqs: Vec<i64> = all.iter().map(|(seq, ..)| seq.0.cast_signed()).collect();
    let at: Vec<i64> = all.iter().map(|(_, at, _)| at.0).collect();
    let kind: Vec<&str> = all.iter().map(|(.., line)| line.kind).collect();
    let change: Vec<&str> = all.iter().map(|(.., line)| line.change).collect();
    let agent: Vec<Option<i32>> = all
        .iter()
        .map(|(.., line)| line.agent.map(|agent| agent.0.cast_signed()))
        .collect();
    let group: Vec<Option<i32>> = all
        .iter()
        .map(|(.., line)| line.slot.map(|(slot, _)| slot.group.0.cast_signed()))
        .collect();
    let shard: Vec<Option<i32>> = all
        .iter()
        .map(|(.., line)| line.slot.map(|(slot, _)| slot.shard.0.cast_signed()))
        .collect();
    let slot: Vec<Option<i16>> = all
        .iter()
        .map(|(.., line)| line.slot.map(|(slot, _)| i16::from(slot.slot.0)))
        .collect();
    let epoch: Vec<Option<i32>> = all
        .iter()
        .map(|(.., line)| line.slot.map(|(_, epoch)| epoch.0.cast_signed()))
        .collect();
    execute(
        tx,
        AUDIT,
        &[
            &seqs, &at, &kind, &change, &agent, &group, &shard, &slot, &epoch,
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn copy_in(
    tx: &Transaction<'_>,
    sql: &str,
    types: &[Type],
) -> Result<BinaryCopyInWriter, PgError> {
    let statement = tx.prepare_cached(sql).await?;
    Ok(BinaryCopyInWriter::new(
        tx.copy_in(&statement).await?,
        types,
    ))
}

async fn execute(
    tx: &Transaction<'_>,
    sql: &str,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<u64, PgError> {
    let statement = tx.prepare_cached(sql).await?;
    Ok(tx.execute(&statement, columns).await?)
}
