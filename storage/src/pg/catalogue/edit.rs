//! Changes to single endpoints: pause, resume, delete.
//!
//! A paused endpoint keeps its own state, which goes on being projected, but is left out of its
//! site's; so each of these moves the site's counters, and keeps the projector out while it does.

use deadpool_postgres::Transaction;
use picket_wire::id::{CatalogueVersion, EndpointId};
use picket_wire::time::Timestamp;

use crate::pg::PgError;
use crate::pg::catalogue::{Catalogue, next_version};
use crate::pg::site_state::shift_sites;

/// What a change of one endpoint came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It was changed; agents follow with this version.
    Done(CatalogueVersion),
    /// It was that way already.
    Unchanged,
    /// There is no such endpoint.
    NotFound,
}

const PAUSE: &str = "
    WITH e AS (UPDATE endpoints SET paused = $2, watched_from = CASE WHEN $2 THEN watched_from ELSE $4 END
               WHERE id = $1 RETURNING id, shard, group_id, site),
    c AS (UPDATE checks SET paused = $2 FROM e WHERE checks.endpoint = e.id AND checks.shard = e.shard),
    v AS (UPDATE shard_versions v SET version = $3 FROM e
          WHERE v.group_id = e.group_id AND v.shard = e.shard)
    UPDATE sites SET paused = sites.paused + CASE WHEN $2 THEN 1 ELSE -1 END
    FROM e WHERE sites.id = e.site";

const DELETE: &str = "
    WITH e AS (DELETE FROM endpoints WHERE id = $1 RETURNING id, shard, group_id, site, paused),
    c AS (DELETE FROM checks USING e WHERE checks.endpoint = e.id AND checks.shard = e.shard),
    v AS (UPDATE shard_versions v SET version = $2, endpoints = v.endpoints - 1 FROM e
          WHERE v.group_id = e.group_id AND v.shard = e.shard),
    t AS (DELETE FROM endpoint_state USING e
          WHERE endpoint_state.endpoint = e.id AND endpoint_state.shard = e.shard)
    UPDATE sites SET endpoints = sites.endpoints - 1, paused = sites.paused - e.paused::integer
    FROM e WHERE sites.id = e.site";

/// Takes the endpoint's share out of its site's state (-1) or puts it back (1).
const SHARE: &str = concat!(
    "WITH delta AS (
        SELECT e.site, $3::bigint AS since,
            $2::integer * (t.state = 2)::integer AS warning,
            $2::integer * (t.state = 3)::integer AS degraded,
            $2::integer * (t.state = 4)::integer AS seems_down,
            $2::integer * (t.state = 5)::integer AS down,
            $2::integer * (t.state = 7)::integer AS maintenance,
            $2::integer * (t.state = 8)::integer AS unknown
        FROM endpoint_state t JOIN endpoints e ON e.id = t.endpoint AND e.shard = t.shard
        WHERE t.endpoint = $1)",
    shift_sites!()
);

impl Catalogue {
    /// Stops probing an endpoint until [`Self::resume`].
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn pause(&self, endpoint: EndpointId, now: Timestamp) -> Result<Edit, PgError> {
        self.set_paused(endpoint, true, now).await
    }

    /// Probes a paused endpoint again.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn resume(&self, endpoint: EndpointId, now: Timestamp) -> Result<Edit, PgError> {
        self.set_paused(endpoint, false, now).await
    }

    async fn set_paused(
        &self,
        endpoint: EndpointId,
        paused: bool,
        now: Timestamp,
    ) -> Result<Edit, PgError> {
        let mut client = self.pg.client().await?;
        let tx = client.transaction().await?;
        let version = next_version(&tx, self.shards).await?.version;
        hold_projector(&tx).await?;
        match is_paused(&tx, endpoint).await? {
            None => return Ok(Edit::NotFound),
            Some(already) if already == paused => return Ok(Edit::Unchanged),
            Some(_) => {}
        }
        let id = endpoint.0.cast_signed();
        tx.execute(PAUSE, &[&id, &paused, &version.0.cast_signed(), &now.0])
            .await?;
        let sign = if paused { -1_i32 } else { 1 };
        tx.execute(SHARE, &[&id, &sign, &now.0]).await?;
        tx.commit().await?;
        Ok(Edit::Done(version))
    }

    /// Removes an endpoint and its checks. Its history stays.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn delete(&self, endpoint: EndpointId, now: Timestamp) -> Result<Edit, PgError> {
        let mut client = self.pg.client().await?;
        let tx = client.transaction().await?;
        let version = next_version(&tx, self.shards).await?.version;
        hold_projector(&tx).await?;
        let Some(paused) = is_paused(&tx, endpoint).await? else {
            return Ok(Edit::NotFound);
        };
        let id = endpoint.0.cast_signed();
        if !paused {
            tx.execute(SHARE, &[&id, &-1_i32, &now.0]).await?;
        }
        tx.execute(DELETE, &[&id, &version.0.cast_signed()]).await?;
        tx.commit().await?;
        Ok(Edit::Done(version))
    }
}

async fn is_paused(tx: &Transaction<'_>, endpoint: EndpointId) -> Result<Option<bool>, PgError> {
    let sql = "SELECT paused FROM endpoints WHERE id = $1";
    let row = tx.query_opt(sql, &[&endpoint.0.cast_signed()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Keeps the projector out, so that the site's counters change by exactly what they hold.
async fn hold_projector(tx: &Transaction<'_>) -> Result<(), PgError> {
    tx.execute(
        "SELECT FROM fact_cursors WHERE consumer = 'projector' FOR UPDATE",
        &[],
    )
    .await?;
    Ok(())
}
