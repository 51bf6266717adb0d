//! The watermarks of rollup lanes: what is new, what is known, what is missing.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::lane::rollup::RollupBatch;

use crate::pg::PgError;
use crate::pg::rollup::LaneAck;

/// One incarnation's lane.
pub(super) type Lane = (AgentId, Incarnation);

/// The batches that come next in their lanes, with the watermarks moved past them.
pub(super) fn admit<'a>(
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
pub(super) async fn lock(
    tx: &Transaction<'_>,
    batches: &[RollupBatch],
) -> Result<BTreeMap<Lane, LaneAck>, PgError> {
    let keys: BTreeSet<Lane> = batches
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

/// Writes how far each lane has come.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    lanes: &BTreeMap<Lane, LaneAck>,
) -> Result<(), PgError> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
