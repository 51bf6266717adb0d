//! What became of one endpoint over time.

use picket_wire::evidence::CheckRef;
use picket_wire::fact::Transition;
use picket_wire::id::{CheckId, EndpointId, FactSeq, IncidentId, SiteId};
use picket_wire::time::{Interval, Timestamp};
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::read::{Fields, Reads};

/// Most transitions of one answer; an endpoint that changes every minute takes a week to reach it.
pub const TRANSITIONS_MAX: i64 = 10_000;

/// A transition with its place among the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionRow {
    /// The fact's number.
    pub seq: FactSeq,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The transition.
    pub transition: Transition,
}

/// The states of an endpoint in a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// In order; the first may lie before the stretch and holds at its beginning.
    pub transitions: Vec<TransitionRow>,
    /// Whether there are more than [`TRANSITIONS_MAX`] and the last are missing.
    pub cut: bool,
}

/// Columns as [`transition_of`] reads them.
pub(super) const COLUMNS: &str = "t.seq, t.decided_at, t.check_id, t.endpoint, t.site, t.from_state, t.to_state, t.at, t.reason, t.incident";

impl Reads {
    /// The transitions of an endpoint in `range`, and the last before it.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn timeline(
        &self,
        endpoint: EndpointId,
        range: Interval,
    ) -> Result<Timeline, PgError> {
        let sql = format!(
            "(SELECT {COLUMNS} FROM transitions t WHERE t.endpoint = $1 AND t.at < $2 \
                ORDER BY t.at DESC, t.seq DESC LIMIT 1) \
             UNION ALL \
             (SELECT {COLUMNS} FROM transitions t WHERE t.endpoint = $1 AND t.at >= $2 AND t.at < $3 \
                ORDER BY t.at, t.seq LIMIT $4) \
             ORDER BY at, seq"
        );
        let limit = TRANSITIONS_MAX + 1;
        let rows = self
            .pg
            .client()
            .await?
            .query(
                &sql,
                &[
                    &endpoint.0.cast_signed(),
                    &range.from.0,
                    &range.until.0,
                    &limit,
                ],
            )
            .await?;
        let mut transitions = rows
            .iter()
            .map(transition_of)
            .collect::<Result<Vec<_>, _>>()?;
        let max = usize::try_from(TRANSITIONS_MAX).expect("the bound is small");
        let cut = transitions.len() > max;
        transitions.truncate(max);
        Ok(Timeline { transitions, cut })
    }
}

pub(super) fn transition_of(row: &Row) -> Result<TransitionRow, PgError> {
    let mut fields = Fields::of(row);
    transition_from(&mut fields)
}

/// Reads [`COLUMNS`].
pub(super) fn transition_from(fields: &mut Fields<'_>) -> Result<TransitionRow, PgError> {
    let seq = FactSeq(fields.u64()?);
    let decided_at = Timestamp(fields.take()?);
    let check = CheckRef {
        check: CheckId(fields.u64()?),
        endpoint: EndpointId(fields.u64()?),
        site: SiteId(fields.u64()?),
    };
    let transition = Transition {
        check,
        from: fields.state()?,
        to: fields.state()?,
        at: Timestamp(fields.take()?),
        reason: fields.maybe_reason()?,
        incident: fields.maybe_u64()?.map(IncidentId),
    };
    Ok(TransitionRow {
        seq,
        decided_at,
        transition,
    })
}
