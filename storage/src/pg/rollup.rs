//! Rollups into Postgres, exactly once, packed.
//!
//! One transaction writes many agents' batches and their watermarks: what lies at or below a
//! watermark is known, what does not follow it is a gap and waits for what is missing. An ack may
//! be sent for what is returned, and for nothing else.
//!
//! The leader has fenced the sender; an old epoch is welcome here, because what an owner saw while
//! it was owner stays true.

mod coverage;
mod lanes;
pub mod pack;

use deadpool_postgres::Transaction;
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::lane::rollup::{RollupBatch, ShardRollup};

use crate::pg::{Pg, PgError};

/// Keeps what agents roll up.
#[derive(Debug, Clone)]
pub struct RollupStore {
    pg: Pg,
}

/// How far one incarnation's rollup lane is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneAck {
    /// The agent.
    pub agent: AgentId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Everything up to this is durable.
    pub watermark: Seq,
    /// The first batch that did not follow, if one did not; send again after the watermark.
    pub gap: Option<Seq>,
}

impl RollupStore {
    /// A store in this Postgres.
    #[must_use]
    pub const fn new(pg: Pg) -> Self {
        Self { pg }
    }

    /// How far a lane is durable; 0 when nothing ever came.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn watermark(
        &self,
        agent: AgentId,
        incarnation: Incarnation,
    ) -> Result<Seq, PgError> {
        let sql = "SELECT seq FROM lane_watermarks \
                   WHERE agent = $1 AND incarnation = $2 AND lane = 'rollup'";
        let row = self
            .pg
            .client()
            .await?
            .query_opt(sql, &[&agent.0.cast_signed(), &incarnation.0.cast_signed()])
            .await?;
        row.map_or(Ok(Seq(0)), |row| {
            Ok(Seq(row.try_get::<_, i64>(0)?.cast_unsigned()))
        })
    }

    /// Stores batches and says how far each lane among them is durable now.
    ///
    /// # Errors
    /// When Postgres is away; nothing was stored then, except that a connection lost during commit
    /// may have stored everything. The same batches may be given again.
    pub async fn store(&self, batches: &[RollupBatch]) -> Result<Vec<LaneAck>, PgError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let mut client = self.pg.client().await?;
        let tx = client.transaction().await?;
        let mut lanes = lanes::lock(&tx, batches).await?;
        let new = lanes::admit(&mut lanes, batches);
        let shards: Vec<(AgentId, &ShardRollup)> = new
            .iter()
            .flat_map(|batch| batch.shards.iter().map(|shard| (batch.agent, shard)))
            .collect();
        write_rollups(&tx, &shards).await?;
        coverage::write(&tx, &shards).await?;
        lanes::advance(&tx, &lanes).await?;
        tx.commit().await?;
        Ok(lanes.into_values().collect())
    }
}

/// A slot's second statement about the same stretch under the same epoch is dropped: the first one
/// was acknowledged.
const ROLLUPS: &str = "
    INSERT INTO rollups (group_id, shard, window_start, slot, epoch, covered_from, covered_until,
        agent, checks, due, ran, ok, lateness_ms, packed)
    SELECT * FROM unnest($1::integer[], $2::integer[], $3::bigint[], $4::smallint[], $5::integer[],
        $6::bigint[], $7::bigint[], $8::integer[], $9::integer[], $10::bigint[], $11::bigint[],
        $12::bigint[], $13::bigint[], $14::bytea[])
    ON CONFLICT DO NOTHING";

async fn write_rollups(
    tx: &Transaction<'_>,
    shards: &[(AgentId, &ShardRollup)],
) -> Result<(), PgError> {
    let group: Vec<i32> = shards
        .iter()
        .map(|(_, s)| s.slot.group.0.cast_signed())
        .collect();
    let shard: Vec<i32> = shards
        .iter()
        .map(|(_, s)| s.slot.shard.0.cast_signed())
        .collect();
    let window: Vec<i64> = shards.iter().map(|(_, s)| s.window.0).collect();
    let slot: Vec<i16> = shards
        .iter()
        .map(|(_, s)| i16::from(s.slot.slot.0))
        .collect();
    let epoch: Vec<i32> = shards
        .iter()
        .map(|(_, s)| s.epoch.0.cast_signed())
        .collect();
    let from: Vec<i64> = shards
        .iter()
        .map(|(_, s)| coverage::watched(s).from.0)
        .collect();
    let until: Vec<i64> = shards
        .iter()
        .map(|(_, s)| coverage::watched(s).until.0)
        .collect();
    let agent: Vec<i32> = shards
        .iter()
        .map(|(agent, _)| agent.0.cast_signed())
        .collect();
    let totals: Vec<Totals> = shards.iter().map(|(_, s)| Totals::of(s)).collect();
    let checks: Vec<i32> = totals.iter().map(|t| t.checks).collect();
    let due: Vec<i64> = totals.iter().map(|t| t.due).collect();
    let ran: Vec<i64> = totals.iter().map(|t| t.ran).collect();
    let ok: Vec<i64> = totals.iter().map(|t| t.ok).collect();
    let lateness: Vec<i64> = totals.iter().map(|t| t.lateness_ms).collect();
    let packed: Vec<Vec<u8>> = shards.iter().map(|(_, s)| pack::pack(&s.checks)).collect();
    tx.execute(
        &tx.prepare_cached(ROLLUPS).await?,
        &[
            &group, &shard, &window, &slot, &epoch, &from, &until, &agent, &checks, &due, &ran,
            &ok, &lateness, &packed,
        ],
    )
    .await?;
    Ok(())
}

/// What a shard's checks add up to.
struct Totals {
    checks: i32,
    due: i64,
    ran: i64,
    ok: i64,
    lateness_ms: i64,
}

impl Totals {
    fn of(shard: &ShardRollup) -> Self {
        Self {
            checks: i32::try_from(shard.checks.len()).unwrap_or(i32::MAX),
            due: shard.checks.iter().map(|check| i64::from(check.due)).sum(),
            ran: shard.checks.iter().map(|check| i64::from(check.ran)).sum(),
            ok: shard.checks.iter().map(|check| i64::from(check.ok)).sum(),
            lateness_ms: shard
                .checks
                .iter()
                .map(|c| i64::from(c.lateness_max_ms))
                .max()
                .unwrap_or(0),
        }
    }
}
