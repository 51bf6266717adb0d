//! The union of what was watched, kept short as it grows.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use picket_wire::id::{AgentId, GroupId, ShardId, ShardSlot};
use picket_wire::lane::rollup::ShardRollup;
use picket_wire::limits::INTERVALS_SECS;
use picket_wire::time::{Interval, Span};

use crate::pg::PgError;

/// The covered part, held within the longest window there can be, so that no agent can claim to
/// have watched a year in one batch.
pub(super) fn watched(shard: &ShardRollup) -> Interval {
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

/// Adds what these rollups cover.
pub(super) async fn write(
    tx: &Transaction<'_>,
    shards: &[(AgentId, &ShardRollup)],
) -> Result<(), PgError> {
    let parts = covered(shards);
    write_stretches(tx, &parts).await?;
    write_observed(tx, &parts).await
}

async fn write_stretches(
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
    Ok(())
}

async fn write_observed(
    tx: &Transaction<'_>,
    parts: &[(ShardSlot, Interval)],
) -> Result<(), PgError> {
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
}
