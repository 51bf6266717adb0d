//! The tail of transitions, for the stream of events.

use picket_wire::id::FactSeq;

use crate::pg::PgError;
use crate::pg::read::timeline::{COLUMNS, TransitionRow, transition_from};
use crate::pg::read::{Fields, PAGE_MAX, Reads};

/// A transition as the stream of events tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The transition.
    pub row: TransitionRow,
    /// The endpoint's address; `None` once it is deleted.
    pub url: Option<String>,
}

impl Reads {
    /// Transitions after `seq` in order, at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn transitions_after(
        &self,
        seq: FactSeq,
        limit: u32,
    ) -> Result<Vec<EventRow>, PgError> {
        let sql = format!(
            "SELECT {COLUMNS}, e.url FROM transitions t \
             LEFT JOIN endpoints e ON e.id = t.endpoint AND e.shard = t.shard \
             WHERE t.seq > $1 ORDER BY t.seq LIMIT $2"
        );
        let limit = i64::from(limit.min(PAGE_MAX));
        let rows = self
            .pg
            .client()
            .await?
            .query(&sql, &[&seq.0.cast_signed(), &limit])
            .await?;
        rows.iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                Ok(EventRow {
                    row: transition_from(&mut fields)?,
                    url: fields.take()?,
                })
            })
            .collect()
    }
}
