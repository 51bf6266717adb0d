//! Sites: a filtered list, and one, with the state rolled up from their endpoints.

use picket_wire::id::SiteId;
use picket_wire::state::State;
use picket_wire::time::Timestamp;
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::read::endpoints::like;
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

/// Paused or in maintenance when every endpoint is; else the worst of its endpoints; else up, if
/// one of its first hundred endpoints was watched; else unknown.
const SELECT: &str = "SELECT s.id, s.name, s.created, state.effective, t.since, s.endpoints, s.paused \
    FROM sites s LEFT JOIN site_state t ON t.site = s.id \
    CROSS JOIN LATERAL (SELECT CASE \
        WHEN s.endpoints > 0 AND s.paused = s.endpoints THEN 6::smallint \
        WHEN t.maintenance > 0 AND t.maintenance = s.endpoints - s.paused THEN 7::smallint \
        WHEN t.state IS NOT NULL AND t.state <> 1 THEN t.state \
        WHEN EXISTS (SELECT FROM \
            (SELECT group_id, shard, watched_from FROM endpoints WHERE site = s.id LIMIT 100) e \
            JOIN shard_observed o USING (group_id, shard) WHERE o.until > e.watched_from) \
        THEN 1::smallint ELSE 8::smallint END AS effective) state";

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
            query.and("state.effective = ANY(?)", &states);
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
