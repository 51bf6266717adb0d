//! Changes to single endpoints: pause, resume, delete.
//!
//! A paused endpoint keeps its own state, which goes on being projected; readers show it as paused
//! and leave it out of its site's.

use deadpool_postgres::Transaction;
use picket_wire::id::{CatalogueVersion, EndpointId};
use picket_wire::time::Timestamp;

use crate::pg::PgError;
use crate::pg::catalogue::{Catalogue, next_version};

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
        match is_paused(&tx, endpoint).await? {
            None => return Ok(Edit::NotFound),
            Some(already) if already == paused => return Ok(Edit::Unchanged),
            Some(_) => {}
        }
        let id = endpoint.0.cast_signed();
        tx.execute(PAUSE, &[&id, &paused, &version.0.cast_signed(), &now.0])
            .await?;
        tx.commit().await?;
        Ok(Edit::Done(version))
    }

    /// Removes an endpoint and its checks. Its history stays.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn delete(&self, endpoint: EndpointId) -> Result<Edit, PgError> {
        let mut client = self.pg.client().await?;
        let tx = client.transaction().await?;
        let version = next_version(&tx, self.shards).await?.version;
        let id = endpoint.0.cast_signed();
        let deleted = tx.execute(DELETE, &[&id, &version.0.cast_signed()]).await?;
        if deleted == 0 {
            return Ok(Edit::NotFound);
        }
        tx.commit().await?;
        Ok(Edit::Done(version))
    }
}

async fn is_paused(tx: &Transaction<'_>, endpoint: EndpointId) -> Result<Option<bool>, PgError> {
    let sql = "SELECT paused FROM endpoints WHERE id = $1";
    let row = tx.query_opt(sql, &[&endpoint.0.cast_signed()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
