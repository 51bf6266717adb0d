//! The catalogue: what is watched, and the feed of its changes.
//!
//! The leader's builder asks what changed since a version and reads whole shards; operators import,
//! pause and delete. Every change takes the one row of `catalogue_head` first, so that writers are
//! serial: a version is visible only after all lower ones, and a reader of the feed misses nothing.

pub mod edit;
pub mod import;
pub mod spec;

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use picket_wire::blob::ShardCatalogue;
use picket_wire::check::{Cadence, CheckSpec};
use picket_wire::id::{CatalogueVersion, CheckId, EndpointId, GroupId, ShardId, SiteId};
use picket_wire::time::Span;
use tokio_postgres::{IsolationLevel, Row};

use crate::pg::{Pg, PgError};

pub use edit::Edit;
pub use import::{ImportError, Imported, NewEndpoint};

/// Reads and changes the catalogue.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pg: Pg,
    shards: u32,
}

/// A shard whose checks changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardChange {
    /// Its placement group.
    pub group: GroupId,
    /// The shard.
    pub shard: ShardId,
    /// Its version now.
    pub version: CatalogueVersion,
}

const CHECK_COLUMNS: &str = "id, endpoint, site, cadence_s, timeout_ms, kind, spec::text";

impl Catalogue {
    /// The catalogue of a cluster that was created with this many shards.
    #[must_use]
    pub const fn new(pg: Pg, shards: u32) -> Self {
        Self { pg, shards }
    }

    /// The shards that changed after `version`, oldest change first; a shard that lost its last
    /// check is among them.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn changes_since(
        &self,
        version: CatalogueVersion,
    ) -> Result<Vec<ShardChange>, PgError> {
        let sql = "SELECT group_id, shard, version FROM shard_versions WHERE version > $1 \
                   ORDER BY version, group_id, shard";
        let rows = self
            .pg
            .client()
            .await?
            .query(sql, &[&version.0.cast_signed()])
            .await?;
        rows.iter()
            .map(|row| {
                let (group, shard) = group_and_shard(row)?;
                let version = CatalogueVersion(row.try_get::<_, i64>(2)?.cast_unsigned());
                Ok(ShardChange {
                    group,
                    shard,
                    version,
                })
            })
            .collect()
    }

    /// One shard's checks as of its version, paused ones left out; version 0 when there never was
    /// such a shard.
    ///
    /// # Errors
    /// When Postgres is away, or holds a check that this build cannot read.
    pub async fn shard_checks(
        &self,
        group: GroupId,
        shard: ShardId,
    ) -> Result<ShardCatalogue, PgError> {
        let mut found = self.shards_checks(&[(group, shard)]).await?;
        Ok(found
            .pop()
            .expect("one is returned for each that was asked for"))
    }

    /// As [`Self::shard_checks`] for many shards in one snapshot, in the order asked for. Ask for
    /// a few hundred at a time: everything is held in memory.
    ///
    /// # Errors
    /// When Postgres is away, or holds a check that this build cannot read.
    pub async fn shards_checks(
        &self,
        wanted: &[(GroupId, ShardId)],
    ) -> Result<Vec<ShardCatalogue>, PgError> {
        let groups: Vec<i32> = wanted
            .iter()
            .map(|(group, _)| group.0.cast_signed())
            .collect();
        let shards: Vec<i32> = wanted
            .iter()
            .map(|(_, shard)| shard.0.cast_signed())
            .collect();
        let mut client = self.pg.client().await?;
        // One snapshot, so that no blob carries the checks of another version.
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let versions = tx
            .query(
                "SELECT group_id, shard, version FROM shard_versions \
                 JOIN unnest($1::int[], $2::int[]) AS wanted(group_id, shard) USING (group_id, shard)",
                &[&groups, &shards],
            )
            .await?;
        let checks = tx
            .query(
                &format!(
                    "SELECT group_id, shard, {CHECK_COLUMNS} FROM checks \
                     JOIN unnest($1::int[], $2::int[]) AS wanted(group_id, shard) USING (group_id, shard) \
                     WHERE NOT paused ORDER BY id"
                ),
                &[&groups, &shards],
            )
            .await?;
        tx.commit().await?;
        collect(wanted, &versions, &checks)
    }

    /// One check, wherever it is.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn check(&self, check: CheckId) -> Result<Option<CheckSpec>, PgError> {
        let sql = format!("SELECT {CHECK_COLUMNS} FROM checks WHERE id = $1");
        let row = self
            .pg
            .client()
            .await?
            .query_opt(&sql, &[&check.0.cast_signed()])
            .await?;
        row.map(|row| check_of(&row, 0)).transpose()
    }
}

fn collect(
    wanted: &[(GroupId, ShardId)],
    versions: &[Row],
    checks: &[Row],
) -> Result<Vec<ShardCatalogue>, PgError> {
    let mut found: BTreeMap<(GroupId, ShardId), ShardCatalogue> = wanted
        .iter()
        .map(|&(group, shard)| {
            let version = CatalogueVersion::default();
            (
                (group, shard),
                ShardCatalogue {
                    group,
                    shard,
                    version,
                    checks: Vec::new(),
                },
            )
        })
        .collect();
    for row in versions {
        if let Some(shard) = found.get_mut(&group_and_shard(row)?) {
            shard.version = CatalogueVersion(row.try_get::<_, i64>(2)?.cast_unsigned());
        }
    }
    for row in checks {
        if let Some(shard) = found.get_mut(&group_and_shard(row)?) {
            shard.checks.push(check_of(row, 2)?);
        }
    }
    Ok(wanted.iter().filter_map(|key| found.remove(key)).collect())
}

fn group_and_shard(row: &Row) -> Result<(GroupId, ShardId), PgError> {
    let group = row.try_get::<_, i32>(0)?.cast_unsigned();
    let shard = row.try_get::<_, i32>(1)?.cast_unsigned();
    Ok((GroupId(group), ShardId(shard)))
}

/// Reads [`CHECK_COLUMNS`] that begin at column `first`.
pub(crate) fn check_of(row: &Row, first: usize) -> Result<CheckSpec, PgError> {
    let cadence: i32 = row.try_get(first + 3)?;
    let timeout: i32 = row.try_get(first + 4)?;
    let kind: &str = row.try_get(first + 5)?;
    Ok(CheckSpec {
        id: CheckId(row.try_get::<_, i64>(first)?.cast_unsigned()),
        endpoint: EndpointId(row.try_get::<_, i64>(first + 1)?.cast_unsigned()),
        site: SiteId(row.try_get::<_, i64>(first + 2)?.cast_unsigned()),
        cadence: Cadence::from_secs(cadence.cast_unsigned())
            .map_err(|_| PgError::stored("checks.cadence_s", cadence))?,
        timeout: Span(u64::from(timeout.cast_unsigned())),
        kind: spec::parse(kind, row.try_get(first + 6)?)?,
    })
}

/// Locks the catalogue for this transaction and raises its version.
async fn next_version(tx: &Transaction<'_>, shards: u32) -> Result<Head, PgError> {
    let sql = "UPDATE catalogue_head SET version = version + 1, shards = coalesce(shards, $1) \
               RETURNING version, shards";
    let row = tx.query_one(sql, &[&shards.cast_signed()]).await?;
    Ok(Head {
        version: CatalogueVersion(row.try_get::<_, i64>(0)?.cast_unsigned()),
        shards: row.try_get::<_, i32>(1)?.cast_unsigned(),
    })
}

/// What the locked head says.
struct Head {
    version: CatalogueVersion,
    shards: u32,
}
