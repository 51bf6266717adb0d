//! Rollups into Postgres, exactly once, packed.
//!
//! One transaction writes many agents' batches and their watermarks: what lies at or below a
//! watermark is known, what does not follow it is a gap and waits for what is missing. An ack may
//! be sent for what is returned, and for nothing else.
//!
//! The leader has fenced the sender; an old epoch is welcome here, because what an owner saw while
//! it was owner stays true.

pub mod pack;

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use picket_wire::id::{AgentId, GroupId, Incarnation, Seq, ShardId, ShardSlot};
use picket_wire::lane::rollup::{RollupBatch, ShardRollup};
use picket_wire::limits::INTERVALS_SECS;
use picket_wire::time::{Interval, Span};

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

type Lane = (AgentId, Incarnation);

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
        let mut lanes = lock_lanes(&tx, batches).await?;
        let new = admit(&mut lanes, batches);
        let shards: Vec<(AgentId, &ShardRollup)> = new
            .iter()
            .flat_map(|batch| batch.shards.iter().map(|shard| (batch.agent, shard)))
            .collect();
        write_rollups(&tx, &shards).await?;
        write_coverage(&tx, &covered(&shards)).await?;
        move_lanes(&tx, &lanes).await?;
        tx.commit().await?;
        Ok(lanes.into_values().collect())
    }
}

/// The batches that come next in their lanes, with the watermarks moved past them.
fn admit<'a>(
    lanes: &mut BTreeMap<Lane, LaneAck>,
    batches: &'a [RollupBatch],
) -> Vec<&'a RollupBatch> {
    let mut new = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(lane) = lanes.get_mut(&(batch.agent, batch.incarnation)) else {
            continue;
        };
        if batch.seq == lane.watermark.next() {
            lane.watermark.advance_to(batch.seq);
            new.push(batch);
        } else if batch.seq > lane.watermark && lane.gap.is_none() {
            lane.gap = Some(batch.seq);
        }
    }
    new
}

/// Locks the watermarks in the order of their keys, so that two leaders cannot wait for each other.
async fn lock_lanes(
    tx: &Transaction<'_>,
    batches: &[RollupBatch],
) -> Result<BTreeMap<Lane, LaneAck>, PgError> {
    let keys: std::collections::BTreeSet<Lane> = batches
        .iter()
        .map(|batch| (batch.agent, batch.incarnation))
        .collect();
    let agents: Vec<i32> = keys
        .iter()
        .map(|(agent, _)| agent.0.cast_signed())
        .collect();
    let incarnations: Vec<i32> = keys.iter().map(|(_, inc)| inc.0.cast_signed()).collect();
    let make = "INSERT INTO lane_watermarks (agent, incarnation, lane, seq) \
                SELECT agent, incarnation, 'rollup', 0 \
                FROM unnest($1::integer[], $2::integer[]) AS k(agent, incarnation) \
                ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(make).await?, &[&agents, &incarnations])
        .await?;
    let lock = "SELECT w.agent, w.incarnation, w.seq FROM lane_watermarks w \
                JOIN unnest($1::integer[], $2::integer[]) AS k(agent, incarnation) \
                    USING (agent, incarnation) \
                WHERE w.lane = 'rollup' ORDER BY w.agent, w.incarnation FOR UPDATE OF w";
    let rows = tx
        .query(&tx.prepare_cached(lock).await?, &[&agents, &incarnations])
        .await?;
    rows.iter()
        .map(|row| {
            let agent = AgentId(row.try_get::<_, i32>(0)?.cast_unsigned());
            let incarnation = Incarnation(row.try_get::<_, i32>(1)?.cast_unsigned());
            let watermark = Seq(row.try_get::<_, i64>(2)?.cast_unsigned());
            Ok((
                (agent, incarnation),
                LaneAck {
                    agent,
                    incarnation,
                    watermark,
                    gap: None,
                },
            ))
        })
        .collect()
}

async fn move_lanes(tx: &Transaction<'_>, lanes: &BTreeMap<Lane, LaneAck>) -> Result<(), PgError> {
    let agents: Vec<i32> = lanes
        .keys()
        .map(|(agent, _)| agent.0.cast_signed())
        .collect();
    let incarnations: Vec<i32> = lanes.keys().map(|(_, inc)| inc.0.cast_signed()).collect();
    let seqs: Vec<i64> = lanes
        .values()
        .map(|lane| lane.watermark.0.cast_signed())
        .collect();
    let sql = "UPDATE lane_watermarks w SET seq = k.seq \
               FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS k(agent, incarnation, seq) \
               WHERE w.agent = k.agent AND w.incarnation = k.incarnation AND w.lane = 'rollup' \
               AND w.seq < k.seq";
    tx.execute(
        &tx.prepare_cached(sql).await?,
        &[&agents, &incarnations, &seqs],
    )
    .await?;
    Ok(())
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
    let from: Vec<i64> = shards.iter().map(|(_, s)| watched(s).from.0).collect();
    let until: Vec<i64> = shards.iter().map(|(_, s)| watched(s).until.0).collect();
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

/// The covered part, held within the longest window there can be, so that no agent can claim to
/// have watched a year in one batch.
fn watched(shard: &ShardRollup) -> Interval {
    let longest = Span::from_secs(u64::from(INTERVALS_SECS.iter().copied().fold(0, u32::max)));
    let from = shard.covered.from.max(shard.window);
    let until = shard.covered.until.min(shard.window + longest);
    Interval::new(from, until.max(from))
}

/// The covered stretches per slot, joined where they touch.
fn covered(shards: &[(AgentId, &ShardRollup)]) -> Vec<(ShardSlot, Interval)> {
    let mut all: Vec<(ShardSlot, Interval)> = shards
        .iter()
        .map(|(_, shard)| (shard.slot, watched(shard)))
        .filter(|(_, part)| !part.is_empty())
        .collect();
    all.sort_unstable();
    let mut joined: Vec<(ShardSlot, Interval)> = Vec::with_capacity(all.len());
    for (slot, part) in all {
        match joined.last_mut() {
            Some((last, stretch)) if *last == slot && part.from <= stretch.until => {
                stretch.until = stretch.until.max(part.until);
            }
            _ => joined.push((slot, part)),
        }
    }
    joined
}

/// Lengthens the stretch that a new one touches, or adds it.
const COVERAGE: &str = "
    WITH incoming AS (
        SELECT * FROM unnest($1::integer[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[])
            WITH ORDINALITY AS i(group_id, shard, slot, covered_from, covered_until, n)),
    joined AS (
        UPDATE coverage c SET covered_until = greatest(c.covered_until, i.covered_until)
        FROM incoming i
        WHERE c.shard = i.shard AND c.group_id = i.group_id AND c.slot = i.slot
            AND c.covered_until >= i.covered_from
            AND c.covered_from = (
                SELECT max(b.covered_from) FROM coverage b
                WHERE b.shard = i.shard AND b.group_id = i.group_id AND b.slot = i.slot
                    AND b.covered_from <= i.covered_from)
        RETURNING i.n)
    INSERT INTO coverage AS c (group_id, shard, slot, covered_from, covered_until)
    SELECT group_id, shard, slot, covered_from, covered_until FROM incoming
    WHERE n NOT IN (SELECT n FROM joined)
    ON CONFLICT (shard, group_id, slot, covered_from)
    DO UPDATE SET covered_until = greatest(c.covered_until, excluded.covered_until)";

const OBSERVED: &str = "
    INSERT INTO shard_observed AS o (group_id, shard, until)
    SELECT * FROM unnest($1::integer[], $2::integer[], $3::bigint[])
    ON CONFLICT (group_id, shard) DO UPDATE SET until = excluded.until WHERE o.until < excluded.until";

async fn write_coverage(
    tx: &Transaction<'_>,
    parts: &[(ShardSlot, Interval)],
) -> Result<(), PgError> {
    let group: Vec<i32> = parts
        .iter()
        .map(|(slot, _)| slot.group.0.cast_signed())
        .collect();
    let shard: Vec<i32> = parts
        .iter()
        .map(|(slot, _)| slot.shard.0.cast_signed())
        .collect();
    let slot: Vec<i16> = parts
        .iter()
        .map(|(slot, _)| i16::from(slot.slot.0))
        .collect();
    let from: Vec<i64> = parts.iter().map(|(_, part)| part.from.0).collect();
    let until: Vec<i64> = parts.iter().map(|(_, part)| part.until.0).collect();
    tx.execute(
        &tx.prepare_cached(COVERAGE).await?,
        &[&group, &shard, &slot, &from, &until],
    )
    .await?;
    let mut observed: BTreeMap<(GroupId, ShardId), i64> = BTreeMap::new();
    for (slot, part) in parts {
        let until = observed.entry((slot.group, slot.shard)).or_insert(i64::MIN);
        *until = part.until.0.max(*until);
    }
    let group: Vec<i32> = observed
        .keys()
        .map(|(group, _)| group.0.cast_signed())
        .collect();
    let shard: Vec<i32> = observed
        .keys()
        .map(|(_, shard)| shard.0.cast_signed())
        .collect();
    let until: Vec<i64> = observed.values().copied().collect();
    tx.execute(
        &tx.prepare_cached(OBSERVED).await?,
        &[&group, &shard, &until],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use picket_wire::id::{Epoch, Slot};
    use picket_wire::time::Timestamp;

    use super::*;

    fn shard(slot: u8, from: i64, until: i64) -> ShardRollup {
        let slot = ShardSlot {
            group: GroupId(1),
            shard: ShardId(2),
            slot: Slot(slot),
        };
        let covered = Interval::new(Timestamp(from), Timestamp(until));
        ShardRollup {
            slot,
            epoch: Epoch(1),
            window: Timestamp(0),
            covered,
            checks: Vec::new(),
        }
    }

    fn parts(shards: &[ShardRollup]) -> Vec<(u8, i64, i64)> {
        let shards: Vec<_> = shards.iter().map(|shard| (AgentId(1), shard)).collect();
        covered(&shards)
            .iter()
            .map(|(slot, part)| (slot.slot.0, part.from.0, part.until.0))
            .collect()
    }

    #[test]
    fn stretches_join_where_they_touch_within_a_slot_only() {
        let shards = [
            shard(0, 20, 30),
            shard(0, 0, 10),
            shard(0, 10, 15),
            shard(1, 15, 20),
            shard(0, 9, 9),
        ];
        assert_eq!(parts(&shards), [(0, 0, 15), (0, 20, 30), (1, 15, 20)]);
    }

    #[test]
    fn nobody_watches_longer_than_the_longest_window() {
        assert_eq!(parts(&[shard(0, i64::MIN, i64::MAX)]), [(0, 0, 86_400_000)]);
    }

    fn batch(seq: u64) -> RollupBatch {
        RollupBatch {
            agent: AgentId(1),
            incarnation: Incarnation(1),
            seq: Seq(seq),
            shards: Vec::new(),
        }
    }

    #[test]
    fn known_batches_are_skipped_and_the_first_gap_is_told() {
        let ack = LaneAck {
            agent: AgentId(1),
            incarnation: Incarnation(1),
            watermark: Seq(3),
            gap: None,
        };
        let mut lanes = BTreeMap::from([((AgentId(1), Incarnation(1)), ack)]);
        let batches: Vec<_> = [2, 4, 4, 5, 7, 6, 9].into_iter().map(batch).collect();
        let new: Vec<u64> = admit(&mut lanes, &batches)
            .iter()
            .map(|batch| batch.seq.0)
            .collect();
        assert_eq!(new, [4, 5, 6]);
        let lane = lanes[&(AgentId(1), Incarnation(1))];
        assert_eq!((lane.watermark, lane.gap), (Seq(6), Some(Seq(7))));
    }
}
