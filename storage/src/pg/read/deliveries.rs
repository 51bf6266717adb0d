//! What was told to whom.

use picket_wire::fact::NotificationGroup;
use picket_wire::id::{FactSeq, IncidentId, NotificationGroupId, WebhookId};
use picket_wire::time::{Span, Timestamp};
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::delivery::Attempt;
use crate::pg::read::{Fields, Listed, Page, Query, Reads};

/// Which attempts; everything that is given must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// About this group.
    pub group: Option<NotificationGroupId>,
    /// To this receiver.
    pub webhook: Option<WebhookId>,
    /// Only those that were (`true`) or were not (`false`) taken.
    pub delivered: Option<bool>,
}

/// An attempt with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its place in the log.
    pub id: u64,
    /// The attempt.
    pub attempt: Attempt,
}

impl Reads {
    /// Attempts, newest first.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page<u64>,
    ) -> Result<Listed<DeliveryRow, u64>, PgError> {
        let before = page.after.map(u64::cast_signed);
        let group = filter.group.map(|group| group.0.cast_signed());
        let webhook = filter.webhook.map(|webhook| webhook.0.cast_signed());
        let limit = page.fetch();
        let mut query = Query::new(
            "SELECT id, at, webhook, notification_group, fact_seq, attempt, delivered, status, \
             took_ms, error FROM delivery_log",
        );
        if let Some(before) = &before {
            query.and("id < ?", before);
        }
        if let Some(group) = &group {
            query.and("notification_group = ?", group);
        }
        if let Some(webhook) = &webhook {
            query.and("webhook = ?", webhook);
        }
        if let Some(delivered) = &filter.delivered {
            query.and("delivered = ?", delivered);
        }
        query.then(" ORDER BY id DESC LIMIT ?", &limit);
        let rows = query.run(&self.pg).await?;
        let rows = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        Ok(page.cut(rows, |row: &DeliveryRow| row.id))
    }

    /// One notification group and the incidents in it, at most a thousand.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn notification_group(
        &self,
        group: NotificationGroupId,
    ) -> Result<Option<(NotificationGroup, Vec<IncidentId>)>, PgError> {
        let id = group.0.cast_signed();
        let sql = "SELECT id, cause, opened_at, open, total, closed_at FROM notification_groups \
                   WHERE id = $1";
        let client = self.pg.client().await?;
        let Some(row) = client.query_opt(sql, &[&id]).await? else {
            return Ok(None);
        };
        let sql = "SELECT id FROM incidents WHERE told_in = $1 ORDER BY id LIMIT 1000";
        let incidents = client.query(sql, &[&id]).await?;
        let incidents = incidents
            .iter()
            .map(|row| Ok(IncidentId(Fields::of(row).u64()?)))
            .collect::<Result<_, PgError>>()?;
        Ok(Some((group_of(&row)?, incidents)))
    }
}

fn group_of(row: &Row) -> Result<NotificationGroup, PgError> {
    let mut fields = Fields::of(row);
    Ok(NotificationGroup {
        id: NotificationGroupId(fields.u64()?),
        cause: fields.take()?,
        opened_at: Timestamp(fields.take()?),
        open: fields.u32()?,
        total: fields.u32()?,
        closed_at: fields.take::<Option<i64>>()?.map(Timestamp),
    })
}

fn row_of(row: &Row) -> Result<DeliveryRow, PgError> {
    let mut fields = Fields::of(row);
    Ok(DeliveryRow {
        id: fields.u64()?,
        attempt: Attempt {
            at: Timestamp(fields.take()?),
            webhook: WebhookId(fields.u32()?),
            group: NotificationGroupId(fields.u64()?),
            fact: FactSeq(fields.u64()?),
            attempt: fields.u32()?,
            delivered: fields.take()?,
            status: fields
                .take::<Option<i32>>()?
                .and_then(|status| u16::try_from(status).ok()),
            took: Span(fields.u64()?),
            error: fields.take()?,
        },
    })
}
