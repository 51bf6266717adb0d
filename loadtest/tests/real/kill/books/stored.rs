//! What Postgres holds, as plain rows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use picket_scheduler_core::interval_set::IntervalSet;
use picket_storage::pg::rollup::pack::unpack;
use picket_wire::id::{
    AgentId, CheckId, Epoch, FactSeq, GroupId, Incarnation, Seq, ShardId, ShardSlot, Slot,
};
use picket_wire::lane::rollup::{CheckRollup, ShardRollup};
use picket_wire::time::{Interval, Timestamp};
use tokio_postgres::{Client, NoTls, Row};

/// Everything that the accounts need.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) watermarks: BTreeMap<(AgentId, Incarnation), Seq>,
    /// Every row of rollups, whoever said it.
    pub(super) rollups: Vec<(AgentId, ShardRollup)>,
    /// What SLA figures are made of.
    pub(super) coverage: BTreeMap<ShardSlot, IntervalSet>,
    /// Which checks each shard holds.
    pub(super) checks: BTreeMap<ShardId, BTreeSet<CheckId>>,
    /// The addresses of endpoints.
    pub(super) urls: BTreeMap<i64, String>,
    /// The last fact that was projected.
    pub(super) cursor: FactSeq,
    /// Rows by the fact that they were written for.
    pub(super) transitions: BTreeMap<FactSeq, Changed>,
    pub(super) testimony: BTreeMap<FactSeq, Said>,
    pub(super) incidents: BTreeMap<i64, Lasted>,
}

/// A transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) endpoint: i64,
    pub(super) from: i16,
    pub(super) to: i16,
    pub(super) at: i64,
}

/// A record of testimony.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) incident: i64,
    pub(super) agent: i32,
    pub(super) check: i64,
    pub(super) probe_at: i64,
    pub(super) voted: bool,
    pub(super) ok: bool,
}

/// An incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lasted {
    pub(super) endpoint: i64,
    pub(super) started_at: i64,
    pub(super) ended_at: Option<i64>,
}

impl Stored {
    pub(super) async fn read(url: &str) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let read = read(&client);
        tokio::pin!(read);
        tokio::select! {
            stored = &mut read => stored,
            ended = connection => {
                ended?;
                anyhow::bail!("Postgres closed the connection")
            }
        }
    }
}

async fn read(client: &Client) -> anyhow::Result<Stored> {
    let cursor = "SELECT seq FROM fact_cursors WHERE consumer = 'projector'";
    Ok(Stored {
        watermarks: watermarks(client).await?,
        rollups: rollups(client).await?,
        coverage: coverage(client).await?,
        checks: checks(client).await?,
        urls: urls(client).await?,
        cursor: FactSeq(
            client
                .query_one(cursor, &[])
                .await?
                .try_get::<_, i64>(0)?
                .cast_unsigned(),
        ),
        transitions: transitions(client).await?,
        testimony: testimony(client).await?,
        incidents: incidents(client).await?,
    })
}

async fn watermarks(client: &Client) -> anyhow::Result<BTreeMap<(AgentId, Incarnation), Seq>> {
    let sql = "SELECT agent, incarnation, seq FROM lane_watermarks WHERE lane = 'rollup'";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let lane = (AgentId(unsigned(row, 0)?), Incarnation(unsigned(row, 1)?));
            Ok((lane, Seq(row.try_get::<_, i64>(2)?.cast_unsigned())))
        })
        .collect()
}

async fn urls(client: &Client) -> anyhow::Result<BTreeMap<i64, String>> {
    let rows = client.query("SELECT id, url FROM endpoints", &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

async fn rollups(client: &Client) -> anyhow::Result<Vec<(AgentId, ShardRollup)>> {
    let sql = "SELECT group_id, shard, slot, epoch, window_start, covered_from, covered_until, \
               agent, due, ran, ok, packed FROM rollups";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let shard = ShardRollup {
                slot: slot(row)?,
                epoch: Epoch(unsigned(row, 3)?),
                window: Timestamp(row.try_get(4)?),
                covered: Interval::new(Timestamp(row.try_get(5)?), Timestamp(row.try_get(6)?)),
                checks: unpack(row.try_get(11)?)?,
            };
            let sum = |of: fn(&CheckRollup) -> u32| -> i64 {
                shard.checks.iter().map(|check| i64::from(of(check))).sum()
            };
            let sums = (sum(|c| c.due), sum(|c| c.ran), sum(|c| c.ok));
            let stated = (row.try_get(8)?, row.try_get(9)?, row.try_get(10)?);
            ensure!(sums == stated, "{shard:?} does not add up to {stated:?}");
            Ok((AgentId(unsigned(row, 7)?), shard))
        })
        .collect()
}

async fn coverage(client: &Client) -> anyhow::Result<BTreeMap<ShardSlot, IntervalSet>> {
    let sql = "SELECT group_id, shard, slot, covered_from, covered_until FROM coverage";
    let mut coverage: BTreeMap<ShardSlot, IntervalSet> = BTreeMap::new();
    for row in client.query(sql, &[]).await? {
        let stretch = Interval::new(Timestamp(row.try_get(3)?), Timestamp(row.try_get(4)?));
        coverage.entry(slot(&row)?).or_default().insert(stretch);
    }
    Ok(coverage)
}

async fn checks(client: &Client) -> anyhow::Result<BTreeMap<ShardId, BTreeSet<CheckId>>> {
    let mut checks: BTreeMap<ShardId, BTreeSet<CheckId>> = BTreeMap::new();
    for row in client.query("SELECT shard, id FROM checks", &[]).await? {
        let id = CheckId(row.try_get::<_, i64>(1)?.cast_unsigned());
        checks
            .entry(ShardId(unsigned(&row, 0)?))
            .or_default()
            .insert(id);
    }
    Ok(checks)
}

async fn transitions(client: &Client) -> anyhow::Result<BTreeMap<FactSeq, Changed>> {
    let sql = "SELECT seq, endpoint, from_state, to_state, at FROM transitions";
    let rows = client.query(sql, &[]).await?;
    by_fact(rows, |row| {
        Ok(Changed {
            endpoint: row.try_get(1)?,
            from: row.try_get(2)?,
            to: row.try_get(3)?,
            at: row.try_get(4)?,
        })
    })
}

async fn testimony(client: &Client) -> anyhow::Result<BTreeMap<FactSeq, Said>> {
    let sql = "SELECT seq, incident, agent, check_id, probe_at, order_id IS NOT NULL, \
               CASE WHEN retry_at IS NULL THEN probe_reason ELSE retry_reason END IS NULL \
               FROM testimony";
    let rows = client.query(sql, &[]).await?;
    by_fact(rows, |row| {
        Ok(Said {
            incident: row.try_get(1)?,
            agent: row.try_get(2)?,
            check: row.try_get(3)?,
            probe_at: row.try_get(4)?,
            voted: row.try_get(5)?,
            ok: row.try_get(6)?,
        })
    })
}

async fn incidents(client: &Client) -> anyhow::Result<BTreeMap<i64, Lasted>> {
    let sql = "SELECT id, endpoint, started_at, ended_at FROM incidents";
    let mut incidents = BTreeMap::new();
    for row in client.query(sql, &[]).await? {
        let lasted = Lasted {
            endpoint: row.try_get(1)?,
            started_at: row.try_get(2)?,
            ended_at: row.try_get(3)?,
        };
        let before = incidents.insert(row.try_get(0)?, lasted);
        ensure!(before.is_none(), "an incident is there twice: {lasted:?}");
    }
    Ok(incidents)
}

/// Rows by the fact in their first column, which no two of them share.
fn by_fact<T: std::fmt::Debug>(
    rows: Vec<Row>,
    read: impl Fn(&Row) -> anyhow::Result<T>,
) -> anyhow::Result<BTreeMap<FactSeq, T>> {
    let mut facts = BTreeMap::new();
    for row in rows {
        let seq = FactSeq(row.try_get::<_, i64>(0)?.cast_unsigned());
        let before = facts.insert(seq, read(&row)?);
        ensure!(before.is_none(), "fact {seq} was written twice: {before:?}");
    }
    Ok(facts)
}

fn slot(row: &Row) -> anyhow::Result<ShardSlot> {
    Ok(ShardSlot {
        group: GroupId(unsigned(row, 0)?),
        shard: ShardId(unsigned(row, 1)?),
        slot: Slot(u8::try_from(row.try_get::<_, i16>(2)?)?),
    })
}

fn unsigned(row: &Row, column: usize) -> anyhow::Result<u32> {
    Ok(row.try_get::<_, i32>(column)?.cast_unsigned())
}
