//! The delivery log: every attempt to tell somebody, with its outcome.
//!
//! It is for people: what is still to be told is in the machine. Writing an attempt twice leaves
//! one row.

use picket_wire::id::{FactSeq, NotificationGroupId, WebhookId};
use picket_wire::time::{Span, Timestamp};

use crate::pg::rows::text;
use crate::pg::{Pg, PgError};

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// To whom.
    pub webhook: WebhookId,
    /// About which group.
    pub group: NotificationGroupId,
    /// About which change of it.
    pub fact: FactSeq,
    /// Which attempt for this receiver and change, from 1.
    pub attempt: u32,
    /// Whether the receiver took it.
    pub delivered: bool,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub took: Span,
    /// What went wrong.
    pub error: Option<String>,
}

/// Writes the delivery log.
#[derive(Debug, Clone)]
pub struct DeliveryLog {
    pg: Pg,
}

impl DeliveryLog {
    /// The log in this Postgres.
    #[must_use]
    pub const fn new(pg: Pg) -> Self {
        Self { pg }
    }

    /// Writes attempts; those it has already are left alone.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn record(&self, attempts: &[Attempt]) -> Result<(), PgError> {
        let at: Vec<i64> = attempts.iter().map(|a| a.at.0).collect();
        let webhook: Vec<i32> = attempts.iter().map(|a| a.webhook.0.cast_signed()).collect();
        let group: Vec<i64> = attempts.iter().map(|a| a.group.0.cast_signed()).collect();
        let fact: Vec<i64> = attempts.iter().map(|a| a.fact.0.cast_signed()).collect();
        let attempt: Vec<i32> = attempts.iter().map(|a| a.attempt.cast_signed()).collect();
        let delivered: Vec<bool> = attempts.iter().map(|a| a.delivered).collect();
        let status: Vec<Option<i32>> = attempts.iter().map(|a| a.status.map(i32::from)).collect();
        let took: Vec<i64> = attempts.iter().map(|a| a.took.0.cast_signed()).collect();
        let error: Vec<Option<String>> = attempts
            .iter()
            .map(|a| a.error.as_deref().map(text))
            .collect();
        let sql = "INSERT INTO delivery_log \
            (at, webhook, notification_group, fact_seq, attempt, delivered, status, took_ms, error) \
            SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], \
                $5::integer[], $6::boolean[], $7::integer[], $8::bigint[], $9::text[]) \
            ON CONFLICT (webhook, fact_seq, attempt) DO NOTHING";
        self.pg
            .client()
            .await?
            .execute(
                sql,
                &[
                    &at, &webhook, &group, &fact, &attempt, &delivered, &status, &took, &error,
                ],
            )
            .await?;
        Ok(())
    }
}
