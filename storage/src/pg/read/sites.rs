//! Sites: a filtered list, and one, with the state rolled up from their endpoints.

use picket_wire::id::SiteId;
use picket_wire::state::State;
use picket_wire::time::Timestamp;
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::read::endpoints::{is_decided, like};
use crate::pg::read::{Fields, Listed, Page, Query, Reads};

/// Which sites; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteFilter {
    /// In one of these states; empty means any.
    pub states: Vec<State>,
    /// With this text in the name, in any case.
    pub text: Option<String>,
}

/// A site as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    /// Its id.
    pub id: SiteId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its effective state.
    pub state: State,
    /// Since when; `None` while nothing was ever decided.
    pub since: Option<Timestamp>,
    /// How many endpoints it has.
    pub endpoints: u32,
    /// How many of them are paused.
    pub paused: u32,
}

/// As bad as the worst endpoint that is not paused; paused or in maintenance when all are; else up,
/// if one of the first hundred endpoints was watched; else unknown. The first instant of the worst
/// state counts as its beginning.
const SELECT: &str = "SELECT s.id, s.name, s.created, sum.state, \
        CASE WHEN sum.state = worst.state THEN worst.since WHEN sum.state = 1 THEN \
            (SELECT max(t.since) FROM first_endpoints(s.id) e \
             JOIN endpoint_state t ON t.endpoint = e.id AND t.shard = e.shard) END, \
        s.endpoints, s.paused \
    FROM sites s \
    LEFT JOIN LATERAL ( \
        SELECT b.state, bad.since \
        FROM unnest(ARRAY[5, 4, 3, 8, 2, 7]::smallint[]) WITH ORDINALITY AS b(state, rank) \
        CROSS JOIN LATERAL ( \
            SELECT t.since FROM endpoint_state t JOIN endpoints e ON e.id = t.endpoint AND e.shard = t.shard \
            WHERE t.site = s.id AND t.state = b.state AND t.state <> 1 AND e.site = s.id AND NOT e.paused \
            ORDER BY t.since LIMIT 1) bad \
        ORDER BY b.rank LIMIT 1) worst ON true \
    CROSS JOIN LATERAL (SELECT CASE \
        WHEN s.endpoints > 0 AND s.paused = s.endpoints THEN 6::smallint \
        WHEN worst.state <> 7 THEN worst.state \
        WHEN worst.state = 7 AND NOT EXISTS (SELECT FROM endpoints e \
            LEFT JOIN endpoint_state t ON t.endpoint = e.id AND t.shard = e.shard \
            WHERE e.site = s.id AND NOT e.paused AND t.state IS DISTINCT FROM 7) THEN 7::smallint \
        WHEN EXISTS (SELECT FROM first_endpoints(s.id) e JOIN shard_observed o USING (group_id, shard) \
            WHERE o.until > e.watched_from) THEN 1::smallint \
        ELSE 8::smallint END AS state) sum";

impl Reads {
    /// Sites by id.
    ///
    /// # Errors
    /// When Postgres is away, or the search takes longer than a statement may.
    pub async fn sites(
        &self,
        filter: &SiteFilter,
        page: Page<SiteId>,
    ) -> Result<Listed<SiteRow, SiteId>, PgError> {
        let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
        let text = filter.text.as_deref().map(like);
        let after = page.after.map(|after| after.0.cast_signed());
        let limit = page.fetch();
        let mut query = Query::new(SELECT);
        if let Some(after) = &after {
            query.and("s.id > ?", after);
        }
        if let Some(text) = &text {
            query.and("s.name ILIKE ?", text);
        }
        if !states.is_empty() {
            query.and("sum.state = ANY(?)", &states);
        }
        if is_decided(&filter.states) {
            // Says what the state implies, so that the index of what is not up is used.
            query.and(
                "s.id IN (SELECT site FROM endpoint_state WHERE state <> 1 AND state = ANY(?))",
                &states,
            );
        }
        query.then(" ORDER BY s.id LIMIT ?", &limit);
        let rows = query.run(&self.pg).await?;
        let rows = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        Ok(page.cut(rows, |row| row.id))
    }

    /// One site.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn site(&self, site: SiteId) -> Result<Option<SiteRow>, PgError> {
        let id = site.0.cast_signed();
        let mut query = Query::new(SELECT);
        query.and("s.id = ?", &id);
        query.run(&self.pg).await?.first().map(row_of).transpose()
    }

    /// One site by its name.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn site_by_name(&self, name: &str) -> Result<Option<SiteRow>, PgError> {
        let mut query = Query::new(SELECT);
        query.and("s.name = ?", &name);
        query.run(&self.pg).await?.first().map(row_of).transpose()
    }
}

fn row_of(row: &Row) -> Result<SiteRow, PgError> {
    let mut fields = Fields::of(row);
    Ok(SiteRow {
        id: SiteId(fields.u64()?),
        name: fields.take()?,
        created: Timestamp(fields.take()?),
        state: fields.state()?,
        since: fields.take::<Option<i64>>()?.map(Timestamp),
        endpoints: fields.u32()?,
        paused: fields.u32()?,
    })
}
