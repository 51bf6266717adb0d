//! Bulk import of endpoints: one COPY and a handful of set-based statements per chunk.
//!
//! An address exists once in a site. Importing it again changes what differs and nothing else, so
//! an import that broke off may simply be repeated. Ids are taken from the sequences before the
//! rows are sent, so that the shard, which is a hash of the id, travels with them; ids of rows that
//! turn out to exist are never used.

use std::pin::pin;

use deadpool_postgres::Transaction;
use picket_wire::check::{Cadence, CheckKind, CheckSpec, SpecError};
use picket_wire::id::{CatalogueVersion, CheckId, EndpointId, GroupId, SiteId};
use picket_wire::name::Name;
use picket_wire::time::{Span, Timestamp};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use crate::pg::PgError;
use crate::pg::catalogue::{Catalogue, next_version, spec};
use crate::pg::rows::shard_of;

/// Rows in one transaction: a few seconds of work, during which other catalogue writers wait.
const CHUNK: usize = 50_000;
/// Longest site name: a host name fits, and so does a line of prose.
pub const SITE_NAME_MAX_BYTES: usize = 253;
/// Most labels on one endpoint.
pub const LABELS_MAX: usize = 32;

/// One endpoint with one check, as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Name of the site it belongs to; the site is made when there is none.
    pub site: String,
    /// Its placement group.
    pub group: GroupId,
    /// How often to probe.
    pub cadence: Cadence,
    /// How long one probe may take.
    pub timeout: Span,
    /// Labels to find it by.
    pub labels: Vec<Name>,
    /// What to do and what to expect; its address names the endpoint within the site.
    pub kind: CheckKind,
}

impl NewEndpoint {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |field, expected, got: &str| {
            Err(SpecError::Field {
                field,
                expected,
                got: got.chars().take(64).collect(),
            })
        };
        let site_ok = !self.site.is_empty()
            && self.site.len() <= SITE_NAME_MAX_BYTES
            && !self.site.chars().any(char::is_control);
        if !site_ok {
            return refuse(
                "site",
                "1 to 253 bytes without control characters",
                &self.site,
            );
        }
        if self.labels.len() > LABELS_MAX {
            return refuse("labels", "at most 32", &self.labels.len().to_string());
        }
        CheckSpec {
            id: CheckId(0),
            endpoint: EndpointId(0),
            site: SiteId(0),
            cadence: self.cadence,
            timeout: self.timeout,
            kind: self.kind.clone(),
        }
        .validate()
    }
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Endpoints that are new.
    pub created: u64,
    /// Endpoints that existed and were changed.
    pub changed: u64,
    /// Endpoints that existed just so.
    pub unchanged: u64,
    /// Rows that a later row overruled.
    pub repeated: u64,
    /// The catalogue's version afterwards.
    pub version: CatalogueVersion,
}

/// An import that did not happen, or only up to some chunk; it may be repeated as it is.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A row breaks a rule; nothing was imported.
    #[error("row {row}")]
    Row {
        /// Which, counted from 0.
        row: usize,
        /// What is wrong with it.
        #[source]
        error: SpecError,
    },
    /// The database belongs to a cluster with another number of shards.
    #[error("the catalogue was made for {stored} shards, this cluster has {ours}")]
    Shards {
        /// What the database says.
        stored: u32,
        /// What this cluster was created with.
        ours: u32,
    },
    /// Postgres did not do what was asked.
    #[error(transparent)]
    Pg(#[from] PgError),
}

impl ImportError {
    /// Whether the same call can succeed later without anything being mended.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Pg(error) if error.is_retryable())
    }
}

impl From<tokio_postgres::Error> for ImportError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Pg(error.into())
    }
}

/// The pending list is what a search has to scan until it is merged: larger makes imports little
/// faster and searches slower. The catalogue's indexes are in memory, which the planner must know,
/// or it reads all endpoints for each chunk.
const STAGE: &str = "
    SET LOCAL statement_timeout = '2min';
    SET LOCAL gin_pending_list_limit = '16MB';
    SET LOCAL random_page_cost = 1.1;
    CREATE TEMP TABLE incoming (
        ordinal integer, site_name text, endpoint bigint, shard integer, check_id bigint,
        group_id integer, url text, labels text[], kind text, cadence_s integer,
        timeout_ms integer, spec text
    ) ON COMMIT DROP;";

const COPY: &str = "COPY incoming FROM STDIN BINARY";
const COPY_TYPES: [Type; 12] = [
    Type::INT4,
    Type::TEXT,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT4,
    Type::TEXT,
    Type::TEXT_ARRAY,
    Type::TEXT,
    Type::INT4,
    Type::INT4,
    Type::TEXT,
];

const NEW_SITES: &str = "
    INSERT INTO sites (name, created)
    SELECT DISTINCT site_name, $1::bigint FROM incoming
    WHERE NOT EXISTS (SELECT FROM sites WHERE name = site_name)";

/// Decides per address what is new and what differs; the last of equal addresses wins.
const DECIDE: &str = "
    CREATE TEMP TABLE wanted ON COMMIT DROP AS
    SELECT DISTINCT ON (s.id, i.url)
        s.id AS site, i.url, i.labels, i.group_id, i.kind, i.cadence_s, i.timeout_ms, i.spec,
        coalesce(e.id, i.endpoint) AS endpoint, coalesce(e.shard, i.shard) AS shard,
        coalesce(c.id, i.check_id) AS check_id,
        coalesce(e.paused, false) AS paused, e.group_id AS old_group,
        e.id IS NULL AS endpoint_new, c.id IS NULL AS check_new,
        e.id IS NOT NULL AND (e.labels, e.group_id) IS DISTINCT FROM (i.labels, i.group_id)
            AS endpoint_differs,
        c.id IS NOT NULL AND (c.group_id, c.cadence_s, c.timeout_ms, c.spec)
            IS DISTINCT FROM (i.group_id, i.cadence_s, i.timeout_ms, i.spec::jsonb) AS check_differs
    FROM incoming i
    JOIN sites s ON s.name = i.site_name
    LEFT JOIN endpoints e ON e.site = s.id AND e.url = i.url
    LEFT JOIN checks c ON c.endpoint = e.id AND c.shard = e.shard AND c.kind = i.kind
    ORDER BY s.id, i.url, i.ordinal DESC";

const NEW_ENDPOINTS: &str = "
    INSERT INTO endpoints (id, shard, group_id, site, url, labels, created, watched_from)
    SELECT endpoint, shard, group_id, site, url, labels, $1::bigint, $1::bigint
    FROM wanted WHERE endpoint_new";

const NEW_CHECKS: &str = "
    INSERT INTO checks (id, shard, group_id, endpoint, site, kind, cadence_s, timeout_ms, paused, spec)
    SELECT check_id, shard, group_id, endpoint, site, kind, cadence_s, timeout_ms, paused, spec::jsonb
    FROM wanted WHERE check_new";

const CHANGED_ENDPOINTS: &str = "
    UPDATE endpoints e SET labels = w.labels, group_id = w.group_id
    FROM wanted w WHERE w.endpoint_differs AND e.id = w.endpoint AND e.shard = w.shard";

/// All checks of an endpoint move with it to another group, not only the imported kind.
const CHANGED_GROUPS: &str = "
    UPDATE checks c SET group_id = w.group_id
    FROM wanted w WHERE w.old_group <> w.group_id AND c.endpoint = w.endpoint AND c.shard = w.shard";

const CHANGED_CHECKS: &str = "
    UPDATE checks c SET cadence_s = w.cadence_s, timeout_ms = w.timeout_ms, spec = w.spec::jsonb
    FROM wanted w WHERE w.check_differs AND c.id = w.check_id AND c.shard = w.shard";

const COUNT_SITES: &str = "
    UPDATE sites s SET endpoints = s.endpoints + w.n
    FROM (SELECT site, count(*) AS n FROM wanted WHERE endpoint_new GROUP BY site) w
    WHERE s.id = w.site";

/// Raises every shard that gained, lost or changed a check. Labels alone are nothing to agents.
const RAISE: &str = "
    INSERT INTO shard_versions AS v (group_id, shard, version, endpoints)
    SELECT group_id, shard, $1::bigint, sum(n) FROM (
        SELECT group_id, shard, (endpoint_new OR old_group <> group_id)::integer AS n
        FROM wanted WHERE check_new OR check_differs OR old_group <> group_id
        UNION ALL
        SELECT old_group, shard, -1 FROM wanted WHERE old_group <> group_id
    ) touched
    GROUP BY group_id, shard
    ON CONFLICT (group_id, shard)
    DO UPDATE SET version = excluded.version, endpoints = v.endpoints + excluded.endpoints";

const COUNT: &str = "
    SELECT count(*), count(*) FILTER (WHERE endpoint_new),
        count(*) FILTER (WHERE NOT endpoint_new AND (endpoint_differs OR check_differs OR check_new))
    FROM wanted";

impl Catalogue {
    /// Imports endpoints. All rows are checked before the first is sent; then they are committed in
    /// chunks, each with its own version.
    ///
    /// # Errors
    /// When a row breaks a rule, the cluster's shards differ, or Postgres is away.
    pub async fn import(
        &self,
        rows: &[NewEndpoint],
        now: Timestamp,
    ) -> Result<Imported, ImportError> {
        for (row, endpoint) in rows.iter().enumerate() {
            endpoint
                .validate()
                .map_err(|error| ImportError::Row { row, error })?;
        }
        let mut sum = Imported::default();
        for chunk in rows.chunks(CHUNK) {
            let done = self.import_chunk(chunk, now).await?;
            sum = Imported {
                created: sum.created + done.created,
                changed: sum.changed + done.changed,
                unchanged: sum.unchanged + done.unchanged,
                repeated: sum.repeated + done.repeated,
                version: done.version,
            };
        }
        Ok(sum)
    }

    async fn import_chunk(
        &self,
        rows: &[NewEndpoint],
        now: Timestamp,
    ) -> Result<Imported, ImportError> {
        let mut client = self.pg.client().await?;
        let tx = client.transaction().await?;
        let head = next_version(&tx, self.shards).await?;
        if head.shards != self.shards {
            return Err(ImportError::Shards {
                stored: head.shards,
                ours: self.shards,
            });
        }
        tx.batch_execute(STAGE).await?;
        let ids = reserve(&tx, rows.len()).await?;
        stage(&tx, rows, &ids, self.shards).await?;
        tx.batch_execute("ANALYZE incoming").await?;
        tx.execute(NEW_SITES, &[&now.0]).await?;
        tx.batch_execute(DECIDE).await?;
        tx.execute(NEW_ENDPOINTS, &[&now.0]).await?;
        for sql in [
            NEW_CHECKS,
            CHANGED_ENDPOINTS,
            CHANGED_GROUPS,
            CHANGED_CHECKS,
            COUNT_SITES,
        ] {
            tx.execute(sql, &[]).await?;
        }
        tx.execute(RAISE, &[&head.version.0.cast_signed()]).await?;
        let imported = count(&tx, rows.len(), head.version).await?;
        tx.commit().await?;
        Ok(imported)
    }
}

/// The first of as many consecutive ids as there are rows.
struct FirstIds {
    endpoint: u64,
    check: u64,
}

/// Takes a run of ids from each sequence. Nobody else can take ids in between, because all who do
/// hold the catalogue's head.
async fn reserve(tx: &Transaction<'_>, rows: usize) -> Result<FirstIds, PgError> {
    let rows = i64::try_from(rows).expect("a chunk is short");
    let sql = "SELECT setval('endpoint_ids', nextval('endpoint_ids') + $1::bigint - 1) - $1 + 1, \
                      setval('check_ids', nextval('check_ids') + $1::bigint - 1) - $1 + 1";
    let row = tx.query_one(sql, &[&rows]).await?;
    Ok(FirstIds {
        endpoint: row.try_get::<_, i64>(0)?.cast_unsigned(),
        check: row.try_get::<_, i64>(1)?.cast_unsigned(),
    })
}

async fn stage(
    tx: &Transaction<'_>,
    rows: &[NewEndpoint],
    first: &FirstIds,
    shards: u32,
) -> Result<(), PgError> {
    let mut writer = pin!(BinaryCopyInWriter::new(
        tx.copy_in(COPY).await?,
        &COPY_TYPES
    ));
    for (n, row) in (0_u32..).zip(rows) {
        let endpoint = first.endpoint + u64::from(n);
        let check = first.check + u64::from(n);
        let labels: Vec<&str> = row.labels.iter().map(Name::as_str).collect();
        let timeout = i32::try_from(row.timeout.0).expect("a valid timeout is at most a minute");
        writer
            .as_mut()
            .write(&[
                &n.cast_signed(),
                &row.site,
                &endpoint.cast_signed(),
                &shard_of(EndpointId(endpoint), shards),
                &check.cast_signed(),
                &row.group.0.cast_signed(),
                &spec::address(&row.kind),
                &labels,
                &row.kind.name(),
                &row.cadence.secs().cast_signed(),
                &timeout,
                &spec::document(&row.kind),
            ])
            .await?;
    }
    writer.finish().await?;
    Ok(())
}

async fn count(
    tx: &Transaction<'_>,
    rows: usize,
    version: CatalogueVersion,
) -> Result<Imported, PgError> {
    let row = tx.query_one(COUNT, &[]).await?;
    let count = |column: usize| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
    let (distinct, created, changed) = (count(0)?, count(1)?, count(2)?);
    Ok(Imported {
        created,
        changed,
        unchanged: distinct - created - changed,
        repeated: u64::try_from(rows).unwrap_or(u64::MAX) - distinct,
        version,
    })
}
