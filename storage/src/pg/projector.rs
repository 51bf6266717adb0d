//! Facts into Postgres, exactly once.
//!
//! One transaction writes everything that a batch of facts says, and the cursor with it. The
//! cursor's row is locked first, so that several schedulers may try at once, and a batch whose
//! outcome is unknown (the connection broke during commit) may be repeated: what lies at or below
//! the cursor is skipped, and a gap is refused.
//!
//! Owner: the leader's projector task. Not here: `NOTIFY`, which takes a lock on the whole database
//! at commit.

mod testimony;
mod write;

use deadpool_postgres::Transaction;
use picket_wire::fact::Fact;
use picket_wire::id::FactSeq;

use crate::pg::rows::Rows;
use crate::pg::{Pg, PgError};

/// Folds facts into the history tables.
#[derive(Debug, Clone)]
pub struct Projector {
    pg: Pg,
    shards: u32,
}

/// Facts that were not projected.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Facts are missing before or inside the batch.
    #[error("gap in the facts: expected {expected}, got {got}")]
    Gap {
        /// What should have come.
        expected: FactSeq,
        /// What came.
        got: FactSeq,
    },
    /// Postgres did not do what was asked.
    #[error(transparent)]
    Pg(#[from] PgError),
}

impl ApplyError {
    /// Whether the same call can succeed later without anything being mended.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Pg(error) if error.is_retryable())
    }
}

impl From<tokio_postgres::Error> for ApplyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Pg(error.into())
    }
}

impl Projector {
    /// The projector of a cluster that was created with this many shards.
    #[must_use]
    pub const fn new(pg: Pg, shards: u32) -> Self {
        Self { pg, shards }
    }

    /// The last fact whose rows are durable.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn cursor(&self) -> Result<FactSeq, PgError> {
        let sql = "SELECT seq FROM fact_cursors WHERE consumer = 'projector'";
        let row = self.pg.client().await?.query_one(sql, &[]).await?;
        Ok(FactSeq(row.try_get::<_, i64>(0)?.cast_unsigned()))
    }

    /// Writes consecutive facts and returns the cursor after them; those it has already are
    /// skipped. A few thousand at a time hide the price of the commit.
    ///
    /// # Errors
    /// When facts are missing before `facts` or among them, or Postgres is away. Nothing was
    /// written then, except that a connection lost during commit may have written everything.
    pub async fn apply(&self, facts: &[Fact]) -> Result<FactSeq, ApplyError> {
        let mut client = self.pg.client().await?;
        let tx = client.transaction().await?;
        let cursor = lock_cursor(&tx).await?;
        let new = after(cursor, facts)?;
        let Some(last) = new.last() else {
            return Ok(cursor);
        };
        write::rows(&tx, &Rows::of(new), self.shards).await?;
        move_cursor(&tx, last.seq).await?;
        tx.commit().await?;
        Ok(last.seq)
    }
}

/// The facts that lie after `cursor`, if they join it without a gap.
fn after(cursor: FactSeq, facts: &[Fact]) -> Result<&[Fact], ApplyError> {
    let known = facts.iter().take_while(|fact| fact.seq <= cursor).count();
    let new = facts.get(known..).unwrap_or_default();
    let mut expected = cursor;
    for fact in new {
        expected = expected.next();
        if fact.seq != expected {
            return Err(ApplyError::Gap {
                expected,
                got: fact.seq,
            });
        }
    }
    Ok(new)
}

async fn lock_cursor(tx: &Transaction<'_>) -> Result<FactSeq, PgError> {
    let sql = "SELECT seq FROM fact_cursors WHERE consumer = 'projector' FOR UPDATE";
    let row = tx.query_one(&tx.prepare_cached(sql).await?, &[]).await?;
    Ok(FactSeq(row.try_get::<_, i64>(0)?.cast_unsigned()))
}

async fn move_cursor(tx: &Transaction<'_>, seq: FactSeq) -> Result<(), PgError> {
    let sql = "UPDATE fact_cursors SET seq = $1 WHERE consumer = 'projector'";
    tx.execute(&tx.prepare_cached(sql).await?, &[&seq.0.cast_signed()])
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use picket_wire::fact::{AgentChange, AgentFact, FactBody};
    use picket_wire::id::AgentId;
    use picket_wire::time::Timestamp;

    use super::*;

    fn facts(seqs: &[u64]) -> Vec<Fact> {
        let body = FactBody::Agent(AgentFact {
            agent: AgentId(1),
            change: AgentChange::Admitted,
        });
        seqs.iter()
            .map(|&seq| Fact {
                seq: FactSeq(seq),
                at: Timestamp(0),
                body: body.clone(),
            })
            .collect()
    }

    fn new_of(cursor: u64, seqs: &[u64]) -> Result<Vec<u64>, (u64, u64)> {
        match after(FactSeq(cursor), &facts(seqs)) {
            Ok(new) => Ok(new.iter().map(|fact| fact.seq.0).collect()),
            Err(ApplyError::Gap { expected, got }) => Err((expected.0, got.0)),
            Err(ApplyError::Pg(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn known_facts_are_skipped_and_gaps_refused() {
        for (cursor, seqs, expected) in [
            (0, &[1, 2][..], Ok(vec![1, 2])),
            (2, &[1, 2], Ok(vec![])),
            (2, &[1, 2, 3, 4], Ok(vec![3, 4])),
            (2, &[4], Err((3, 4))),
            (2, &[3, 5], Err((4, 5))),
            (2, &[3, 3], Err((4, 3))),
            (2, &[], Ok(vec![])),
        ] {
            assert_eq!(new_of(cursor, seqs), expected, "{cursor} {seqs:?}");
        }
    }
}
