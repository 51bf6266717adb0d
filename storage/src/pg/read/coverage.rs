//! What was watched, and what ran while it was.
//!
//! Two grains. Covered stretches say when somebody watched; a year of them is a few rows, and SLA
//! figures need no more. Windows say how much was due, ran and was ok.

use picket_wire::id::{AgentId, EndpointId, Epoch, GroupId, ShardId, Slot};
use picket_wire::time::{Interval, Timestamp};
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::read::{Fields, Reads};
use crate::pg::rollup::pack::unpack;

/// Most windows of one answer: a year of five-minute windows.
pub const WINDOWS_MAX: i64 = 110_000;

/// A stretch in which one slot's owners watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoveredRow {
    /// Which slot.
    pub slot: Slot,
    /// From when until when.
    pub covered: Interval,
}

/// What ran in one window, of a whole shard or of one endpoint in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRow {
    /// Start of the window.
    pub window: Timestamp,
    /// Which slot.
    pub slot: Slot,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Who watched.
    pub agent: AgentId,
    /// The part of the window that was watched.
    pub covered: Interval,
    /// Probes that were due.
    pub due: u64,
    /// Probes that ran.
    pub ran: u64,
    /// Probes that were ok.
    pub ok: u64,
    /// Largest lateness.
    pub lateness_max_ms: u64,
}

/// Windows of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// In order of time.
    pub windows: Vec<WindowRow>,
    /// Whether there are more than [`WINDOWS_MAX`] and the last are missing.
    pub cut: bool,
}

const IN_RANGE: &str = "FROM rollups WHERE shard = $1 AND group_id = $2 \
    AND window_start >= $3 - 86400000::bigint AND window_start < $4 \
    AND covered_until > $3 AND covered_from < $4 \
    ORDER BY window_start, slot, epoch, covered_from LIMIT $5";

const COLUMNS: &str =
    "window_start, slot, epoch, agent, covered_from, covered_until, due, ran, ok, lateness_ms";

impl Reads {
    /// When anybody watched a shard, per slot, in order; cut to `range`. Stretches may touch or
    /// overlap.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn covered(
        &self,
        group: GroupId,
        shard: ShardId,
        range: Interval,
    ) -> Result<Vec<CoveredRow>, PgError> {
        let sql = "SELECT slot, covered_from, covered_until FROM coverage \
                   WHERE shard = $1 AND group_id = $2 AND covered_until > $3 AND covered_from < $4 \
                   ORDER BY covered_from, slot";
        let rows = self
            .pg
            .client()
            .await?
            .query(
                sql,
                &[
                    &shard.0.cast_signed(),
                    &group.0.cast_signed(),
                    &range.from.0,
                    &range.until.0,
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                let slot = slot(&mut fields)?;
                let (from, until) = (Timestamp(fields.take()?), Timestamp(fields.take()?));
                Ok(CoveredRow {
                    slot,
                    covered: Interval::new(from.max(range.from), until.min(range.until)),
                })
            })
            .collect()
    }

    /// As [`Self::covered`] for the shard of an endpoint; `None` when there is no such endpoint.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn endpoint_covered(
        &self,
        endpoint: EndpointId,
        range: Interval,
    ) -> Result<Option<Vec<CoveredRow>>, PgError> {
        match self.place_of(endpoint).await? {
            Some((group, shard)) => Ok(Some(self.covered(group, shard, range).await?)),
            None => Ok(None),
        }
    }

    /// What ran in a whole shard, window by window.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn shard_windows(
        &self,
        group: GroupId,
        shard: ShardId,
        range: Interval,
    ) -> Result<Windows, PgError> {
        let rows = self.rollups(COLUMNS, group, shard, range).await?;
        let windows = rows
            .iter()
            .map(|row| window_of(&mut Fields::of(row)))
            .collect::<Result<_, _>>()?;
        Ok(cut(windows))
    }

    /// What ran of one endpoint, window by window; `None` when there is no such endpoint.
    ///
    /// # Errors
    /// When Postgres is away, or a packed row is damaged.
    pub async fn endpoint_windows(
        &self,
        endpoint: EndpointId,
        range: Interval,
    ) -> Result<Option<Windows>, PgError> {
        let Some((group, shard)) = self.place_of(endpoint).await? else {
            return Ok(None);
        };
        let columns = format!("{COLUMNS}, packed");
        let rows = self.rollups(&columns, group, shard, range).await?;
        let windows = rows
            .iter()
            .map(|row| window_of_endpoint(row, endpoint))
            .collect::<Result<_, _>>()?;
        Ok(Some(cut(windows)))
    }

    /// Where an endpoint is.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn place_of(
        &self,
        endpoint: EndpointId,
    ) -> Result<Option<(GroupId, ShardId)>, PgError> {
        let sql = "SELECT group_id, shard FROM endpoints WHERE id = $1";
        let row = self
            .pg
            .client()
            .await?
            .query_opt(sql, &[&endpoint.0.cast_signed()])
            .await?;
        row.map(|row| {
            let mut fields = Fields::of(&row);
            Ok((GroupId(fields.u32()?), ShardId(fields.u32()?)))
        })
        .transpose()
    }

    /// Rollups that overlap `range`, one more than a reader takes.
    pub(super) async fn rollups(
        &self,
        columns: &str,
        group: GroupId,
        shard: ShardId,
        range: Interval,
    ) -> Result<Vec<Row>, PgError> {
        let sql = format!("SELECT {columns} {IN_RANGE}");
        let limit = WINDOWS_MAX + 1;
        let (shard, group) = (shard.0.cast_signed(), group.0.cast_signed());
        let client = self.pg.client().await?;
        Ok(client
            .query(
                &sql,
                &[&shard, &group, &range.from.0, &range.until.0, &limit],
            )
            .await?)
    }
}

fn cut(mut windows: Vec<WindowRow>) -> Windows {
    let max = usize::try_from(WINDOWS_MAX).expect("the bound is small");
    let cut = windows.len() > max;
    windows.truncate(max);
    Windows { windows, cut }
}

fn slot(fields: &mut Fields<'_>) -> Result<Slot, PgError> {
    let slot: i16 = fields.take()?;
    u8::try_from(slot)
        .map(Slot)
        .map_err(|_| PgError::stored("slot", slot))
}

/// Reads [`COLUMNS`].
fn window_of(fields: &mut Fields<'_>) -> Result<WindowRow, PgError> {
    Ok(WindowRow {
        window: Timestamp(fields.take()?),
        slot: slot(fields)?,
        epoch: Epoch(fields.u32()?),
        agent: AgentId(fields.u32()?),
        covered: Interval::new(Timestamp(fields.take()?), Timestamp(fields.take()?)),
        due: fields.u64()?,
        ran: fields.u64()?,
        ok: fields.u64()?,
        lateness_max_ms: fields.u64()?,
    })
}

fn window_of_endpoint(row: &Row, endpoint: EndpointId) -> Result<WindowRow, PgError> {
    let mut fields = Fields::of(row);
    let mut window = WindowRow {
        due: 0,
        ran: 0,
        ok: 0,
        lateness_max_ms: 0,
        ..window_of(&mut fields)?
    };
    let checks = unpack(fields.take()?).map_err(|e| PgError::stored("rollups.packed", e))?;
    for check in checks.iter().filter(|check| check.endpoint == endpoint) {
        window.due += u64::from(check.due);
        window.ran += u64::from(check.ran);
        window.ok += u64::from(check.ok);
        window.lateness_max_ms = window.lateness_max_ms.max(u64::from(check.lateness_max_ms));
    }
    Ok(window)
}
