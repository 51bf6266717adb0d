//! How many endpoints are in each state.

use std::collections::BTreeMap;

use picket_wire::state::State;

use crate::pg::PgError;
use crate::pg::read::Reads;

/// Counts what is few (not up, paused, not watched yet) and takes it from the total, which the
/// catalogue keeps; so the cost follows the trouble, not the catalogue.
const COUNTS: &str = "
    WITH decided AS (
        SELECT t.state, count(*) AS n FROM endpoint_state t
        JOIN endpoints e ON e.id = t.endpoint AND e.shard = t.shard
        WHERE t.state <> 1 AND NOT e.paused GROUP BY t.state),
    fresh AS (
        SELECT count(*) AS n FROM endpoints e
        LEFT JOIN shard_observed o ON o.group_id = e.group_id AND o.shard = e.shard
        WHERE NOT e.paused AND (o.until IS NULL OR o.until <= e.watched_from)
        AND e.watched_from >= coalesce((
            SELECT min(coalesce(o.until, 0)) FROM shard_versions v
            LEFT JOIN shard_observed o USING (group_id, shard) WHERE v.endpoints > 0), 0)
        AND NOT EXISTS (SELECT FROM endpoint_state t WHERE t.endpoint = e.id AND t.shard = e.shard))
    SELECT state, n FROM decided
    UNION ALL SELECT 8::smallint, n FROM fresh
    UNION ALL SELECT 6::smallint, count(*) FROM endpoints WHERE paused
    UNION ALL SELECT 1::smallint, coalesce(sum(endpoints), 0)::bigint FROM shard_versions";

impl Reads {
    /// How many endpoints are in each effective state; states nobody is in are left out.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn counts_by_state(&self) -> Result<BTreeMap<State, u64>, PgError> {
        let rows = self.pg.client().await?.query(COUNTS, &[]).await?;
        let mut counts = BTreeMap::new();
        for row in rows {
            let code: i16 = row.try_get(0)?;
            let state = State::from_code(code).ok_or_else(|| PgError::stored("state", code))?;
            *counts.entry(state).or_insert(0) += row.try_get::<_, i64>(1)?.cast_unsigned();
        }
        // So far, up is everybody.
        let others: u64 = counts
            .iter()
            .filter(|(state, _)| **state != State::Up)
            .map(|(_, n)| n)
            .sum();
        counts
            .entry(State::Up)
            .and_modify(|all| *all = all.saturating_sub(others));
        counts.retain(|_, n| *n > 0);
        Ok(counts)
    }

    /// How many incidents are open.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn open_incidents(&self) -> Result<u64, PgError> {
        let sql = "SELECT count(*) FROM incidents WHERE ended_at IS NULL";
        let row = self.pg.client().await?.query_one(sql, &[]).await?;
        Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
    }
}
